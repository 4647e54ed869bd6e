//! The agent as a service: what its manager hears, and how it ends.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::pair::{self, PATIENCE, ROLE, until_true};
use crate::program::{BINARY, Program, run, watching};

/// A service manager, as far as it listens.
struct Manager(UnixDatagram);

impl Manager {
    /// Listens where the variable will say: a path, or a name after `@`.
    fn listen(at: &OsStr) -> Self {
        let address = match at.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).unwrap(),
            _ => SocketAddr::from_pathname(at).unwrap(),
        };
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// What it hears next.
    fn hears(&self) -> String {
        let mut datagram = [0; 1024];
        let length = self.0.recv(&mut datagram).expect("nothing is to be heard");
        String::from_utf8(datagram[..length].to_vec()).unwrap()
    }

    /// What it hears until this.
    fn hears_until(&self, wanted: &str) -> Vec<String> {
        let mut heard = vec![self.hears()];
        while heard.last().is_some_and(|last| last != wanted) {
            assert!(heard.len() < 100, "{wanted:?} is not among {heard:?}");
            heard.push(self.hears());
        }
        heard
    }

    fn hears_beats(&self, count: usize) {
        (0..count).for_each(|_| drop(self.hears_until(BEAT)));
    }
}

const ENDLESS: &str = r#"
help = "A query that outlasts every test, and may"
timeout = "5min"

[[query]]
since = 10
sql = "SELECT 1 AS one FROM pg_catalog.pg_sleep(300)"

[[metric]]
name = "pg_endless"
type = "gauge"
column = "one"
help = "Never seen"
"#;

const BEAT: &str = "WATCHDOG=1";
/// Looked after every half second.
const WATCHDOG: Duration = Duration::from_millis(1_500);

fn start_told(socket: &OsStr, config: &str) -> Program {
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    Program::start_by(command, config, &[])
}

fn monotonic_micros() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn succeeds(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments, "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    said
}

#[test]
fn the_unit_is_right_and_leaves_little_open() {
    let unit = repository("packaging/pgvitals.service");
    let (folder, text) = (TempDir::new().unwrap(), fs::read_to_string(&unit).unwrap());
    let copy = folder.path().join("pgvitals.service");
    assert!(text.contains("ExecStart=/usr/local/bin/pgvitals serve\n"));
    fs::write(&copy, text.replace("/usr/local/bin/pgvitals", BINARY)).unwrap();
    let said = succeeds("systemd-analyze", &["verify", "--man=no", copy.to_str().unwrap()]);
    assert!(!said.contains("pgvitals.service"), "{said}");
    // Tenths.
    let security = ["security", "--offline=true", "--no-pager", "--threshold=19"];
    succeeds("systemd-analyze", &[&security[..], &[unit.to_str().unwrap()]].concat());
}

#[test]
fn an_installation_keeps_the_configuration_that_is_there() {
    let (target, root) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::create_dir(target.path().join("release")).unwrap();
    fs::write(target.path().join("release/pgvitals"), "the binary").unwrap();
    let installed = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    let install = || {
        let mut make = Command::new("make");
        make.arg("-C").arg(repository("")).args(["install", "CARGO=true", "PREFIX=/opt/pgvitals"]);
        make.arg(format!("DESTDIR={}", root.path().display())).env("CARGO_TARGET_DIR", target.path());
        let output = make.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    install();
    assert_eq!(installed("opt/pgvitals/bin/pgvitals"), "the binary");
    let unit = installed("opt/pgvitals/lib/systemd/system/pgvitals.service");
    assert!(unit.contains("ExecStart=/opt/pgvitals/bin/pgvitals serve\n"), "{unit}");
    assert!(installed("opt/pgvitals/lib/sysusers.d/pgvitals.conf").contains("u pgvitals"));
    let example = fs::read_to_string(repository("docs/pgvitals.toml")).unwrap();
    assert_eq!(installed("etc/pgvitals/pgvitals.toml"), example);
    fs::write(root.path().join("etc/pgvitals/pgvitals.toml"), "# mine").unwrap();
    install();
    assert_eq!(installed("etc/pgvitals/pgvitals.toml"), "# mine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_manager_hears_how_it_is_and_a_server_that_hangs_stops_no_beat() {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("notify");
    let manager = Manager::listen(socket.as_os_str());
    let config = "[history]\ninterval = \"1s\"\n".to_owned() + &watching(&[&server]);
    let agent = start_told(socket.as_os_str(), &config);
    let heard = manager.hears_until("READY=1");
    assert!(heard.contains(&"STATUS=1 servers watched: 1 up, 0 down".to_owned()), "{heard:?}");
    manager.hears_beats(1);
    let start = Instant::now();
    manager.hears_beats(3);
    assert!(start.elapsed() > WATCHDOG / 3, "three beats in {:?}", start.elapsed());

    for config in [config.as_str(), "wrong", config.as_str()] {
        let before = monotonic_micros();
        agent.reload(config);
        let heard = manager.hears_until("READY=1");
        let reloading = heard.iter().find_map(|message| message.strip_prefix("RELOADING=1\nMONOTONIC_USEC="));
        let at: i64 = reloading.unwrap_or_else(|| panic!("{heard:?}")).parse().unwrap();
        assert!((before..=monotonic_micros()).contains(&at), "{before} {at}");
    }

    server.freeze().await.unwrap();
    manager.hears_until("STATUS=1 servers watched: 0 up, 1 down");
    manager.hears_beats(4);
    agent.reload(&config);
    manager.hears_until("READY=1");
    agent.signal(Signal::TERM);
    manager.hears_until("STOPPING=1");
    assert!(agent.ended_well());
    server.thaw();
}

#[test]
fn a_manager_with_an_abstract_socket_is_told_the_same() {
    let name = format!("@pgvitals-test-{}", std::process::id());
    let manager = Manager::listen(OsStr::new(&name));
    let agent = start_told(OsStr::new(&name), "[discovery]\nenabled = false\n");
    manager.hears_until("READY=1");
    manager.hears_beats(1);
    agent.signal(Signal::INT);
    manager.hears_until("STOPPING=1");
    assert!(agent.ended_well());
}

#[test]
fn a_host_that_hangs_stops_no_beat_no_reload_and_not_the_end() {
    let host = TempDir::new().unwrap();
    // Nobody ever writes into it, so that whoever opens it waits.
    mknodat(CWD, host.path().join("meminfo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let config = format!("[discovery]\nenabled = false\n[host]\nproc = {:?}\n", host.path());
    let socket = host.path().join("notify");
    let manager = Manager::listen(socket.as_os_str());
    let agent = start_told(socket.as_os_str(), &config);
    manager.hears_until("READY=1");
    agent.facts_until("what hangs is no longer waited for", |facts| {
        facts.value("pgvitals_collector_success", &["collector=\"meminfo\""]) == Some(0.0)
    });
    let threads = agent.threads();
    for _ in 0..20 {
        agent.reload(&config);
        manager.hears_until("READY=1");
        agent.facts();
    }
    // Of one thread for each, all would still be there.
    assert!(agent.threads() < threads + 10, "{threads} threads became {}", agent.threads());
    manager.hears_beats(4);
    agent.signal(Signal::TERM);
    assert!(agent.ended_well());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_in_time_and_leaves_no_session_behind() {
    let binaries = Binaries::major(17).unwrap();
    let server = Cluster::start(&binaries, Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    let settings = Settings { name: "silent".to_owned(), ..Settings::default() };
    let silent = Cluster::start(&binaries, settings).await.unwrap();
    pair::prepare(&silent).await;
    let checks = TempDir::new().unwrap();
    fs::write(checks.path().join("endless.toml"), ENDLESS).unwrap();
    let agent = Program::start(&format!("checks = {:?}\n{}", checks.path(), watching(&[&server, &silent])));
    agent.facts();
    // On the fast lane it was given up; on the slow lane it has five minutes.
    let running = "SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(300)%' \
                   AND application_name = 'pgvitals' AND query_start < now() - interval '3s'";
    let deadline = Instant::now() + PATIENCE;
    while server.sql("postgres", running).await.unwrap().concat() != [Some("t".to_owned())] {
        assert!(Instant::now() < deadline, "it does not run on the slow lane");
        agent.facts();
    }
    silent.freeze().await.unwrap();
    // A request that never ends, and an answer that nobody reads.
    let mut half = TcpStream::connect(agent.address()).unwrap();
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").unwrap();
    let mut unread = TcpStream::connect(agent.address()).unwrap();
    for _ in 0..50 {
        unread.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    unread.read_exact(&mut [0]).unwrap();

    agent.signal(Signal::TERM);
    let asked = Instant::now();
    assert!(agent.ended_well());
    // Ten seconds are promised; one that waits for any of these waits for minutes.
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    until_true(&server, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = '{ROLE}'")).await;
    silent.thaw();
}
