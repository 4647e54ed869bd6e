//! What Debian's version does not have yet, or cannot be shown it: held against the words of 2.26 alone.

use std::process::Command;

use pgvitals::demo::cluster::{Cluster, Settings};
use tokio::task::JoinSet;

use super::activity::OTHERS;
use crate::client::{self, psql};
use crate::pair::until_true;
use crate::pooler::PgBouncer;
use crate::program::BINARY;

/// What is printed, with `#` for numbers, and the exit code.
fn answer(arguments: &[&str]) -> (String, i32) {
    let output = Command::new(BINARY)
        .args(["check-postgres", "--no-check_postgresrc", "--showtime=0"])
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    (super::masked(&String::from_utf8(output.stdout).unwrap()), output.status.code().unwrap())
}

/// The same at a cluster, with its header left out.
fn at(cluster: &Cluster, arguments: &[&str]) -> (String, i32) {
    let (host, port) = (cluster.socket_dir().display().to_string(), cluster.port().to_string());
    let (text, code) = answer(&[arguments, &["-H", &host, "-p", &port]].concat());
    let header = text.find(" (host:").zip(text.find(" (port=#)"));
    let text = header.map_or(text.clone(), |(start, end)| text[..start].to_owned() + &text[end + " (port=#)".len()..]);
    (text, code)
}

#[tokio::test]
async fn who_blocks_whom_is_told_pair_by_pair() {
    let settings = Settings { conf: vec!["max_prepared_transactions = 5".to_owned()], ..Settings::default() };
    let server = client::start_with(settings).await;
    server.sql("postgres", "CREATE TABLE t (id int)").await.unwrap();
    let none = ("POSTGRES_LOCKWAIT OK:  No blocking locks \n".to_owned(), 0);
    assert_eq!(at(&server, &["--action=lockwait"]), none);
    let blocker = server.client("postgres").await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let waiter = server.client("postgres").await.unwrap();
    let mut waiting = JoinSet::new();
    waiting.spawn(async move {
        // Ended with the server.
        let _ = waiter.batch_execute("SELECT '|' FROM t\n WHERE id = 1").await;
    });
    until_true(&server, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await;
    let pair = "postgres: postgres(#) blocking postgres(#) for # seconds blocked statement \
                \"SELECT '<PIPE>' FROM t\\n WHERE id = #\"";
    let told = |status: &str| format!("POSTGRES_LOCKWAIT {status}: DB \"postgres\" {pair} \n");
    until_true(&server, "SELECT now() - query_start > '2 s' FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        .await;
    assert_eq!(at(&server, &["--action=lockwait"]), (told("OK"), 0));
    assert_eq!(at(&server, &["--action=lockwait", "-w", "1s"]), (told("WARNING"), 1));
    assert_eq!(at(&server, &["--action=lockwait", "-c", "1s", "--include=postgres"]), (told("CRITICAL"), 2));
    assert_eq!(at(&server, &["--action=lockwait", "-c", "1s", "--exclude=postgres"]), none);
    assert_eq!(at(&server, &["--action=lockwait", "--output=mrtg"]), ("#\n#\n\n\n".to_owned(), 0));
    blocker.batch_execute("PREPARE TRANSACTION 'forgotten'").await.unwrap();
    let (text, _) = at(&server, &["--action=lockwait"]);
    assert!(text.contains("prepared transaction(#) blocking postgres(#)"), "{text}");
    let five = ["--action=locks", "-w", "waiting=1"];
    let (text, code) = at(&server, &five);
    assert!(code == 1 && text.contains("total \"waiting\" locks: #"), "{text}");
}

#[tokio::test]
async fn no_name_breaks_the_line_or_the_perfdata() {
    let settings = Settings { conf: vec!["max_prepared_transactions = 5".to_owned()], ..Settings::default() };
    let server = client::start_with(settings).await;
    let name = "it's |odd=5;\n two\u{2028}lines";
    server.sql("postgres", &format!("CREATE DATABASE \"{name}\"")).await.unwrap();
    server.sql("postgres", &format!("CREATE TABLE \"{name}\" (id int)")).await.unwrap();
    server.sql("postgres", &format!("VACUUM \"{name}\"")).await.unwrap();
    server.sql(name, "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'x'").await.unwrap();
    let idle = server.client(name).await.unwrap();
    idle.batch_execute("BEGIN; SELECT '|\n| x=1'").await.unwrap();
    for arguments in [
        "database_size -w 1TB",
        "commitratio",
        "hitratio",
        "locks",
        "autovac_freeze",
        "txn_wraparound",
        "prepared_txns",
        "txn_idle -w 1h",
        "last_vacuum",
    ] {
        let mut arguments: Vec<&str> = arguments.split(' ').collect();
        let action = format!("--action={}", arguments[0]);
        arguments[0] = &action;
        let (text, code) = at(&server, &arguments);
        assert!(text.starts_with("POSTGRES_") && code != 3, "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        let (_, perf) = text.trim_end().split_once(" | ").unwrap();
        for entry in super::words(perf) {
            let (label, value, _) = super::parts(&entry);
            assert!(!label.is_empty() && value.is_empty() && entry.contains("=#"), "{entry:?} in {text}");
        }
        assert!(!perf.contains('|'), "{text}");
    }
    let (text, _) = at(&server, &["--action=dbstats"]);
    assert!(text.lines().all(|line| line.starts_with("backends:#") && line.contains(" dbname:")), "{text}");
}

#[tokio::test]
async fn partitions_that_are_missing_are_told() {
    let server = client::start(&[]).await;
    let refused = at(&server, &["--action=partman_premake"]);
    assert_eq!(refused, ("ERROR: relation \"partman.part_config\" does not exist\n".to_owned(), 3));
    server.sql("postgres", OTHERS).await.unwrap();
    let told = |status: &str, what: &str, perf: &str| {
        format!("POSTGRES_PARTMAN_PREMAKE {status}: DB \"postgres\" {what} | postgres=#d;{perf} \n")
    };
    let forgotten = "postgres=public.forgotten missing table in partman.part_config";
    let all = format!("{forgotten} postgres=public.late (#)");
    assert_eq!(at(&server, &["--action=partman_premake"]), (told("CRITICAL", &all, "#;#"), 2));
    server.sql("postgres", "DROP TABLE forgotten").await.unwrap();
    let late = "postgres=public.late misconfigured in partman.part_config postgres=public.late (#)";
    assert_eq!(at(&server, &["--action=partman_premake", "-w", "1"]), (told("WARNING", late, "#"), 1));
    server.sql("postgres", "UPDATE partman.part_config SET retention = '30 days'").await.unwrap();
    let late = "postgres=public.late (#)";
    assert_eq!(at(&server, &["--action=partman_premake", "-w", "100"]), (told("OK", late, "#"), 0));
    server.sql("postgres", "UPDATE partman.part_config SET premake = 1").await.unwrap();
    let fine = "POSTGRES_PARTMAN_PREMAKE OK: DB \"postgres\" All premade partitions are present \n";
    assert_eq!(at(&server, &["--action=partman_premake"]), (fine.to_owned(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_longest_at_the_pooler_is_told() {
    let server = client::start(&[]).await;
    let pooler = PgBouncer::start(&server, "session");
    let port = pooler.port().to_string();
    let at = |arguments: &[&str]| {
        let place = ["--action=pgbouncer_maxwait", "-H", "127.0.0.1", "-p", &port, "-u", "postgres"];
        answer(&[&place, arguments].concat())
    };
    let told = |status: &str, what: &str| {
        format!("POSTGRES_PGBOUNCER_MAXWAIT {status}: DB \"pgbouncer\" (host:#.#) (port=#) {what} \n")
    };
    let none = told("OK", "No matching rows were found | maxwait=#;#");
    assert_eq!(at(&["-w", "1"]), (none, 0));
    // The pool has one connection, and the first one keeps it.
    let mut clients = JoinSet::new();
    let (server, dsn) = (std::sync::Arc::new(server), pooler.dsn());
    for _ in 0..2 {
        let (server, dsn) = (std::sync::Arc::clone(&server), dsn.clone());
        clients.spawn(async move { drop(psql(&server, &dsn, "SELECT pg_sleep(60)").await) });
    }
    let who = "database:postgres username:postgres cl_active:# cl_waiting:#";
    let waits = told("CRITICAL", &format!("longest wait: #s ({who}) | '{who}'=#;;#"));
    crate::program::until("somebody waits", || at(&["-c", "1"]).1 == 2);
    assert_eq!(at(&["-c", "1"]), (waits, 2));
    assert_eq!(at(&["-w", "1", "--output=mrtg"]), (format!("#\n#\n\n{who}\n"), 0));
    let skipped = told("OK", "No matching rows were found (skipped rows: #) | maxwait=#;#");
    assert_eq!(at(&["-w", "1", "--include=nothing"]), (skipped, 0));
    clients.shutdown().await;
}
