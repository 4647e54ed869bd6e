//! Servers and networks that stop answering without saying so, and what is left when they go on.

use std::fs;
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::deadline::ENDLESS;
use crate::lifecycle::Sessions;
use crate::link::{Link, Way};
use crate::pair::{self, ROLE, until_true};
use crate::program::{Facts, Program, label, until, watching};

const ROUNDS: u32 = 2;

/// What the agent holds: tasks and file descriptors.
fn held(facts: &Facts) -> [f64; 2] {
    ["pgvitals_tasks", "process_open_fds"].map(|metric| facts.value(metric, &[]).unwrap())
}

fn is_up(facts: &Facts, server: &Cluster) -> bool {
    facts.of(server, "pg_up") == Some(1.0)
}

/// Reads while a server hangs: only the first reader waits, and each is told why there is nothing.
fn read_hanging(agent: &Program, server: &Cluster) {
    let down = |facts: &Facts| {
        assert_eq!(facts.of(server, "pg_up"), Some(0.0), "{}", agent.log());
        assert_eq!(facts.value("pgvitals_server_failure", &[&label(server), "class=\"timeout\""]), Some(1.0));
        assert!(facts.value("node_load1", &[]).is_some());
    };
    let first = Instant::now();
    down(&agent.facts());
    assert!(first.elapsed() < Duration::from_secs(6), "{:?}", first.elapsed());
    let later = Instant::now();
    for _ in 0..5 {
        down(&agent.facts());
        std::thread::sleep(Duration::from_millis(200));
    }
    // Five deadlines are more than twelve seconds.
    assert!(later.elapsed() < Duration::from_secs(8), "{:?}", later.elapsed());
}

/// Reads once a second after the server was let go on; it may take two readings.
async fn read_again(agent: &Program, server: &Cluster) -> Facts {
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let facts = agent.facts();
        // The first one may just see that it is up again, as it does not wait for a server that hung.
        if is_up(&facts, server) && facts.names_of(server).len() > 100 {
            return facts;
        }
    }
    panic!("not up after two readings; {}", agent.log());
}

/// Waits until the agent holds no more than before, here and on the server.
async fn assert_nothing_left(agent: &Program, server: &Cluster, before: [f64; 2]) {
    let few = format!("SELECT count(*) BETWEEN 1 AND 2 FROM pg_stat_activity WHERE usename = '{ROLE}'");
    until_true(server, &few).await;
    agent.facts_until("nothing more is held than before", |facts| {
        held(facts).iter().zip(before).all(|(now, before)| *now <= before)
    });
}

async fn start() -> Cluster {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_server_that_stood_still() {
    let server = start().await;
    let agent = Program::start(&watching(&[&server]));
    let sessions = Sessions::count(&server).await;
    agent.facts();
    let before = held(&agent.facts());
    for _ in 0..ROUNDS {
        server.freeze().await.unwrap();
        read_hanging(&agent, &server);
        server.thaw();
        read_again(&agent, &server).await;
        assert_nothing_left(&agent, &server, before).await;
    }
    assert!(sessions.most() <= 2, "{} sessions", sessions.most());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_network_that_swallowed_everything() {
    let server = start().await;
    let link = Link::to(&server);
    let agent = Program::start(&link.watching(&server));
    let sessions = Sessions::count(&server).await;
    agent.facts();
    let before = held(&agent.facts());
    for _ in 0..ROUNDS {
        link.set(Way::Silent);
        read_hanging(&agent, &server);
        link.set(Way::Open);
        read_again(&agent, &server).await;
        assert_nothing_left(&agent, &server, before).await;
    }
    assert!(sessions.most() <= 2, "{} sessions", sessions.most());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_new_connections_is_read_and_yet_not_online() {
    let server = start().await;
    let link = Link::to(&server);
    let checks = tempfile::tempdir().unwrap();
    fs::write(checks.path().join("endless.toml"), ENDLESS).unwrap();
    let agent = Program::start(&format!("checks = '{}'\n{}", checks.path().display(), link.watching(&server)));
    let sessions = Sessions::count(&server).await;
    // What overran is asked over a connection of its own from now on.
    let (facts, _) = agent.facts_until("it overran", |facts| {
        facts.values("pgvitals_collector_absent", &["collector=\"endless\"", "reason=\"timeout\""]) == [1.0]
    });
    let before = held(&facts);
    link.set(Way::Established);
    let (facts, _) = agent.facts_until("it is seen that no connection is taken", |facts| {
        facts.values("pgvitals_connect_failure", &[&label(&server), "class=\"timeout\""]) == [1.0]
    });
    assert!(is_up(&facts, &server) && facts.names_of(&server).len() > 100);
    let online = || agent.get("/check/online").body;
    assert!(online().starts_with("PGVITALS ONLINE CRITICAL: timeout: new connections are not taken"), "{}", online());

    // The one connection ends: now nobody can tell how the server is.
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'");
    server.sql("postgres", &end).await.unwrap();
    read_hanging(&agent, &server);
    link.set(Way::Open);
    read_again(&agent, &server).await;
    until("it is online", || online().starts_with("PGVITALS ONLINE OK: primary answers"));
    // The endless query may have a connection now.
    assert_nothing_left(&agent, &server, before.map(|held| held + 3.0)).await;
    assert!(sessions.most() <= 2, "{} sessions", sessions.most());
}
