//! What autovacuum is said to work on.

use pgvitals::demo::cluster::{Cluster, Settings};

use crate::majors::{self, TWO};
use crate::pair::{self, read_until, until_true};

/// Uses up a hundred thousand transaction numbers: each row is written by a subtransaction of its own.
const AGE: &str = "DO $$BEGIN FOR i IN 1..100100 LOOP BEGIN INSERT INTO burnt VALUES (1); \
                   EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END$$";

#[tokio::test]
async fn who_is_kept_from_wraparound_is_named_whatever_it_is_called() {
    majors::on(TWO, |binaries| async move {
        let mut conf = vec!["autovacuum_naptime = 1s".to_owned()];
        if binaries.major >= 13 {
            // Or new rows are reason enough.
            conf.push("autovacuum_vacuum_insert_threshold = -1".to_owned());
        }
        let cluster = Cluster::start(&binaries, Settings { conf, ..Settings::default() }).await.unwrap();
        pair::prepare(&cluster).await;
        for statement in [
            "CREATE TABLE burnt (id int) WITH (autovacuum_enabled = false)",
            "CREATE SCHEMA \"my schema\"",
            "CREATE TABLE \"my schema\".\"a.b (to c)\" WITH (autovacuum_freeze_max_age = 100000, \
               autovacuum_analyze_threshold = 100000, \
               autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1) AS \
             SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)",
            AGE,
        ] {
            cluster.sql("postgres", statement).await.unwrap();
        }
        until_true(
            &cluster,
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'autovacuum: VACUUM %my schema.%wraparound)'",
        )
        .await;
        let reading = read_until(&pair::agent(&[&cluster]), |reading| {
            reading.snapshot.find("pg_stat_activity_autovacuum_wraparound").is_some()
        })
        .await;
        for metric in ["pg_stat_activity_autovacuum_wraparound", "pg_stat_activity_autovacuum_seconds"] {
            let group = reading.snapshot.find(metric).unwrap();
            let told: Vec<_> = group.samples().filter(|it| it.label("schemaname") == Some("my schema")).collect();
            assert_eq!(told.len(), 1, "{metric} on PostgreSQL {}", binaries.major);
            assert_eq!((told[0].label("datname"), told[0].label("relname")), (Some("postgres"), Some("a.b (to c)")));
            assert!(told[0].value > 0.0, "{metric}");
        }
        let workers = reading.snapshot.find("pg_stat_activity_autovacuum_wraparound_workers").unwrap();
        assert!(workers.samples().all(|it| it.value >= 1.0));
        let group = reading.snapshot.find("pg_stat_activity_autovacuum_timestamp_seconds").unwrap();
        let started = group.samples().find(|it| it.label("relname") == Some("a.b (to c)")).unwrap().value;
        assert!(started > 1e9, "{started} is a time");
    })
    .await;
}
