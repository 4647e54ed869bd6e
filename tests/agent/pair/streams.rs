//! What it takes to see the facts of what goes from one server to another: senders, slots, publications, conflicts.

use pgvitals::demo::cluster::Cluster;

use super::Kept;

/// More lines for the primary's postgresql.conf.
pub(super) fn conf() -> Vec<&'static str> {
    vec!["wal_level = logical"]
}

/// On the primary alone, before any transaction stays open: a logical slot waits for the end of all.
pub(super) async fn prepare(primary: &Cluster) {
    for statement in
        ["CREATE TABLE beats (at timestamptz)", "SELECT pg_create_logical_replication_slot('decoded', 'pgoutput')"]
    {
        primary.sql("postgres", statement).await.unwrap();
    }
}

/// Once the standby streams.
pub(super) async fn provoke(primary: &Cluster, kept: &mut Kept) {
    // The primary measures lag only while there is something to replay.
    kept.repeat(primary, "INSERT INTO beats VALUES (now())").await;
}
