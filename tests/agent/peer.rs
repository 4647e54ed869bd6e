//! Beside `postgres_exporter`, on one server, in the same minute: what it tells is told here too, under the same name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::pair;
use crate::program::{Program, free_port, get, until, watching};

/// Debian's; another one is tried by naming it in `PGVITALS_POSTGRES_EXPORTER`, with its arguments.
const PEER: &str = "/usr/bin/prometheus-postgres-exporter";

type Labels = BTreeMap<String, String>;

/// What a page tells: types by name, and samples by name and labels.
#[derive(Default)]
struct Page {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, Vec<(Labels, f64)>>,
}

impl Page {
    fn parse(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            if let Some(line) = line.strip_prefix("# TYPE ") {
                let (name, kind) = line.split_once(' ').unwrap();
                page.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let mut labels = labels_of(labels.strip_suffix('}').unwrap());
                // Theirs, where it has one, is an address.
                labels.remove("server");
                page.samples.entry(name.to_owned()).or_default().push((labels, value.parse().unwrap()));
            }
        }
        page
    }

    fn names_of_labels(&self, name: &str) -> BTreeSet<Vec<&String>> {
        self.samples.get(name).into_iter().flatten().map(|(labels, _)| labels.keys().collect()).collect()
    }

    /// The values of the samples that have these labels and perhaps more; a label that is absent is empty.
    fn values(&self, name: &str, wanted: &Labels) -> Vec<f64> {
        let none = String::new();
        let has = |labels: &Labels| wanted.iter().all(|(label, value)| labels.get(label).unwrap_or(&none) == value);
        let samples = self.samples.get(name).into_iter().flatten();
        samples.filter(|(labels, _)| has(labels)).map(|(_, value)| *value).collect()
    }
}

fn labels_of(mut text: &str) -> Labels {
    let mut labels = Labels::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut end = 0;
        while rest.as_bytes()[end] != b'"' {
            end += if rest.as_bytes()[end] == b'\\' { 2 } else { 1 };
        }
        labels.insert(name.trim_start_matches(',').to_owned(), rest[..end].to_owned());
        text = &rest[end + 1..];
    }
    labels
}

/// The peer, ended when dropped.
struct Peer {
    child: Child,
    port: u16,
}

impl Peer {
    fn start(server: &Cluster) -> Self {
        let port = free_port();
        let program = std::env::var("PGVITALS_POSTGRES_EXPORTER").unwrap_or_else(|_| PEER.to_owned());
        let mut words = program.split(' ');
        let dsn = format!(
            "host={} port={} user={} dbname=postgres sslmode=disable",
            server.socket_dir().display(),
            server.port(),
            pair::ROLE
        );
        let child = Command::new(words.next().unwrap())
            .args(words)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .env("DATA_SOURCE_NAME", dsn)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; it is Debian's prometheus-postgres-exporter"));
        let peer = Self { child, port };
        until("the peer sees the server", || peer.try_read().is_some_and(|text| text.contains("\npg_up 1\n")));
        peer
    }

    fn try_read(&self) -> Option<String> {
        let address = ([127, 0, 0, 1], self.port).into();
        std::net::TcpStream::connect(address).ok()?;
        Some(get(address, "/metrics", "").body)
    }

    fn read(&self) -> Page {
        Page::parse(&self.try_read().unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The families that the documentation says to differ.
fn documented() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/postgres_exporter.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let rows = rows.flat_map(|(names, _)| names.split("`, `")).map(str::to_owned);
    rows.collect()
}

/// What differs, a line each, after the name of the family.
fn differences(before: &Page, ours: &Page, after: &Page) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let of_itself = ["go_", "process_", "promhttp_"];
    for (name, kind) in before.types.iter().filter(|(name, _)| !of_itself.iter().any(|prefix| name.starts_with(prefix)))
    {
        let mut differs = |what: String| found.push((name.clone(), what));
        let Some(our_kind) = ours.types.get(name) else {
            let values = before.samples.get(name).into_iter().flatten().filter(|(_, value)| !value.is_nan());
            // Nothing is absent here, "not a number" there.
            if values.count() > 0 {
                differs("absent".to_owned());
            }
            continue;
        };
        if kind != our_kind {
            differs(format!("{our_kind}, not {kind}"));
        }
        let own_labels = ours.names_of_labels(name);
        for labels in before.names_of_labels(name) {
            if !own_labels.iter().any(|own| labels.iter().all(|label| own.contains(label))) {
                differs(format!("labels {own_labels:?}, not {labels:?}"));
            }
        }
        for (labels, value) in before.samples.get(name).into_iter().flatten() {
            let quiet = after.values(name, labels) == [*value];
            let own = ours.values(name, labels);
            if quiet && own != [*value] {
                differs(format!("{labels:?} {own:?}, not {value}"));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_exporter_tells_is_told_by_the_same_name() {
    let binaries = Binaries::major(15).unwrap();
    let conf = ["wal_level = logical", "archive_mode = on", "archive_command = 'true'", "autovacuum = off"];
    let conf = conf.into_iter().map(str::to_owned).collect();
    let server = Cluster::start(&binaries, Settings { conf, ..Settings::default() }).await.unwrap();
    pair::prepare(&server).await;
    for statement in [
        "CREATE TABLE seen AS SELECT generate_series(1, 1000) AS id",
        "CREATE DATABASE other",
        "SELECT pg_create_physical_replication_slot('kept', true)",
        "SELECT pg_create_logical_replication_slot('decoded', 'pgoutput')",
        "SELECT pg_switch_wal()",
        "CHECKPOINT",
    ] {
        server.sql("postgres", statement).await.unwrap();
    }
    pair::until_true(&server, "SELECT archived_count > 0 FROM pg_stat_archiver").await;
    let _standby = server.standby("standby").await.unwrap();
    let agent = Program::start(&watching(&[&server]));
    let peer = Peer::start(&server);
    let documented = documented();
    let patience = Instant::now() + pair::PATIENCE;
    loop {
        let (began, before) = (Instant::now(), peer.read());
        let (ours, _) = agent.facts_until("all of it was collected since", |facts| {
            let age = facts.value("pgvitals_collector_age_seconds", &["collector=\"database\""]).unwrap();
            age < began.elapsed().as_secs_f64()
        });
        // What moves between two readings of the peer's is not compared; what moved only in between is read again.
        let mut found = differences(&before, &Page::parse(&ours.text), &peer.read());
        assert!(before.types.len() > 200, "{:?}", before.types);
        found.retain(|(name, _)| !documented.contains(name));
        if found.is_empty() {
            break;
        }
        assert!(Instant::now() < patience, "{found:#?}");
    }
}
