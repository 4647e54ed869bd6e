//! Statements that are asked again: prepared on the server, bounded, and never in the way of the truth.

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use pgvitals::server::{QueryFailure, RowSet, Session};

use crate::client::{LIMIT, admin, ask, open, value};
use crate::majors;
use crate::pooler::PgBouncer;
use crate::sessions::{SHORT, assert_gone};

/// Every way to make it, with and without what later majors have to say of it.
const MAJORS: [u32; 4] = [10, 11, 13, 18];

async fn again(session: &mut Session, name: &str, sql: &str) -> RowSet {
    session.query_again(name, sql, LIMIT, LIMIT).await.unwrap()
}

async fn prepared(session: &mut Session) -> String {
    value(session, "SELECT count(*) FROM pg_prepared_statements").await
}

async fn start(binaries: &Binaries) -> Cluster {
    Cluster::start(binaries, Settings { tcp: true, ..Settings::default() }).await.unwrap()
}

async fn check_again(binaries: Binaries) {
    let server = start(&binaries).await;
    let mut session = admin(&server).await;
    for (sql, is_kept) in [
        ("SELECT 1 AS a, NULL AS b, 'x;y' AS c", true),
        ("-- said first\n/* and; second */ WITH a AS (SELECT 1 AS a) SELECT a, NULL, 'ü' FROM a -- said last", true),
        ("VALUES (1, NULL, 'z');", true),
        ("SELECT 1; SELECT 2 AS a", false),
        ("SHOW lock_timeout", false),
        ("", false),
    ] {
        let plain = ask(&mut session, sql).await;
        for (times, expected) in [(1, "0"), (2, "1"), (3, "1")] {
            assert_eq!(again(&mut session, sql, sql).await, plain, "{sql}, asked {times} times");
            let expected = if is_kept { expected } else { "0" };
            assert_eq!(prepared(&mut session).await, expected, "{sql}, asked {times} times");
        }
        if is_kept && session.version() >= 140_000 {
            let plans = "SELECT generic_plans || ' ' || custom_plans FROM pg_prepared_statements";
            assert_eq!(value(&mut session, plans).await, "2 0", "one plan is used again and again");
        }
        ask(&mut session, "DEALLOCATE ALL").await;
    }
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_again_is_prepared_where_that_can_be_and_answers_the_same() {
    majors::on(MAJORS, check_again).await;
}

async fn check_behind(binaries: Binaries) {
    let server = start(&binaries).await;
    let mut session = admin(&server).await;
    let run = async |sql: &str| drop(server.sql("postgres", sql).await.unwrap());
    for sql in [
        "CREATE TABLE t (a int)",
        "INSERT INTO t VALUES (1)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ] {
        run(sql).await;
    }
    let (table, function) = ("SELECT * FROM public.t", "SELECT public.f() AS f");
    for _ in 0..3 {
        again(&mut session, "table", table).await;
        again(&mut session, "function", function).await;
    }
    // Another result: "cached plan must not change result type".
    run("ALTER TABLE t ADD COLUMN b text DEFAULT 'b'").await;
    assert_eq!(again(&mut session, "table", table).await.columns(), ["a", "b"]);
    assert_eq!(prepared(&mut session).await, "1", "what was of no use is not kept");
    for expected in ["2", "2"] {
        assert_eq!(again(&mut session, "table", table).await.columns(), ["a", "b"]);
        assert_eq!(prepared(&mut session).await, expected);
    }
    // Others of the same name.
    run("DROP TABLE t").await;
    run("DROP FUNCTION f()").await;
    for (name, sql, state) in [("table", table, "42P01"), ("function", function, "42883")] {
        let gone = session.query_again(name, sql, LIMIT, LIMIT).await.unwrap_err();
        assert!(matches!(&gone, QueryFailure::Server { sqlstate, .. } if sqlstate == state), "{gone}");
    }
    run("CREATE TABLE t (c text)").await;
    run("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT text ''two'''").await;
    for _ in 0..3 {
        assert_eq!(again(&mut session, "table", table).await.columns(), ["c"]);
        assert_eq!(again(&mut session, "function", function).await.value(0, 0), Some("two"));
    }
    // As a pooler that nobody noticed would do.
    for (forget, left) in [("DEALLOCATE ALL", "0"), ("DISCARD PLANS", "1"), ("DEALLOCATE ALL", "0")] {
        ask(&mut session, forget).await;
        assert_eq!(again(&mut session, "function", function).await.value(0, 0), Some("two"), "after {forget}");
        assert_eq!(prepared(&mut session).await, left, "after {forget}");
        again(&mut session, "function", function).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_behind_a_prepared_statement_is_answered_in_the_same_turn() {
    majors::on(majors::TWO, check_behind).await;
}

#[tokio::test]
async fn limits_hold_for_what_is_prepared() {
    let server = start(&majors::newest()).await;
    let run = async |sql: &str| drop(server.sql("postgres", sql).await.unwrap());
    run("CREATE TABLE pause (seconds int)").await;
    run("INSERT INTO pause VALUES (0)").await;
    let sql = "SELECT pg_sleep(seconds) FROM public.pause /* pg_sleep(600) */";
    let mut session = admin(&server).await;
    for _ in 0..3 {
        again(&mut session, "pause", sql).await;
    }
    assert_eq!(prepared(&mut session).await, "1");
    run("UPDATE pause SET seconds = 600").await;
    let slow = session.query_again("pause", sql, SHORT, LIMIT).await.unwrap_err();
    assert!(matches!(slow, QueryFailure::StatementTimeout(limit) if limit == SHORT), "{slow}");
    let mut locking = admin(&server).await;
    // An open transaction of somebody else.
    ask(&mut locking, "BEGIN READ WRITE").await;
    ask(&mut locking, "LOCK TABLE public.pause").await;
    let locked = session.query_again("pause", sql, LIMIT, LIMIT).await.unwrap_err();
    assert!(matches!(locked, QueryFailure::LockTimeout), "{locked}");
    ask(&mut locking, "ROLLBACK").await;
    assert_eq!(prepared(&mut session).await, "1", "neither says anything against it");
    let late = session.query_again("pause", sql, LIMIT * 10, SHORT).await.unwrap_err();
    assert!(matches!(late, QueryFailure::Deadline(limit) if limit == SHORT), "{late}");
    assert_gone(&server).await;
}

#[tokio::test]
async fn texts_that_change_leave_nothing_behind_on_the_server() {
    let server = start(&majors::newest()).await;
    let mut session = admin(&server).await;
    for at in 0..20 {
        for _ in 0..=at % 3 {
            let rows = again(&mut session, "texts", &format!("SELECT {at}")).await;
            assert_eq!(rows.value(0, 0), Some(&*at.to_string()));
        }
    }
    assert_eq!(prepared(&mut session).await, "1");
    for at in 0..200 {
        for _ in 0..2 {
            again(&mut session, &at.to_string(), "SELECT 1").await;
        }
    }
    assert_eq!(prepared(&mut session).await, "64");
}

#[tokio::test]
async fn behind_a_pooler_nothing_is_prepared_and_nothing_sent_ahead() {
    let server = start(&majors::newest()).await;
    let pooler = PgBouncer::start(&server, "transaction");
    let mut session = open(&server, &pooler.dsn()).await;
    for _ in 0..4 {
        assert_eq!(again(&mut session, "one", "SELECT 1").await.value(0, 0), Some("1"));
    }
    assert_eq!(prepared(&mut session).await, "0");
    assert!(session.send("one", "SELECT 1", LIMIT).await.is_none());
    assert!(!session.is_closed());
}
