use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use pgvitals::server::{FailureClass, QueryFailure, Session, TlsCache};
use rustix::process::{Pid, Signal, kill_process};

use crate::postgres::{PATIENCE, Postgres, ask, until, value};

pub(crate) const SHORT: Duration = Duration::from_millis(200);
pub(crate) const SLEEP: &str = "SELECT pg_sleep(600)";

/// Waits until nobody runs the long query any more.
pub(crate) async fn assert_gone(observer: &mut Session) {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND state = 'active'";
    until(async || (value(observer, count).await == "0").then_some(())).await;
}

async fn wait_for_sleep(observer: &mut Session) {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND state = 'active'";
    until(async || (value(observer, count).await != "0").then_some(())).await;
}

#[tokio::test]
async fn a_session_is_read_only_bounded_and_of_known_version() {
    let server = Postgres::start("", "", |_| {}).await;
    let mut session = server.open(&server.admin()).await;
    for (setting, expected) in [
        ("application_name", "pgvitals"),
        ("statement_timeout", "20s"),
        ("lock_timeout", "100ms"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("transaction_read_only", "on"),
        ("search_path", "pg_catalog"),
        ("client_encoding", "UTF8"),
    ] {
        assert_eq!(value(&mut session, &format!("SHOW {setting}")).await, expected, "{setting}");
    }
    if session.version() >= 110_000 {
        assert_eq!(value(&mut session, "SHOW jit").await, "off");
    }
    let version = value(&mut session, "SHOW server_version_num").await;
    assert_eq!(session.version().to_string(), version);
    assert!(!session.is_pooled() && !session.was_in_recovery() && !session.is_closed());
    let refused = session.query("CREATE TABLE t ()", PATIENCE, PATIENCE).await.unwrap_err();
    assert!(matches!(&refused, QueryFailure::Server { sqlstate, .. } if sqlstate == "25006"), "{refused}");
    let rows = ask(&mut session, "SELECT 1 AS a, NULL AS b, '' AS c UNION ALL SELECT 2, 'x', 'ü' ORDER BY 1").await;
    assert_eq!(rows.columns(), ["a", "b", "c"]);
    let read: Vec<Vec<_>> = rows.rows().map(Iterator::collect).collect();
    assert_eq!(read, [[Some("1"), None, Some("")], [Some("2"), Some("x"), Some("ü")]]);
    assert!(ask(&mut session, "").await.is_empty());
}

#[tokio::test]
async fn a_query_that_misses_its_deadline_is_gone_from_the_server() {
    let server = Postgres::start("", "", |_| {}).await;
    let mut observer = server.open(&server.admin()).await;
    let mut late = server.open(&server.admin()).await;
    let failure = late.query(SLEEP, PATIENCE * 10, SHORT).await.unwrap_err();
    assert!(matches!(failure, QueryFailure::Deadline(limit) if limit == SHORT), "{failure}");
    assert!(late.is_closed());
    assert!(matches!(late.query("SELECT 1", SHORT, SHORT).await, Err(QueryFailure::Lost { .. })));
    // The session is still held, so what ended the query is the cancel request and not the end of the connection.
    assert_gone(&mut observer).await;
}

#[tokio::test]
async fn a_query_nobody_waits_for_any_more_is_gone_from_the_server() {
    let server = Postgres::start("", "", |_| {}).await;
    let mut observer = server.open(&server.admin()).await;
    let mut dropped = server.open(&server.admin()).await;
    {
        let mut query = std::pin::pin!(dropped.query(SLEEP, PATIENCE * 10, PATIENCE * 10));
        tokio::select! {
            outcome = &mut query => panic!("{outcome:?}"),
            () = wait_for_sleep(&mut observer) => {}
        }
    }
    assert!(dropped.is_closed());
    drop(dropped);
    assert_gone(&mut observer).await;
}

#[tokio::test]
async fn a_dropped_session_leaves_the_server_at_once() {
    let server = Postgres::start("log_disconnections = on\nlog_min_messages = debug1", "", |_| {}).await;
    let mut observer = server.open(&server.admin()).await;
    let mut session = server.open(&server.admin()).await;
    let id = value(&mut session, "SELECT pg_backend_pid()").await;
    drop(session);
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {id}");
    until(async || (value(&mut observer, &count).await == "0").then_some(())).await;
    let log = std::fs::read_to_string(server.folder().join("log")).unwrap();
    assert!(!log.contains("unexpected EOF"), "it took its leave: {log}");
}

#[tokio::test]
async fn the_server_s_own_limits_leave_the_session_usable() {
    let server = Postgres::start("", "", |_| {}).await;
    server.run("CREATE TABLE t ()");
    let mut session = server.open(&server.admin()).await;
    let slow = session.query(SLEEP, SHORT, PATIENCE).await.unwrap_err();
    assert!(matches!(slow, QueryFailure::StatementTimeout(limit) if limit == SHORT), "{slow}");
    let mut locking = server.open(&server.admin()).await;
    let lock = format!("SET transaction_read_only = off; LOCK TABLE public.t; {SLEEP}");
    let mut locking = std::pin::pin!(locking.query(&lock, PATIENCE * 10, PATIENCE * 10));
    let blocked = async {
        let count = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
        until(async || (value(&mut session, count).await != "0").then_some(())).await;
        session.query("SELECT count(*) FROM public.t", PATIENCE, PATIENCE).await.unwrap_err()
    };
    tokio::select! {
        outcome = &mut locking => panic!("{outcome:?}"),
        failure = blocked => assert!(matches!(failure, QueryFailure::LockTimeout), "{failure}"),
    }
    assert_eq!(value(&mut session, "SELECT 1").await, "1");
}

#[tokio::test]
async fn a_session_ended_by_an_administrator_is_lost_as_shutting_down() {
    let server = Postgres::start("", "", |_| {}).await;
    let mut session = server.open(&server.admin()).await;
    let ended = session.query("SELECT pg_terminate_backend(pg_backend_pid())", PATIENCE, PATIENCE).await.unwrap_err();
    assert!(matches!(ended, QueryFailure::Lost { class: FailureClass::ShuttingDown, .. }), "{ended:?}");
    assert!(session.is_closed());
}

#[tokio::test]
async fn bytes_of_any_encoding_cost_neither_row_nor_session() {
    let server = Postgres::start("", "", |_| {}).await;
    server.run("CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0");
    server.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    let text = "SELECT 'M' || chr(252) || 'ller', 42 AS b";
    let in_database = |name: &str| format!("{} dbname={name}", server.admin());
    let mut raw = server.open(&in_database("raw")).await;
    let rows = ask(&mut raw, text).await;
    assert_eq!((rows.value(0, 0), rows.value(0, 1)), (Some("M?ller"), Some("42")));
    assert_eq!(value(&mut raw, "SELECT 'Müller'").await, "Müller");
    // An error that repeats the bytes, which are no text in any encoding.
    let failure = raw.query("SELECT CAST('x' || chr(252) AS int)", PATIENCE, PATIENCE).await.unwrap_err();
    assert!(failure.to_string().contains("\"x?\""), "{failure}");
    assert_eq!(value(&mut raw, "SELECT 1").await, "1");
    let mut latin = server.open(&in_database("latin")).await;
    assert_eq!(value(&mut latin, text).await, "Müller");

    // What another database's session runs is shown as it was sent.
    let bytes = OsStr::from_bytes(b"SELECT pg_sleep(600) /* M\xfcller */");
    let mut other = Command::new("psql")
        .env_clear()
        .env("PGCLIENTENCODING", "SQL_ASCII")
        .args(["-Xc".as_ref(), bytes])
        .arg(in_database("raw"))
        .spawn()
        .unwrap();
    let mut observer = server.open(&server.admin()).await;
    let activity = "SELECT query, 'whole' FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND datname = 'raw'";
    let rows = until(async || Some(ask(&mut observer, activity).await).filter(|rows| !rows.is_empty())).await;
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(rows.value(0, 0), Some("SELECT pg_sleep(600) /* M?ller */"));
    assert_eq!(rows.value(0, 1), Some("whole"));
}

#[tokio::test]
async fn a_server_that_stands_still_is_not_waited_for_and_is_left_clean() {
    let server = Postgres::start("", "", |_| {}).await;
    let mut observer = server.open(&server.admin()).await;
    let mut session = server.open(&server.admin()).await;
    let backend: u32 = value(&mut session, "SELECT pg_backend_pid()").await.parse().unwrap();
    let all = |signal| {
        for id in [server.process_id(), backend] {
            kill_process(Pid::from_raw(id.cast_signed()).unwrap(), signal).unwrap();
        }
    };
    all(Signal::STOP);
    let started = Instant::now();
    let failure = session.query(SLEEP, PATIENCE * 10, SHORT).await.unwrap_err();
    let taken = started.elapsed();
    let refused = Session::open(&server.options(&server.admin()), SHORT, &TlsCache::default()).await.unwrap_err();
    drop(session);
    all(Signal::CONT);
    assert!(matches!(failure, QueryFailure::Deadline(_)), "{failure}");
    assert!(taken < SHORT + Duration::from_secs(4), "{taken:?}");
    assert_eq!(refused.class, FailureClass::Timeout, "{refused}");
    let count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
    until(async || (value(&mut observer, count).await == "1").then_some(())).await;
}
