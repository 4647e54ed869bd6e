//! A throw-away PostgreSQL 15 of Debian.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgvitals::server::{ConnectFailure, ConnectOptions, Environment, RowSet, Session, TlsCache};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Postgres {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Postgres {
    /// A server with these lines in `postgresql.conf` and `pg_hba.conf`, after whatever `prepare` put in its folder.
    pub(crate) async fn start(conf: &str, hba: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::Builder::new().prefix("pgv").tempdir_in("/tmp").unwrap();
        give_to_postgres(folder.path());
        let data = folder.path().join("data");
        let initdb = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"];
        let made = as_postgres(format!("{BIN}/initdb")).args(initdb).arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        prepare(&data);
        let sockets = folder.path().display();
        let mut text = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        writeln!(text, "fsync = off\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{sockets}'\n{conf}")
            .unwrap();
        fs::write(data.join("postgresql.conf"), text).unwrap();
        fs::write(data.join("pg_hba.conf"), format!("local all postgres trust\n{hba}\n")).unwrap();
        // Between our letting go of a port and the server's taking it somebody else may be quicker.
        for _ in 0..5 {
            let port = free_port();
            let log = fs::File::create(folder.path().join("log")).unwrap();
            let mut child = as_postgres(format!("{BIN}/postgres"))
                .args(["-p", &port.to_string(), "-D"])
                .arg(&data)
                .stderr(Stdio::from(log))
                .spawn()
                .unwrap();
            let socket = folder.path().join(format!(".s.PGSQL.{port}"));
            let started = Instant::now();
            while started.elapsed() < PATIENCE && child.try_wait().unwrap().is_none() {
                if socket.exists() {
                    let server = Self { child, folder, port };
                    server.wait().await;
                    return server;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("{}", fs::read_to_string(folder.path().join("log")).unwrap());
    }

    async fn wait(&self) {
        until(async || self.try_open(&self.admin()).await.ok()).await;
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// The folder of the socket; a home without any of libpq's files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The administrator's connection string.
    pub(crate) fn admin(&self) -> String {
        format!("host={} port={} user=postgres", self.folder().display(), self.port)
    }

    pub(crate) fn options(&self, dsn: &str) -> ConnectOptions {
        let home = self.folder().display().to_string();
        ConnectOptions::parse(dsn, &Environment::new(move |name| (name == "HOME").then(|| home.clone()))).unwrap()
    }

    pub(crate) async fn try_open(&self, dsn: &str) -> Result<Session, ConnectFailure> {
        Session::open(&self.options(dsn), PATIENCE, &TlsCache::default()).await
    }

    pub(crate) async fn open(&self, dsn: &str) -> Session {
        self.try_open(dsn).await.unwrap()
    }

    /// Runs statements that a session of ours may not: with psql.
    pub(crate) fn run(&self, sql: &str) {
        let out = self.psql(&self.admin(), sql);
        assert!(out.is_ok(), "{out:?}");
    }

    /// What psql prints for a query; its complaint when it cannot connect or ask.
    pub(crate) fn psql(&self, dsn: &str, sql: &str) -> Result<String, String> {
        let out = Command::new("psql")
            .env_clear()
            .env("HOME", self.folder())
            .args(["-XAtw", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d", &format!("dbname=postgres {dsn}")])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(id) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(id, Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A command as the user `postgres`: PostgreSQL and `PgBouncer` refuse to run as root.
pub(crate) fn as_postgres(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").stdout(Stdio::null());
    if rustix::process::geteuid().is_root() {
        let (user, group) = postgres_user();
        command.uid(user).gid(group);
    }
    command
}

pub(crate) fn give_to_postgres(path: &Path) {
    if rustix::process::geteuid().is_root() {
        let (user, group) = postgres_user();
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// A file in a folder of `postgres`, readable by it alone.
pub(crate) fn put(path: PathBuf, text: impl AsRef<[u8]>) -> PathBuf {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    give_to_postgres(&path);
    path
}

fn postgres_user() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<&str> = passwd.lines().find(|line| line.starts_with("postgres:")).unwrap().split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// The first value; patience without end is no test.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "it did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks with limits that do not matter.
pub(crate) async fn ask(session: &mut Session, sql: &str) -> RowSet {
    session.query(sql, PATIENCE, PATIENCE).await.unwrap()
}

/// The first value of the answer.
pub(crate) async fn value(session: &mut Session, sql: &str) -> String {
    ask(session, sql).await.value(0, 0).unwrap_or("NULL").to_owned()
}
