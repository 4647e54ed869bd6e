//! What is gone is absent in the next reading: no value outlives what it was about.

use std::collections::BTreeSet;
use std::time::Duration;

use pgvitals::agent::{Agent, Reading, Want};
use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};
use tokio_postgres::{Client, NoTls};

use crate::majors::{self, TWO};
use crate::pair::{self, until_true};

/// The families that have a series with this label.
fn with(reading: &Reading, label: &str, value: &str) -> BTreeSet<String> {
    let groups = reading.snapshot.groups().filter(|group| group.samples().any(|it| it.label(label) == Some(value)));
    groups.map(|group| group.metric().name.clone()).collect()
}

/// Reads once results that stay fresh for a second are no longer.
async fn read(agent: &Agent) -> Reading {
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    agent.read(&Want::default()).await
}

async fn session(cluster: &Cluster, dbname: &str, application: &str) -> Client {
    session_of(cluster, "postgres", dbname, application).await
}

async fn session_of(cluster: &Cluster, user: &str, dbname: &str, application: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host_path(cluster.socket_dir()).port(cluster.port()).user(user).dbname(dbname);
    let (client, connection) = config.application_name(application).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn what_is_gone_is_absent_in_the_next_reading() {
    majors::on(TWO, |binaries| async move {
        let mut primary = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&primary).await;
        for statement in [
            "CREATE DATABASE dropped",
            "CREATE DATABASE renamed",
            "SELECT pg_create_physical_replication_slot('dropped', true)",
            "CREATE TABLE wide AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)",
        ] {
            primary.sql("postgres", statement).await.unwrap();
        }
        let mut standby = primary.standby(Standby::from("leaving")).await.unwrap();
        let idle = session(&primary, "dropped", "closing").await;
        idle.batch_execute("BEGIN; SELECT txid_current()").await.unwrap();
        let _vacuum = pair::vacuum_slowly(&primary, "wide").await;
        until_true(&primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'").await;

        let agent = pair::agent(&[&primary]);
        let there = [
            ("datname", "dropped", "pg_database_size_bytes"),
            ("datname", "dropped", "pg_stat_database_xact_commit"),
            ("datname", "dropped", "pg_stat_activity_oldest_idle_in_transaction_seconds"),
            ("datname", "renamed", "pg_database_size_bytes"),
            ("application_name", "closing", "pg_stat_activity_count"),
            ("application_name", "leaving", "pg_stat_replication_replay_lag_bytes"),
            ("slot_name", "dropped", "pg_replication_slots_retained_bytes"),
            ("relname", "public.wide", "pg_stat_progress_vacuum_heap_blks"),
        ];
        let before = read(&agent).await;
        for (label, value, family) in there {
            let families = with(&before, label, value);
            assert!(families.contains(family), "{value} on PostgreSQL {}: {families:?}", binaries.major);
        }

        drop(idle);
        standby.stop().await.unwrap();
        until_true(
            &primary,
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name IN ('closing', 'leaving')",
        )
        .await;
        for statement in [
            "DROP DATABASE dropped",
            "ALTER DATABASE renamed RENAME TO other_name",
            "SELECT pg_drop_replication_slot('dropped')",
            "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum",
        ] {
            primary.sql("postgres", statement).await.unwrap();
        }
        until_true(&primary, "SELECT count(*) = 0 FROM pg_stat_progress_vacuum").await;
        let after = read(&agent).await;
        for (label, value, _) in there {
            let mut families = with(&after, label, value);
            // That one tells of who is gone.
            families.remove("pg_stat_replication_connected");
            assert_eq!(families, BTreeSet::new(), "{value} on PostgreSQL {}", binaries.major);
        }
        let sizes = with(&after, "datname", "postgres");
        assert!(sizes.contains("pg_database_size_bytes"), "the sizes of the others stay: {sizes:?}");

        primary.stop().await.unwrap();
        let stopped = read(&agent).await;
        let own = ["pg_up", "pgvitals_", "pg_scrape_collector_"];
        let left: BTreeSet<_> = with(&stopped, "server", primary.name())
            .into_iter()
            .filter(|name| !own.iter().any(|own| name.starts_with(own)))
            .collect();
        assert_eq!(left, BTreeSet::new(), "of a stopped server on PostgreSQL {}", binaries.major);
    })
    .await;
}

/// Two standbys of one name through one address, and one statement by itself and inside of a function.
#[tokio::test]
async fn rows_of_equal_labels_are_one_sample_by_the_rule_of_their_metric() {
    let primary = Cluster::start(
        &Binaries::major(17).unwrap(),
        Settings { conf: vec!["pg_stat_statements.track = all".to_owned()], ..Settings::default() },
    )
    .await
    .unwrap();
    pair::prepare(&primary).await;
    let first = primary.standby(Standby::from("twin")).await.unwrap();
    let second = primary.standby(Standby::from("twin")).await.unwrap();
    until_true(&primary, "SELECT count(*) = 2 FROM pg_stat_replication WHERE state = 'streaming'").await;
    second.sql("postgres", "SELECT pg_wal_replay_pause()").await.unwrap();
    // The same statement by itself and inside of a function: two rows of pg_stat_statements.
    for statement in [
        "CREATE TABLE counted ()",
        "SELECT count(*) FROM counted",
        "DO 'BEGIN PERFORM count(*) FROM counted; END'",
        "CREATE TABLE written AS SELECT generate_series(1, 1000)",
    ] {
        primary.sql("postgres", statement).await.unwrap();
    }
    until_true(&primary, "SELECT min(replay_lsn) < max(replay_lsn) FROM pg_stat_replication").await;
    let reading = pair::read_until(&pair::agent(&[&primary]), |reading| {
        reading.snapshot.find("pg_stat_replication_replay_lag_bytes").is_some()
    })
    .await;
    for group in reading.snapshot.groups() {
        let labels: Vec<_> = group.samples().map(|it| (it.suffix(), it.labels().collect::<Vec<_>>())).collect();
        let distinct: BTreeSet<_> = labels.iter().collect();
        assert_eq!(distinct.len(), labels.len(), "{}", group.metric().name);
    }
    let of_twins = |name: &str| {
        let group = reading.snapshot.find(name).unwrap();
        let twins: Vec<_> = group.samples().filter(|it| it.label("application_name") == Some("twin")).collect();
        assert_eq!(twins.len(), 1, "{name}");
        twins[0].value
    };
    assert!((of_twins("pg_stat_replication_state") - 2.0).abs() < 1e-9, "both are counted");
    assert!((of_twins("pg_stat_replication_streaming") - 1.0).abs() < 1e-9, "both stream");
    assert!(of_twins("pg_stat_replication_replay_lag_bytes") > 0.0, "the lag is that of the one behind");
    drop((first, second));
}

#[tokio::test]
async fn sessions_of_users_that_were_dropped_are_told_together() {
    majors::on(TWO, |binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&cluster).await;
        let mut sessions = Vec::new();
        for user in ["one", "another"] {
            cluster.sql("postgres", &format!("CREATE ROLE {user} LOGIN")).await.unwrap();
            let session = session_of(&cluster, user, "postgres", "dropped").await;
            session.batch_execute("BEGIN").await.unwrap();
            sessions.push(session);
        }
        cluster.sql("postgres", "DROP ROLE one, another").await.unwrap();
        let agent = pair::agent(&[&cluster]);
        let reading = agent.read(&Want::default()).await;
        let of_nobody = |name: &str| -> Vec<f64> {
            let samples = reading.snapshot.find(name).unwrap().samples();
            let samples =
                samples.filter(|it| it.label("datname") == Some("postgres") && it.label("usename") == Some(""));
            samples.map(|sample| sample.value).filter(|value| *value > 0.0).collect()
        };
        assert_eq!(of_nobody("pg_stat_activity_count"), [2.0]);
        assert_eq!(of_nobody("pg_stat_activity_sessions"), [2.0]);
        assert_eq!(of_nobody("pg_stat_activity_open_transactions"), [2.0]);
        assert_eq!(of_nobody("pg_stat_activity_oldest_idle_in_transaction_seconds").len(), 1);
    })
    .await;
}
