//! A streaming standby, made from a running server without `pg_basebackup`, which not every package has.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Instant;

use tokio_postgres::Client;

use super::account::{Account, hand_over};
use super::{Cluster, ClusterError, PATIENCE, Settings, is_true, pause, postmaster, quoted, rows, tried};

/// How a standby is made.
#[derive(Clone, Debug)]
pub struct Standby {
    /// Its `cluster_name`, and the `application_name` under which its server knows it.
    pub name: String,
    /// The replication slot it uses; created when missing.
    pub slot: Option<String>,
    /// Lines for postgresql.conf, after those of its server.
    pub conf: Vec<String>,
    /// Lines about recovery, such as `restore_command`; before 12 they have a file of their own.
    pub recovery: Vec<String>,
    /// Where it connects to in place of its server's socket: a proxy.
    pub through: Option<SocketAddr>,
    /// Whether it connects to its server at all. One that does not lives on what its `restore_command` brings.
    pub streams: bool,
    /// More environment for its server, such as a library that sets its clock wrong.
    pub env: Vec<(String, String)>,
}

impl From<&str> for Standby {
    fn from(name: &str) -> Self {
        let name = name.to_owned();
        Self { name, slot: None, conf: Vec::new(), recovery: Vec::new(), through: None, streams: true, env: Vec::new() }
    }
}

impl Cluster {
    /// Makes a standby of this cluster, which goes on working meanwhile and may be a standby itself.
    ///
    /// It streams when this returns, if it is to stream. Tablespaces are not copied. A plain name will do: `cluster.standby("b")`.
    ///
    /// # Errors
    /// Whatever keeps it from starting or streaming, with the end of its log.
    pub async fn standby(&self, standby: impl Into<Standby>) -> Result<Self, ClusterError> {
        let standby = standby.into();
        let session = self.client("postgres").await?;
        // Keeps the log since the copy began until the standby reads it; gone with this session.
        let guard = "SELECT pg_create_physical_replication_slot('copy_' || pg_backend_pid(), true, true)";
        rows(&session, guard).await?;

        let mut settings = self.settings.clone();
        settings.conf.extend(standby.conf.iter().cloned());
        let mut copy = Self::prepare(&self.binaries, Settings { name: standby.name.clone(), port: None, ..settings })?;
        if let Some(slot) = &standby.slot {
            let sql = format!(
                "SELECT pg_create_physical_replication_slot(E{slot}, true) \
                  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = E{slot})",
                slot = quoted(slot)
            );
            rows(&session, &sql).await?;
        }
        let label = self.copy_data(&session, &copy).await?;
        copy.folder.write(&copy.data().join("backup_label"), &label)?;
        copy.env.clone_from(&standby.env);
        copy.follow(self, &standby)?;
        copy.launch().await?;
        if standby.streams {
            copy.wait_until_it_streams(&session).await?;
        }
        Ok(copy)
    }

    /// Copies the data in backup mode; returns the label that tells the copy where to begin.
    async fn copy_data(&self, session: &Client, copy: &Self) -> Result<String, ClusterError> {
        let (begin, end) = match self.binaries.major {
            ..15 => ("pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)"),
            _ => ("pg_backup_start('standby', true)", "pg_backup_stop(false)"),
        };
        rows(session, &format!("SELECT {begin}")).await?;
        let (from, to, account) = (self.data(), copy.data(), copy.account);
        let copied = tokio::task::spawn_blocking(move || copy_data_folder(&from, &to, account)).await;
        copied.map_err(io::Error::other).and_then(|copied| copied).map_err(tried("copy the data folder"))?;
        let label = rows(session, &format!("SELECT labelfile FROM {end}")).await?.concat();
        label.into_iter().next().flatten().ok_or_else(|| self.not_ready("the server gives no backup label"))
    }

    /// Makes a stopped primary the standby of the server that took its place; it streams when this returns.
    ///
    /// Its log must not have gone on after the other's began to differ: stop it in order before the other is promoted,
    /// or rewind it.
    ///
    /// # Errors
    /// Whatever keeps it from starting or streaming, with the end of its log.
    pub async fn demote(&mut self, server: &Self) -> Result<(), ClusterError> {
        self.follow(server, &Standby::from(self.settings.name.as_str()))?;
        self.launch().await?;
        self.wait_until_it_streams(&server.client("postgres").await?).await
    }

    /// Takes a stopped primary back to where its log and that of the server that took its place parted.
    ///
    /// # Errors
    /// What `pg_rewind` says; not every package has it.
    pub async fn rewind(&self, server: &Self) -> Result<(), ClusterError> {
        let mut rewind = self.program("pg_rewind");
        rewind.arg("-D").arg(self.data()).args(["--source-server", &server.dsn("postgres"), "--no-sync"]);
        postmaster::run(rewind).await
    }

    /// Configures it as a standby of that server.
    fn follow(&mut self, server: &Self, standby: &Standby) -> Result<(), ClusterError> {
        let (host, port) = match standby.through {
            Some(proxy) => (proxy.ip().to_string(), proxy.port()),
            None => (server.socket_dir().display().to_string(), server.port),
        };
        let source =
            format!("host={} port={port} user=postgres application_name={}", quoted(&host), quoted(self.name()));
        let mut lines = Vec::new();
        if standby.streams {
            lines.push(format!("primary_conninfo = {}", quoted(&source)));
            lines.extend(standby.slot.iter().map(|slot| format!("primary_slot_name = {}", quoted(slot))));
        }
        lines.push("recovery_target_timeline = 'latest'".to_owned());
        lines.extend(standby.recovery.iter().cloned());
        let data = self.data();
        // 12 moved the lines of recovery.conf to postgresql.conf, and refuses to start where it finds that file.
        if self.binaries.major >= 12 {
            self.folder.write(&data.join("standby.signal"), "")?;
            self.recovery = lines;
        } else {
            lines.push("standby_mode = 'on'".to_owned());
            self.folder.write(&data.join("recovery.conf"), &lines.join("\n"))?;
        }
        self.configure()
    }

    async fn wait_until_it_streams(&self, session: &Client) -> Result<(), ClusterError> {
        let sql = format!(
            "SELECT count(*) > 0 FROM pg_stat_replication WHERE application_name = E{} AND state = 'streaming'",
            quoted(self.name())
        );
        let deadline = Instant::now() + PATIENCE;
        while !is_true(session, &sql).await? {
            if Instant::now() > deadline {
                return Err(self.not_ready("the standby does not stream"));
            }
            pause().await;
        }
        Ok(())
    }
}

/// Folders whose content belongs to the running server alone; it makes its own. The copy streams what would be in `pg_wal`.
const LEFT_EMPTY: &[&str] = &[
    "log",
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal",
];

/// Files that belong to the running server alone.
const LEFT_OUT: &[&str] = &["pg_internal.init", "postmaster.opts", "postmaster.pid", "recovery.conf", "recovery.done"];

fn copy_data_folder(from: &Path, to: &Path, account: Option<Account>) -> io::Result<()> {
    copy_folder(from, to, account)?;
    // Once more, last: a copy made of a standby must not begin after what its files hold.
    copy_file(&from.join("global/pg_control"), &to.join("global/pg_control"), account)
}

fn copy_folder(from: &Path, to: &Path, account: Option<Account>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if LEFT_OUT.contains(&&*name) || name.starts_with("pgsql_tmp") {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&target)?;
            hand_over(&target, account)?;
            if !LEFT_EMPTY.contains(&&*name) {
                copy_folder(&source, &target, account)?;
            }
        } else if kind.is_file() {
            copy_file(&source, &target, account)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, account: Option<Account>) -> io::Result<()> {
    match fs::copy(from, to) {
        // Tables come and go while we copy; what is missing, the log brings back.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => hand_over(to, account),
    }
}
