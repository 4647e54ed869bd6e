//! A throw-away PostgreSQL cluster with a folder of its own, gone when its value is dropped.
//!
//! It is real: real `initdb`, real processes, real streaming replication. It is not durable: nothing is synced to disk.
//! PostgreSQL refuses to run as root, so under root everything runs as the user `postgres`, or else `nobody`.

mod account;
mod binaries;
mod folder;
mod postmaster;
mod standby;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub use binaries::Binaries;
pub use folder::clean_left_over;
pub use standby::Standby;

use account::Account;
use folder::Folder;
use postmaster::Postmaster;

/// How long a cluster may take to start, stop, promote or begin to stream; recovery under load can take seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a cluster could not be made, or does not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No server binaries of the wanted major.
    #[error("no PostgreSQL {0} here; `tests/setup` installs every major, PGVITALS_SERVERS names their folder")]
    NoBinaries(String),
    /// A file, folder or program could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program such as `initdb` ended with an error.
    #[error("{program} ends with an error: {output}")]
    Program {
        /// Its name.
        program: String,
        /// Everything it said.
        output: String,
    },
    /// The server does not get into the wanted state.
    #[error("{state}; its log ends with:\n{log}")]
    NotReady {
        /// Which state it is in, or why it is not in the wanted one.
        state: String,
        /// The last lines of the server's log.
        log: String,
    },
    /// The temporary folder's name is too long for a socket in it: the kernel allows 107 bytes.
    #[error("{} is too long for a socket in it, set TMPDIR to a shorter one", .0.display())]
    LongPath(PathBuf),
    /// The server refuses a query or a connection.
    #[error("{}", in_full(.0))]
    Query(#[from] tokio_postgres::Error),
}

/// The driver's own text for everything the server says is just "db error".
fn in_full(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(reason) => format!("{}: {}", reason.code().code(), reason.message()),
        None => error.to_string(),
    }
}

/// For `map_err`: says what was tried beside what the kernel said.
fn tried(what: impl Into<String>) -> impl FnOnce(io::Error) -> ClusterError {
    let what = what.into();
    |source| ClusterError::Io { what, source }
}

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its `cluster_name`.
    pub name: String,
    /// Lines for postgresql.conf; they win over what the cluster sets itself.
    pub conf: Vec<String>,
    /// Lines for `pg_hba.conf`, tried after the one that lets `postgres` in through the socket, before those that trust all.
    pub hba: Vec<String>,
    /// Encoding of its databases.
    pub encoding: String,
    /// More arguments for `initdb`.
    pub initdb: Vec<String>,
    /// Also listen on 127.0.0.1. Beware: unlike the socket, that is open to every user of the host.
    pub tcp: bool,
    /// Its port; by default one that is free.
    pub port: Option<u16>,
    /// The language of its messages, such as `de`, where its binaries bring translations; English by default.
    pub language: Option<String>,
    /// Where its folder goes; the user it runs as must be able to get there.
    pub parent: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "primary".to_owned(),
            conf: Vec::new(),
            hba: Vec::new(),
            encoding: "UTF8".to_owned(),
            initdb: Vec::new(),
            tcp: false,
            port: None,
            language: None,
            parent: std::env::temp_dir(),
        }
    }
}

/// A running cluster, or one that was stopped and can be started again.
///
/// Dropping it stops its server at once and removes its folder, after a panic too. The next start cleans up after an
/// owner that had no time to drop it.
#[derive(Debug)]
pub struct Cluster {
    // Declared before the folder, so that the server is gone when the folder goes.
    postmaster: Option<Postmaster>,
    folder: Folder,
    binaries: Binaries,
    settings: Settings,
    account: Option<Account>,
    port: u16,
    /// The lines that make it follow another server, from 12 on.
    recovery: Vec<String>,
    /// More environment for its server.
    env: Vec<(String, String)>,
}

impl Cluster {
    /// Makes a cluster and starts it; it accepts connections when this returns.
    ///
    /// # Errors
    /// Whatever keeps it from starting, with the end of its log.
    pub async fn start(binaries: &Binaries, settings: Settings) -> Result<Self, ClusterError> {
        let mut cluster = Self::prepare(binaries, settings)?;
        let mut initdb = cluster.program("initdb");
        initdb.arg("-D").arg(cluster.data()).args(["-U", "postgres", "-A", "trust", "--locale=C", "--no-sync"]);
        initdb.args(["-E", &cluster.settings.encoding]).args(&cluster.settings.initdb);
        postmaster::run(initdb).await?;
        let conf = cluster.data().join("postgresql.conf");
        let generated = std::fs::read_to_string(&conf).map_err(tried("read postgresql.conf"))?;
        cluster.folder.write(&conf, &format!("{generated}\ninclude 'cluster.conf'\n"))?;
        cluster.configure()?;
        cluster.launch().await?;
        Ok(cluster)
    }

    /// The folder and everything else but the data.
    fn prepare(binaries: &Binaries, settings: Settings) -> Result<Self, ClusterError> {
        // Nobody else would do it, and it costs one look into the folder.
        clean_left_over(&settings.parent);
        let account = Account::unprivileged()?;
        Ok(Self {
            postmaster: None,
            folder: Folder::create(&settings.parent, account)?,
            binaries: binaries.clone(),
            port: settings.port.map_or_else(postmaster::free_port, Ok)?,
            settings,
            account,
            recovery: Vec::new(),
            env: Vec::new(),
        })
    }

    /// Starts it again after [`Cluster::stop`] or [`Cluster::kill_hard`], with the same port and data.
    ///
    /// # Errors
    /// Whatever keeps it from starting, with the end of its log.
    pub async fn start_again(&mut self) -> Result<(), ClusterError> {
        if self.postmaster.is_none() { self.launch().await } else { Ok(()) }
    }

    /// Stops it in order (`fast`): sessions end, a checkpoint is made.
    ///
    /// # Errors
    /// When it is still there after a minute; then it is ended as if dropped.
    pub async fn stop(&mut self) -> Result<(), ClusterError> {
        if let Some(mut postmaster) = self.postmaster.take()
            && !postmaster.stop(PATIENCE).await
        {
            return Err(self.not_ready("the server does not stop"));
        }
        Ok(())
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// As [`Cluster::stop`] and [`Cluster::start_again`].
    pub async fn restart(&mut self) -> Result<(), ClusterError> {
        self.stop().await?;
        self.start_again().await
    }

    /// Kills all its processes at once, as the out-of-memory killer or a power cut would.
    pub fn kill_hard(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            postmaster.kill_all();
        }
    }

    /// Halts all its processes (`SIGSTOP`): connections still open, and nothing answers.
    ///
    /// # Errors
    /// When they are not all halted after a minute.
    pub async fn freeze(&self) -> Result<(), ClusterError> {
        match &self.postmaster {
            Some(postmaster) if postmaster.freeze(PATIENCE).await => Ok(()),
            _ => Err(self.not_ready("the server cannot be frozen")),
        }
    }

    /// Lets its processes go on after [`Cluster::freeze`].
    pub fn thaw(&self) {
        if let Some(postmaster) = &self.postmaster {
            postmaster.thaw();
        }
    }

    /// Makes a standby the primary; it accepts writes when this returns.
    ///
    /// # Errors
    /// When it is not a standby, or still one after a minute.
    pub async fn promote(&self) -> Result<(), ClusterError> {
        let mut promote = self.program("pg_ctl");
        promote.args(["promote", "-w", "-D"]).arg(self.data());
        postmaster::run(promote).await?;
        let session = self.client("postgres").await?;
        let deadline = Instant::now() + PATIENCE;
        while is_true(&session, "SELECT pg_catalog.pg_is_in_recovery()").await? {
            if Instant::now() > deadline {
                return Err(self.not_ready("the standby does not become a primary"));
            }
            pause().await;
        }
        Ok(())
    }

    /// Runs one or more statements in a session of their own; every value as text, NULL as `None`.
    ///
    /// # Errors
    /// What the server says.
    pub async fn sql(&self, dbname: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, ClusterError> {
        rows(&self.client(dbname).await?, sql).await
    }

    /// A session as `postgres`, for who needs one to stay open; it ends when the value is dropped.
    ///
    /// # Errors
    /// What the server says.
    pub async fn client(&self, dbname: &str) -> Result<Client, ClusterError> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.socket_dir()).port(self.port).user("postgres").dbname(dbname).application_name("cluster");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Connection string through the socket.
    pub fn dsn(&self, dbname: &str) -> String {
        format!("host={} port={} user=postgres dbname={dbname}", self.socket_dir().display(), self.port)
    }

    /// Connection string through 127.0.0.1; of use only with [`Settings::tcp`].
    pub fn tcp_dsn(&self, dbname: &str) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname={dbname}", self.port)
    }

    /// The folder of its socket; only its own user and root can get in.
    pub fn socket_dir(&self) -> PathBuf {
        self.folder.socket_dir()
    }

    /// Its port, also in the socket's name; the same for all its life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.data()
    }

    /// Its name, as in [`Settings::name`].
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The major version of its server.
    pub fn major(&self) -> u32 {
        self.binaries.major
    }

    /// The process id of its postmaster while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.postmaster.as_ref().map(Postmaster::pid)
    }

    /// Everything the server has logged, also by a logging collector.
    pub fn log(&self) -> String {
        let collected = std::fs::read_dir(self.data().join("log")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = collected.map(|entry| entry.path()).collect();
        files.sort();
        let texts = [self.folder.log()].into_iter().chain(files).map(|path| std::fs::read(path).unwrap_or_default());
        texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
    }

    /// Writes the files of the data folder that are ours.
    fn configure(&self) -> Result<(), ClusterError> {
        let socket_dir = self.socket_dir();
        let mut conf = vec![
            format!("cluster_name = {}", quoted(&self.settings.name)),
            format!("port = {}", self.port),
            format!("listen_addresses = '{}'", if self.settings.tcp { "127.0.0.1" } else { "" }),
            format!("unix_socket_directories = {}", quoted(&socket_dir.display().to_string())),
            "fsync = off".to_owned(),
            // What is in the data folder goes with it; segments in /dev/shm would stay behind a killed server.
            "dynamic_shared_memory_type = mmap".to_owned(),
        ];
        if self.binaries.has_library("pg_stat_statements") {
            conf.push("shared_preload_libraries = 'pg_stat_statements'".to_owned());
        }
        if self.settings.language.is_some() {
            // In the locale C there is no other language than English.
            conf.push("lc_messages = 'C.UTF-8'".to_owned());
        }
        conf.extend(self.settings.conf.iter().cloned());
        conf.extend(self.recovery.iter().cloned());
        self.folder.write(&self.data().join("cluster.conf"), &conf.join("\n"))?;

        let mut hba = vec!["local all,replication postgres trust".to_owned()];
        hba.extend(self.settings.hba.iter().cloned());
        hba.push("local all,replication all trust".to_owned());
        hba.push("host all,replication all 127.0.0.1/32 trust".to_owned());
        self.folder.write(&self.data().join("pg_hba.conf"), &hba.join("\n"))
    }

    async fn launch(&mut self) -> Result<(), ClusterError> {
        let mut program = self.program("postgres");
        program.arg("-D").arg(self.data()).envs(self.env.iter().cloned());
        if let Some(language) = &self.settings.language {
            program.env("LANGUAGE", language);
        }
        let postmaster = self.postmaster.insert(Postmaster::spawn(program, &self.folder.log())?);
        let deadline = Instant::now() + PATIENCE;
        let state = loop {
            if let Some(status) = postmaster.exit_status() {
                self.postmaster = None;
                break format!("the server does not start ({status})");
            }
            let mut config = tokio_postgres::Config::new();
            config.host_path(self.folder.socket_dir()).port(self.port).user("postgres").dbname("postgres");
            // Dropping the other half ends the session.
            match tokio::time::timeout(Duration::from_secs(1), config.connect(NoTls)).await {
                Ok(Ok(_)) => return Ok(()),
                _ if Instant::now() < deadline => pause().await,
                Ok(Err(error)) => break format!("the server refuses connections ({})", in_full(&error)),
                Err(_) => break "the server does not answer".to_owned(),
            }
        };
        Err(self.not_ready(state))
    }

    /// A program of this server, to be run as the user the cluster belongs to.
    fn program(&self, name: &str) -> std::process::Command {
        postmaster::command(&self.binaries.program(name), self.folder.path(), self.account)
    }

    fn not_ready(&self, state: impl Into<String>) -> ClusterError {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        let end = all.get(all.len().saturating_sub(20)..).unwrap_or_default();
        ClusterError::NotReady { state: state.into(), log: end.join("\n") }
    }
}

async fn rows(session: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, ClusterError> {
    let mut rows = Vec::new();
    for message in session.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let value = |column| row.try_get(column).map(|value| value.map(str::to_owned));
            rows.push((0..row.len()).map(value).collect::<Result<_, _>>()?);
        }
    }
    Ok(rows)
}

async fn is_true(session: &Client, sql: &str) -> Result<bool, ClusterError> {
    Ok(rows(session, sql).await?.concat().first().and_then(Option::as_deref) == Some("t"))
}

/// Between two looks at something that takes a moment.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// A string as postgresql.conf, connection strings and SQL's `E''` all understand it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}
