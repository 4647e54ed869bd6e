//! The web server as its readers see it: probes, people with a browser, Nagios, and parsers that take no joke.

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::pair;
use crate::program::{Facts, Program, get, run, until, watching};

/// As long as a name can be, of what hurts in pages, in both text formats, in paths and in Nagios' lines.
const HOSTILE: &str = "<script>alert(1)</script>\"{}\\n\n%|'=;&amp;, größe 1 x/..?#xxxx";

/// Reads OpenMetrics as Prometheus' own library for Python does, and prints the names of all databases as JSON.
const DATABASES: &str = r#"
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = {family.name: family for family in parse(sys.stdin.read())}
assert len(families) > 400, len(families)
print(json.dumps([sample.labels["datname"] for sample in families["pg_database_size_bytes"].samples]))
"#;

/// A server with a database of that name, in which a transaction stays open.
async fn hostile() -> (Cluster, tokio_postgres::Client, Program) {
    assert_eq!(HOSTILE.len(), 63);
    let primary = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&primary).await;
    primary.sql("postgres", &format!("CREATE DATABASE \"{}\"", HOSTILE.replace('"', "\"\""))).await.unwrap();
    let idle = primary.client(HOSTILE).await.unwrap();
    idle.batch_execute("BEGIN").await.unwrap();
    let thresholds = "[check.idle-in-transaction]\nwarning = \"0s\"\n";
    let agent = Program::start(&format!("{}{thresholds}[history]\ninterval = \"1s\"\n", watching(&[&primary])));
    (primary, idle, agent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_answers_and_refuses_as_it_says() {
    let (mut primary, _idle, agent) = hostile().await;
    let healthy = agent.get("/healthz");
    assert_eq!((healthy.status, &*healthy.body), (200, "ok\n"));
    assert!(healthy.header("server").unwrap().starts_with("pgvitals/"));
    assert_eq!(agent.get("/readyz").body, "ready, 1 servers watched\n");
    assert_eq!(agent.get("/nowhere").status, 404);

    for (path, status, code, line) in [
        ("/check/idle-in-transaction", 200, "1", "PGVITALS IDLE-IN-TRANSACTION WARNING: "),
        ("/check/idle-in-transaction?w=1h&c=2h", 200, "0", "PGVITALS IDLE-IN-TRANSACTION OK: "),
        ("/check/idle-in-transaction?c=0s", 200, "2", "PGVITALS IDLE-IN-TRANSACTION CRITICAL: "),
        ("/check/idle-in-transaction?w=%400:1h", 200, "1", "PGVITALS IDLE-IN-TRANSACTION WARNING: "),
        ("/check/idle-in-transaction?w=80MB", 400, "3", "PGVITALS IDLE-IN-TRANSACTION UNKNOWN: "),
        ("/check/idle-in-transaction?warning=1h", 400, "3", "PGVITALS IDLE-IN-TRANSACTION UNKNOWN: unknown parameter"),
        ("/check/nosuch", 404, "3", "PGVITALS NOSUCH UNKNOWN: "),
        ("/check/%3Cscript%3E", 404, "3", "PGVITALS "),
    ] {
        let answer = agent.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.header("pgvitals-exit-code"), Some(code), "{path}: {}", answer.body);
        assert!(answer.body.starts_with(line), "{path}: {}", answer.body);
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"), "{path}");
        // One status line with at most one bar, however the database is called.
        assert!(answer.body.lines().next().unwrap().matches('|').count() <= 1, "{}", answer.body);
    }

    primary.stop().await.unwrap();
    assert_eq!(agent.get("/healthz").status, 200, "the agent is well when its server is not");
    let verdict = agent.get("/check/idle-in-transaction");
    assert_eq!(verdict.header("pgvitals-exit-code"), Some("3"), "{}", verdict.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_a_database_breaks_no_face() {
    let (_primary, _idle, agent) = hostile().await;
    let page = agent.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(!page.body.contains("<script"), "{}", page.body);
    let style = page.body.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let digest = run("sh", &["-c", "openssl dgst -sha256 -binary | base64"], style).stdout;
    let source = format!("style-src 'sha256-{}';", String::from_utf8(digest).unwrap().trim());
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';") && policy.contains(&source), "{policy}, expected {source}");
    assert!(page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;{}"), "{}", page.body);

    let checks = || agent.get("/checks");
    assert_eq!(checks().header("content-type"), Some("application/json"));
    until("two readings are there for every rate", || !checks().body.contains("needs two readings"));
    let verdicts: serde_json::Value = serde_json::from_str(&checks().body).unwrap();
    let verdicts = verdicts.as_array().unwrap();
    let idle = verdicts.iter().find(|verdict| verdict["check"] == "idle-in-transaction").unwrap();
    assert_eq!(idle["status"], "warning", "{idle}");
    let unknown: Vec<_> = verdicts.iter().filter(|verdict| verdict["status"] == "unknown").collect();
    assert!(verdicts.len() > 10 && unknown.is_empty(), "{unknown:#?}");

    let facts = agent.facts();
    let found = run("promtool", &["check", "metrics"], &facts.text);
    assert_ne!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stderr));

    let url = format!("http://{}/metrics", agent.address());
    let form = ["--silent", "--compressed", "--write-out", "%{size_download} %header{content-encoding}"];
    let compressed = String::from_utf8(run("curl", &[&form[..], &[&url]].concat(), "").stdout).unwrap();
    let (text, said) = compressed.rsplit_once('\n').unwrap();
    let (size, coding) = said.split_once(' ').unwrap();
    assert_eq!(coding, "gzip");
    assert!(size.parse::<usize>().unwrap() < text.len() / 4 && text.contains("\npg_up{"), "{size} of {}", text.len());

    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let openmetrics = || get(agent.address(), "/metrics", accept);
    let answer = openmetrics();
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let output = run("/usr/bin/python3", &["-c", DATABASES], &answer.body);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let databases: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(databases.iter().any(|name| name == HOSTILE), "{databases:?}");
    // Both forms have the same names, whatever the type.
    let names = |text: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    until("both have the same sessions to tell of", || names(&agent.facts().text) == names(&openmetrics().body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_is_of_one_watched_server_and_connects_to_no_other() {
    let binaries = Binaries::major(17).unwrap();
    let mut servers = Vec::new();
    for name in ["first", "second"] {
        let settings = Settings { name: name.to_owned(), ..Settings::default() };
        let server = Cluster::start(&binaries, settings).await.unwrap();
        pair::prepare(&server).await;
        servers.push(server);
    }
    let agent = Program::start(&watching(&[&servers[0], &servers[1]]));
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let place = format!("{}:{}", servers[0].socket_dir().display(), servers[0].port());
    for target in ["first", &place] {
        let facts = Facts { text: agent.get(&format!("/probe?target={target}")).body };
        assert_eq!(facts.of(&servers[0], "pg_up"), Some(1.0), "{target}");
        assert!(facts.of(&servers[0], "pg_postmaster_start_time_seconds").is_some());
        let samples: Vec<_> = facts.text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(samples.iter().all(|line| line.contains("server=\"first\"")), "{target}: {}", facts.text);
        assert!(samples.len() > 200, "{target}: {}", facts.text);
    }
    let one = Facts { text: agent.get("/probe?target=second&collect[]=locks").body };
    assert!(!one.values("pg_locks_count", &[]).is_empty() && one.values("pg_settings_port", &[]).is_empty());

    for (query, status, part) in [
        ("", 400, "expected one target="),
        ("?target=first&target=second", 400, "expected one target="),
        ("?target=third", 404, "expected one of: first, second"),
        (&format!("?target={}", stranger.local_addr().unwrap()), 404, "expected one of: first, second"),
        ("?target=postgres://me:canary@127.0.0.1/", 400, "without user and password"),
        ("?target=first&auth_module=x", 400, "expected no auth_module"),
        ("?target=first&collect[]=nosuch", 400, "name of a collector"),
        ("?target=first&x=1", 400, "name of a collector"),
    ] {
        let answer = agent.get(&format!("/probe{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        assert!(answer.body.contains(part) && !answer.body.contains("canary"), "{query}: {}", answer.body);
    }
    assert!(stranger.accept().is_err(), "the agent connected to a stranger");

    servers[0].stop().await.unwrap();
    until("the other one is down", || {
        Facts { text: agent.get("/probe?target=first").body }.of(&servers[0], "pg_up") == Some(0.0)
    });
    assert_eq!(Facts { text: agent.get("/probe?target=second").body }.of(&servers[1], "pg_up"), Some(1.0));
}
