//! A server's first process and all those below it.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;
use super::{ClusterError, pause, tried};

/// How long a dropped server may take to end by itself.
const DYING: Duration = Duration::from_secs(5);

/// The server's first process, a child of ours; ended at once when dropped.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
}

impl Postmaster {
    /// Starts it; what it says goes to the end of `log`.
    pub(super) fn spawn(mut program: Command, log: &Path) -> Result<Self, ClusterError> {
        let log = OpenOptions::new().create(true).append(true).open(log).map_err(tried("open the log"))?;
        let again = log.try_clone().map_err(tried("open the log"))?;
        let child = program.stdout(log).stderr(again).spawn().map_err(tried("start postgres"))?;
        Ok(Self { child })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(super) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends sessions, makes a checkpoint and exits; false when it is still there after `patience`.
    pub(super) async fn stop(&mut self, patience: Duration) -> bool {
        self.thaw();
        signal(Pid::from_child(&self.child), Signal::INT);
        let deadline = Instant::now() + patience;
        while self.exit_status().is_none() {
            if Instant::now() > deadline {
                return false;
            }
            pause().await;
        }
        true
    }

    /// Halts every process; false when one still runs after `patience`.
    pub(super) async fn freeze(&self, patience: Duration) -> bool {
        let first = Pid::from_child(&self.child);
        signal(first, Signal::STOP);
        let deadline = Instant::now() + patience;
        // The signal takes effect a moment later, and until then a process may still start another one.
        loop {
            let all = family_of(first);
            signal_all(&all, Signal::STOP);
            if all.iter().all(|&pid| is_halted(pid)) && family_of(first).len() == all.len() {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            pause().await;
        }
    }

    pub(super) fn thaw(&self) {
        signal_all(&family_of(Pid::from_child(&self.child)), Signal::CONT);
    }

    /// Leaves nothing running and nothing tidied up.
    pub(super) fn kill_all(&mut self) {
        kill_family_of(Pid::from_child(&self.child));
        // It was killed: this cannot take long.
        drop(self.child.wait());
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        if self.exit_status().is_some() {
            return;
        }
        self.thaw();
        signal(Pid::from_child(&self.child), Signal::QUIT);
        let deadline = Instant::now() + DYING;
        while self.exit_status().is_none() {
            if Instant::now() > deadline {
                return self.kill_all();
            }
            sleep(Duration::from_millis(2));
        }
    }
}

/// A command that runs as the server's user and knows nothing of our own PG* variables.
pub(super) fn command(program: &Path, folder: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    command
}

/// Runs it to its end.
pub(super) async fn run(mut command: Command) -> Result<(), ClusterError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match tokio::task::spawn_blocking(move || command.output()).await {
        Ok(output) => output.map_err(tried(format!("run {program}")))?,
        Err(error) => return Err(ClusterError::Program { program, output: error.to_string() }),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    Err(ClusterError::Program { program, output: String::from_utf8_lossy(&said).trim().to_owned() })
}

/// A port nobody listens on, below those the kernel hands out to clients, which could take it while we restart.
pub(super) fn free_port() -> Result<u16, ClusterError> {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_240;
    const COUNT_OF_PORTS: u32 = 32_768 - FIRST as u32;
    // Processes that start clusters at the same time begin far from each other.
    let start = std::process::id().wrapping_mul(499);
    let mut refusal = None;
    for _ in 0..1000 {
        let step = u32::from(COUNT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from(start.wrapping_add(step) % COUNT_OF_PORTS).unwrap_or_default();
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => refusal = Some(error),
        }
    }
    Err(tried("find a free port")(refusal.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into())))
}

/// Stops the server of a data folder whose owner is gone, if it still runs.
pub(super) fn stop_orphan(data: &Path) {
    let noted = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let Some(pid) = noted.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw) else {
        return;
    };
    if !serves(pid, data) {
        return;
    }
    signal_all(&family_of(pid), Signal::CONT);
    signal(pid, Signal::QUIT);
    let deadline = Instant::now() + DYING;
    while serves(pid, data) {
        if Instant::now() > deadline {
            return kill_family_of(pid);
        }
        sleep(Duration::from_millis(2));
    }
}

/// Gives back the shared memory that a killed server could not; an orderly end leaves no `postmaster.pid`.
pub(super) fn release_shared_memory(data: &Path) {
    let noted = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    // The seventh line holds the key and the id of the one System V segment, which guards the data folder.
    if let Some(id) = noted.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
        drop(Command::new("ipcrm").args(["-m", id]).stderr(Stdio::null()).status());
    }
}

/// Whether this process is the postmaster of that data folder, not one that got its id later.
fn serves(pid: Pid, data: &Path) -> bool {
    let words = procfs::process::Process::new(pid.as_raw_pid()).and_then(|it| it.cmdline()).unwrap_or_default();
    words.iter().any(|word| Path::new(word) == data)
}

/// The process and everything it started, itself first. Each of a server's processes leads a process group of its own,
/// so that no signal to a group reaches them all.
fn family_of(first: Pid) -> Vec<Pid> {
    let all: Vec<(i32, i32)> = procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| it.stat().ok())
        .map(|stat| (stat.pid, stat.ppid))
        .collect();
    let mut family = vec![first.as_raw_pid()];
    let mut seen = 0;
    while let Some(&parent) = family.get(seen) {
        family.extend(all.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        seen += 1;
    }
    family.into_iter().filter_map(Pid::from_raw).collect()
}

fn kill_family_of(first: Pid) {
    // Halted first, or it would start new processes in place of those that die.
    signal(first, Signal::STOP);
    signal_all(&family_of(first), Signal::KILL);
}

fn is_halted(pid: Pid) -> bool {
    let state = procfs::process::Process::new(pid.as_raw_pid()).and_then(|it| it.stat()).map(|it| it.state);
    // Gone or a zombie counts as well: it does nothing any more.
    !matches!(state, Ok('R' | 'S' | 'D'))
}

fn signal_all(processes: &[Pid], name: Signal) {
    for &pid in processes {
        signal(pid, name);
    }
}

/// A process that is gone has nothing left to be told.
fn signal(pid: Pid, name: Signal) {
    let _ = kill_process(pid, name);
}
