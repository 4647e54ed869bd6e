//! Checks through a real NRPE server and `check_nrpe`, with the commands that `pgvitals generate nrpe` writes.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tokio::process::{Child, Command};

use crate::command::{Ended, pgvitals, run};
use crate::pair::{ROLE, prepare};
use crate::program::{BINARY, free_port};

/// An NRPE server in the foreground; killed when dropped.
pub(crate) struct Nrpe {
    port: u16,
    log: PathBuf,
    _server: Child,
}

impl Nrpe {
    /// Starts it with these commands; it answers when this returns.
    pub(crate) async fn start(folder: &Path, commands: &str) -> Self {
        let port = free_port();
        let log = folder.join("nrpe.log");
        let run_folder = folder.display();
        // Who starts it as root has it run as nobody, as a host has it run as nagios.
        let config = format!(
            "server_address=127.0.0.1\nserver_port={port}\nallowed_hosts=127.0.0.1\nnrpe_user=nobody\nnrpe_group=nogroup\n\
             pid_file={run_folder}/nrpe.pid\nlog_file={}\ndisable_syslog=1\ncommand_timeout=30\n{commands}",
            log.display()
        );
        let file = folder.join("nrpe.cfg");
        fs::write(&file, config).unwrap();
        let mut server = Command::new("/usr/sbin/nrpe");
        server.args(["-n", "-f", "-c"]).arg(&file).stdin(Stdio::null()).kill_on_drop(true);
        server.stdout(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("nrpe, which tests/setup installs");
        let nrpe = Self { port, log, _server: server };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let ended = nrpe.ask(&[]).await;
            if ended.stdout.starts_with("NRPE v") {
                return nrpe;
            }
            assert!(Instant::now() < deadline, "nrpe does not answer: {ended:?} {}", nrpe.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the monitoring server is told of a command.
    async fn check(&self, command: &str) -> Ended {
        self.ask(&["-t", "30", "-c", command]).await
    }

    async fn ask(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new("/usr/lib/nagios/plugins/check_nrpe");
        command.args(["-n", "-H", "127.0.0.1", "-p", &self.port.to_string()]).args(arguments);
        run(command).await
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The commands of the snippet with a program that nobody may run, each with these arguments more.
pub(crate) async fn commands_of(program: &Path, arguments: &str) -> String {
    let snippet = pgvitals(&["generate", "nrpe"]).await.stdout;
    let program = program.display().to_string();
    let lines = snippet.lines().filter(|line| line.starts_with("command["));
    lines.map(|line| [line, " ", arguments, "\n"].concat().replace("/usr/local/bin/pgvitals", &program)).collect()
}

/// The same about this server, and some of our own.
async fn commands(program: &Path, port: u16) -> String {
    let there = |port: u16| format!("-H 127.0.0.1 -p {port} -U {ROLE} -d postgres");
    let mut text = commands_of(program, &there(port)).await;
    let program = program.display();
    for (name, arguments) in [
        ("warning", format!("connections -w 0% {}", there(port))),
        ("critical", format!("connections -c 0% {}", there(port))),
        ("down", format!("online {}", there(free_port()))),
        ("mistake", "connections --no-such-option".to_owned()),
    ] {
        let _ = writeln!(text, "command[{name}]={program} check {arguments}");
    }
    text
}

#[tokio::test]
async fn a_monitoring_server_is_told_the_status_and_the_line() {
    let settings = Settings { tcp: true, ..Settings::default() };
    let cluster = Cluster::start(&Binaries::major(16).unwrap(), settings).await.unwrap();
    prepare(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("pgvitals");
    fs::copy(BINARY, &program).unwrap();
    let nrpe = Nrpe::start(folder.path(), &commands(&program, cluster.port()).await).await;
    for (command, code, begin, part) in [
        ("check_pgvitals_online", 0, "PGVITALS ONLINE OK: ", " answers | online=1;;1:"),
        ("check_pgvitals_replication-lag", 0, "PGVITALS REPLICATION-LAG OK: no standby is connected", ""),
        ("warning", 1, "PGVITALS CONNECTIONS WARNING: ", "%;0;95"),
        ("critical", 2, "PGVITALS CONNECTIONS CRITICAL: ", "%;80;0"),
        ("down", 2, "PGVITALS ONLINE CRITICAL: no connection to 127.0.0.1:", "Connection refused"),
        ("mistake", 3, "PGVITALS CHECK UNKNOWN: unexpected argument '--no-such-option' found", ""),
    ] {
        let Ended { code: found, stdout, .. } = nrpe.check(command).await;
        assert_eq!(found, code, "{command}: {stdout}{}", nrpe.log());
        let line = stdout.lines().next().unwrap_or_default();
        assert!(line.starts_with(begin) && line.contains(part), "{command}: {line}");
    }
}
