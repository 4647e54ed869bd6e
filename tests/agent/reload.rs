//! A configuration that is read again: nothing is lost, whatever stands in its place.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::deadline::ENDLESS;
use crate::pair::{self, ROLE};
use crate::program::{BINARY, Facts, Program, free_port, get, label, until, watching};

const COMMITS: &str = r#"
help = "Commits of all databases"

[[query]]
since = 10
sql = "SELECT sum(xact_commit) AS commits FROM pg_catalog.pg_stat_database"

[[metric]]
name = "pg_commits_total"
type = "counter"
column = "commits"
help = "Commits of all databases"

[[rule]]
name = "commits"
value = "rate(pg_commits_total[5m])"
warning = "1000000"
summary = "{value} commits per second"
reason = "a rate to look at"
"#;

async fn start(name: &str) -> Cluster {
    let conf = vec!["log_connections = on".to_owned(), "log_disconnections = on".to_owned()];
    let settings = Settings { name: name.to_owned(), conf, ..Settings::default() };
    let server = Cluster::start(&Binaries::major(17).unwrap(), settings).await.unwrap();
    pair::prepare(&server).await;
    server
}

fn checks() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("commits.toml"), COMMITS).unwrap();
    folder
}

fn succeeded(facts: &Facts) -> bool {
    facts.value("pgvitals_config_last_reload_successful", &[]) == Some(1.0)
}

fn taken_over_at(facts: &Facts) -> f64 {
    facts.value("pgvitals_config_last_reload_success_timestamp_seconds", &[]).unwrap()
}

/// Reads another configuration and waits until it is in force.
fn take_over(agent: &Program, config: &str) {
    let before = taken_over_at(&agent.facts());
    agent.reload(config);
    agent.facts_until("the configuration is in force", |facts| taken_over_at(facts) > before && succeeded(facts));
}

async fn backends(server: &Cluster) -> Vec<String> {
    let of_agent = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{ROLE}' ORDER BY pid");
    server.sql("postgres", &of_agent).await.unwrap().concat().into_iter().flatten().collect()
}

/// The most sessions of the agent at any moment that the server's log tells of.
fn most_sessions(server: &Cluster) -> i32 {
    let (mut now, mut most) = (0, 0);
    for line in server.log().lines().filter(|line| line.contains(&format!("user={ROLE} "))) {
        now += i32::from(line.contains("connection authorized:")) - i32::from(line.contains("disconnection:"));
        most = most.max(now);
    }
    assert!(most > 0, "the log tells of no session");
    most
}

/// Reads all the time, and ends the test at the first reading without this server.
fn read_all_the_time(agent: &Program, server: &Cluster) -> impl FnOnce() -> u32 {
    let (address, up) = (agent.address(), format!("pg_up{{{}}} 1", label(server)));
    let stop = Arc::<AtomicBool>::default();
    let stopped = Arc::clone(&stop);
    let reader = thread::spawn(move || {
        let mut readings = 0;
        while !stopped.load(Ordering::Relaxed) {
            let answer = get(address, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 5\r\n");
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(answer.body.contains(&up), "{}", answer.body);
            readings += 1;
        }
        readings
    });
    move || {
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    }
}

/// What stands in a file's place, and what is said of it.
type Mistake = (fn(&Path), &'static str);

const MISTAKES: &[Mistake] = &[
    (|file| fs::write(file, "[history]\ninterval = \"10").unwrap(), "pgvitals.toml:2: invalid basic string"),
    (|file| fs::write(file, "\nlisten = 9187\n").unwrap(), "pgvitals.toml:2: invalid type: integer, expected a"),
    (|file| fs::write(file, "\n\nchek = 1").unwrap(), "pgvitals.toml:3: unknown field `chek`, expected one of"),
    (|file| fs::write(file, b"# \xff").unwrap(), "pgvitals.toml: not UTF-8"),
    (|_| {}, "pgvitals.toml: No such file"),
    (|file| fs::create_dir(file).unwrap(), "pgvitals.toml: Is a directory"),
    (|file| symlink(file, file).unwrap(), "pgvitals.toml: Too many levels of symbolic links"),
    (|file| File::create(file).unwrap().set_len(100 << 20).unwrap(), "pgvitals.toml: larger than 1048576 bytes"),
];

fn remove(file: &Path) {
    let _ = if file.is_dir() { fs::remove_dir(file) } else { fs::remove_file(file) };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_mistake_costs_a_reading_a_session_or_a_point() {
    let server = start("primary").await;
    let checks = checks();
    let graphite = format!("[graphite]\naddress = \"127.0.0.1:{}\"\ninterval = \"1s\"\n", free_port());
    let config = format!("checks = {:?}\n{graphite}{}", checks.path(), watching(&[&server]));
    let agent = Program::start(&config);
    let waiting = |facts: &Facts| facts.value("pgvitals_graphite_queue_points", &[]).unwrap();
    let (facts, _) = agent.facts_until("points wait", |facts| waiting(facts) > 0.0);
    let kept = waiting(&facts);
    assert!(succeeded(&facts));
    let sessions = backends(&server).await;
    let readings = read_all_the_time(&agent, &server);

    let file = agent.config();
    for (write, said) in MISTAKES {
        remove(&file);
        write(&file);
        agent.signal(Signal::HUP);
        until(said, || agent.log().contains(said));
    }
    agent.facts_until("the mistakes are told", |facts| !succeeded(facts));
    remove(&file);
    let wrong = checks.path().join("wrong.toml");
    fs::write(&wrong, "help = \"x\"\n[[query]]\nsince = 10\nsqll = \"\"\n").unwrap();
    agent.reload(&config);
    until("the definition's mistake", || agent.log().contains("wrong.toml:4: unknown field `sqll`, expected"));
    fs::remove_file(wrong).unwrap();
    take_over(&agent, &config);

    let before = taken_over_at(&agent.facts());
    (0..100).for_each(|_| agent.signal(Signal::HUP));
    agent.facts_until("the last of a hundred is followed", |facts| taken_over_at(facts) > before);
    assert!(readings() > 10);
    assert_eq!(backends(&server).await, sessions, "the sessions are kept");
    let facts = agent.facts();
    assert!(waiting(&facts) >= kept, "the points are kept");
    assert_eq!(facts.value("pgvitals_panics_total", &[]), Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_with_other_definitions_opens_no_third_session() {
    let server = start("primary").await;
    let checks = checks();
    // Its lane has a session for as long as it is asked.
    fs::write(checks.path().join("endless.toml"), ENDLESS).unwrap();
    let config = format!("checks = {:?}\n{}", checks.path(), watching(&[&server]));
    let agent = Program::start(&config);
    agent.facts_until("it overran", |facts| {
        facts.values("pgvitals_collector_absent", &["collector=\"endless\"", "reason=\"timeout\""]) == [1.0]
    });
    let readings = read_all_the_time(&agent, &server);
    for count in 1..=3 {
        let help = format!("help = \"Commits, told in another way {count}\"");
        fs::write(
            checks.path().join("commits.toml"),
            COMMITS.replacen("help = \"Commits of all databases\"", &help, 2),
        )
        .unwrap();
        take_over(&agent, &config);
        agent.facts_until("the definition is another", |facts| facts.text.contains(&format!("another way {count}")));
    }
    assert!(readings() > 5);
    assert!(most_sessions(&server) <= 2, "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_holds_up_no_reload() {
    let (server, other) = (start("primary").await, start("other").await);
    let config = watching(&[&server, &other]);
    let agent = Program::start(&config);
    agent.facts();
    server.freeze().await.unwrap();
    let readings = read_all_the_time(&agent, &other);
    for _ in 0..3 {
        agent.reload("wrong");
        agent.facts_until("the mistake is told", |facts| !succeeded(facts));
        take_over(&agent, &config);
    }
    server.thaw();
    agent.facts_until("it is seen to be up again", |facts| facts.of(&server, "pg_up") == Some(1.0));
    assert!(readings() > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_goes_on_through_a_reload_unless_it_is_of_another_server() {
    let (server, other) = (start("primary").await, start("other").await);
    let checks = checks();
    let config = |interval: &str, server: &Cluster| {
        let servers = watching(&[server]).replace(server.name(), "same");
        format!("checks = {:?}\n[history]\ninterval = {interval:?}\n{servers}", checks.path())
    };
    let agent = Program::start(&config("1s", &server));
    let verdict = || {
        let answer = agent.get("/check/commits");
        (answer.header("pgvitals-exit-code").unwrap().to_owned(), answer.body)
    };
    until("there is a rate", || verdict().0 == "0");
    // From now on nothing is read that could make up for what was forgotten.
    take_over(&agent, &(config("1h", &server) + "[check.commits]\nwarning = \"900000\"\n"));
    let (code, said) = verdict();
    assert_eq!(code, "0", "{said}");
    assert!(said.contains(";900000"), "{said}");
    take_over(&agent, &config("1h", &other));
    let (code, said) = verdict();
    assert_eq!(code, "3", "{said}");
}

#[test]
fn a_configuration_that_is_never_there_to_the_end_is_given_up() {
    let config = "[discovery]\nenabled = false\n";
    let agent = Program::start(config);
    let file = agent.config();
    remove(&file);
    // Nobody ever writes into it, so that whoever opens it waits, as on a mount that hangs.
    mknodat(CWD, &file, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    agent.signal(Signal::HUP);
    agent.facts_until("it is given up", |facts| !succeeded(facts));
    assert!(agent.log().contains("it cannot be read within 10s"), "{}", agent.log());
    remove(&file);
    take_over(&agent, config);
    agent.signal(Signal::TERM);
    assert!(agent.ended_well());
}

#[test]
fn another_address_is_said_to_need_a_restart() {
    let folder = TempDir::new().unwrap();
    let (config, log) = (folder.path().join("pgvitals.toml"), folder.path().join("log"));
    let write = |port: u16| fs::write(&config, format!("listen = \"127.0.0.1:{port}\"\ndiscovery.enabled = false\n"));
    write(0).unwrap();
    let mut agent = Command::new(BINARY);
    agent.arg("serve").arg("--config").arg(&config).stderr(File::create(&log).unwrap());
    agent.stdin(Stdio::null()).stdout(Stdio::null());
    let mut agent = agent.spawn().unwrap();
    let said = |what: &str| fs::read_to_string(&log).unwrap().contains(what);
    until("it listens", || said("listening address=127.0.0.1:"));
    write(1).unwrap();
    kill_process(Pid::from_child(&agent), Signal::HUP).unwrap();
    until("it is told", || said("another address to listen on needs a restart"));
    agent.kill().unwrap();
    agent.wait().unwrap();
}
