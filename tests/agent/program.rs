//! The agent as its users run it: the binary, started with a configuration file and read over HTTP.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::Cluster;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::pair::{PATIENCE, ROLE};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_pgvitals");

/// A running agent with its configuration; killed when dropped.
pub(crate) struct Program {
    child: Child,
    folder: TempDir,
    log: Arc<Mutex<String>>,
    address: SocketAddr,
}

/// An answer of the web server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

/// What `/metrics` said at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) text: String,
}

impl Program {
    /// Starts an agent that finds no servers but those of the configuration.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_by(Command::new(BINARY), config, &[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.envs(variables.iter().copied());
        Self::start_by(command, config, &[])
    }

    /// The same by a command that ends with the binary, and with more arguments.
    pub(crate) fn start_by(mut command: Command, config: &str, more: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        write_config(&folder, config);
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(folder.path().join("pgvitals.toml"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<String>>::default();
        let (lines, said) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        // Ends with the agent, when its end of the pipe closes.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *said.lock().unwrap() += &(line + "\n");
            }
        });
        let mut program = Self { child, folder, log, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        until("the agent listens", || {
            assert!(program.child.try_wait().unwrap().is_none(), "the agent ended: {}", program.log());
            let log = program.log();
            let address = log.split_once("listening address=").and_then(|(_, rest)| rest.split_once('\n'));
            address.inspect(|(address, _)| program.address = address.parse().unwrap()).is_some()
        });
        program
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged so many lines with this text.
    pub(crate) fn log_until(&self, text: &str, count: usize) {
        until(&format!("it logs {text:?}, {count} times"), || self.log().matches(text).count() >= count);
    }

    /// Gives it another configuration file and asks it to read that.
    pub(crate) fn reload(&self, config: &str) {
        write_config(&self.folder, config);
        self.signal(Signal::HUP);
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("pgvitals.toml")
    }

    /// Its threads now.
    pub(crate) fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it ended by itself, and tells whether it said that all went well.
    pub(crate) fn ended_well(mut self) -> bool {
        let mut status = None;
        until("the agent ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().success()
    }

    /// Asks for a path.
    pub(crate) fn get(&self, path: &str) -> Answer {
        get(self.address, path, "")
    }

    /// Reads `/metrics` as a Prometheus that waits for three seconds.
    pub(crate) fn facts(&self) -> Facts {
        let answer = get(self.address, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 3\r\n");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Facts { text: answer.body }
    }

    /// Reads `/metrics` until what is there is as expected; gives that and how many readings it took.
    pub(crate) fn facts_until(&self, what: &str, mut expected: impl FnMut(&Facts) -> bool) -> (Facts, u32) {
        let (mut facts, mut readings) = (None, 0);
        until(what, || {
            readings += 1;
            expected(facts.insert(self.facts()))
        });
        (facts.unwrap(), readings)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "log of the agent:\n{}", self.log());
        }
    }
}

impl Answer {
    /// The value of a header, of which the name is given in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

impl Facts {
    /// The values of a metric's series that have all these labels, written as `name="value"`.
    pub(crate) fn values(&self, metric: &str, labels: &[&str]) -> Vec<f64> {
        let of_metric = self.text.lines().filter_map(|line| line.strip_prefix(metric));
        let series = of_metric.filter(|rest| rest.starts_with([' ', '{']));
        let wanted = series.filter(|rest| labels.iter().all(|label| rest.contains(label)));
        wanted.map(|rest| rest.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
    }

    /// The value of the only such series; none if there is none.
    pub(crate) fn value(&self, metric: &str, labels: &[&str]) -> Option<f64> {
        let values = self.values(metric, labels);
        assert!(values.len() < 2, "{metric} {labels:?} has {} values", values.len());
        values.first().copied()
    }

    /// The value of the only series that a server has of a metric.
    pub(crate) fn of(&self, server: &Cluster, metric: &str) -> Option<f64> {
        self.value(metric, &[&label(server)])
    }

    /// The names of the facts that came from a server: all with its label but those about the agent itself.
    pub(crate) fn names_of(&self, server: &Cluster) -> Vec<&str> {
        let label = label(server);
        let of_server = self.text.lines().filter(|line| line.contains(&label));
        let names = of_server.map(|line| line.split(['{', ' ']).next().unwrap());
        let mut names: Vec<&str> = names.filter(|name| !name.starts_with("pgvitals_")).collect();
        names.dedup();
        names
    }
}

/// The label of a server's series.
pub(crate) fn label(server: &Cluster) -> String {
    format!("server=\"{}\"", server.name())
}

/// A configuration that watches these servers under their names, and the host.
pub(crate) fn watching(servers: &[&Cluster]) -> String {
    let mut config = "[discovery]\nenabled = false\n".to_owned();
    for server in servers {
        let (name, host, port) = (server.name(), server.socket_dir().display().to_string(), server.port());
        config +=
            &format!("[[server]]\nname = {name:?}\ndsn = \"host={host} port={port} user={ROLE} dbname=postgres\"\n");
    }
    config
}

/// Asks a web server for a path, with more header lines, each with its end.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // In HTTP/1.0 the end of the answer is the end of the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A port nobody listens on, below those the kernel hands out to clients, for programs that cannot choose one.
pub(crate) fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = COUNT.fetch_add(1, Ordering::Relaxed);
        let port = 2_000 + u16::try_from((std::process::id().wrapping_mul(499).wrapping_add(next)) % 8_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Looks until it is so.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a program with this on its standard input.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> std::process::Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    // Beside reading: a program that answers before it has read all would wait for us, and we for it.
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        child.wait_with_output().unwrap()
    })
}

fn write_config(folder: &TempDir, config: &str) {
    fs::write(folder.path().join("pgvitals.toml"), config).unwrap();
}
