//! Who waits for whom: chains, prepared transactions, circles, parallel workers, and nobody.

use std::sync::Arc;

use pgvitals::agent::{Agent, Reading};
use pgvitals::catalog::{Catalog, Version};
use pgvitals::demo::cluster::{Cluster, Settings};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::majors;
use crate::pair::{self, read_until, until_true};

/// Waiters, roots, prepared transactions among them, depth.
type Blocking = [u32; 4];

fn value(reading: &Reading, metric: &str) -> f64 {
    let group = reading.snapshot.find(metric).unwrap_or_else(|| panic!("{metric} is absent"));
    group.samples().next().unwrap().value
}

fn blocking(reading: &Reading) -> Blocking {
    ["waiters", "roots", "prepared", "depth"].map(|part| {
        let text = value(reading, &format!("pg_blocking_{part}")).to_string();
        text.parse().unwrap()
    })
}

/// Reads until it is so.
async fn becomes(agent: &Agent, expected: Blocking) -> Reading {
    let reading = read_until(agent, |reading| blocking(reading) == expected).await;
    assert_eq!(blocking(&reading), expected);
    reading
}

/// Locks that are awaited in this mode, in all databases.
fn awaited(reading: &Reading, mode: &str) -> f64 {
    let group = reading.snapshot.find("pg_locks_waiting").unwrap();
    group.samples().filter(|sample| sample.label("mode") == Some(mode)).map(|sample| sample.value).sum()
}

async fn begin(cluster: &Cluster, statement: &str) -> Arc<Client> {
    let session = cluster.client("postgres").await.unwrap();
    session.batch_execute("BEGIN").await.unwrap();
    session.batch_execute(statement).await.unwrap();
    Arc::new(session)
}

/// Runs a statement that will wait.
fn send(session: &Arc<Client>, statement: &str) -> JoinHandle<()> {
    let (session, statement) = (Arc::clone(session), statement.to_owned());
    tokio::spawn(async move {
        // It may be ended in the middle of its wait.
        let _ = session.batch_execute(&statement).await;
    })
}

fn update(id: u32) -> String {
    format!("UPDATE rows SET value = value WHERE id = {id}")
}

/// Counts how often the query of the agent asks who blocks and who holds locks.
struct Spied {
    sql: String,
}

impl Spied {
    async fn prepare(cluster: &Cluster) -> Self {
        for statement in [
            "CREATE SEQUENCE asked",
            "CREATE SEQUENCE read",
            "CREATE FUNCTION spied_blocking_pids(int) RETURNS int[] LANGUAGE plpgsql AS
             'BEGIN PERFORM nextval(''asked''); RETURN pg_catalog.pg_blocking_pids($1); END'",
            "CREATE FUNCTION spied_lock_status() RETURNS SETOF pg_catalog.pg_locks LANGUAGE plpgsql AS
             'BEGIN PERFORM nextval(''read''); RETURN QUERY SELECT * FROM pg_catalog.pg_locks; END'",
            "CREATE VIEW spied_locks AS SELECT * FROM spied_lock_status()",
        ] {
            cluster.sql("postgres", statement).await.unwrap();
        }
        let catalog = Catalog::built_in().unwrap();
        let definition = catalog.definition("blocking").unwrap();
        let query = definition.query_for(Version { major: cluster.major(), minor: 0 }).unwrap();
        let sql = query.sql.replace("pg_catalog.pg_blocking_pids", "public.spied_blocking_pids");
        assert!(sql.contains("spied_"), "{sql}");
        Self { sql: sql.replace("pg_catalog.pg_locks", "public.spied_locks") }
    }

    /// Runs it, and gives how often each was called since the start.
    async fn calls(&self, cluster: &Cluster) -> (u32, u32) {
        cluster.sql("postgres", &self.sql).await.unwrap();
        let count = async |sequence: &str| {
            let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
            cluster.sql("postgres", &sql).await.unwrap().concat()[0].clone().unwrap().parse().unwrap()
        };
        (count("asked").await, count("read").await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_whom_is_told_and_nobody_is_asked_when_nobody_waits() {
    majors::on([10, 14, 18], |binaries| async move {
        let conf = ["deadlock_timeout = 10min", "max_prepared_transactions = 5"].map(str::to_owned).to_vec();
        let cluster = Cluster::start(&binaries, Settings { conf, ..Settings::default() }).await.unwrap();
        pair::prepare(&cluster).await;
        let rows = "CREATE TABLE rows AS SELECT id, 0 AS value FROM generate_series(1, 10000) AS id";
        cluster.sql("postgres", rows).await.unwrap();
        let spied = Spied::prepare(&cluster).await;
        let agent = pair::agent(&[&cluster]);
        let reading = becomes(&agent, [0; 4]).await;
        assert_eq!(value(&reading, "pg_blocking_longest_wait_seconds").to_bits(), 0);
        assert_eq!(spied.calls(&cluster).await, (0, 0), "nobody waits");

        let first = begin(&cluster, &update(1)).await;
        let second = begin(&cluster, &update(2)).await;
        let third = begin(&cluster, "SELECT").await;
        let waiting = [send(&second, &update(1)), send(&third, &update(2))];
        let reading = becomes(&agent, [2, 1, 0, 2]).await;
        // Another collector, which may have been asked a moment before.
        let both = read_until(&agent, |reading| awaited(reading, "sharelock") > 1.0).await;
        assert!(awaited(&both, "sharelock") > 1.0, "for the end of two transactions");
        let longest = |reading: &Reading| value(reading, "pg_blocking_longest_wait_seconds");
        let before = longest(&reading);
        let later = read_until(&agent, |reading| longest(reading) > before).await;
        assert!(longest(&later) > before && longest(&later) < 600.0, "{}", longest(&later));
        let (asked, read) = spied.calls(&cluster).await;
        assert_eq!((asked, read), (2, u32::from(binaries.major >= 14)), "each waiter once");
        first.batch_execute("ROLLBACK").await.unwrap();
        let [second_done, third_done] = waiting;
        second_done.await.unwrap();
        second.batch_execute("ROLLBACK").await.unwrap();
        third_done.await.unwrap();
        third.batch_execute("ROLLBACK").await.unwrap();

        let prepared = begin(&cluster, &update(1)).await;
        prepared.batch_execute("PREPARE TRANSACTION 'forgotten'").await.unwrap();
        let waiting = send(&first, &update(1));
        becomes(&agent, [1, 1, 1, 1]).await;
        prepared.batch_execute("ROLLBACK PREPARED 'forgotten'").await.unwrap();
        waiting.await.unwrap();

        let (first, second) = (begin(&cluster, &update(1)).await, begin(&cluster, &update(2)).await);
        let waiting = [send(&first, &update(2)), send(&second, &update(1))];
        becomes(&agent, [2, 0, 0, 1]).await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        cluster.sql("postgres", end).await.unwrap();
        for waiting in waiting {
            waiting.await.unwrap();
        }
        becomes(&agent, [0; 4]).await;
        let (asked, _) = spied.calls(&cluster).await;
        assert_eq!(asked, 2, "nobody waits any more");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_waits_where_its_parallel_workers_wait() {
    majors::on([10, 14, 18], |binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&cluster).await;
        for statement in [
            "CREATE TABLE rows AS SELECT id FROM generate_series(1, 10000) AS id",
            "CREATE TABLE held ()",
            "CREATE TABLE wanted ()",
            "CREATE FUNCTION look(int) RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS
             'BEGIN PERFORM FROM held; RETURN 1; END'",
            "ANALYZE rows",
        ] {
            cluster.sql("postgres", statement).await.unwrap();
        }
        let agent = pair::agent(&[&cluster]);
        let root = begin(&cluster, "LOCK TABLE held").await;
        let leader = begin(&cluster, "LOCK TABLE wanted").await;
        let mut parallel =
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0".to_owned();
        if binaries.major >= 11 {
            parallel += "; SET parallel_leader_participation = off";
        }
        leader.batch_execute(&parallel).await.unwrap();
        let last = begin(&cluster, "SELECT").await;
        let waiting = [send(&leader, "SELECT sum(look(id)) FROM rows"), send(&last, "SELECT FROM wanted")];
        until_true(
            &cluster,
            "SELECT count(*) > 0 FROM pg_stat_activity
              WHERE wait_event_type = 'Lock' AND backend_type IN ('parallel worker', 'background worker')",
        )
        .await;
        if binaries.major >= 13 {
            becomes(&agent, [2, 1, 0, 2]).await;
        } else {
            // The workers are counted beside their session, which has to wait here itself.
            let reading = read_until(&agent, |reading| blocking(reading)[1..] == [1, 0, 2]).await;
            assert!(blocking(&reading)[0] > 2 && blocking(&reading)[1..] == [1, 0, 2], "{:?}", blocking(&reading));
        }
        root.batch_execute("ROLLBACK").await.unwrap();
        let [leader_done, last_done] = waiting;
        leader_done.await.unwrap();
        leader.batch_execute("ROLLBACK").await.unwrap();
        last_done.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_queue_everybody_waits_for_its_head_and_who_waits_behind_one_of_them_is_a_step_further() {
    majors::on([10, 18], |binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&cluster).await;
        for statement in ["CREATE TABLE held ()", "CREATE TABLE wanted ()"] {
            cluster.sql("postgres", statement).await.unwrap();
        }
        let agent = pair::agent(&[&cluster]);
        let root = begin(&cluster, "LOCK TABLE held").await;
        let mut queue = vec![begin(&cluster, "LOCK TABLE wanted").await];
        for _ in 0..6 {
            queue.push(begin(&cluster, "SELECT").await);
        }
        let mut waiting = Vec::new();
        for (at, session) in queue.iter().enumerate() {
            waiting.push(send(session, if at < 4 { "LOCK TABLE held" } else { "LOCK TABLE wanted" }));
            until_true(&cluster, &format!("SELECT count(*) = {} FROM pg_locks WHERE NOT granted", at + 1)).await;
        }
        becomes(&agent, [7, 1, 0, 2]).await;
        root.batch_execute("ROLLBACK").await.unwrap();
        for (session, waiting) in queue.iter().zip(waiting) {
            waiting.await.unwrap();
            session.batch_execute("ROLLBACK").await.unwrap();
        }
        becomes(&agent, [0; 4]).await;
    })
    .await;
}
