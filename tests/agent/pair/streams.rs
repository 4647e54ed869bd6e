//! What it takes to see the facts of what goes from one server to another: senders, slots, publications, subscriptions,
//! conflicts.

use std::time::Instant;

use pgvitals::demo::cluster::{Cluster, Standby};

use super::{Kept, PATIENCE, until_true, until_true_in};

/// The slot of the standby, called as repmgr would call it.
pub(super) const SLOT: &str = "repmgr_slot_1";

/// More lines for the primary's postgresql.conf.
pub(super) fn conf(major: u32) -> Vec<&'static str> {
    let mut conf = vec!["wal_level = logical"];
    if major >= 13 {
        conf.extend(["max_slot_wal_keep_size = 1GB", "logical_decoding_work_mem = 64kB"]);
    }
    conf
}

/// On the primary alone, before any transaction stays open: a logical slot waits for the end of all.
pub(super) async fn prepare(primary: &Cluster) {
    if primary.major() >= 13 {
        lose_a_slot(primary).await;
    }
    let two_phase = if primary.major() >= 14 { ", false, true" } else { "" };
    let unread = format!("SELECT pg_create_logical_replication_slot('unread', 'pgoutput'{two_phase})");
    primary.sql("postgres", &unread).await.unwrap();
    for (dbname, statement) in [
        ("postgres", "CREATE TABLE beats (at timestamptz)"),
        ("postgres", "CREATE PUBLICATION beats FOR TABLE beats"),
        ("postgres", "SELECT pg_create_logical_replication_slot('decoded', 'pgoutput')"),
        ("postgres", "CREATE DATABASE subscriber"),
        ("subscriber", "CREATE TABLE beats (at timestamptz)"),
    ] {
        primary.sql(dbname, statement).await.unwrap();
    }
    let subscription = format!(
        "CREATE SUBSCRIPTION beats CONNECTION '{}' PUBLICATION beats WITH (create_slot = false, slot_name = 'decoded')",
        primary.dsn("postgres")
    );
    primary.sql("subscriber", &subscription).await.unwrap();
    let ready = "SELECT count(*) = 1 FROM pg_subscription_rel WHERE srsubstate = 'r'";
    until_true_in(primary, "subscriber", ready).await;
}

/// Leaves a slot behind whose WAL is gone.
async fn lose_a_slot(primary: &Cluster) {
    for statement in [
        "SELECT pg_create_physical_replication_slot('lost', true)",
        "ALTER SYSTEM SET max_slot_wal_keep_size = 0",
        "SELECT pg_reload_conf()",
        "SELECT pg_switch_wal()",
    ] {
        primary.sql("postgres", statement).await.unwrap();
    }
    // A checkpoint gives up what it may no longer keep, once the process that makes it has read the new limit.
    let deadline = Instant::now() + PATIENCE;
    let lost = "SELECT wal_status = 'lost' FROM pg_replication_slots";
    while primary.sql("postgres", lost).await.unwrap().concat() != [Some("t".to_owned())] {
        assert!(Instant::now() < deadline, "log: {}", primary.log());
        primary.sql("postgres", "CHECKPOINT").await.unwrap();
    }
    for statement in ["ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()"] {
        primary.sql("postgres", statement).await.unwrap();
    }
}

/// Once the standby streams.
pub(super) async fn provoke(primary: &Cluster, standby: &Cluster, kept: &mut Kept) {
    conflict(primary, standby).await;
    let conf = vec!["hot_standby_feedback = on".to_owned(), "wal_receiver_status_interval = 1s".to_owned()];
    let cascade = Standby { slot: Some("cascade".to_owned()), conf, ..Standby::from("cascade") };
    kept.clusters.push(standby.standby(cascade).await.unwrap());
    // The primary measures lag only while there is something to replay.
    kept.repeat(primary, "INSERT INTO beats VALUES (now())").await;
    // More than decoding keeps in memory, so that it goes to disk or, since 18, to a worker of its own.
    kept.hold(primary, "BEGIN; INSERT INTO beats SELECT now() FROM generate_series(1, 2000)").await;
}

/// Lets recovery end a session that keeps a table it has to drop.
async fn conflict(primary: &Cluster, standby: &Cluster) {
    primary.sql("postgres", "CREATE TABLE doomed ()").await.unwrap();
    let on_standby = async |statement: &str| drop(standby.sql("postgres", statement).await.unwrap());
    on_standby("ALTER SYSTEM SET max_standby_streaming_delay = 0").await;
    on_standby("SELECT pg_reload_conf()").await;
    until_true(standby, "SELECT to_regclass('doomed') IS NOT NULL").await;
    let reader = standby.client("postgres").await.unwrap();
    reader.batch_execute("BEGIN; SELECT * FROM doomed").await.unwrap();
    primary.sql("postgres", "DROP TABLE doomed").await.unwrap();
    until_true(standby, "SELECT sum(confl_lock) > 0 FROM pg_stat_database_conflicts").await;
    on_standby("ALTER SYSTEM RESET max_standby_streaming_delay").await;
    on_standby("SELECT pg_reload_conf()").await;
}
