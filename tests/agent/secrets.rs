//! No password is ever shown.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;

use pgvitals::demo::cluster::Cluster;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::command::{Ended, run};
use crate::passwords::{Place, forms, start, write};
use crate::program::{BINARY, Program, free_port, until};

const CANARY: &str = "canary";

/// A listener that takes connections and says nothing, one that is no PostgreSQL server, and one where nobody listens.
struct Strangers {
    silent: TcpListener,
    other: TcpListener,
}

impl Strangers {
    fn start() -> Self {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let answering = other.try_clone().unwrap();
        // Ends with the process of the tests.
        std::thread::spawn(move || {
            for mut stream in answering.incoming().flatten() {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        });
        Self { silent: TcpListener::bind("127.0.0.1:0").unwrap(), other }
    }

    /// Every way to fail, by the class that is told.
    fn places<'a>(&self, server: &Cluster) -> Vec<(&'static str, Place<'a>)> {
        let at = |user, more| Place { port: server.port(), user, more };
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let quiet = "sslmode=disable";
        vec![
            ("authentication", at("scram", quiet)),
            ("authentication", at("md5", quiet)),
            ("authentication", at("plain", quiet)),
            ("no_pg_hba_entry", at("rejected", quiet)),
            ("tls", at("scram", "sslmode=require")),
            ("tls", at("scram", "sslmode=verify-full sslrootcert=/nowhere")),
            ("unknown_database", at("right", "sslmode=disable dbname=gone")),
            ("too_many_connections", at("limited", quiet)),
            ("refused", Place { port: free_port(), user: "x", more: quiet }),
            ("timeout", Place { port: port(&self.silent), user: "x", more: "sslmode=disable connect_timeout=1" }),
            ("other", Place { port: port(&self.other), user: "x", more: "sslmode=prefer" }),
        ]
    }
}

async fn start_with_canary() -> Cluster {
    let server = start(&["scram", "md5", "plain", "rejected", "right", "limited"]).await;
    for statement in [
        "SET password_encryption = 'scram-sha-256'; ALTER ROLE scram PASSWORD 'other'; ALTER ROLE plain PASSWORD 'other'",
        "SET password_encryption = md5; ALTER ROLE md5 PASSWORD 'other'",
        "ALTER ROLE limited CONNECTION LIMIT 0",
        "GRANT pg_monitor TO \"right\"",
        // What the server is told about the password itself is not for its log.
        "ALTER ROLE postgres SET log_statement = none",
        "SET password_encryption = 'scram-sha-256'; ALTER ROLE \"right\" PASSWORD 'canary'; ALTER ROLE limited PASSWORD 'canary'",
    ] {
        server.sql("postgres", statement).await.unwrap();
    }
    server
}

fn assert_hidden(what: &str, text: &str) {
    let found = text.lines().find(|line| line.to_lowercase().contains(CANARY));
    assert_eq!(found, None, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_shows_no_password_whatever_fails() {
    let server = start_with_canary().await;
    let (folder, strangers) = (TempDir::new().unwrap(), Strangers::start());
    let mut config = "[discovery]\nenabled = false\n".to_owned();
    let mut classes = BTreeMap::new();
    let right = Place { port: server.port(), user: "right", more: "sslmode=disable" };
    let mut places = strangers.places(&server);
    places.push(("", right));
    for (at, (class, place)) in places.iter().enumerate() {
        let folder = folder.path().join(at.to_string());
        fs::create_dir(&folder).unwrap();
        for form in forms(CANARY, place, &folder).into_iter().filter(|form| form.shows_more(class, place)) {
            let name = format!("{at}-{}", form.name);
            if let Some(table) = form.table(&name) {
                config += &table;
                classes.insert(name, *class);
            }
        }
    }
    assert!(classes.len() > 40, "{classes:?}");
    let agent = Program::start_with(&config, &[("RUST_LOG", "trace")]);
    let (facts, _) = agent.facts_until("every class is told", |facts| {
        classes.iter().all(|(name, class)| {
            let up = facts.value("pg_up", &[&format!("server={name:?}")]);
            let labels = [format!("server={name:?}"), format!("class={class:?}")];
            let told = facts.value("pgvitals_server_failure", &[&labels[0], &labels[1]]);
            if class.is_empty() { up == Some(1.0) } else { up == Some(0.0) && told == Some(1.0) }
        })
    });
    assert_hidden("/metrics", &facts.text);
    for path in ["/", "/checks", "/check/online", "/readyz", "/metrics?collect[]=canary", "/check/online?w=canary"] {
        let answer = agent.get(path);
        if !path.contains(CANARY) {
            assert_hidden(path, &answer.body);
        }
    }
    // A reload with a mistake near the password.
    for mistake in [
        "[[server]]\ndsn = \"postgresql://u:canary@canary@h\"\n",
        "[[server]]\ndsn = \"host=h password=first canary\"\n",
        "[[server]]\ndsn = \"host=h password=canary colour=red\"\n",
        "[[server]]\ndsn = \"host=h\"\npassword_command = \"echo canary\"\n",
        "[[server]]\ndsn = postgresql://u:canary@h\n",
        "server = \"postgresql://u:canary@h\"\n",
    ] {
        let before = agent.log().matches("configuration not taken over").count();
        agent.reload(mistake);
        until("the mistake is told", || agent.log().matches("configuration not taken over").count() > before);
    }
    assert_hidden("/metrics", &agent.facts().text);
    let arguments = fs::read(format!("/proc/{}/cmdline", agent.pid())).unwrap();
    assert_hidden("arguments", &String::from_utf8_lossy(&arguments));
    let log = agent.log();
    assert!(log.contains("TRACE") && log.contains("tokio_postgres"), "the log shows all there is");
    agent.signal(Signal::TERM);
    assert!(agent.ended_well());
    assert_hidden("log of the agent", &log);
    assert_hidden("log of the server", &server.log());
}

#[tokio::test]
async fn no_command_shows_a_password() {
    let server = start_with_canary().await;
    let (folder, strangers) = (TempDir::new().unwrap(), Strangers::start());
    let config = folder.path().join("pgvitals.toml");
    for (class, place) in strangers.places(&server) {
        for form in forms(CANARY, &place, folder.path()).into_iter().filter(|form| form.shows_more(class, &place)) {
            let Ended { code, stdout, stderr } = form.run(&["once", "roles"], &config).await;
            assert!(code == 0 && stderr.contains(class), "{} {class}: {stderr}", form.name);
            assert_hidden(form.name, &(stdout + &stderr));
            if form.name == "url" {
                let Ended { code, stdout, stderr } = form.run(&["check", "online"], &config).await;
                assert!(code != 0, "{} {class}: {stdout}", form.name);
                assert_hidden(form.name, &(stdout + &stderr));
            }
        }
    }
    assert_hidden("log of the server", &server.log());
}

#[tokio::test]
async fn no_mistake_on_the_command_line_or_in_the_environment_shows_a_password() {
    let folder = TempDir::new().unwrap();
    let service = write(folder.path(), "services", "[a]\nhost=h\npassword=first\ncanary=1\n[b]\nhost=h\ncanary\n");
    for line in [
        "-dsn postgresql://u:canary@h/db",
        "--dns postgresql://u:canary@h/db",
        "--dsn=postgresql://u:canary@canary@h/db",
        "once --dsn postgresql://u:12/canary@h/db",
        "once --dsn postgresql://u:canary@h:port/db",
        "once --dsn postgresql://u:canary@h/db?colour=red",
        "once --dsn host=h password=canary",
        "once postgresql://u:canary@h/db",
        "show postgresql://u:canary@h/db",
        "validate postgresql://u:canary@h/db",
        "check postgresql://u:canary@h/db",
        "check online postgresql://u:canary@h/db",
        "check online --dsn postgresql://u:canary@h:port/db",
        "check online -p postgresql://u:canary@h/db",
        "check online --agent http://u:canary@127.0.0.1:1",
        "postgresql://u:canary@h/db",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let Ended { code, stdout, stderr } = crate::command::pgvitals(&arguments).await;
        assert!(code == 2 || code == 3, "{line}: {code}");
        assert_hidden(line, &(stdout + &stderr));
    }
    let services = service.display().to_string();
    for variables in [
        &[("DATA_SOURCE_NAME", "postgresql://u:canary@canary@h")][..],
        &[("DATA_SOURCE_NAME", "host=h password=first canary")],
        &[("DATA_SOURCE_URI", "u:canary@canary@h"), ("DATA_SOURCE_USER", "u")],
        &[("PGHOST", "h"), ("PGPORT", "port"), ("PGPASSWORD", CANARY)],
        &[("PGSERVICE", "a"), ("PGSERVICEFILE", &services)],
        &[("PGSERVICE", "b"), ("PGSERVICEFILE", &services)],
    ] {
        for arguments in [&["once"][..], &["validate"], &["check", "online"], &["serve"]] {
            let mut command = Command::new(BINARY);
            command.args(arguments).env_clear().envs(variables.iter().copied()).env("RUST_LOG", "trace");
            let Ended { code, stdout, stderr } = run(command).await;
            assert!(code == 2 || code == 3, "{variables:?} {arguments:?}: {code} {stdout}{stderr}");
            assert_hidden(&format!("{variables:?} {arguments:?}"), &(stdout + &stderr));
        }
    }
}

#[tokio::test]
async fn a_password_on_the_command_line_is_warned_about() {
    let dsn = format!("host=127.0.0.1 port={} user=x", free_port());
    for (more, warned) in [(" password=canary", true), ("", false)] {
        let Ended { stderr, .. } = crate::command::pgvitals(&["once", "roles", "--dsn", &(dsn.clone() + more)]).await;
        assert_eq!(stderr.contains("in the process list"), warned, "{stderr}");
    }
}
