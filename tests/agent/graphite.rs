//! Pushing to a real carbon-cache: hostile names arrive, and an outage leaves no gap.

use std::collections::BTreeSet;
use std::future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use pgvitals::metric::{Family, Kind, Snapshot, Table};
use pgvitals::push::{self, PushStats};
use pgvitals::sink::graphite::{self, Root};

use crate::carbon::{Carbon, last_point, points, seconds};
use crate::pair::{self, PATIENCE};
use crate::program::{BINARY, Facts, Program, run, until, watching};

fn hostile_snapshot() -> Snapshot {
    let long = "x".repeat(63);
    let mut table = Table::new(&["datname", "usename"]);
    let column = table.column(Kind::Gauge, "pg_stat_activity_count", "Connections");
    let rows = [
        ["plain", "postgres"],
        ["with.dot", "with/slash"],
        ["../../../etc", ".."],
        ["a b\tc\nd\re", "new\nline 1 1"],
        ["tag;a=b", "<script>alert(1)</script>"],
        ["größe", "数据库"],
        ["", " "],
        ["*?[]{}~$^", "\\\"'`|&"],
        ["\u{0}\u{7f}", "-dash"],
        [&long, &long],
    ];
    for (row, value) in rows.iter().zip(1_u32..) {
        table.row(row);
        table.set(column, f64::from(value));
    }
    let mut snapshot = Snapshot::new(SystemTime::now());
    for family in table.into_families() {
        snapshot.add(Some(&Arc::from("15/main")), &Arc::new(family));
    }
    snapshot.add(None, &Arc::new(Family::single(Kind::Gauge, "node_load1", "", 0.25)));
    snapshot
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_of_a_snapshot_with_hostile_names_becomes_a_whisper_file() {
    let carbon = Carbon::start();
    let config = carbon.config();
    let snapshot = Arc::new(hostile_snapshot());
    let mut lines = String::new();
    let dropped = graphite::encode(&snapshot, &Root::new(&config.prefix, "db1.example"), &mut lines);
    assert_eq!((dropped, lines.lines().count()), (0, 11));

    let stats = Arc::new(PushStats::default());
    let source = move || future::ready(Arc::clone(&snapshot));
    let pushing = tokio::spawn(push::run(config, source, Arc::clone(&stats), future::pending()));
    for line in lines.lines() {
        let (path, rest) = line.split_once(' ').unwrap();
        assert!(path.starts_with("collectd.db1_example."), "{path}");
        let file = carbon.file_of(path);
        until(&format!("{} has a point", file.display()), || last_point(&file).is_some());
        let expected: f64 = rest.split_once(' ').unwrap().0.parse().unwrap();
        let now = seconds();
        let found = points(&file, now - 300, now);
        assert!(found.iter().all(|(_, value)| value.is_none_or(|value| (value - expected).abs() < 1e-9)));
    }
    pushing.abort();
    assert_eq!(stats.points_dropped(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_carbon_leaves_no_gap_once_it_runs_again() {
    let mut carbon = Carbon::start();
    let stats = Arc::new(PushStats::default());
    let source = || {
        let mut snapshot = Snapshot::new(SystemTime::now());
        snapshot.add(None, &Arc::new(Family::single(Kind::Gauge, "pgvitals_up", "", 1.0)));
        future::ready(Arc::new(snapshot))
    };
    let before = seconds();
    let pushing = tokio::spawn(push::run(carbon.config(), source, Arc::clone(&stats), future::pending()));
    let file = carbon.file_of("collectd.db1_example.pgvitals_up");
    until("the first points are in whisper", || stats.points_sent() >= 3 && last_point(&file).is_some());

    carbon.stop();
    let stopped = seconds();
    until("points of three intervals wait", || stats.points_queued() >= 3);
    carbon.resume();
    until("points are sent again", || stats.reconnects() == 1 && stats.points_queued() == 0);
    until("the time after the outage is in whisper", || last_point(&file).is_some_and(|time| time > stopped + 3));
    pushing.abort();

    let found = points(&file, before, last_point(&file).unwrap());
    let pushed: Vec<_> = found.iter().skip_while(|(_, value)| value.is_none()).collect();
    assert!(pushed.len() > 6, "{found:?}");
    assert!(pushed.iter().all(|(_, value)| value.is_some()), "stopped at {stopped}: {found:?}");
    assert!(stats.points_resent() > 0);
    assert_eq!(stats.points_dropped(), 0);
}

/// An agent that pushes all it sees of a server every second, and the configuration that says so.
fn pushing(carbon: &Carbon, server: &Cluster) -> (Program, String) {
    let graphite = format!("[graphite]\naddress = {:?}\ninterval = \"1s\"\n", carbon.address());
    let config = graphite + &watching(&[server]);
    (Program::start(&config), config)
}

fn paths_of_one_reading(config: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgvitals.toml");
    std::fs::write(&file, config).unwrap();
    let output = run(BINARY, &["once", "--format", "graphite", "--config", file.to_str().unwrap()], "");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_that_once_prints_becomes_a_whisper_file() {
    // Which of more than a hundred statements are shown depends on what was shown before: there are to be none.
    let settings = Settings { conf: vec!["pg_stat_statements.track = none".to_owned()], ..Settings::default() };
    let primary = Cluster::start(&Binaries::major(17).unwrap(), settings).await.unwrap();
    pair::prepare(&primary).await;
    // Each sees the other's session and not its own; both see this one.
    let dsn = primary.dsn("postgres").replace("user=postgres", "user=pgvitals application_name=pgvitals");
    let (_session, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let carbon = Carbon::start();
    let (agent, config) = pushing(&carbon, &primary);
    let paths = paths_of_one_reading(&config);
    assert!(paths.len() > 1_000, "{} paths", paths.len());
    agent.facts_until("three readings are sent", |facts| {
        facts.value("pgvitals_graphite_points_sent_total", &[]).unwrap() > 3.0 * paths.len() as f64
    });
    // What a session does or waits for may be gone before anybody pushes it: then the next printing has it no more.
    let missing = || {
        let mut paths = paths_of_one_reading(&config);
        paths.retain(|path| !carbon.file_of(path).exists());
        paths
    };
    let deadline = Instant::now() + PATIENCE;
    while let found = missing()
        && !found.is_empty()
    {
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_has_no_gap_after_carbon_was_away() {
    let primary = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&primary).await;
    let mut carbon = Carbon::start();
    let before = seconds();
    let (agent, _) = pushing(&carbon, &primary);
    let session = primary.client("postgres").await.unwrap();
    let load = tokio::spawn(async move {
        while session.batch_execute("SELECT 1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let own = |facts: &Facts, name: &str| facts.value(&format!("pgvitals_graphite_{name}"), &[]);
    let host = graphite::host_name();
    let path = Root::new("pgvitals", &host).as_str().to_owned() + ".primary.pg_stat_database_xact_commit";
    let oid = primary.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'postgres'").await.unwrap();
    let oid = oid.concat().pop().flatten().unwrap();
    let file = carbon.file_of(&format!("{path}.{oid}.postgres"));
    until("the first points are in whisper", || last_point(&file).is_some_and(|time| time > before + 2));

    carbon.stop();
    let stopped = seconds();
    // Stands for a minute: what waits grows by as much with every second.
    let (facts, _) = agent.facts_until("eight seconds wait", |facts| {
        own(facts, "connected") == Some(0.0) && seconds() > stopped + 8 && own(facts, "queue_points") > Some(5_000.0)
    });
    assert!(own(&facts, "last_error_timestamp_seconds").unwrap() >= stopped as f64 - 1.0);
    carbon.resume();
    let (facts, _) = agent.facts_until("all is sent", |facts| {
        own(facts, "connected") == Some(1.0) && own(facts, "queue_points") == Some(0.0)
    });
    assert_eq!((own(&facts, "reconnects_total"), own(&facts, "points_dropped_total")), (Some(1.0), Some(0.0)));
    assert!(own(&facts, "points_resent_total") > Some(0.0));
    let resumed = seconds();
    until("points of after the outage are in whisper", || last_point(&file).is_some_and(|time| time > resumed + 2));
    load.abort();

    let found = points(&file, before, last_point(&file).unwrap());
    let pushed: Vec<_> = found.iter().skip_while(|(_, value)| value.is_none()).collect();
    let gaps = pushed.iter().filter(|(_, value)| value.is_none()).count();
    // On a machine too busy for a reading in each second it says so.
    let missed = own(&agent.facts(), "intervals_missed_total").unwrap();
    assert!(gaps as f64 <= missed, "{gaps} gaps, {missed} missed, stopped at {stopped}: {found:?}");
    let values: Vec<f64> = pushed.iter().filter_map(|(_, value)| *value).collect();
    assert!(values.len() > 10 && values.is_sorted() && values.last() > values.first(), "{values:?}");
}
