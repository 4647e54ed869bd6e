//! The binary's commands, run to their end.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

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
