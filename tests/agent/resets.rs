//! Counters that are reset, evicted or of another run of the server: no rate is negative, none leaps.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use pgvitals::agent::{Agent, Reading, Want};
use pgvitals::catalog::{Catalog, Scope};
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use pgvitals::judge::{Judge, Overrides};
use pgvitals::metric::Kind;
use tokio_postgres::Client;

use crate::majors;
use crate::pair::{self, PATIENCE};

/// Every function that resets counters, on any major.
const RESETS: [&str; 15] = [
    "pg_stat_reset()",
    "pg_stat_reset_shared('bgwriter')",
    "pg_stat_reset_shared('archiver')",
    "pg_stat_reset_shared('wal')",
    "pg_stat_reset_shared('io')",
    "pg_stat_reset_shared('checkpointer')",
    "pg_stat_reset_shared('slru')",
    "pg_stat_reset_shared('recovery_prefetch')",
    "pg_stat_reset_shared(NULL)",
    "pg_stat_reset_slru(NULL)",
    "pg_stat_reset_replication_slot(NULL)",
    "pg_stat_reset_subscription_stats(NULL)",
    "pg_stat_reset_backend_stats(pg_backend_pid())",
    "pg_stat_reset_single_table_counters('pg_class'::regclass)",
    "pg_stat_statements_reset()",
];

/// The built-in definitions, asked anew for each reader, with more rules and with other texts in them.
fn catalog(rules: &str, change: impl Fn(&str) -> String) -> Catalog {
    let folder = tempfile::tempdir().unwrap();
    for definition in Catalog::built_in().unwrap().asking() {
        let lines = definition.text.lines().filter(|line| !line.starts_with("fresh_for"));
        let text = "fresh_for = \"1ms\"\n".to_owned() + &lines.collect::<Vec<_>>().join("\n");
        fs::write(folder.path().join(format!("{}.toml", definition.name)), change(&text)).unwrap();
    }
    fs::write(folder.path().join("rates.toml"), format!("help = \"Rates\"\n{rules}")).unwrap();
    Catalog::load(folder.path()).unwrap_or_else(|error| panic!("{error}"))
}

/// A check for each counter of the catalog: how much it grew.
fn rules() -> (String, Vec<String>) {
    let catalog = Catalog::built_in().unwrap();
    // A rate of what is read only now and then would be made up.
    let asked = catalog.asking().filter(|definition| definition.scope == Scope::Server);
    let metrics = asked.flat_map(|definition| &definition.metrics);
    let counters =
        metrics.filter(|metric| metric.metric.kind == Kind::Counter && !metric.metric.name.contains("reset"));
    let names: Vec<String> = counters.map(|metric| metric.metric.name.clone()).collect();
    let rule = |(n, name): (usize, &String)| {
        format!(
            "[[rule]]\nname = \"grown-{n}\"\nvalue = \"increase({name}[1h])\"\nwarning = \"1\"\nnone = \"nothing\"\n\
             summary = \"x\"\nreason = \"x\"\n"
        )
    };
    (names.iter().enumerate().map(rule).collect(), names)
}

async fn work(session: &Client, times: usize) {
    for _ in 0..times {
        session.batch_execute("SELECT count(*) FROM pg_class").await.unwrap();
    }
}

/// Reads a few times while something small goes on.
async fn look(judge: &Judge, session: &Client) {
    for _ in 0..2 {
        work(session, 5).await;
        judge.remember().await;
    }
}

#[tokio::test]
async fn no_reset_and_no_restart_makes_a_counter_grow_by_what_it_had() {
    majors::on([10, 14, 18], |binaries| async move {
        let mut cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&cluster).await;
        let (rules, names) = rules();
        let catalog = Arc::new(catalog(&rules, str::to_owned));
        let agent = Agent::new(Arc::clone(&catalog), None, Arc::default());
        assert!(agent.watch(cluster.name(), pair::options(&cluster), None));
        let judge = Judge::new(Arc::new(agent), catalog.checks().to_vec(), None);
        let mut session = cluster.client("postgres").await.unwrap();
        work(&session, 3_000).await;
        // Until 14 a process of its own has to hear of it.
        let counted = "SELECT xact_commit > 3000 FROM pg_stat_database WHERE datname = 'postgres'";
        pair::until_true(&cluster, counted).await;
        look(&judge, &session).await;
        let mut done = 0;
        for reset in RESETS {
            done += usize::from(session.batch_execute(&format!("SELECT {reset}")).await.is_ok());
            look(&judge, &session).await;
        }
        assert!(done >= 5, "{done} resets on PostgreSQL {}", binaries.major);
        for round in 0..2 {
            work(&session, 1_000).await;
            // Once in order, then as after a crash, which forgets all counters.
            if round == 0 {
                cluster.stop().await.unwrap();
            } else {
                cluster.kill_hard();
            }
            judge.remember().await;
            cluster.start_again().await.unwrap();
            session = cluster.client("postgres").await.unwrap();
            look(&judge, &session).await;
        }
        let mut known = BTreeSet::new();
        for (n, name) in names.iter().enumerate() {
            let verdict = judge.check(&format!("grown-{n}"), &Overrides::default(), PATIENCE).await.unwrap();
            for finding in &verdict.findings {
                let Some(value) = finding.value else { continue };
                known.insert(name);
                assert!(value >= 0.0, "{name} {:?} {value} on PostgreSQL {}", finding.labels, binaries.major);
                // All that went on while we looked were some 200 transactions of ours and as many of the agent's.
                if name == "pg_stat_database_xact_commit" || name == "pg_stat_statements_calls_total" {
                    assert!(value < 2_500.0, "{name} {:?} {value} on PostgreSQL {}", finding.labels, binaries.major);
                }
            }
        }
        assert!(known.contains(&"pg_stat_database_xact_commit".to_owned()) && known.len() > 20, "{known:?}");
    })
    .await;
}

/// The samples of a counter, by their labels.
fn samples(reading: &Reading, name: &str) -> BTreeMap<String, f64> {
    let samples = reading.snapshot.find(name).into_iter().flat_map(|group| group.samples());
    samples.map(|sample| (format!("{:?}", sample.labels().collect::<Vec<_>>()), sample.value)).collect()
}

/// How much Prometheus says that its series grew: each by itself, a fall taken for a reset.
fn increase(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> f64 {
    let known = now.iter().filter_map(|(labels, value)| Some((*before.get(labels)?, *value)));
    known.map(|(before, value)| if value < before { value } else { value - before }).sum()
}

#[tokio::test]
async fn evicted_statements_are_neither_new_calls_nor_new_series() {
    const SHOWN: usize = 20;
    let conf = vec!["pg_stat_statements.max = 100".to_owned()];
    let cluster =
        Cluster::start(&Binaries::major(17).unwrap(), Settings { conf, ..Settings::default() }).await.unwrap();
    pair::prepare(&cluster).await;
    // By calls, as what a test takes long for is chance.
    let change = |text: &str| {
        text.replace(
            "max_series = 100\nrank_by = \"total_seconds\"",
            &format!("max_series = {SHOWN}\nrank_by = \"calls\""),
        )
    };
    let agent = Agent::new(Arc::new(catalog("", change)), None, Arc::default());
    assert!(agent.watch(cluster.name(), pair::options(&cluster), None));
    let session = cluster.client("postgres").await.unwrap();
    let calls = "pg_stat_statements_calls_total";
    let (mut before, mut series, mut random, mut issued) = (BTreeMap::new(), BTreeSet::new(), 1_u64, 0_u32);
    let (mut grown, mut new) = (0.0, 0);
    for round in 0..40 {
        for _ in 0..60 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Statements of so many columns: most are rare, and there are more than fit.
            let any = usize::try_from(random >> 40).unwrap() % 400;
            let columns = any * any / 1_000 + 1;
            session.batch_execute(&format!("SELECT {}", vec!["1"; columns].join(", "))).await.unwrap();
            issued += 1;
        }
        let reading = agent.read(&Want::default()).await;
        let now = samples(&reading, calls);
        assert_eq!(now.len(), SHOWN, "{now:?}");
        assert!(!now.keys().any(|labels| labels.contains("\"other\"")), "{now:?}");
        if round > 0 {
            grown += increase(&before, &now);
            new += now.keys().filter(|labels| !series.contains(*labels)).count();
        }
        series.extend(now.keys().cloned());
        before = now;
    }
    let reading = agent.read(&Want::default()).await;
    let value = |name: &str| samples(&reading, name).into_values().next();
    assert!(value("pg_stat_statements_info_dealloc_total").unwrap() > 0.0, "nothing was evicted");
    assert!(value("pg_stat_statements_info_stats_reset_seconds").is_some());
    // Each of the agent's own 40 readings is some 40 statements beside those that were issued here.
    assert!(grown > 0.0 && grown < f64::from(issued) + 40.0 * 45.0, "{grown} of {issued}");
    assert!(new <= 2 * SHOWN, "{new} new series in 39 readings");
}

#[tokio::test]
async fn what_is_shown_of_a_counter_and_what_remains_is_all_there_is() {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    let session = cluster.client("postgres").await.unwrap();
    for columns in 1..150 {
        session.batch_execute(&format!("SELECT {}", vec!["1"; columns].join(", "))).await.unwrap();
    }
    session.batch_execute("CREATE TABLE counted AS SELECT generate_series(1, 1000) AS id").await.unwrap();
    let agent = pair::agent(&[&cluster]);
    // What the statements did that are no longer being counted when the agent asks, and what they have done afterwards.
    let columns = ["calls", "rows", "total_exec_time / 1000", "shared_blks_hit", "shared_blks_dirtied", "wal_bytes"];
    let sums = async || {
        let sums = columns.map(|column| format!("sum({column})")).join(", ");
        let sums = cluster.sql("postgres", &format!("SELECT {sums} FROM pg_stat_statements")).await.unwrap();
        sums.concat().into_iter().map(|sum| sum.unwrap().parse::<f64>().unwrap()).collect::<Vec<_>>()
    };
    let before = sums().await;
    let reading = agent.read(&Want::only(["statements".to_owned()])).await;
    let after = sums().await;
    let names = ["calls", "rows", "seconds", "shared_blks_hit", "shared_blks_dirtied", "wal_bytes"];
    for ((name, before), after) in names.into_iter().zip(before).zip(after) {
        let metric = format!("pg_stat_statements_{name}_total");
        let shown = samples(&reading, &metric);
        assert_eq!(shown.len(), 100, "{metric}");
        let remainder = samples(&reading, "pgvitals_collector_remainder");
        let remainder = remainder.iter().find(|(labels, _)| labels.contains(&format!("\"{metric}\""))).unwrap().1;
        let all = shown.values().sum::<f64>() + remainder;
        // The sums of the server are exact but for the last digits.
        let margin = after * 1e-9;
        assert!((before - margin..=after + margin).contains(&all), "{metric}: {before} {all} {after}");
        assert!(name != "calls" || *remainder >= 49.0, "{remainder} calls remain");
    }
}
