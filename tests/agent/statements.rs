//! pg_stat_statements in every version that a server may have it in, and statements inside of functions.

use std::collections::BTreeSet;

use pgvitals::agent::{Outcome, Reading, Want};
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::majors;
use crate::pair;

/// What each version of the extension brought. What only shows where it happened is left out.
const BROUGHT: [(&str, &[&str]); 6] = [
    ("1.2", &["calls_total", "seconds_total", "rows_total", "block_read_seconds_total", "entries", "max_entries"]),
    ("1.8", &["plans_total", "plan_seconds_total", "wal_records_total", "wal_fpi_total", "wal_bytes_total"]),
    ("1.9", &["info_dealloc_total", "info_stats_reset_seconds"]),
    (
        "1.10",
        &[
            "temp_block_read_seconds_total",
            "temp_block_write_seconds_total",
            "jit_functions_total",
            "jit_seconds_total",
        ],
    ),
    ("1.11", &["shared_blk_read_seconds_total", "shared_blk_write_seconds_total", "stats_since_seconds"]),
    ("1.12", &["wal_buffers_full_total", "parallel_workers_to_launch_total", "parallel_workers_launched_total"]),
];

/// An extension as 9.4 had it, in a database that was upgraded ever since.
const OF_9_4: &str = "CREATE EXTENSION pg_stat_statements VERSION '1.4'; \
     ALTER EXTENSION pg_stat_statements DROP VIEW pg_stat_statements; DROP VIEW pg_stat_statements; \
     ALTER EXTENSION pg_stat_statements DROP FUNCTION pg_stat_statements(boolean); \
     DROP FUNCTION pg_stat_statements(boolean); \
     CREATE FUNCTION pg_stat_statements(IN showtext boolean, OUT userid oid, OUT dbid oid, OUT queryid bigint, \
       OUT query text, OUT calls int8, OUT total_time float8, OUT rows int8, OUT shared_blks_hit int8, \
       OUT shared_blks_read int8, OUT shared_blks_dirtied int8, OUT shared_blks_written int8, \
       OUT local_blks_hit int8, OUT local_blks_read int8, OUT local_blks_dirtied int8, \
       OUT local_blks_written int8, OUT temp_blks_read int8, OUT temp_blks_written int8, \
       OUT blk_read_time float8, OUT blk_write_time float8) RETURNS SETOF record \
       AS '$libdir/pg_stat_statements', 'pg_stat_statements_1_2' LANGUAGE c STRICT VOLATILE; \
     ALTER EXTENSION pg_stat_statements ADD FUNCTION pg_stat_statements(boolean); \
     UPDATE pg_extension SET extversion = '1.2' WHERE extname = 'pg_stat_statements'";

fn number(version: &str) -> (u32, u32) {
    let (major, minor) = version.split_once('.').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

/// The value of a sample of this metric with these labels.
fn value(reading: &Reading, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let group = reading.snapshot.find(&format!("pg_stat_statements_{metric}"))?;
    let mut samples = group.samples();
    samples
        .find(|sample| labels.iter().all(|(label, value)| sample.label(label) == Some(value)))
        .map(|sample| sample.value)
}

#[tokio::test]
async fn an_extension_older_than_its_server_gives_what_it_knows() {
    majors::on([10, 14, 18], |binaries| async move {
        let conf = vec!["pg_stat_statements.track_planning = on".to_owned()];
        let conf = if binaries.major >= 13 { conf } else { Vec::new() };
        let cluster = Cluster::start(&binaries, Settings { conf, ..Settings::default() }).await.unwrap();
        pair::prepare(&cluster).await;
        let newest = match binaries.major {
            10 => "1.6",
            14 => "1.9",
            _ => "1.12",
        };
        let agent = pair::agent(&[&cluster]);
        let made = (4..=number(newest).1).map(|minor| {
            let version = format!("1.{minor}");
            let create = format!("CREATE EXTENSION pg_stat_statements VERSION '{version}'");
            (version, create)
        });
        let all: Vec<_> = [("1.2".to_owned(), OF_9_4.to_owned())].into_iter().chain(made).collect();
        for (version, create) in all {
            cluster.sql("postgres", "DROP EXTENSION pg_stat_statements CASCADE").await.unwrap();
            cluster.sql("postgres", &create).await.unwrap();
            let before = cluster.log().len();
            let reading = agent.read(&Want::default()).await;
            let place = format!("{version} on PostgreSQL {}", binaries.major);
            for collector in ["statements", "statements_info"] {
                let report = reading.reports_of(collector).next().unwrap();
                assert_eq!(report.outcome, Outcome::Ok, "{collector} of {place}");
            }
            for (since, names) in BROUGHT {
                for name in names {
                    let found = value(&reading, name, &[]).is_some();
                    assert_eq!(found, number(&version) >= number(since), "{name} of {place}");
                }
            }
            let log = &cluster.log()[before..];
            assert!(!log.contains("ERROR"), "{place}: {log}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_ran_inside_of_a_function_is_a_series_of_its_own() {
    let conf = vec!["pg_stat_statements.track = all".to_owned()];
    let cluster =
        Cluster::start(&Binaries::major(17).unwrap(), Settings { conf, ..Settings::default() }).await.unwrap();
    pair::prepare(&cluster).await;
    let session = cluster.client("postgres").await.unwrap();
    let function = "CREATE FUNCTION asleep() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.2); END'";
    for statement in [function, "SELECT pg_sleep(0.1)", "SELECT asleep()", "SELECT asleep()"] {
        session.batch_execute(statement).await.unwrap();
    }
    let sql = "SELECT queryid::text FROM pg_stat_statements WHERE query = 'SELECT pg_sleep($1)'";
    let found = cluster.sql("postgres", sql).await.unwrap().concat();
    let ids: BTreeSet<_> = found.iter().flatten().collect();
    assert_eq!((found.len(), ids.len()), (2, 1), "two entries of one statement");
    let queryid = found[0].as_deref().unwrap();
    let reading = pair::agent(&[&cluster]).read(&Want::default()).await;
    let of = |metric: &str, toplevel: &str| value(&reading, metric, &[("queryid", queryid), ("toplevel", toplevel)]);
    assert_eq!(of("calls_total", ""), Some(1.0));
    assert_eq!(of("calls_total", "false"), Some(2.0));
    // The time of the two is part of that of SELECT asleep() already.
    assert!(of("seconds_total", "").unwrap() < of("seconds_total", "false").unwrap());
}
