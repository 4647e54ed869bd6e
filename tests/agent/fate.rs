//! Collectors that misbehave: each harms itself alone, and costs the server no more than its share.

use std::fs;
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tempfile::TempDir;

use crate::budget::memory;
use crate::link::{Link, Way};
use crate::pair;
use crate::program::{Facts, Program, get, label, watching};

/// A definition of one gauge that has this name and comes from this query, whose column `n`, if it has one, is a label.
fn definition(name: &str, sql: &str) -> String {
    let labels = if sql.contains("SELECT n,") { "labels = [\"n\"]\n" } else { "" };
    format!(
        "help = \"A test\"\n{labels}[[query]]\nsince = 10\nsql = '''{sql}'''\n\
         [[metric]]\nname = \"pg_{name}\"\ntype = \"gauge\"\ncolumn = \"value\"\nhelp = \"A test\"\n"
    )
}

/// A server and an agent that asks it these queries too, each under a name.
async fn asking(queries: &[(&str, &str)]) -> (Cluster, Program, TempDir) {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    server.sql("postgres", "CREATE TABLE pace AS SELECT 0.0::float8 AS seconds").await.unwrap();
    server.sql("postgres", "GRANT SELECT ON pace TO public").await.unwrap();
    let checks = tempfile::tempdir().unwrap();
    for (name, sql) in queries {
        fs::write(checks.path().join(format!("{name}.toml")), definition(name, sql)).unwrap();
    }
    let agent = Program::start(&format!("checks = '{}'\n{}", checks.path().display(), watching(&[&server])));
    (server, agent, checks)
}

/// What a metric says of one collector.
fn of(facts: &Facts, server: &Cluster, collector: &str, metric: &str) -> Option<f64> {
    facts.value(metric, &[&label(server), &format!("collector={collector:?}")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_costly_query_is_asked_less_often_until_it_is_cheap_again() {
    let paced = "SELECT count(*) AS value FROM public.pace, pg_catalog.pg_sleep((SELECT seconds FROM public.pace))";
    let (server, agent, _checks) = asking(&[("paced", paced)]).await;
    let interval = |facts: &Facts| of(facts, &server, "paced", "pgvitals_collector_interval_seconds").unwrap();
    let runs = |facts: &Facts| of(facts, &server, "paced", "pgvitals_collector_runs_total").unwrap();
    assert!((interval(&agent.facts()) - 1.0).abs() < 1e-9);

    // What the machine takes for any question is no cost: of the 150 ms a busy one counts fewer.
    server.sql("postgres", "UPDATE pace SET seconds = 0.15").await.unwrap();
    let (stretched, _) = agent.facts_until("it is asked less often", |facts| interval(facts) >= 5.0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        let facts = agent.facts();
        if began.elapsed() > Duration::from_secs(4) {
            // A machine that takes so long for one reading may find it due.
            break;
        }
        assert!((runs(&facts) - runs(&stretched)).abs() < 1e-9, "it runs though it is not due");
        // It goes on being shown, and its age is told.
        assert_eq!(facts.of(&server, "pg_paced"), Some(1.0));
        let age = |collector| of(&facts, &server, collector, "pgvitals_collector_age_seconds");
        assert!(age("paced") >= Some((asked - began).as_secs_f64()));
        assert!(age("locks") < Some(2.0 + asked.elapsed().as_secs_f64()));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    server.sql("postgres", "UPDATE pace SET seconds = 0").await.unwrap();
    agent.facts_until("it is asked as often as before", |facts| interval(facts) < 2.0);
}

/// When the oldest query of the agent's began that still runs, in seconds before now; 0 for none.
async fn oldest(server: &Cluster) -> f64 {
    let sql = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0) FROM pg_stat_activity
                WHERE state = 'active' AND usename = 'pgvitals'";
    server.sql("postgres", sql).await.unwrap().concat().pop().flatten().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_fails_or_floods_harms_itself_alone() {
    let rows = |count: u32| format!("SELECT n, 1 AS value FROM pg_catalog.generate_series(1, {count}) AS n");
    let (server, agent, _checks) = asking(&[
        ("flood", &rows(1_000_000)),
        ("many", &rows(100_001)),
        ("asleep", "SELECT 1 AS value FROM pg_catalog.pg_sleep(60)"),
        ("divided", "SELECT 1 / 0 AS value"),
        ("broad", "SELECT pg_catalog.repeat('x', 100000) AS text, 1 AS value FROM pg_catalog.generate_series(1, 2000)"),
    ])
    .await;
    let bad = ["asleep", "divided", "broad", "flood", "many"];
    let success = "pgvitals_collector_success";
    agent.facts_until("each ran once", |facts| {
        let failed = facts.values(success, &[&label(&server)]).into_iter().filter(|success| *success == 0.0).count();
        failed == bad.len() && bad.iter().all(|collector| of(facts, &server, collector, success) == Some(0.0))
    });
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        let asked = Instant::now();
        let facts = agent.facts();
        let failed = facts.values(success, &[&label(&server)]).into_iter().filter(|success| *success == 0.0).count();
        assert_eq!(failed, bad.len(), "{}", agent.log());
        assert!(facts.names_of(&server).len() > 100);
        for collector in bad {
            assert_eq!(of(&facts, &server, collector, success), Some(0.0));
            assert!(!facts.text.contains(&format!("\npg_{collector}")));
        }
        // What is asked for every reading is this reading's.
        let age = of(&facts, &server, "locks", "pgvitals_collector_age_seconds");
        assert!(age < Some(2.0 + asked.elapsed().as_secs_f64()), "{age:?}");
        // The timeout of two seconds, and what a busy machine takes for the cancelling; without it we would see eight.
        let oldest = oldest(&server).await;
        assert!(oldest < 5.0, "a query has been running for {oldest} s");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let most = memory(&agent).1;

    assert!(most < 300_000_000, "{most} bytes");
    for (collector, class) in
        [("asleep", "timeout"), ("divided", "other"), ("broad", "too_large"), ("many", "too_large")]
    {
        let told = format!("collector=\"{collector}\" class=\"{class}\"");
        assert!(agent.log().contains(&told), "{told}: {}", agent.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_gets_what_there_is_when_his_time_is_up_and_all_of_it_when_he_has_more() {
    // Each is quick enough for the fast lane; together they take a quarter of a minute.
    let names: Vec<String> = (0..9).map(|n| format!("late{n}")).collect();
    let queries: Vec<_> =
        names.iter().map(|name| (name.as_str(), "SELECT 1 AS value FROM pg_catalog.pg_sleep(1.6)")).collect();
    let (server, agent, _checks) = asking(&queries).await;
    let read = |timeout: u32| {
        let header = format!("X-Prometheus-Scrape-Timeout-Seconds: {timeout}\r\n");
        let began = Instant::now();
        let facts = Facts { text: get(agent.address(), "/metrics", &header).body };
        let there = names.iter().filter(|name| facts.of(&server, &format!("pg_{name}")).is_some()).count();
        let absent = facts.values("pgvitals_collector_absent", &["collector=\"late", "reason=\"timeout\""]).len();
        assert_eq!(facts.of(&server, "pg_up"), Some(1.0));
        assert_eq!(there + absent, names.len(), "what is not there says why: {}", facts.text);
        (there, began.elapsed())
    };
    // The second one finds the lane busy with what the first one asked, and the server is up all the same.
    for _ in 0..2 {
        let (there, took) = read(4);
        assert!(there < names.len() && took < Duration::from_secs(10), "{there} after {took:?}");
    }
    assert_eq!(read(60).0, names.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_connection_is_not_counted_as_a_collector_s_time() {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    let link = Link::to(&server);
    link.set(Way::Silent);
    let agent = Program::start(&link.watching(&server));
    let reading = tokio::task::spawn_blocking({
        let address = agent.address();
        move || Facts { text: get(address, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 60\r\n").body }
    });
    // Less than the two seconds after which the server counts as down.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    link.set(Way::Open);
    let facts = reading.await.unwrap();
    assert_eq!(facts.of(&server, "pg_up"), Some(1.0), "{}", agent.log());
    let durations = facts.values("pgvitals_collector_duration_seconds", &[&label(&server)]);
    let longest = durations.iter().copied().fold(0.0, f64::max);
    assert!(durations.len() > 20 && longest < 1.2, "{longest} s");
}
