//! Questions that are sent before the one before them is answered: each keeps its own time, and none pays for another.

use std::fs;
use std::time::Duration;

use pgvitals::demo::cluster::{Cluster, Settings};
use pgvitals::server::QueryFailure;

use crate::client::{LIMIT, admin, ask, start_with};
use crate::link::{Link, Way};
use crate::majors;
use crate::pair::{self, ROLE};
use crate::program::{Facts, Program, label, until, watching};
use crate::sessions::{SHORT, SLEEP, assert_gone};

/// It does what a table says.
const MOODY: &str = r#"
help = "What is quick at first"

[[query]]
since = 10
sql = """
SELECT 1 AS one FROM public.mood AS m
 WHERE CASE m.mood WHEN 'slow' THEN pg_catalog.pg_sleep(600) IS NULL
                   WHEN 'wrong' THEN 1 / (m.id - m.id) = 1
                   WHEN 'deadly' THEN pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())
                   ELSE true END
"""

[[metric]]
name = "pg_moody"
type = "gauge"
column = "one"
help = "Seen while it is well"
"#;

#[tokio::test]
async fn what_fails_leaves_the_others_alone_and_each_has_its_own_answer() {
    let server = start_with(Settings::default()).await;
    let mut session = admin(&server).await;
    ask(&mut session, "SELECT 1").await;
    let mut sent = Vec::new();
    for (name, sql) in
        [("a", "SELECT 'a'"), ("b", "SELECT 1 / 0"), ("c", "SELECT 'c'"), ("d", "SELECT 'd', pg_sleep(0)")]
    {
        sent.push(session.send(name, sql, LIMIT).await.unwrap());
    }
    let mut answers = Vec::new();
    for sent in sent {
        assert!(!session.is_closed());
        answers.push(session.receive(sent, LIMIT).await.1);
    }
    let first = |at: usize| answers[at].as_ref().unwrap().as_ref().unwrap().value(0, 0).unwrap().to_owned();
    assert_eq!([first(0), first(2), first(3)], ["a", "c", "d"]);
    assert!(matches!(&answers[1], Err(QueryFailure::Server { sqlstate, .. }) if sqlstate == "22012"), "{answers:?}");
    assert_eq!(ask(&mut session, "SELECT 2").await.value(0, 0), Some("2"));
    // What has to be prepared first is asked alone, and what is prepared goes ahead.
    assert!(session.send("a", "SELECT 'a'", LIMIT).await.is_none());
    session.query_again("a", "SELECT 'a'", LIMIT, LIMIT).await.unwrap();
    assert!(session.send("a", "SELECT 'a'", SHORT).await.is_none(), "another limit has to be set first");
    let sent = session.send("a", "SELECT 'a'", LIMIT).await.unwrap();
    assert!(session.receive(sent, LIMIT).await.1.unwrap().is_some());
}

#[tokio::test]
async fn a_prepared_statement_of_no_use_is_asked_again_alone() {
    let server = start_with(Settings::default()).await;
    let mut session = admin(&server).await;
    for _ in 0..2 {
        session.query_again("a", "SELECT 1", LIMIT, LIMIT).await.unwrap();
    }
    ask(&mut session, "DEALLOCATE ALL").await;
    let sent = session.send("a", "SELECT 1", LIMIT).await.unwrap();
    assert_eq!(session.receive(sent, LIMIT).await.1.unwrap(), None);
    assert_eq!(session.query_again("a", "SELECT 1", LIMIT, LIMIT).await.unwrap().value(0, 0), Some("1"));
}

#[tokio::test]
async fn the_time_of_a_question_begins_when_the_one_before_is_answered() {
    let server = start_with(Settings::default()).await;
    let mut session = admin(&server).await;
    let limit = Duration::from_millis(2_500);
    session.query("SELECT 1", limit, LIMIT).await.unwrap();
    let mut sent = Vec::new();
    for name in ["a", "b", "c"] {
        sent.push(session.send(name, &format!("SELECT pg_sleep(1) /* {name} */"), limit).await.unwrap());
    }
    for sent in sent {
        let (begun, answer) = session.receive(sent, limit).await;
        assert!(answer.unwrap().is_some());
        assert!(begun.elapsed() < limit);
    }
}

#[tokio::test]
async fn after_a_cancel_nothing_that_was_sent_behind_it_is_used() {
    let server = start_with(Settings::default()).await;
    for dropped in [false, true] {
        let mut session = admin(&server).await;
        session.query("SELECT 1", LIMIT * 10, LIMIT).await.unwrap();
        let slow = session.send("slow", SLEEP, LIMIT * 10).await.unwrap();
        let behind = session.send("behind", "SELECT 1", LIMIT * 10).await.unwrap();
        let slower = session.send("slower", SLEEP, LIMIT * 10).await.unwrap();
        if dropped {
            drop(session);
        } else {
            let (_, late) = session.receive(slow, SHORT).await;
            assert!(matches!(late, Err(QueryFailure::Deadline(limit)) if limit == SHORT), "{late:?}");
            assert!(session.is_closed());
            let (_, lost) = session.receive(behind, LIMIT).await;
            assert!(matches!(lost, Err(QueryFailure::Lost { .. })), "{lost:?}");
            drop(session);
        }
        drop(slower);
        assert_gone(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_overruns_fails_or_ends_the_session_costs_nobody_behind_it() {
    let server = Cluster::start(&majors::newest(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    for statement in [
        "CREATE TABLE mood (id int, mood text)",
        "INSERT INTO mood VALUES (1, 'well')",
        "GRANT SELECT ON mood TO public",
    ] {
        server.sql("postgres", statement).await.unwrap();
    }
    let checks = tempfile::tempdir().unwrap();
    fs::write(checks.path().join("moody.toml"), MOODY).unwrap();
    let agent = Program::start(&format!("checks = '{}'\n{}", checks.path().display(), watching(&[&server])));
    let of_moody = [label(&server), "collector=\"moody\"".to_owned()];
    let of_moody = of_moody.each_ref().map(String::as_str);
    let wait = || tokio::time::sleep(Duration::from_millis(1_100));
    for (mood, class) in [("wrong", "other"), ("deadly", "shutting_down"), ("slow", "timeout")] {
        server.sql("postgres", "UPDATE mood SET mood = 'well'").await.unwrap();
        // Known to be quick, prepared, and sent ahead.
        for _ in 0..3 {
            agent.facts_until("it is well", |facts| facts.of(&server, "pg_moody") == Some(1.0));
            wait().await;
        }
        server.sql("postgres", &format!("UPDATE mood SET mood = '{mood}'")).await.unwrap();
        let facts = agent.facts();
        assert_eq!(facts.values("pgvitals_collector_absent", &[&of_moody[..], &[class]].concat()), [1.0], "{mood}");
        let succeeded = facts.values("pgvitals_collector_success", &[&label(&server)]);
        assert_eq!(succeeded.iter().filter(|success| **success == 0.0).count(), 1, "{mood}: {}", facts.text);
        assert_eq!(facts.of(&server, "pg_up"), Some(1.0));
        let sessions = format!("SELECT count(*) <= 2 FROM pg_stat_activity WHERE usename = '{ROLE}'");
        assert_eq!(server.sql("postgres", &sessions).await.unwrap().concat(), [Some("t".to_owned())], "{mood}");
    }
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    assert_eq!(server.sql("postgres", idle).await.unwrap().concat(), [Some("0".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_expected_next_goes_with_the_probe_and_is_void_where_that_finds_another_state() {
    let mut server = Cluster::start(&majors::newest(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    for statement in ["ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"] {
        server.sql("postgres", statement).await.unwrap();
    }
    let link = Link::to(&server);
    let agent = Program::start(&link.watching(&server));
    let has_failed =
        |facts: &Facts| facts.values("pgvitals_collector_failures_total", &[]).iter().any(|failures| *failures > 0.0);
    let is_up = |facts: &Facts| facts.of(&server, "pg_up") == Some(1.0);
    let again = || async {
        // What is asked again is prepared, and what was quick is expected.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            agent.facts_until("it is up", is_up);
        }
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        server.log().len()
    };
    let executed = |since: usize| server.log().get(since..).map_or(0, |log| log.matches("EXECUTE pgvitals_").count());

    let before = again().await;
    link.set(Way::Unheard);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| agent.facts());
        until("more than the probe has come", || executed(before) > 4);
        link.set(Way::Open);
        reader.join().unwrap();
    });

    // The answers to what may be asked no longer are not used, and they are no failures.
    again().await;
    assert!(agent.facts().of(&server, "pg_wal_segments").is_some());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let before = server.log().len();
    server.sql("postgres", &format!("REVOKE pg_monitor FROM {ROLE}")).await.unwrap();
    let facts = agent.facts();
    assert!(executed(before) > 4);
    assert!(is_up(&facts));
    assert_eq!(facts.of(&server, "pg_wal_segments"), None, "it may not be seen any more");
    assert!(!has_failed(&facts));

    server.sql("postgres", &format!("GRANT pg_monitor TO {ROLE}")).await.unwrap();
    again().await;
    server.sql("postgres", "CREATE DATABASE fresh").await.unwrap();
    let facts = agent.facts();
    assert_eq!(facts.values("pg_stat_database_numbackends", &["datname=\"fresh\""]), [0.0]);
    assert!(!has_failed(&facts));

    again().await;
    server.stop().await.unwrap();
    let facts = agent.facts();
    assert_eq!((facts.value("pg_up", &[]), has_failed(&facts)), (Some(0.0), false));
}
