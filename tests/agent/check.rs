//! `pgvitals check` as Nagios runs it: one line on stdout, and exit code 0, 1, 2 or 3.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::command::{Ended, pgvitals, run};
use crate::pair::{ROLE, prepare};
use crate::program::{Program, watching};

async fn server() -> Cluster {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    prepare(&cluster).await;
    cluster
}

/// Holds exit code and first line against what is expected; nothing may be on stderr.
fn assert_says(arguments: &[&str], ended: &Ended, code: i32, begin: &str, part: &str) {
    let Ended { stdout, stderr, .. } = ended;
    let line = stdout.lines().next().unwrap_or_default();
    assert_eq!(ended.code, code, "{arguments:?}: {stdout}{stderr}");
    assert!(line.starts_with(begin) && line.contains(part), "{arguments:?}: {line}");
    assert_eq!(stderr, "", "{arguments:?}");
}

#[tokio::test]
async fn the_exit_code_and_the_line_say_the_same() {
    let cluster = server().await;
    let (folder, port) = (cluster.socket_dir().display().to_string(), cluster.port().to_string());
    let there = ["-H", &folder, "-p", &port, "-U", ROLE, "-d", "postgres"];
    for (arguments, code, begin, part) in [
        ("online", 0, "PGVITALS ONLINE OK: ", " answers | online=1;;1:"),
        ("connections", 0, "PGVITALS CONNECTIONS OK: ", " % of the connections open to users are taken | connections="),
        ("connections -w 0%", 1, "PGVITALS CONNECTIONS WARNING: ", "%;0;95"),
        ("connections -c 0%", 2, "PGVITALS CONNECTIONS CRITICAL: ", "%;80;0"),
        ("connections -w 0% -c 0%", 2, "PGVITALS CONNECTIONS CRITICAL: ", "%;0;0"),
        ("connections -w @0:0.5", 1, "PGVITALS CONNECTIONS WARNING: ", "%;@50;95"),
        ("connections -w 90%:", 1, "PGVITALS CONNECTIONS WARNING: ", "%;90:;95"),
        ("connections -w ~:90% -c ~:95%", 0, "PGVITALS CONNECTIONS OK: ", "%;~:90;~:95"),
        ("connections -c 60%:70%", 2, "PGVITALS CONNECTIONS CRITICAL: ", "%;80;60:70"),
        ("replication-lag -w 1MB -c 2GB", 0, "PGVITALS REPLICATION-LAG OK: no standby is connected", ""),
        ("replication-lag -w 10s", 0, "PGVITALS REPLICATION-LAG OK: no standby is connected", ""),
        ("online --timeout 18446744073709551615", 0, "PGVITALS ONLINE OK: ", ""),
        ("slots", 0, "PGVITALS SLOTS OK: no replication slot is lost", ""),
        ("archiver", 0, "PGVITALS ARCHIVER OK: this server does not archive", ""),
        ("dirty -w @0:1PB -c 0:2PB", 1, "PGVITALS DIRTY WARNING: ", ";@1125899906842624;2251799813685248"),
        // Rates without an agent: two readings, a moment apart.
        ("disk-util -w 999%", 0, "PGVITALS DISK-UTIL OK: ", ""),
        ("checkpoints-requested -w 100% -c 100%", 0, "PGVITALS CHECKPOINTS-REQUESTED OK: ", ""),
        // What is not understood.
        ("connections -w 5min", 3, "PGVITALS CONNECTIONS UNKNOWN: ", "is in seconds: expected a ratio, such as `80%`"),
        ("connections -w 80", 3, "PGVITALS CONNECTIONS UNKNOWN: ", "write per cent, such as `80%`"),
        ("connections -c 20:10", 3, "PGVITALS CONNECTIONS UNKNOWN: ", "smaller value first"),
        ("connections -c much", 3, "PGVITALS CONNECTIONS UNKNOWN: ", "expected a number"),
        (
            "replication-lag -w 80%",
            3,
            "PGVITALS REPLICATION-LAG UNKNOWN: ",
            "expected bytes, such as `100MB`, or seconds",
        ),
        ("conections", 3, "PGVITALS CONECTIONS UNKNOWN: ", "no check \"conections\", `pgvitals list` shows"),
        ("connections --wanring 80%", 3, "PGVITALS CHECK UNKNOWN: ", "unexpected argument '--wanring' found"),
        ("connections --timeout soon", 3, "PGVITALS CHECK UNKNOWN: ", "invalid value 'soon' for '--timeout"),
        ("", 3, "PGVITALS CHECK UNKNOWN: ", "<NAME>"),
    ] {
        let arguments: Vec<&str> = ["check"].into_iter().chain(arguments.split_whitespace()).chain(there).collect();
        assert_says(&arguments, &pgvitals(&arguments).await, code, begin, part);
    }
    let dsn = format!("host={folder} port={port} user={ROLE} dbname=postgres");
    let arguments = ["check", "online", "--dsn", &dsn];
    assert_says(&arguments, &pgvitals(&arguments).await, 0, "PGVITALS ONLINE OK: ", " answers");
    let arguments = [&arguments[..], &["-p", &port]].concat();
    assert_says(&arguments, &pgvitals(&arguments).await, 3, "PGVITALS ONLINE UNKNOWN: ", "--dsn or -H, -p, -U and -d");
    let arguments = ["check", "online", "-H", &folder, "-p", &port, "-U", "nobody_here"];
    let ended = pgvitals(&arguments).await;
    assert_says(&arguments, &ended, 2, "PGVITALS ONLINE CRITICAL: no connection to ", "\"nobody_here\" does not exist");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_within_the_limit() {
    let black_hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = black_hole.local_addr().unwrap().port().to_string();
    for (name, code, begin) in [
        ("online", 2, "PGVITALS ONLINE CRITICAL: no connection to "),
        ("connections", 3, "PGVITALS CONNECTIONS UNKNOWN: "),
        ("checkpoints-requested", 3, "PGVITALS CHECKPOINTS-REQUESTED UNKNOWN: "),
    ] {
        let arguments = ["check", name, "-H", "127.0.0.1", "-p", &port, "-U", ROLE, "--timeout", "2"];
        assert_says(&arguments, &pgvitals(&arguments).await, code, begin, "");
    }
    let arguments = ["check", "online", "--agent", &format!("http://127.0.0.1:{port}"), "--timeout", "1"];
    assert_says(&arguments, &pgvitals(&arguments).await, 3, "PGVITALS ONLINE UNKNOWN: no answer within 1 s", "");
}

#[tokio::test]
async fn a_password_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgvitals.toml");
    std::fs::write(&file, "[[server]]\ndsn = \"host=127.0.0.1 port=1 password=canary\"\n").unwrap();
    let file = file.display().to_string();
    for (option, source, part) in [
        ("--dsn", "postgres://joe:canary@127.0.0.1:1/x", "refused"),
        ("--dsn", "postgres://joe:canary@127.0.0.1:1/x?colour=red", "unknown connection keyword `colour`"),
        ("--dsn", "postgres://joe:canary@127.0.0.1:one/x", "expected a number"),
        ("--dsn", "host=127.0.0.1 port=1 password=canary", "refused"),
        ("--dsn", "host=127.0.0.1 port=1 password='canary", "--dsn: "),
        ("--dsn", "host=127.0.0.1 pasword=canary", "unknown connection keyword `pasword`"),
        ("--config", &file, "refused"),
    ] {
        for name in ["online", "connections"] {
            let Ended { stdout, stderr, code } = pgvitals(&["check", name, option, source]).await;
            assert!(!stdout.contains("canary") && !stderr.contains("canary"), "{source}: {stdout}{stderr}");
            assert!(stdout.contains(part), "{source}: {stdout}");
            assert!(code == if name == "online" && part == "refused" { 2 } else { 3 }, "{source}: {code}");
        }
    }
}

/// Answers whatever is asked with the same text.
async fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn what_is_no_agent_of_ours_is_not_believed() {
    let web = answering("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 3\r\n\r\nOK\n").await;
    let older = answering("HTTP/1.1 200 OK\r\nServer: pgvitals/0.0.1\r\nContent-Length: 3\r\n\r\nOK\n").await;
    let mail = answering("220 mail ESMTP\r\n").await;
    for (agent, part) in [
        (web.as_str(), "is no pgvitals agent"),
        (&older, "gave no exit code"),
        (&mail, "ask the agent at "),
        ("http://127.0.0.1:1", "connect to the agent at 127.0.0.1:1: Connection refused"),
        ("ftp://db1:9187", "expected an agent's address such as http://127.0.0.1:9187"),
    ] {
        let arguments = ["check", "memory", "--agent", agent];
        assert_says(&arguments, &pgvitals(&arguments).await, 3, "PGVITALS MEMORY UNKNOWN: ", part);
    }
}

#[tokio::test]
async fn a_standby_that_falls_behind_says_why() {
    let primary = server().await;
    let standby = primary.standby("standby").await.unwrap();
    standby.sql("postgres", "SELECT pg_wal_replay_pause()").await.unwrap();
    primary.sql("postgres", "CREATE TABLE later (id int)").await.unwrap();
    let (folder, port) = (standby.socket_dir().display().to_string(), standby.port().to_string());
    let arguments = ["check", "replication-lag", "-c", "1us", "-H", &folder, "-p", &port, "-U", ROLE, "-d", "postgres"];
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let Ended { code, stdout, .. } = pgvitals(&arguments).await;
        let line = stdout.lines().next().unwrap_or_default();
        if code == 2 && line.contains(" behind; replay is paused |") {
            break;
        }
        assert!(Instant::now() < deadline, "{code}: {stdout}");
    }
    standby.sql("postgres", "SELECT pg_wal_replay_resume()").await.unwrap();
    drop(primary);
    let arguments = [&["check", "standby"], &arguments[2..]].concat();
    loop {
        let Ended { code, stdout, .. } = pgvitals(&arguments).await;
        if code == 2 && stdout.starts_with("PGVITALS STANDBY CRITICAL: this standby hears nothing from its upstream") {
            break;
        }
        assert!(Instant::now() < deadline + Duration::from_secs(30), "{code}: {stdout}");
    }
}

#[tokio::test]
async fn an_agent_answers_as_the_server_does() {
    let cluster = server().await;
    let program = Program::start(&watching(&[&cluster]));
    let agent = format!("http://{}", program.address());
    for (arguments, code, begin, part) in [
        ("online", 0, "PGVITALS ONLINE OK: primary answers | online=1;;1:", ""),
        ("connections -w 0%", 1, "PGVITALS CONNECTIONS WARNING: ", "%;0;95"),
        ("connections -c @~:100%", 2, "PGVITALS CONNECTIONS CRITICAL: ", "%;80;@~:100"),
        ("connections -c 5min", 3, "PGVITALS CONNECTIONS UNKNOWN: ", "expected a ratio"),
        ("conections", 3, "PGVITALS CONECTIONS UNKNOWN: ", "no check \"conections\""),
    ] {
        let agent = ["--agent", agent.as_str()];
        let arguments: Vec<&str> = ["check"].into_iter().chain(arguments.split_whitespace()).chain(agent).collect();
        assert_says(&arguments, &pgvitals(&arguments).await, code, begin, part);
    }
}

/// A configuration whose host is this folder's, without servers.
fn on_host(root: &Path, folder: &Path) -> String {
    let file = folder.join("pgvitals.toml");
    let root = root.display();
    let text = format!("[discovery]\nenabled = false\n[host]\nproc = '{root}/proc'\nsys = '{root}/sys'\n");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host").join(name)
}

#[tokio::test]
async fn a_bond_without_its_redundancy_is_no_good_bond() {
    let folder = tempfile::tempdir().unwrap();
    for (name, code, line) in [
        ("bond-active-backup", 0, "OK: 2 links of bond0 are up; eth0 of bond0 is up | 'bonding_active bond0'=2;;2: "),
        (
            "bond-active-backup-slave-down",
            2,
            "CRITICAL: bond0 has lost its redundancy, links up: 1; eth0 of bond0 is down | 'bonding_active bond0'=1;;2: ",
        ),
        ("bond-802.3ad", 1, "WARNING: eth1 carries nothing: it is not in the active aggregator of bond0 | "),
        ("bookworm", 0, "OK: nothing to check: no bonding interface"),
    ] {
        let arguments = ["check", "bonding", "--config", &on_host(&fixture(name), folder.path())];
        assert_says(&arguments, &pgvitals(&arguments).await, code, &format!("PGVITALS BONDING {line}"), "");
    }
}

#[tokio::test]
async fn a_bond_whose_links_share_an_aggregator_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(fixture("bond-802.3ad")).arg(folder.path().join("host"));
    assert_eq!(run(copy).await.code, 0);
    let bond = folder.path().join("host/sys/class/net/bond0");
    std::fs::write(bond.join("lower_eth1/bonding_slave/ad_aggregator_id"), "1\n").unwrap();
    let arguments = ["check", "bonding", "--config", &on_host(&folder.path().join("host"), folder.path())];
    let line = "OK: 2 links of bond0 are up; eth0 of bond0 is up; eth0 is in the active aggregator of bond0 | ";
    assert_says(&arguments, &pgvitals(&arguments).await, 0, &format!("PGVITALS BONDING {line}"), "");
}
