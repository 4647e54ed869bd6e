//! The reason with the alert: who or what is behind a problem, in the long output of a check.

use std::fs;
use std::time::Instant;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use serde_json::Value;
use tokio_postgres::{Client, Config, NoTls};

use crate::command::{Ended, pgvitals};
use crate::pair::{self, PATIENCE, ROLE, until_true};
use crate::program::{Program, get, watching};

/// A name that would end a line, begin perfdata, and move the cursor of a terminal.
const HOSTILE: &str = "a | 'b'=1;2\nOK: all is well\u{1b}[2J";

async fn server() -> Cluster {
    let conf = vec!["max_prepared_transactions = 5".to_owned()];
    let cluster =
        Cluster::start(&Binaries::major(17).unwrap(), Settings { conf, ..Settings::default() }).await.unwrap();
    pair::prepare(&cluster).await;
    for statement in [
        format!("CREATE ROLE \"{HOSTILE}\" LOGIN SUPERUSER"),
        "CREATE TABLE accounts AS SELECT 1 AS id, '' AS secret".to_owned(),
        "SELECT pg_create_physical_replication_slot('forgotten', true)".to_owned(),
    ] {
        cluster.sql("postgres", &statement).await.unwrap();
    }
    cluster
}

/// A session of the hostile role, from a program of that name.
async fn login(cluster: &Cluster) -> Client {
    let mut config: Config = cluster.dsn("postgres").parse().unwrap();
    config.user(HOSTILE).application_name(HOSTILE);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A session that has locked a row, for which another waits.
async fn block(cluster: &Cluster) -> Client {
    let [holder, waiter] = [login(cluster).await, login(cluster).await];
    holder.batch_execute("BEGIN").await.unwrap();
    holder.batch_execute("UPDATE accounts SET secret = 'canary | x' WHERE id = 1").await.unwrap();
    tokio::spawn(async move {
        let _ = waiter.batch_execute("UPDATE accounts\n   SET secret = 'canary'").await;
    });
    until_true(cluster, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await;
    holder
}

/// A text without numbers and the units behind them.
fn masked(text: &str) -> Vec<String> {
    let is_unit = |word: &&str| !["s", "ms", "min", "µs", "h", "d"].contains(&word.trim_end_matches([',', ';', ':']));
    let words = |line: &str| {
        let words = line.split(' ').filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        words.filter(is_unit).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(words).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_problem_is_told_with_who_is_behind_it_and_the_same_by_agent_and_direct() {
    let cluster = server().await;
    let agent = Program::start(&format!("{}[check.blocked]\nwarning = \"0s\"\n", watching(&[&cluster])));
    let url = format!("http://{}", agent.address());
    let (folder, port) = (cluster.socket_dir().display().to_string(), cluster.port().to_string());
    let there = ["-H", &folder, "-p", &port, "-U", ROLE, "-d", "postgres"];
    let calls = "SELECT count(*) = 0 FROM pg_stat_statements WHERE query LIKE '%blocker_pid%'";
    let quiet = pgvitals(&["check", "blocked", "--agent", &url]).await;
    assert_eq!(quiet.code, 0, "{}", quiet.stdout);
    until_true(&cluster, calls).await;

    let _held = block(&cluster).await;
    cluster.sql("postgres", "BEGIN; CREATE TABLE kept (); PREPARE TRANSACTION 'left | over'").await.unwrap();
    // The server itself writes the control characters of this one in letters.
    let application = "a ¦ 'b'=1;2\\x0aOK: all is well\\x1b[2J";
    let name = "a ¦ 'b'=1;2 OK: all is well [2J";
    for (check, warning, parts) in [
        (
            "blocked",
            "0s",
            vec![
                format!(" of {name}, idle in transaction, blocks pid "),
                "; waiting: UPDATE accounts SET secret = ?; blocking: UPDATE accounts SET secret = ? WHERE id = ?"
                    .to_owned(),
            ],
        ),
        (
            "idle-in-transaction",
            "0s",
            vec![format!(" of {name} in postgres ({application}): idle in transaction for ")],
        ),
        (
            "long-transaction",
            "0s",
            vec!["transaction open for ".to_owned(), ", active: UPDATE accounts SET secret = ?".to_owned()],
        ),
        ("connections", "0%", vec![format!("{name} in postgres ({application}) has 2 sessions, 0 of them idle")]),
        ("prepared-transactions", "0s", vec!["left ¦ over of postgres in postgres, prepared ".to_owned()]),
        ("slots", "0B", vec!["slot forgotten (physical) keeps ".to_owned()]),
        (
            "locks",
            "0%",
            vec![format!(" of {name} in postgres ("), ") has ".to_owned(), " locks: UPDATE accounts SET".to_owned()],
        ),
        ("database-size", "0B", vec!["pg_catalog.pg_proc in postgres takes ".to_owned()]),
        ("horizon", "~:-1", vec![format!("{name} in postgres (pid ")]),
        (
            "wraparound",
            "~:0%",
            vec![".pg_".to_owned(), " in postgres: ".to_owned(), " multixacts not frozen".to_owned()],
        ),
    ] {
        let arguments = ["check", check, "-w", warning];
        let deadline = Instant::now() + PATIENCE;
        let by_agent = loop {
            let answer = pgvitals(&[&arguments[..], &["--agent", &url]].concat()).await;
            // What was read a moment ago may be from before.
            if answer.code != 0 || Instant::now() > deadline {
                break answer;
            }
        };
        let direct = pgvitals(&[&arguments[..], &there].concat()).await;
        for answer in [&by_agent, &direct] {
            assert!((1..=2).contains(&answer.code), "{check}: {}", answer.stdout);
            let (line, long) = answer.stdout.split_once('\n').unwrap();
            assert!(line.matches('|').count() == 1 && !long.contains('|'), "{}", answer.stdout);
            assert!(!answer.stdout.contains("canary") && !answer.stdout.contains('\u{1b}'), "{}", answer.stdout);
            assert!(!long.lines().any(|line| line == "OK: all is well"), "{long}");
            assert!(parts.iter().all(|part| long.contains(part)), "{check}: {parts:?}\n{long}");
        }
        if check != "connections" {
            // The agent has a session more.
            assert_eq!(masked(&by_agent.stdout), masked(&direct.stdout), "{check}");
        }
    }
    let all: Vec<Value> = serde_json::from_str(&get(agent.address(), "/checks", "").body).unwrap();
    let explained = |name: &str| all.iter().find(|verdict| verdict["check"] == name).unwrap()["explanation"].clone();
    assert!(explained("blocked")[0].as_str().unwrap().contains(" blocks pid "), "{all:?}");
    assert_eq!(explained("online"), Value::Array(Vec::new()));
}

/// A listing of sessions by user as somebody else may write it.
fn holders(sql: &str) -> String {
    let columns = "datname, client_addr, application_name, 0 AS idle";
    format!("help = 'x'\n[[query]]\nsince = 10\nsql = \"SELECT {sql}, {columns} FROM pg_catalog.pg_stat_activity\"\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reason_is_bounded_and_one_that_cannot_be_had_costs_no_verdict() {
    let cluster = server().await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("checks/listings")).unwrap();
    let config = folder.path().join("pgvitals.toml");
    let text = format!("checks = '{}'\n{}", folder.path().join("checks").display(), watching(&[&cluster]));
    fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let many = "n AS sessions, 'user ' || n AS usename FROM pg_catalog.generate_series(1, 30) AS n --";
    for (sql, expected) in [
        (many, "user 30 in (no datname) has 30 sessions, (no idle) of them idle"),
        ("1 / (pid - pid) AS sessions, usename", "not explained: division by zero (SQLSTATE 22012)"),
    ] {
        fs::write(folder.path().join("checks/listings/connection_holders.toml"), holders(sql)).unwrap();
        let Ended { stdout, code, .. } = pgvitals(&["check", "connections", "-w", "0%", "--config", &config]).await;
        assert_eq!(code, 1, "{stdout}");
        assert!(stdout.contains(expected), "{stdout}");
        if sql == many {
            assert!(stdout.lines().count() == 12 && stdout.ends_with("\nand 18 more\n"), "{stdout}");
        }
    }
}
