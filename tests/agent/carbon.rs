//! A real carbon-cache, from Debian's graphite-carbon, and what its whisper files hold.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgvitals::push::GraphiteConfig;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::program::{free_port, until};

/// A carbon-cache with its own folder and port; it is gone when this is dropped.
pub(crate) struct Carbon {
    folder: TempDir,
    port: u16,
    running: Option<Child>,
}

impl Carbon {
    /// Starts it; it takes points when this returns.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let [port, query] = [free_port(), free_port()];
        let root = folder.path().display();
        let settings = format!(
            "[cache]\nSTORAGE_DIR = {root}\nLOCAL_DATA_DIR = {root}/whisper\nCONF_DIR = {root}\nLOG_DIR = {root}\n\
             PID_DIR = {root}\nUSER =\nMAX_CREATES_PER_MINUTE = inf\nMAX_UPDATES_PER_SECOND = inf\n\
             LINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {port}\nPICKLE_RECEIVER_PORT = 0\n\
             CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {query}\nENABLE_TAGS = False\n\
             CARBON_METRIC_INTERVAL = 0\n"
        );
        fs::write(folder.path().join("carbon.conf"), settings).unwrap();
        let schemas = "[all]\npattern = .*\nretentions = 1s:10m\n";
        fs::write(folder.path().join("storage-schemas.conf"), schemas).unwrap();
        let mut carbon = Self { folder, port, running: None };
        carbon.resume();
        carbon
    }

    /// Starts it after [`Carbon::stop`].
    pub(crate) fn resume(&mut self) {
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
        until("carbon listens", || {
            let ended = self.running.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", fs::read_to_string(self.folder.path().join("carbon.log")).unwrap());
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// Stops it the way systemd does.
    pub(crate) fn stop(&mut self) {
        let mut child = self.running.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    /// How to push to it every second.
    pub(crate) fn config(&self) -> GraphiteConfig {
        GraphiteConfig {
            address: self.address(),
            prefix: "collectd.".to_owned(),
            host: Some("db1.example".to_owned()),
            interval: Duration::from_secs(1),
            queue_points: 10_000,
        }
    }

    /// Where it takes points.
    pub(crate) fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The file of a path.
    pub(crate) fn file_of(&self, path: &str) -> PathBuf {
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

/// The time now, since 1970.
pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The points of a whisper file after `from`, up to and with `until`, read by Graphite's own tool.
pub(crate) fn points(file: &Path, from: u64, until: u64) -> Vec<(u64, Option<f64>)> {
    let output = Command::new("whisper-fetch")
        .args([format!("--from={from}"), format!("--until={until}")])
        .arg(file)
        .output()
        .expect("run whisper-fetch, from Debian's python3-whisper");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.split_once('\t').unwrap());
    lines.map(|(time, value)| (time.parse().unwrap(), value.parse().ok())).collect()
}

/// The time of the last point of a whisper file, if it has one.
pub(crate) fn last_point(file: &Path) -> Option<u64> {
    let now = seconds();
    points(file, now - 300, now).into_iter().rev().find_map(|(time, value)| value.map(|_| time))
}
