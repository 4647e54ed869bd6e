//! Samples between readings: what comes and goes is seen, and costs neither a session nor a reader.

use std::time::Instant;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::lifecycle::Sessions;
use crate::pair::{self, ROLE};
use crate::program::{Facts, Program, label, watching};

const OFTEN: &str = "[sampling]\ninterval = \"100ms\"\n";
const WAITS: &str = "pg_stat_activity_wait_samples_total";

async fn start() -> Cluster {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    server.sql("postgres", "CREATE TABLE locked ()").await.unwrap();
    server
}

fn taken(facts: &Facts) -> f64 {
    facts.value("pgvitals_samples_taken_total", &["collector=\"wait_samples\""]).unwrap_or_default()
}

/// Samples that were not taken, for whatever reason.
fn missed(facts: &Facts) -> f64 {
    facts.values("pgvitals_samples_missed_total", &["collector=\"wait_samples\""]).iter().sum()
}

fn locks(facts: &Facts) -> f64 {
    facts.values(WAITS, &["wait_event_type=\"Lock\"", "wait_event=\"relation\"", "datname=\"postgres\""]).iter().sum()
}

/// Lets a session wait for a lock for a second, from its beginning to its end.
async fn wait_for_lock(server: &Cluster) {
    let holding = server.client("postgres").await.unwrap();
    holding.batch_execute("BEGIN; LOCK TABLE locked").await.unwrap();
    let waiting = server.client("postgres").await.unwrap();
    waiting.batch_execute("SET lock_timeout = '1s'; LOCK TABLE locked").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_begins_and_ends_between_two_readings_is_seen() {
    let server = start().await;
    let agent = Program::start(&format!("{OFTEN}{}", watching(&[&server])));
    let (before, _) = agent.facts_until("samples are taken", |facts| taken(facts) >= 3.0);
    assert_eq!(before.values("pgvitals_collector_success", &["collector=\"wait_samples\""]), [1.0]);
    assert!(locks(&before).abs() < 0.5, "{}", before.text);
    wait_for_lock(&server).await;
    let after = agent.facts();
    assert!(after.values("pg_stat_activity_waits", &["wait_event_type=\"Lock\""]).is_empty(), "it is over");
    let (waits, samples) = (locks(&after), taken(&after) - taken(&before));
    assert!((1.0..=samples).contains(&waits), "{waits} waits in {samples} samples");
    // Nothing of an idle session, and nothing of ourselves.
    assert!(
        after.values(WAITS, &["state=\"idle\""]).is_empty() && !after.values(WAITS, &["state=\"active\""]).is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_take_no_third_session_and_no_more_queries_than_they_say() {
    let server = start().await;
    server.sql("postgres", "SELECT pg_stat_statements_reset()").await.unwrap();
    let sessions = Sessions::count(&server).await;
    let began = Instant::now();
    let agent = Program::start(&format!("{OFTEN}{}", watching(&[&server])));
    let (facts, _) = agent.facts_until("samples are taken", |facts| taken(facts) >= 20.0);
    let beats = began.elapsed().as_secs_f64() / 0.1 + 2.0;
    let calls = "SELECT sum(calls) FROM pg_stat_statements
                  WHERE query LIKE '%COALESCE(datname%COALESCE(wait_event_type%' AND query NOT LIKE '%usename%'";
    let calls: f64 = server.sql("postgres", calls).await.unwrap()[0][0].as_deref().unwrap().parse().unwrap();
    assert!(calls >= taken(&facts), "{calls} calls, {} samples", taken(&facts));
    let all = taken(&facts) + missed(&facts);
    assert!(all <= beats, "{all} samples in {beats} beats");
    assert!(sessions.most() <= 2, "{} sessions", sessions.most());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_stop_while_the_server_stands_still_and_go_on_when_it_was_restarted() {
    let mut server = start().await;
    let agent = Program::start(&format!("{OFTEN}[history]\ninterval = \"1s\"\n{}", watching(&[&server])));
    let sessions = Sessions::count(&server).await;
    agent.facts_until("samples are taken", |facts| taken(facts) >= 3.0);
    wait_for_lock(&server).await;
    let (before, _) = agent.facts_until("the wait is counted", |facts| locks(facts) >= 1.0);

    server.freeze().await.unwrap();
    let (still, _) = agent.facts_until("it is known to hang", |facts| {
        facts.values("pgvitals_server_failure", &[&label(&server), "class=\"timeout\""]) == [1.0]
    });
    assert!(still.values(WAITS, &[]).is_empty(), "what was counted is not shown as if it were known now");
    let (later, _) = agent.facts_until("samples are missed", |facts| missed(facts) > missed(&still));
    assert!((taken(&later) - taken(&still)).abs() < 0.5, "none is made up");
    server.thaw();
    let (thawed, _) = agent.facts_until("samples are taken again", |facts| taken(facts) > taken(&later));
    assert!(sessions.most() <= 2, "{} sessions", sessions.most());
    drop(sessions);

    server.restart().await.unwrap();
    let (after, _) = agent.facts_until("samples are taken and shown again", |facts| {
        taken(facts) > taken(&thawed) && !facts.values(WAITS, &[]).is_empty()
    });
    assert!(locks(&after) >= locks(&before), "the counters are the agent's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_turns_samples_on_and_off_and_their_counters_go_on() {
    let server = start().await;
    let off = watching(&[&server]);
    let agent = Program::start(&off);
    let facts = agent.facts();
    assert!(facts.values(WAITS, &[]).is_empty() && facts.values("pgvitals_samples_taken_total", &[]).is_empty());
    let absent = ["collector=\"wait_samples\"", "outcome=\"skipped\""];
    assert_eq!(facts.values("pgvitals_collector_absent", &absent), [1.0]);

    agent.reload(&format!("{OFTEN}{off}"));
    agent.facts_until("samples are taken", |facts| taken(facts) >= 3.0);
    wait_for_lock(&server).await;
    let (on, _) = agent.facts_until("the wait is counted", |facts| locks(facts) >= 1.0);
    agent.reload(&off);
    agent.facts_until("no samples are taken", |facts| facts.values("pgvitals_samples_taken_total", &[]).is_empty());
    assert!(agent.facts().values(WAITS, &[]).is_empty());

    // Another way to the same server: it is watched anew.
    let other = off.replace("dbname=postgres", "dbname=postgres connect_timeout=7");
    assert_ne!(other, off);
    agent.reload(&format!("{OFTEN}{other}"));
    let (again, _) = agent.facts_until("samples are taken again", |facts| {
        taken(facts) > taken(&on) && !facts.values(WAITS, &[]).is_empty()
    });
    assert!(locks(&again) >= locks(&on), "the counters are the agent's");
    let few = format!("SELECT count(*) <= 2 FROM pg_stat_activity WHERE usename = '{ROLE}'");
    pair::until_true(&server, &few).await;
}
