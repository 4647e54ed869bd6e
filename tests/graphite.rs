//! Pushing to a real carbon-cache (Debian `graphite-carbon`): hostile names arrive, and an outage leaves no gap.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::future;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgvitals::metric::{Family, Kind, Snapshot, Table};
use pgvitals::push::{self, GraphiteConfig, PushStats};
use pgvitals::sink::graphite::{self, Root};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// A carbon-cache with its own folder and port; it is gone when this is dropped.
struct Carbon {
    folder: TempDir,
    port: u16,
    running: Option<Child>,
}

impl Carbon {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let [port, query] = free_ports();
        let root = folder.path().display();
        let settings = format!(
            "[cache]\nSTORAGE_DIR = {root}\nLOCAL_DATA_DIR = {root}/whisper\nCONF_DIR = {root}\nLOG_DIR = {root}\n\
             PID_DIR = {root}\nUSER =\nMAX_CREATES_PER_MINUTE = inf\nMAX_UPDATES_PER_SECOND = inf\n\
             LINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {port}\nPICKLE_RECEIVER_PORT = 0\n\
             CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {query}\nENABLE_TAGS = False\n\
             CARBON_METRIC_INTERVAL = 0\n"
        );
        fs::write(folder.path().join("carbon.conf"), settings).unwrap();
        let schemas = "[all]\npattern = .*\nretentions = 1s:1h\n";
        fs::write(folder.path().join("storage-schemas.conf"), schemas).unwrap();
        let mut carbon = Self { folder, port, running: None };
        carbon.resume();
        carbon
    }

    fn resume(&mut self) {
        let root = self.folder.path();
        let log = fs::File::options().create(true).append(true).open(root.join("carbon.log")).unwrap();
        let child = Command::new("/usr/bin/carbon-cache")
            .args(["--nodaemon", "--config"])
            .arg(root.join("carbon.conf"))
            .arg("--pidfile")
            .arg(root.join("carbon.pid"))
            .arg("start")
            .env("GRAPHITE_ROOT", root)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("start /usr/bin/carbon-cache, from Debian's graphite-carbon");
        self.running = Some(child);
        let address = ("127.0.0.1", self.port);
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(address).is_err() {
            let ended = self.running.as_mut().unwrap().try_wait().unwrap();
            let log = || fs::read_to_string(self.folder.path().join("carbon.log")).unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "carbon does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it the way systemd does.
    fn stop(&mut self) {
        let mut child = self.running.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    fn config(&self) -> GraphiteConfig {
        GraphiteConfig {
            address: format!("localhost:{}", self.port),
            prefix: "collectd.".to_owned(),
            host: Some("db1.example".to_owned()),
            interval: Duration::from_secs(1),
            queue_points: 10_000,
        }
    }

    fn file_of(&self, path: &str) -> PathBuf {
        self.folder.path().join("whisper").join(path.replace('.', "/")).with_extension("wsp")
    }
}

impl Drop for Carbon {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The points of a whisper file after `from`, up to and with `until`, read by Graphite's own tool.
fn points(file: &Path, from: u64, until: u64) -> Vec<(u64, Option<f64>)> {
    let output = Command::new("whisper-fetch")
        .args([format!("--from={from}"), format!("--until={until}")])
        .arg(file)
        .output()
        .expect("run whisper-fetch, from Debian's python3-whisper");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.split_once('\t').unwrap());
    lines.map(|(time, value)| (time.parse().unwrap(), value.parse().ok())).collect()
}

fn last_point(file: &Path) -> Option<u64> {
    let now = seconds();
    points(file, now - 300, now).into_iter().rev().find_map(|(time, value)| value.map(|_| time))
}

fn hostile_snapshot() -> Snapshot {
    let long = "x".repeat(63);
    let mut table = Table::new(&["datname", "usename"]);
    let column = table.column(Kind::Gauge, "pg_stat_activity_count", "Connections");
    let rows = [
        ["plain", "postgres"],
        ["with.dot", "with/slash"],
        ["../../../etc", ".."],
        ["a b\tc\nd\re", "new\nline 1 1"],
        ["tag;a=b", "<script>alert(1)</script>"],
        ["größe", "数据库"],
        ["", " "],
        ["*?[]{}~$^", "\\\"'`|&"],
        ["\u{0}\u{7f}", "-dash"],
        [&long, &long],
    ];
    for (row, value) in rows.iter().zip(1_u32..) {
        table.row(row);
        table.set(column, f64::from(value));
    }
    let mut snapshot = Snapshot::new(SystemTime::now());
    for family in table.into_families() {
        snapshot.add(Some(&Arc::from("15/main")), &Arc::new(family));
    }
    snapshot.add(None, &Arc::new(Family::single(Kind::Gauge, "node_load1", "", 0.25)));
    snapshot
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_of_a_snapshot_with_hostile_names_becomes_a_whisper_file() {
    let carbon = Carbon::start();
    let config = carbon.config();
    let snapshot = Arc::new(hostile_snapshot());
    let mut lines = String::new();
    let dropped = graphite::encode(&snapshot, &Root::new(&config.prefix, "db1.example"), &mut lines);
    assert_eq!((dropped, lines.lines().count()), (0, 11));

    let stats = Arc::new(PushStats::default());
    let source = move || future::ready(Arc::clone(&snapshot));
    let pushing = tokio::spawn(push::run(config, source, Arc::clone(&stats), future::pending()));
    for line in lines.lines() {
        let (path, rest) = line.split_once(' ').unwrap();
        assert!(path.starts_with("collectd.db1_example."), "{path}");
        let file = carbon.file_of(path);
        until(&format!("{} has a point", file.display()), || last_point(&file).is_some()).await;
        let expected: f64 = rest.split_once(' ').unwrap().0.parse().unwrap();
        let now = seconds();
        let found = points(&file, now - 300, now);
        assert!(found.iter().all(|(_, value)| value.is_none_or(|value| (value - expected).abs() < 1e-9)));
    }
    pushing.abort();
    assert_eq!(stats.points_dropped(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_carbon_leaves_no_gap_once_it_runs_again() {
    let mut carbon = Carbon::start();
    let stats = Arc::new(PushStats::default());
    let source = || {
        let mut snapshot = Snapshot::new(SystemTime::now());
        snapshot.add(None, &Arc::new(Family::single(Kind::Gauge, "pgvitals_up", "", 1.0)));
        future::ready(Arc::new(snapshot))
    };
    let before = seconds();
    let pushing = tokio::spawn(push::run(carbon.config(), source, Arc::clone(&stats), future::pending()));
    let file = carbon.file_of("collectd.db1_example.pgvitals_up");
    until("the first points are in whisper", || stats.points_sent() >= 3 && last_point(&file).is_some()).await;

    carbon.stop();
    let stopped = seconds();
    until("points of three intervals wait", || stats.points_queued() >= 3).await;
    carbon.resume();
    until("points are sent again", || stats.reconnects() == 1 && stats.points_queued() == 0).await;
    until("the time after the outage is in whisper", || last_point(&file).is_some_and(|time| time > stopped + 3)).await;
    pushing.abort();

    let found = points(&file, before, last_point(&file).unwrap());
    let pushed: Vec<_> = found.iter().skip_while(|(_, value)| value.is_none()).collect();
    assert!(pushed.len() > 6, "{found:?}");
    assert!(pushed.iter().all(|(_, value)| value.is_some()), "stopped at {stopped}: {found:?}");
    assert!(stats.points_resent() > 0);
    assert_eq!(stats.points_dropped(), 0);
}
