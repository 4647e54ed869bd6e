//! What many readers cost the server and the agent.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tokio_postgres::Client;

use crate::pair::{self, ROLE, until_true};
use crate::program::{Answer, Program, get, label, watching};

/// How long the readers read.
const READING: Duration = Duration::from_secs(6);
const READING_LARGE: Duration = Duration::from_secs(2);
const READERS: usize = 200;
const DATABASES: usize = 12;

/// Needs a lock on a table that others hold and wait for.
const ALTERED: &str = r#"
help = "The size of a table that is being altered"

[[query]]
since = 10
sql = "SELECT pg_catalog.pg_relation_size(c.oid) AS size FROM pg_catalog.pg_class c WHERE c.relname = 'altered'"

[[metric]]
name = "pg_altered_bytes"
type = "gauge"
column = "size"
help = "Absent while it is being altered"
"#;

/// As many series as the tables and indexes of a large database have.
const LARGE: &str = r#"
help = "A large page"
labels = ["schemaname", "relname"]
fresh_for = "1h"

[[query]]
since = 10
sql = "SELECT 'a_schema' AS schemaname, 'a_table_of_usual_length_' || n AS relname, n FROM pg_catalog.generate_series(1, 70000) n"

[[metric]]
name = "pg_large"
type = "gauge"
column = "n"
help = "A number"
"#;

/// Readers that read again and again until told to stop; gives how many answers each got.
struct Readers {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    reading: Vec<JoinHandle<()>>,
}

impl Readers {
    fn start(agent: &Program, check: fn(&Answer)) -> Self {
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let address = agent.address();
        let read = |_| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    check(&get(address, "/metrics", ""));
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let reading = (0..READERS).map(read).collect();
        Self { stop, answers, reading }
    }

    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for reader in self.reading {
            reader.join().unwrap();
        }
        self.answers.load(Ordering::Relaxed)
    }
}

async fn number(session: &Client, sql: &str) -> f64 {
    session.query_one(sql, &[]).await.unwrap().try_get(0).unwrap()
}

/// How much memory an agent has, and the most it ever had, in bytes.
pub(crate) fn memory(agent: &Program) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

fn of_locks(agent: &Program, server: &Cluster, metric: &str) -> f64 {
    agent.facts().value(metric, &[&label(server), "collector=\"locks\""]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_readers_cost_two_sessions_and_wait_for_no_lock() {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    let admin = server.client("postgres").await.unwrap();
    for n in 0..DATABASES {
        admin.batch_execute(&format!("CREATE DATABASE d{n} TEMPLATE template0")).await.unwrap();
    }
    admin.batch_execute("CREATE TABLE altered (id int)").await.unwrap();
    let holding = server.client("postgres").await.unwrap();
    holding.batch_execute("BEGIN; LOCK TABLE altered IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let altering = server.client("postgres").await.unwrap();
    tokio::spawn(async move { altering.batch_execute("ALTER TABLE altered ADD more int").await });
    until_true(&server, "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted").await;

    let checks = tempfile::tempdir().unwrap();
    fs::write(checks.path().join("altered.toml"), ALTERED).unwrap();
    let agent = Program::start(&format!("checks = '{}'\n{}", checks.path().display(), watching(&[&server])));
    let calls =
        format!("SELECT coalesce(sum(calls), 0)::float8 FROM pg_stat_statements WHERE userid = '{ROLE}'::regrole");
    let runs = of_locks(&agent, &server, "pgvitals_collector_runs_total");
    let calls_before = number(&admin, &calls).await;
    let began = Instant::now();
    let readers = Readers::start(&agent, |answer| {
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("\npg_up{") && answer.body.contains("\nnode_load1 "), "{}", answer.body);
    });
    // What `lock_timeout` ends has waited for it; nothing does so half of the time that they read.
    let seen = format!(
        "SELECT count(*)::float8, coalesce(max(extract(epoch FROM clock_timestamp() - query_start))
                FILTER (WHERE wait_event_type = 'Lock'), 0)::float8
           FROM pg_stat_activity WHERE usename = '{ROLE}' OR application_name = 'pgvitals'"
    );
    while began.elapsed() < READING {
        let row = admin.query_one(&seen, &[]).await.unwrap();
        let (sessions, waited): (f64, f64) = (row.try_get(0).unwrap(), row.try_get(1).unwrap());
        assert!(
            sessions <= 2.0 && waited < READING.as_secs_f64() / 2.0,
            "{sessions} sessions, one waits for a lock for {waited} s"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answers = readers.finish();
    let took = began.elapsed().as_secs_f64();
    let calls = number(&admin, &calls).await - calls_before;
    let runs = of_locks(&agent, &server, "pgvitals_collector_runs_total") - runs;
    let told = format!("{answers} answers in {took} s: {runs} runs of a collector, {calls} calls of statements");
    assert!(answers >= READERS && runs <= took + 2.0, "{told}");
    assert!(number(&admin, "SELECT count(*)::float8 FROM pg_locks WHERE NOT granted").await > 0.0, "it still waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_page_is_written_once_for_all_who_wait_for_it() {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    let checks = tempfile::tempdir().unwrap();
    fs::write(checks.path().join("large.toml"), LARGE).unwrap();
    let agent = Program::start(&format!("checks = '{}'\n{}", checks.path().display(), watching(&[&server])));
    // On a busy machine so many rows are late for the first reader.
    let (facts, _) = agent.facts_until("the page is large", |facts| facts.text.len() > 5_000_000);
    let page = u64::try_from(facts.text.len()).unwrap();
    drop(facts);
    let alone = memory(&agent).1;
    let began = Instant::now();
    let readers = Readers::start(&agent, |answer| {
        assert_eq!(answer.status, 200);
        assert!(answer.body.len() > 5_000_000);
    });
    while began.elapsed() < READING_LARGE {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answers = readers.finish();
    let (after, most) = memory(&agent);
    let told = format!("a page of {page} bytes, {answers} answers; alone {alone}, most {most}, after {after} bytes");
    assert!(answers >= READERS && most < alone + 20 * page, "{told}");
}
