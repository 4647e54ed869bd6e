//! The binary's commands, run to their end.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tokio::process::Command;

use crate::pair::{ROLE, prepare, until_true};
use crate::program::BINARY;

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs it with these arguments, with an environment that says nothing of servers.
pub(crate) async fn pgvitals(arguments: &[&str]) -> Ended {
    pgvitals_in(Path::new("/"), arguments).await
}

/// The same in a folder.
pub(crate) async fn pgvitals_in(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin");
    run(command).await
}

/// Runs a program to its end; one that hangs for a minute is killed and fails the test.
pub(crate) async fn run(mut command: Command) -> Ended {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("it hangs").unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A command a minute would look like an application whose connections break.
#[tokio::test]
async fn no_command_leaves_a_session_that_counts_as_abandoned() {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    prepare(&cluster).await;
    let dsn = format!("host={} port={} user={ROLE}", cluster.socket_dir().display(), cluster.port());
    let dsn = format!("{dsn} dbname=watched");
    cluster.sql("postgres", "CREATE DATABASE watched").await.unwrap();
    for arguments in [
        ["check", "connections"].as_slice(),
        &["check", "disabled-triggers"],
        &["check", "all"],
        &["once"],
        &["doctor"],
    ] {
        let ended = pgvitals(&[arguments, &["--dsn", &dsn]].concat()).await;
        assert!(ended.stdout.lines().count() > 0, "{arguments:?}: {ended:?}");
    }
    // What a session did is counted before it is gone.
    until_true(&cluster, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'watched'").await;
    let counted = "SELECT sessions > 5, sessions_abandoned FROM pg_stat_database WHERE datname = 'watched'";
    let counted = cluster.sql("postgres", counted).await.unwrap().concat();
    assert_eq!(counted, [Some("t".to_owned()), Some("0".to_owned())]);
}
