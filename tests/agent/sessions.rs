//! A session: read-only, bounded, and what it leaves behind.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Cluster, Settings};
use pgvitals::server::{FailureClass, QueryFailure, Session, TlsCache};

use crate::client::{self, LIMIT, PSQL, admin, ask, open, options, value};
use crate::pair::until_true;

pub(crate) const SHORT: Duration = Duration::from_millis(200);
pub(crate) const SLEEP: &str = "SELECT pg_sleep(600)";

const LONG_QUERIES: &str = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND state = 'active'";

/// Waits until nobody runs the long query any more.
pub(crate) async fn assert_gone(server: &Cluster) {
    until_true(server, &format!("SELECT count(*) = 0 {LONG_QUERIES}")).await;
}

async fn wait_for_sleep(server: &Cluster) {
    until_true(server, &format!("SELECT count(*) > 0 {LONG_QUERIES}")).await;
}

#[tokio::test]
async fn a_session_is_read_only_bounded_and_of_known_version() {
    let server = client::start_with(Settings::default()).await;
    let mut session = admin(&server).await;
    for (setting, expected) in [
        ("application_name", "pgvitals"),
        ("statement_timeout", "20s"),
        ("lock_timeout", "100ms"),
        ("max_parallel_workers_per_gather", "0"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("transaction_read_only", "on"),
        ("transaction_isolation", "read committed"),
        ("search_path", "pg_catalog, pg_temp"),
        ("client_encoding", "UTF8"),
        ("extra_float_digits", "1"),
    ] {
        assert_eq!(value(&mut session, &format!("SHOW {setting}")).await, expected, "{setting}");
    }
    for (since, setting, expected) in
        [(110_000, "jit", "off"), (140_000, "idle_session_timeout", "0"), (170_000, "transaction_timeout", "0")]
    {
        if session.version() >= since {
            assert_eq!(value(&mut session, &format!("SHOW {setting}")).await, expected, "{setting}");
        }
    }
    let version = value(&mut session, "SHOW server_version_num").await;
    assert_eq!(session.version().to_string(), version);
    assert!(!session.is_pooled() && !session.was_in_recovery() && !session.is_closed());
    let refused = session.query("CREATE TABLE t ()", LIMIT, LIMIT).await.unwrap_err();
    assert!(matches!(&refused, QueryFailure::Server { sqlstate, .. } if sqlstate == "25006"), "{refused}");
    let rows = ask(&mut session, "SELECT 1 AS a, NULL AS b, '' AS c UNION ALL SELECT 2, 'x', 'ü' ORDER BY 1").await;
    assert_eq!(rows.columns(), ["a", "b", "c"]);
    let read: Vec<Vec<_>> = rows.rows().map(Iterator::collect).collect();
    assert_eq!(read, [[Some("1"), None, Some("")], [Some("2"), Some("x"), Some("ü")]]);
    assert!(ask(&mut session, "").await.is_empty());
}

#[tokio::test]
async fn a_server_far_away_notices_within_minutes_that_we_are_gone() {
    let server = client::start(&[]).await;
    let mut far = open(&server, &server.tcp_dsn("postgres")).await;
    for (setting, expected) in
        [("tcp_keepalives_idle", "60"), ("tcp_keepalives_interval", "10"), ("tcp_keepalives_count", "6")]
    {
        assert_eq!(value(&mut far, &format!("SHOW {setting}")).await, expected, "{setting}");
    }
    assert!(!server.log().contains("tcp_keepalives"), "{}", server.log());
}

#[tokio::test]
async fn a_query_that_misses_its_deadline_is_gone_from_the_server() {
    let server = client::start_with(Settings::default()).await;
    let mut late = admin(&server).await;
    let failure = late.query(SLEEP, LIMIT * 10, SHORT).await.unwrap_err();
    assert!(matches!(failure, QueryFailure::Deadline(limit) if limit == SHORT), "{failure}");
    assert!(late.is_closed());
    assert!(matches!(late.query("SELECT 1", SHORT, SHORT).await, Err(QueryFailure::Lost { .. })));
    // The session is still held, so what ended the query is the cancel request and not the end of the connection.
    assert_gone(&server).await;
}

#[tokio::test]
async fn a_query_nobody_waits_for_any_more_is_gone_from_the_server() {
    let server = client::start_with(Settings::default()).await;
    let mut dropped = admin(&server).await;
    {
        let mut query = std::pin::pin!(dropped.query(SLEEP, LIMIT * 10, LIMIT * 10));
        tokio::select! {
            outcome = &mut query => panic!("{outcome:?}"),
            () = wait_for_sleep(&server) => {}
        }
    }
    assert!(dropped.is_closed());
    drop(dropped);
    assert_gone(&server).await;
}

#[tokio::test]
async fn a_closed_session_is_gone_from_the_server_when_the_next_one_opens() {
    let server = client::start_with(Settings { tcp: true, ..Settings::default() }).await;
    let watcher = server.client("postgres").await.unwrap();
    for dsn in [server.dsn("postgres"), server.tcp_dsn("postgres")] {
        for _ in 0..20 {
            let mut session = open(&server, &dsn).await;
            let id = value(&mut session, "SELECT pg_backend_pid()").await;
            assert!(session.close(LIMIT).await);
            let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {id}");
            assert_eq!(watcher.query_one(&left, &[]).await.unwrap().try_get::<_, i64>(0).unwrap(), 0);
        }
    }
    // A server that hangs is not waited for beyond the limit.
    let session = admin(&server).await;
    server.freeze().await.unwrap();
    assert!(!session.close(SHORT).await);
    server.thaw();
}

#[tokio::test]
async fn a_dropped_session_leaves_the_server_at_once() {
    let conf = ["log_connections = on", "log_line_prefix = 'process %p: '", "log_min_messages = debug1"];
    let conf = conf.map(str::to_owned).to_vec();
    let server = client::start_with(Settings { conf, ..Settings::default() }).await;
    let mut session = admin(&server).await;
    let id = value(&mut session, "SELECT pg_backend_pid()").await;
    drop(session);
    until_true(&server, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {id}")).await;
    let (log, process) = (server.log(), format!("process {id}: "));
    let of_session: Vec<&str> = log.lines().filter(|line| line.starts_with(&process)).collect();
    assert!(of_session.iter().any(|line| line.contains("connection authorized")), "{log}");
    assert!(!of_session.iter().any(|line| line.contains("unexpected EOF")), "it took its leave: {log}");
}

#[tokio::test]
async fn the_server_s_own_limits_leave_the_session_usable() {
    let server = client::start_with(Settings::default()).await;
    server.sql("postgres", "CREATE TABLE t ()").await.unwrap();
    let mut session = admin(&server).await;
    let slow = session.query(SLEEP, SHORT, LIMIT).await.unwrap_err();
    assert!(matches!(slow, QueryFailure::StatementTimeout(limit) if limit == SHORT), "{slow}");
    let mut locking = admin(&server).await;
    let lock = format!("SET transaction_read_only = off; LOCK TABLE public.t; {SLEEP}");
    let mut locking = std::pin::pin!(locking.query(&lock, LIMIT * 10, LIMIT * 10));
    let blocked = async {
        let locked = "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
        until_true(&server, locked).await;
        session.query("SELECT count(*) FROM public.t", LIMIT, LIMIT).await.unwrap_err()
    };
    tokio::select! {
        outcome = &mut locking => panic!("{outcome:?}"),
        failure = blocked => assert!(matches!(failure, QueryFailure::LockTimeout), "{failure}"),
    }
    assert_eq!(value(&mut session, "SELECT 1").await, "1");
}

#[tokio::test]
async fn a_session_ended_by_an_administrator_is_lost_as_shutting_down() {
    let server = client::start_with(Settings::default()).await;
    let mut session = admin(&server).await;
    let ended = session.query("SELECT pg_terminate_backend(pg_backend_pid())", LIMIT, LIMIT).await.unwrap_err();
    assert!(matches!(ended, QueryFailure::Lost { class: FailureClass::ShuttingDown, .. }), "{ended:?}");
    assert!(session.is_closed());
}

#[tokio::test]
async fn bytes_of_any_encoding_cost_neither_row_nor_session() {
    let server = client::start_with(Settings::default()).await;
    server.sql("postgres", "CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0").await.unwrap();
    server.sql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0").await.unwrap();
    let text = "SELECT 'M' || chr(252) || 'ller', 42 AS b";
    let mut raw = open(&server, &server.dsn("raw")).await;
    let rows = ask(&mut raw, text).await;
    assert_eq!((rows.value(0, 0), rows.value(0, 1)), (Some("M?ller"), Some("42")));
    assert_eq!(value(&mut raw, "SELECT 'Müller'").await, "Müller");
    // An error that repeats the bytes, which are no text in any encoding.
    let failure = raw.query("SELECT CAST('x' || chr(252) AS int)", LIMIT, LIMIT).await.unwrap_err();
    assert!(failure.to_string().contains("\"x?\""), "{failure}");
    assert_eq!(value(&mut raw, "SELECT 1").await, "1");
    let mut latin = open(&server, &server.dsn("latin")).await;
    assert_eq!(value(&mut latin, text).await, "Müller");

    // What another database's session runs is shown as it was sent.
    let bytes = OsStr::from_bytes(b"SELECT pg_sleep(600) /* M\xfcller */");
    let mut other = Command::new(PSQL)
        .env_clear()
        .env("PGCLIENTENCODING", "SQL_ASCII")
        .args(["-Xc".as_ref(), bytes])
        .arg(server.dsn("raw"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let of_raw = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND datname = 'raw'";
    until_true(&server, &format!("SELECT count(*) > 0 {of_raw}")).await;
    let rows = ask(&mut admin(&server).await, &format!("SELECT query, 'whole' {of_raw}")).await;
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(rows.value(0, 0), Some("SELECT pg_sleep(600) /* M?ller */"));
    assert_eq!(rows.value(0, 1), Some("whole"));
}

#[tokio::test]
async fn a_server_that_stands_still_is_not_waited_for_and_is_left_clean() {
    let server = client::start_with(Settings::default()).await;
    let mut session = admin(&server).await;
    server.freeze().await.unwrap();
    let started = Instant::now();
    let failure = session.query(SLEEP, LIMIT * 10, SHORT).await.unwrap_err();
    let taken = started.elapsed();
    let refused =
        Session::open(&options(&server, &server.dsn("postgres")), SHORT, &TlsCache::default()).await.unwrap_err();
    drop(session);
    server.thaw();
    assert!(matches!(failure, QueryFailure::Deadline(_)), "{failure}");
    assert!(taken < SHORT + Duration::from_secs(4), "{taken:?}");
    assert_eq!(refused.class, FailureClass::Timeout, "{refused}");
    // Who asks is one.
    until_true(&server, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'").await;
}
