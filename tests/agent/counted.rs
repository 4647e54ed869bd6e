//! Sessions by role, by database and by transaction, and who is none.

use pgvitals::agent::{Reading, Want};
use pgvitals::demo::cluster::{Cluster, Settings};

use crate::majors::{self, TWO};
use crate::pair::{self, session};

fn value(reading: &Reading, name: &str, label: &str, value: &str) -> Option<f64> {
    reading.snapshot.samples_of(name).find(|sample| sample.label(label) == Some(value)).map(|sample| sample.value)
}

#[tokio::test]
async fn parallel_workers_are_neither_sessions_nor_transactions_of_their_own() {
    majors::on(TWO, |binaries| async move {
        let conf = ["autovacuum = off"].map(str::to_owned).to_vec();
        let server = Cluster::start(&binaries, Settings { conf, ..Settings::default() }).await.unwrap();
        pair::prepare(&server).await;
        for statement in [
            "CREATE DATABASE other",
            "CREATE ROLE analyst LOGIN CONNECTION LIMIT 4",
            "CREATE TABLE wide AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)",
            "GRANT SELECT ON wide TO analyst",
        ] {
            server.sql("postgres", statement).await.unwrap();
        }
        let open = session(&server, "analyst", "other").await;
        open.batch_execute("BEGIN; SELECT 1").await.unwrap();
        let idle = session(&server, "analyst", "other").await;
        let leader = session(&server, "analyst", "postgres").await;
        let busy = tokio::spawn(async move {
            let parallel = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; \
                            SELECT count(*) FROM wide WHERE pg_sleep(1) IS NULL";
            leader.batch_execute(parallel).await
        });
        // The leader is one of them; before 13 nothing else tells who belongs together.
        let parallel = "SELECT count(*) > 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1) IS NULL' AND usename = 'analyst'";
        pair::until_true(&server, parallel).await;
        // Of these alone, as the walk over the databases would be a session of ours in each of them.
        let want = Want::only(["roles", "database_connections", "transactions"].map(str::to_owned));
        let reading = pair::agent(&[&server]).read(&want).await;
        for (name, label, of, expected) in [
            ("pg_roles_connections", "rolname", "analyst", 3.0),
            ("pg_roles_connection_limit_used_ratio", "rolname", "analyst", 0.75),
            ("pg_database_connections", "datname", "other", 2.0),
            ("pg_stat_activity_transaction_age_seconds_count", "datname", "other", 1.0),
            ("pg_stat_activity_transaction_age_seconds_count", "datname", "postgres", 1.0),
        ] {
            assert_eq!(value(&reading, name, label, of), Some(expected), "{name} of {of}");
        }
        busy.abort();
        drop((open, idle));
    })
    .await;
}
