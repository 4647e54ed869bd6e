//! Passwords in every form that they can be written in.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pgvitals::demo::cluster::{Cluster, Settings};
use pgvitals::server::{ConnectOptions, Environment, Password, Session, TlsCache};
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::{self, LIMIT, let_in_only};
use crate::command::{Ended, run};
use crate::program::BINARY;

/// How a password, and where it goes to, can be written.
pub(crate) struct Form {
    pub(crate) name: &'static str,
    dsn: String,
    environment: BTreeMap<&'static str, String>,
    source: Option<Password>,
}

/// The place that a password opens.
pub(crate) struct Place<'a> {
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    /// More keywords, such as `sslmode=require`.
    pub(crate) more: &'a str,
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
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// A password in every form, those with files in this folder.
pub(crate) fn forms(password: &str, place: &Place<'_>, folder: &Path) -> Vec<Form> {
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
    pub(crate) fn shows_more(&self, class: &str, place: &Place<'_>) -> bool {
        matches!((class, place.user), ("authentication", "scram") | ("refused" | "", _))
            || ["url", "DATA_SOURCE_PASS", "password_command"].contains(&self.name)
    }

    /// As a server in the configuration file, if its password does not come from the environment.
    pub(crate) fn table(&self, name: &str) -> Option<String> {
        let source = match &self.source {
            Some(Password::File(path)) => format!("password_file = '{}'\n", path.display()),
            Some(Password::Command(argv)) => format!("password_command = {argv:?}\n"),
            _ => String::new(),
        };
        let dsn = &self.dsn;
        self.environment.is_empty().then(|| format!("[[server]]\nname = {name:?}\ndsn = {dsn:?}\n{source}"))
    }

    /// Runs a command of the binary on it; the DSN is in the arguments only if it is one.
    pub(crate) async fn run(&self, arguments: &[&str], config: &Path) -> Ended {
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

pub(crate) async fn start(roles: &[&str]) -> Cluster {
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
