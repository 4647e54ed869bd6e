//! Sessions of ours on a cluster, and psql beside them to say what libpq does.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use pgvitals::server::{ConnectFailure, ConnectOptions, Environment, RowSet, Session, TlsCache};
use tokio::process::Command;

use crate::command::run;
use crate::pair::until_true;

/// A limit that does not matter: longer than anything here takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The program itself: what Debian has in PATH is a script, which takes far longer to find it than a query takes.
pub(crate) const PSQL: &str = "/usr/lib/postgresql/15/bin/psql";

/// A cluster that listens on 127.0.0.1 too, with these lines in `pg_hba.conf` before those that trust all.
pub(crate) async fn start(hba: &[&str]) -> Cluster {
    let hba = hba.iter().map(ToString::to_string).collect();
    start_with(Settings { hba, tcp: true, ..Settings::default() }).await
}

/// What connecting does depends little on the version of the server, so one will do.
pub(crate) async fn start_with(settings: Settings) -> Cluster {
    Cluster::start(&Binaries::major(17).unwrap(), settings).await.unwrap()
}

/// Lets in who comes through the socket as `postgres` or whom these lines of `pg_hba.conf` allow, and nobody else.
pub(crate) async fn let_in_only(cluster: &Cluster, hba: &[&str]) {
    give(cluster, "pg_hba.conf", format!("local all postgres trust\n{}\n", hba.join("\n")));
    reload(cluster).await;
}

/// Has it read its configuration; who connects after this returns is served by it.
pub(crate) async fn reload(cluster: &Cluster) {
    let loaded = cluster.sql("postgres", "SELECT pg_conf_load_time()").await.unwrap().concat().pop().flatten().unwrap();
    cluster.sql("postgres", "SELECT pg_reload_conf()").await.unwrap();
    until_true(cluster, &format!("SELECT pg_conf_load_time() > '{loaded}'")).await;
}

/// Puts a file into its data folder that only its user can read.
pub(crate) fn give(cluster: &Cluster, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let file = cluster.data().join(name);
    let owner = fs::metadata(cluster.data()).unwrap();
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    file
}

/// Where sessions and psql look for files of libpq's, such as `.pgpass`; there are none but those that a test puts there.
pub(crate) fn home(cluster: &Cluster) -> PathBuf {
    cluster.data()
}

/// How a session gets to a cluster, with no environment but a home.
pub(crate) fn options(cluster: &Cluster, dsn: &str) -> ConnectOptions {
    let home = home(cluster).display().to_string();
    ConnectOptions::parse(dsn, &Environment::new(move |name| (name == "HOME").then(|| home.clone()))).unwrap()
}

pub(crate) async fn try_open(cluster: &Cluster, dsn: &str) -> Result<Session, ConnectFailure> {
    Session::open(&options(cluster, dsn), LIMIT, &TlsCache::default()).await
}

pub(crate) async fn open(cluster: &Cluster, dsn: &str) -> Session {
    try_open(cluster, dsn).await.unwrap()
}

/// A session of the administrator, through the socket.
pub(crate) async fn admin(cluster: &Cluster) -> Session {
    open(cluster, &cluster.dsn("postgres")).await
}

/// What psql prints for a query; its complaint when it cannot connect or ask.
pub(crate) async fn psql(cluster: &Cluster, dsn: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new(PSQL);
    command.env_clear().env("HOME", home(cluster)).args(["-XAtw", "-v", "ON_ERROR_STOP=1", "-c", sql]);
    command.args(["-d", &format!("dbname=postgres {dsn}")]);
    let ended = run(command).await;
    if ended.code == 0 { Ok(ended.stdout.trim().to_owned()) } else { Err(ended.stderr.trim().to_owned()) }
}

/// Asks with limits that do not matter.
pub(crate) async fn ask(session: &mut Session, sql: &str) -> RowSet {
    session.query(sql, LIMIT, LIMIT).await.unwrap()
}

/// The first value of the answer.
pub(crate) async fn value(session: &mut Session, sql: &str) -> String {
    ask(session, sql).await.value(0, 0).unwrap_or("NULL").to_owned()
}
