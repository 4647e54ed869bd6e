//! Passwords: every one works in every form, and none is ever shown.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pgvitals::demo::cluster::{Cluster, Settings};
use pgvitals::server::{ConnectOptions, Environment, Password, Session, TlsCache};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::{self, LIMIT, let_in_only};
use crate::command::{Ended, run};
use crate::program::{BINARY, Program, free_port, until};

const CANARY: &str = "canary";

/// How a password, and where it goes to, can be written.
struct Form {
    name: &'static str,
    dsn: String,
    environment: BTreeMap<&'static str, String>,
    source: Option<Password>,
}

/// The place that a password opens.
struct Place<'a> {
    port: u16,
    user: &'a str,
    /// More keywords, such as `sslmode=require`.
    more: &'a str,
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

/// Writes a file that only we can read.
fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// A password in every form, those with files in this folder.
fn forms(password: &str, place: &Place<'_>, folder: &Path) -> Vec<Form> {
    let Place { port, user, more } = *place;
    let home = folder.join("home");
    fs::create_dir_all(&home).unwrap();
    let pairs = format!("host=127.0.0.1 port={port} user={user} dbname=postgres {more}");
    let query = more.replace(' ', "&");
    let escaped: String = password
        .chars()
        .map(|c| if c.is_whitespace() || "\\'".contains(c) { format!("\\{c}") } else { c.to_string() })
        .collect();
    let of_passfile = password.replace('\\', r"\\").replace(':', r"\:");
    let passfile = |name: &str| write(folder, name, &format!("# ours\n127.0.0.1:{port}:*:{user}:{of_passfile}\n"));
    let line = write(folder, "line", &format!("{password}\nnot this\n"));
    let service = write(folder, "services", &format!("[mine]\n{}\npassword={password}\n", pairs.replace(' ', "\n")));
    passfile("home/.pgpass");
    let passfile = passfile("passfile");
    let text = |path: &Path| path.display().to_string();
    let form = |name, dsn: &str, environment: &[(&'static str, &str)], source| Form {
        name,
        dsn: dsn.to_owned(),
        environment: environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        source,
    };
    let url = format!("postgresql://{user}:{}@127.0.0.1:{port}/postgres?{query}", percent(password));
    let uri = format!("127.0.0.1:{port}/postgres?{query}");
    let apart = ("DATA_SOURCE_URI", uri.as_str());
    let (of_uri, of_user) = (write(folder, "uri", &format!("{uri}\n")), write(folder, "user", &format!("{user}\n")));
    let cat = vec!["/bin/cat".to_owned(), text(&line)];
    vec![
        form("url", &url, &[], None),
        form(
            "parameter",
            &format!(
                "postgresql:///postgres?host=127.0.0.1&port={port}&user={user}&password={}&{query}",
                percent(password)
            ),
            &[],
            None,
        ),
        form("quoted", &format!("{pairs} password={}", quote(password)), &[], None),
        form("escaped", &format!("{pairs} password={escaped}"), &[], None),
        form("PGPASSWORD", &pairs, &[("PGPASSWORD", password)], None),
        form("PGPASSFILE", &pairs, &[("PGPASSFILE", &text(&passfile))], None),
        form("passfile", &format!("{pairs} passfile={}", text(&passfile)), &[], None),
        form(".pgpass", &pairs, &[("HOME", &text(&home))], None),
        form("service", &format!("service=mine servicefile={}", text(&service)), &[], None),
        form("PGSERVICE", "", &[("PGSERVICE", "mine"), ("PGSERVICEFILE", &text(&service))], None),
        form("DATA_SOURCE_NAME", "", &[("DATA_SOURCE_NAME", &url)], None),
        form("DATA_SOURCE_PASS", "", &[apart, ("DATA_SOURCE_USER", user), ("DATA_SOURCE_PASS", password)], None),
        form(
            "DATA_SOURCE_PASS_FILE",
            "",
            &[
                ("DATA_SOURCE_URI_FILE", &text(&of_uri)),
                ("DATA_SOURCE_USER_FILE", &text(&of_user)),
                ("DATA_SOURCE_PASS_FILE", &text(&line)),
            ],
            None,
        ),
        form("password_file", &pairs, &[], Some(Password::File(line))),
        form("password_command", &pairs, &[], Some(Password::Command(cat))),
    ]
}

impl Form {
    fn options(&self) -> ConnectOptions {
        let variables = self.environment.clone();
        let environment = Environment::new(move |name| variables.get(name).cloned());
        let options = if self.dsn.is_empty() {
            environment.servers().unwrap().remove(0)
        } else {
            ConnectOptions::parse(&self.dsn, &environment).unwrap()
        };
        match &self.source {
            Some(source) => options.with_password(source.clone()),
            None => options,
        }
    }

    /// Whether it is worth a case: every form is for two ways to fail, and one of a kind for the others.
    fn shows_more(&self, class: &str, place: &Place<'_>) -> bool {
        matches!((class, place.user), ("authentication", "scram") | ("refused" | "", _))
            || ["url", "DATA_SOURCE_PASS", "password_command"].contains(&self.name)
    }

    /// As a server in the configuration file, if its password does not come from the environment.
    fn table(&self, name: &str) -> Option<String> {
        let source = match &self.source {
            Some(Password::File(path)) => format!("password_file = '{}'\n", path.display()),
            Some(Password::Command(argv)) => format!("password_command = {argv:?}\n"),
            _ => String::new(),
        };
        let dsn = &self.dsn;
        self.environment.is_empty().then(|| format!("[[server]]\nname = {name:?}\ndsn = {dsn:?}\n{source}"))
    }

    /// Runs a command of the binary on it; the DSN is in the arguments only if it is one.
    async fn run(&self, arguments: &[&str], config: &Path) -> Ended {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RUST_LOG", "trace")
            .envs(&self.environment);
        if self.dsn.is_empty() || self.source.is_none() {
            if !self.dsn.is_empty() {
                command.args(["--dsn", &self.dsn]);
            }
        } else {
            fs::write(config, self.table("server").unwrap()).unwrap();
            command.arg("--config").arg(config);
        }
        run(command).await
    }
}

async fn start(roles: &[&str]) -> Cluster {
    let conf = [
        "log_min_messages = debug2",
        "log_statement = all",
        "log_connections = on",
        // The usual thousands take a program that is not optimized long.
        "scram_iterations = 2",
    ];
    let conf = conf.map(str::to_owned).to_vec();
    let server = client::start_with(Settings { conf, tcp: true, ..Settings::default() }).await;
    let_in_only(
        &server,
        &[
            "host all plain 127.0.0.1/32 password",
            "host all md5 127.0.0.1/32 md5",
            "host all rejected 127.0.0.1/32 reject",
            "host all all 127.0.0.1/32 scram-sha-256",
        ],
    )
    .await;
    for role in roles {
        server.sql("postgres", &format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    }
    server
}

#[tokio::test]
async fn every_password_works_in_every_form() {
    let server = start(&["monitor"]).await;
    let folder = TempDir::new().unwrap();
    let place = Place { port: server.port(), user: "monitor", more: "sslmode=disable" };
    let long = "x".repeat(1000);
    let passwords = [" a:b@c/d%e{f}'g\"h\\i?j&k#l=m,n$o;p`q", "Grüße, 日本\u{a0}ﬁ\u{ad}n Ⅸ %41'\\\\'", &long];
    for password in passwords {
        let quoted = password.replace('\'', "''");
        let change = format!("SET password_encryption = 'scram-sha-256'; ALTER ROLE monitor PASSWORD '{quoted}'");
        server.sql("postgres", &change).await.unwrap();
        for form in forms(password, &place, folder.path()) {
            let opened = Session::open(&form.options(), LIMIT, &TlsCache::default()).await;
            assert!(opened.is_ok(), "{} {password:?}: {}", form.name, opened.unwrap_err());
            if form.source.is_none() && !form.name.starts_with("DATA_SOURCE") {
                let mut psql = Command::new(client::PSQL);
                psql.env_clear().envs(&form.environment).args(["-XAtwc", "SELECT 1"]);
                if form.dsn.is_empty() {
                    psql.env("PGDATABASE", "postgres");
                } else {
                    psql.arg(&form.dsn);
                }
                let Ended { code, stderr, .. } = run(psql).await;
                // `servicefile` came with libpq 19.
                let known = form.name != "service";
                assert!(code == 0 || !known, "{} {password:?}: libpq does not read it so: {stderr}", form.name);
            }
        }
    }
    // An empty one is none, as in libpq: then the password file is asked.
    for form in forms("", &place, folder.path()) {
        let failure = Session::open(&form.options(), LIMIT, &TlsCache::default()).await.unwrap_err();
        assert!(failure.to_string().contains("password"), "{}: {failure}", form.name);
    }
}

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
