//! The demo as one runs it: what it shows, and that nothing of it is left.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{self, BINARY, Facts, get, until};

/// A demo with a temporary folder of its own; ended in order when dropped.
struct Demo {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

/// A folder that the server's user can get to.
fn temporary() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

impl Demo {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .args(["demo", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    /// What it says until it says this.
    fn says(&mut self, expected: &str) -> String {
        let mut text = String::new();
        while !text.contains(expected) {
            let line = self.said.next().unwrap_or_else(|| panic!("ended without saying {expected:?}:\n{text}"));
            text += &(line.unwrap() + "\n");
        }
        text
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ends_well(&mut self) {
        let mut status = None;
        until("the demo ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// The processes whose command line names something in this folder.
fn processes_of(folder: &Path) -> Vec<Vec<String>> {
    let folder = folder.to_str().unwrap();
    let all = procfs::process::all_processes().unwrap().flatten().filter_map(|it| it.cmdline().ok());
    all.filter(|words| words.iter().any(|word| word.starts_with(folder))).collect()
}

fn address_in(text: &str) -> SocketAddr {
    let (_, rest) = text.split_once("http://").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn a_demo_shows_what_it_promises_and_ends_by_itself() {
    let folder = temporary();
    let mut demo = Demo::start(folder.path(), &["--for", "8s"]);
    let text = demo.says("Ctrl-C");
    let address = address_in(&text);
    for expected in ["/metrics ", "/checks ", "  1. who blocks whom: ", "  2. a stopped replay: ", "  3. a failover: "]
    {
        assert!(text.contains(expected), "{expected} is missing:\n{text}");
    }
    let facts = || Facts { text: get(address, "/metrics", "").body };
    until("a session is blocked", || {
        facts().value("pg_blocking_waiters", &["server=\"demo/primary\""]).is_some_and(|waiters| waiters >= 1.0)
    });
    assert_eq!(facts().values("pg_up", &[]), [1.0, 1.0]);
    // The first thing to try, as it is written there.
    let line = text.lines().find_map(|line| line.split_once("who blocks whom:   ")).unwrap().1;
    until("the check finds it", || {
        let words: Vec<&str> = line.split(' ').collect();
        let output = program::run(words[0], &words[1..], "");
        output.status.code() == Some(1) && output.stdout.starts_with(b"PGVITALS BLOCKED WARNING: demo/primary")
    });
    demo.says("removing the clusters");
    demo.ends_well();
    assert!(is_empty(folder.path()));
    assert_eq!(processes_of(folder.path()), [[""; 0]; 0]);
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    let folder = temporary();
    for moment in ["starting a streaming standby", "Ctrl-C"] {
        let mut demo = Demo::start(folder.path(), &[]);
        demo.says(moment);
        assert!(!processes_of(folder.path()).is_empty());
        demo.signal(Signal::INT);
        demo.ends_well();
        assert!(is_empty(folder.path()), "interrupted after {moment:?}");
        assert_eq!(processes_of(folder.path()), [[""; 0]; 0], "interrupted after {moment:?}");
    }
}

#[test]
fn the_next_demo_removes_what_a_killed_one_left() {
    let folder = temporary();
    let mut demo = Demo::start(folder.path(), &[]);
    demo.says("starting load");
    demo.signal(Signal::KILL);
    demo.child.wait().unwrap();
    assert!(!is_empty(folder.path()) && !processes_of(folder.path()).is_empty());

    let mut next = Demo::start(folder.path(), &["--for", "1s"]);
    let text = next.says("starting a primary");
    assert_eq!(text.matches("left over from a demo that was killed").count(), 2, "{text}");
    next.says("removing the clusters");
    next.ends_well();
    assert!(is_empty(folder.path()));
    assert_eq!(processes_of(folder.path()), [[""; 0]; 0]);
}
