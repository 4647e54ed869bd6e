//! A primary with a streaming standby on which everything that can be seen has been provoked, and agents to watch them.
//!
//! What it takes to see the facts of one subject is a file beside this one: `conf` before the primary starts, `prepare` while
//! no transaction is open, `provoke` once the standby streams.

mod objects;
mod sessions;
mod statements;
mod storage;
mod streams;

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgvitals::agent::{Agent, Outcome, Reading, Report, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};
use pgvitals::server::{ConnectOptions, Environment};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::client::PSQL;

/// The role of every agent in these tests: LOGIN, `pg_monitor`, and what [`grant_optional`] grants.
pub(crate) const ROLE: &str = "pgvitals";

/// How long something that takes a moment may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Two clusters and the sessions that keep something to see.
pub(crate) struct Pair {
    pub(crate) primary: Cluster,
    pub(crate) standby: Cluster,
    _kept: Kept,
}

/// What goes on as long as a pair is there, so that there is something to see.
#[derive(Default)]
pub(crate) struct Kept {
    clients: Vec<Client>,
    clusters: Vec<Cluster>,
    busy: JoinSet<()>,
    psqls: Vec<Child>,
}

impl Kept {
    /// Keeps a session as these statements leave it.
    async fn hold(&mut self, cluster: &Cluster, statements: &str) {
        let client = cluster.client("postgres").await.unwrap();
        client.batch_execute(statements).await.unwrap();
        self.clients.push(client);
    }

    /// Runs these statements one after the other in a session of their own; the last may last for ever.
    async fn run(&mut self, cluster: &Cluster, statements: &'static [&'static str]) {
        let session = cluster.client("postgres").await.unwrap();
        self.busy.spawn(async move {
            for statement in statements {
                let _ = session.batch_execute(statement).await;
            }
        });
    }

    /// Has psql run a command, for what a plain session cannot do: TLS, a COPY whose rows never come, a base backup.
    fn psql(&mut self, dsn: &str, command: &str) {
        let mut psql = Command::new(PSQL);
        psql.env_clear().args(["-X", "-c", command, dsn]);
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        self.psqls.push(psql.spawn().unwrap());
    }

    /// Repeats a statement ten times a second.
    async fn repeat(&mut self, cluster: &Cluster, statement: &'static str) {
        let session = cluster.client("postgres").await.unwrap();
        self.busy.spawn(async move {
            while session.batch_execute(statement).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
}

impl Pair {
    pub(crate) async fn start(binaries: &Binaries) -> Self {
        let primary = Cluster::start(binaries, settings(binaries)).await.unwrap();
        prepare(&primary).await;
        primary.sql("postgres", "CREATE TABLE seen (id int PRIMARY KEY)").await.unwrap();
        storage::prepare(&primary).await;
        sessions::prepare(&primary).await;
        objects::prepare(&primary).await;
        streams::prepare(&primary).await;
        let standby = Standby {
            slot: Some(streams::SLOT.to_owned()),
            conf: vec!["hot_standby_feedback = on".to_owned(), "wal_receiver_status_interval = 1s".to_owned()],
            ..Standby::from("standby")
        };
        let standby = primary.standby(standby).await.unwrap();
        let mut kept = Kept::default();
        storage::provoke(&primary, &standby, &mut kept).await;
        streams::provoke(&primary, &standby, &mut kept).await;
        sessions::provoke(&primary, &standby, &mut kept).await;
        objects::provoke(&standby).await;
        statements::provoke(&primary, &standby).await;
        Self { primary, standby, _kept: kept }
    }
}

fn settings(binaries: &Binaries) -> Settings {
    let conf = ["autovacuum_naptime = 1s"]
        .into_iter()
        .chain(storage::conf(binaries.major))
        .chain(objects::conf())
        .chain(sessions::conf(binaries.major))
        .chain(streams::conf(binaries.major))
        .chain(statements::conf())
        .map(str::to_owned)
        .collect();
    let initdb = vec!["--data-checksums".to_owned()];
    Settings { name: "primary".to_owned(), conf, initdb, tcp: true, ..Settings::default() }
}

/// A vacuum of this table that takes longer than any test, once it has begun; it ends with its cluster.
pub(crate) async fn vacuum_slowly(cluster: &Cluster, table: &str) -> JoinSet<()> {
    let vacuuming = cluster.client("postgres").await.unwrap();
    vacuuming.batch_execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1").await.unwrap();
    let statement = format!("VACUUM {table}");
    let mut vacuum = JoinSet::new();
    vacuum.spawn(async move { drop(vacuuming.batch_execute(&statement).await) });
    until_true(cluster, "SELECT count(*) = 1 FROM pg_stat_progress_vacuum").await;
    vacuum
}

/// Asks a cluster until the answer is yes.
pub(crate) async fn until_true(cluster: &Cluster, sql: &str) {
    until_true_in(cluster, "postgres", sql).await;
}

/// Asks in one database of a cluster until the answer is yes.
pub(crate) async fn until_true_in(cluster: &Cluster, dbname: &str, sql: &str) {
    let deadline = Instant::now() + PATIENCE;
    while cluster.sql(dbname, sql).await.unwrap().concat() != [Some("t".to_owned())] {
        assert!(Instant::now() < deadline, "{sql} stays false; log: {}", cluster.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes the agent's role and the extensions it reads.
pub(crate) async fn prepare(cluster: &Cluster) {
    for statement in [
        format!("CREATE ROLE {ROLE} LOGIN"),
        format!("GRANT pg_monitor TO {ROLE}"),
        "CREATE EXTENSION IF NOT EXISTS pg_stat_statements".to_owned(),
        "CREATE EXTENSION IF NOT EXISTS pg_buffercache".to_owned(),
    ] {
        cluster.sql("postgres", &statement).await.unwrap();
    }
    grant_optional(cluster, ROLE).await;
}

/// A session of this role.
pub(crate) async fn session(cluster: &Cluster, role: &str, database: &str) -> Client {
    let dsn = cluster.dsn(database).replace("user=postgres", &format!("user={role}"));
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Grants what `pg_monitor` has not: to see the lines of configuration files, and origins of replication.
pub(crate) async fn grant_optional(cluster: &Cluster, role: &str) {
    for (since, function) in [
        (10, "pg_show_all_file_settings"),
        (10, "pg_hba_file_rules"),
        (14, "pg_show_replication_origin_status"),
        (15, "pg_ident_file_mappings"),
    ] {
        if cluster.major() >= since {
            let grant = format!("GRANT EXECUTE ON FUNCTION {function}() TO {role}");
            cluster.sql("postgres", &grant).await.unwrap();
        }
    }
}

/// How an agent reaches a cluster.
pub(crate) fn options(cluster: &Cluster) -> ConnectOptions {
    let dsn = format!("host={} port={} user={ROLE} dbname=postgres", cluster.socket_dir().display(), cluster.port());
    ConnectOptions::parse(&dsn, &Environment::new(|_| None)).unwrap()
}

/// An agent that watches these clusters under their own names, without the host.
pub(crate) fn agent(clusters: &[&Cluster]) -> Agent {
    let agent = Agent::new(Arc::new(Catalog::built_in().unwrap()), None, Arc::default());
    for cluster in clusters {
        assert!(agent.watch(cluster.name(), options(cluster), None));
    }
    agent
}

/// Reads in full, after a sample was taken of every server.
pub(crate) async fn read_sampled(agent: &Agent) -> Reading {
    agent.sample_every(Some(Duration::from_millis(100)));
    read_until(agent, |reading| {
        let mut taken = reading.snapshot.samples_of("pgvitals_samples_taken_total").peekable();
        taken.peek().is_some() && taken.all(|sample| sample.value >= 1.0)
    })
    .await;
    read_in_full(agent).await
}

/// Reads until what is read is as expected, or gives the last reading when patience ends.
pub(crate) async fn read_until(agent: &Agent, mut expected: impl FnMut(&Reading) -> bool) -> Reading {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reading = agent.read(&Want::default()).await;
        if expected(&reading) || Instant::now() > deadline {
            return reading;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A reading of everything, the walk over the databases included, for which nothing took too long: the machine may be busy.
pub(crate) async fn read_in_full(agent: &Agent) -> Reading {
    let all = Want { deadline: PATIENCE, patient: true, ..Want::default() };
    let late = |report: &Report| matches!(report.outcome, Outcome::Failed { class: "timeout" | "server_down", .. });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reading = agent.read(&all).await;
        if !reading.reports.iter().any(late) || Instant::now() > deadline {
            return reading;
        }
    }
}
