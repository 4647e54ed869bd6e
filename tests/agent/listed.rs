//! Rows by name from the agent: over the two connections that it has, shared, in time, and never older than the server.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgvitals::agent::{Agent, ListError, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tokio::task::JoinSet;

use crate::client::LIMIT;
use crate::pair::{self, PATIENCE, ROLE, until_true};

/// Listings that take their time, and one that is too large.
const LISTINGS: [(&str, &str, &str); 6] = [
    ("brief", "timeout = '5s'", "SELECT pg_catalog.clock_timestamp() AS asked FROM pg_catalog.pg_sleep(0.3)"),
    ("long", "timeout = '20s'", "SELECT pg_catalog.clock_timestamp() AS asked FROM pg_catalog.pg_sleep(3)"),
    ("endless", "timeout = '1s'", "SELECT 1 AS one FROM pg_catalog.pg_sleep(60)"),
    ("large", "timeout = '20s'", "SELECT pg_catalog.repeat('x', 1024) AS x FROM pg_catalog.generate_series(1, 20000)"),
    ("here", "scope = 'database'", "SELECT pg_catalog.current_database() AS datname"),
    ("followed", "role = 'standby'", "SELECT 1 AS one"),
];

async fn start() -> (Cluster, Arc<Agent>) {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("listings")).unwrap();
    for (name, key, sql) in LISTINGS {
        let text = format!("help = 'x'\n{key}\n[[query]]\nsince = 10\nsql = \"{sql}\"\n");
        fs::write(folder.path().join(format!("listings/{name}.toml")), text).unwrap();
    }
    let agent = Agent::new(Arc::new(Catalog::load(folder.path()).unwrap()), None, Arc::default());
    assert!(agent.watch(cluster.name(), pair::options(&cluster), None));
    (cluster, Arc::new(agent))
}

/// The most sessions that the agent had at once while something was done.
async fn most_sessions<T>(cluster: &Cluster, doing: impl Future<Output = T>) -> (T, i64) {
    let (client, done) = (cluster.client("postgres").await.unwrap(), Arc::<AtomicBool>::default());
    let until = Arc::clone(&done);
    let counting = tokio::spawn(async move {
        let mut most = 0_i64;
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'");
        while !until.load(Ordering::Relaxed) {
            most = most.max(client.query_one(&count, &[]).await.unwrap().try_get(0).unwrap());
        }
        most
    });
    let given = doing.await;
    done.store(true, Ordering::Relaxed);
    (given, counting.await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_want_the_same_rows_cost_what_one_costs() {
    let (cluster, agent) = start().await;
    let reading = async {
        let mut readers = JoinSet::new();
        for _ in 0..20 {
            let (agent, name) = (Arc::clone(&agent), cluster.name().to_owned());
            readers.spawn(async move { agent.list(&name, "brief", LIMIT).await.unwrap() });
        }
        let rows = readers.join_all().await;
        assert!(rows.iter().all(|other| Arc::ptr_eq(other, &rows[0])), "asked more than once");
        Arc::clone(&rows[0])
    };
    let (first, most) = most_sessions(&cluster, reading).await;
    assert!(most <= 2, "{most} sessions");
    assert_eq!(first.len(), 1);
    let asked = first.value(0, 0).unwrap().to_owned();
    let deadline = Instant::now() + PATIENCE;
    while agent.list(cluster.name(), "brief", LIMIT).await.unwrap().value(0, 0) == Some(&asked) {
        assert!(Instant::now() < deadline, "the same rows for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let kept = Arc::downgrade(&first);
    drop(first);
    while kept.strong_count() > 0 {
        assert!(Instant::now() < deadline, "nobody wants these rows any more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_overruns_delays_no_reader_and_takes_no_third_connection() {
    let (cluster, agent) = start().await;
    let listing = async {
        let (listing, name) = (Arc::clone(&agent), cluster.name().to_owned());
        let long = tokio::spawn(async move { listing.list(&name, "long", PATIENCE).await });
        let mut slowest = Duration::ZERO;
        while !long.is_finished() {
            let began = Instant::now();
            let reading = agent.read(&Want::default()).await;
            slowest = slowest.max(began.elapsed());
            assert!(reading.servers[0].state.is_ok(), "{:?}", reading.servers);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(long.await.unwrap().unwrap().len(), 1);
        slowest
    };
    let (slowest, most) = most_sessions(&cluster, listing).await;
    assert!(most <= 2, "{most} sessions");
    assert!(slowest < PATIENCE, "{slowest:?}");

    let endless = agent.list(cluster.name(), "endless", PATIENCE).await.unwrap_err();
    assert!(matches!(endless, ListError::Failed { class: "timeout", .. }), "{endless}");
    until_true(&cluster, "SELECT count(*) = 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%(60)'")
        .await;
    let late = agent.list(cluster.name(), "long", Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(late, ListError::Late(_)), "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_of_the_server_as_it_is_now_or_none() {
    let (cluster, agent) = start().await;
    let name = cluster.name().to_owned();
    let here = agent.list(&name, "here", LIMIT).await.unwrap();
    assert_eq!(here.value(0, 0), Some("postgres"), "the database of the DSN");
    let slots = agent.list(&name, "slots", LIMIT).await.unwrap();
    assert!(slots.column("slot_name").is_some() && slots.is_empty(), "what a definition asks");
    let large = agent.list(&name, "large", PATIENCE).await.unwrap_err();
    assert!(matches!(large, ListError::Failed { class: "too_large", .. }), "{large}");
    let standby = agent.list(&name, "followed", LIMIT).await.unwrap_err();
    assert_eq!(standby, ListError::Skipped("runs on a standby only".to_owned()));
    for (server, listing, reason) in [
        ("elsewhere", "here", "no server \"elsewhere\" is watched"),
        (&name, "nothing", "no listing is called nothing"),
        (&name, "statement_texts", "no listing is called statement_texts"),
    ] {
        assert_eq!(agent.list(server, listing, LIMIT).await.unwrap_err().to_string(), reason);
    }
    // Still fresh, had the server not gone.
    agent.list(&name, "slots", LIMIT).await.unwrap();
    drop(cluster);
    let down = agent.list(&name, "slots", LIMIT).await.unwrap_err();
    assert!(matches!(down, ListError::Down { .. }), "{down}");
}
