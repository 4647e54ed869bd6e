//! Who keeps vacuum from removing dead rows, each by name.

use std::collections::BTreeSet;

use pgvitals::agent::Reading;
use pgvitals::demo::cluster::{Cluster, Settings, Standby};
use pgvitals::metric::{Group, Sample};

use crate::majors::{self, TWO};
use crate::pair::{self, read_until, session};

/// Kind, name and database of those who are in this family.
fn holders(reading: &Reading, metric: &str) -> BTreeSet<[String; 3]> {
    let group = reading.snapshot.find(metric);
    let samples = group.iter().flat_map(Group::samples);
    let label = |sample: &Sample<'_>, name| sample.label(name).unwrap_or_default().to_owned();
    samples.map(|sample| ["held_by", "holder", "datname"].map(|name| label(&sample, name))).collect()
}

fn named<const N: usize>(holders: [[&str; 3]; N]) -> BTreeSet<[String; 3]> {
    holders.into_iter().map(|holder| holder.map(str::to_owned)).collect()
}

#[tokio::test]
async fn who_keeps_dead_rows_is_named_and_who_keeps_none_is_not() {
    majors::on(TWO, |binaries| async move {
        let conf = ["autovacuum = off", "wal_level = logical", "max_prepared_transactions = 2"];
        let settings = Settings { conf: conf.map(str::to_owned).to_vec(), ..Settings::default() };
        let primary = Cluster::start(&binaries, settings).await.unwrap();
        pair::prepare(&primary).await;
        for statement in [
            "CREATE ROLE writer LOGIN",
            "CREATE TABLE written (id int)",
            "GRANT ALL ON written TO writer",
            "CREATE TABLE wide AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)",
            "SELECT pg_create_logical_replication_slot('decoded', 'pgoutput')",
        ] {
            primary.sql("postgres", statement).await.unwrap();
        }
        let conf = ["hot_standby_feedback = on", "wal_receiver_status_interval = 1s"];
        let conf = conf.map(str::to_owned).to_vec();
        let standby = primary.standby(Standby { conf, ..Standby::from("reader") }).await.unwrap();
        let reader = standby.client("postgres").await.unwrap();
        reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        // Between its statements it has no snapshot, only a number.
        let writer = session(&primary, "writer", "postgres").await;
        writer.batch_execute("BEGIN; INSERT INTO written VALUES (1)").await.unwrap();
        primary
            .sql("postgres", "BEGIN; INSERT INTO written VALUES (2); PREPARE TRANSACTION 'forgotten'")
            .await
            .unwrap();
        let _vacuum = pair::vacuum_slowly(&primary, "wide").await;

        let expected = named([
            ["prepared transaction", "postgres", "postgres"],
            ["session", "writer", "postgres"],
            ["standby", "reader", ""],
        ]);
        let agent = pair::agent(&[&primary]);
        let all = |reading: &Reading| holders(reading, "pg_horizon_age_xids") == expected;
        let reading = read_until(&agent, all).await;
        assert_eq!(holders(&reading, "pg_horizon_age_xids"), expected, "PostgreSQL {}", binaries.major);
        let slots = named([["slot", "decoded", "postgres"]]);
        assert_eq!(holders(&reading, "pg_horizon_catalog_age_xids"), slots, "it spares the tables of users");
        let aged = holders(&reading, "pg_horizon_seconds");
        assert!(aged.is_subset(&expected) && aged.len() == 2, "{aged:?}");
    })
    .await;
}
