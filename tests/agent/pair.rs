//! A primary with a streaming standby on which everything that can be seen has been provoked, and agents to watch them.

use std::sync::Arc;

use pgvitals::agent::{Agent, Reading, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};
use pgvitals::server::{ConnectOptions, Environment};
use tokio_postgres::Client;

/// The role of every agent in these tests: LOGIN and `pg_monitor`, nothing else.
pub(crate) const ROLE: &str = "pgvitals";

/// Two clusters and the sessions that keep something to see.
pub(crate) struct Pair {
    pub(crate) primary: Cluster,
    pub(crate) standby: Cluster,
    _held: Vec<Client>,
}

impl Pair {
    pub(crate) async fn start(binaries: &Binaries) -> Self {
        let conf = ["archive_mode = on", "archive_command = '/bin/true'", "max_prepared_transactions = 5"];
        let settings =
            Settings { name: "primary".to_owned(), conf: conf.map(str::to_owned).to_vec(), ..Settings::default() };
        let primary = Cluster::start(binaries, settings).await.unwrap();
        prepare(&primary).await;
        let standby = Standby { slot: Some("standby".to_owned()), ..Standby::from("standby") };
        let standby = primary.standby(standby).await.unwrap();
        for statement in [
            "CREATE TABLE seen (id int PRIMARY KEY)",
            "BEGIN; INSERT INTO seen VALUES (1); PREPARE TRANSACTION 'forgotten'",
            "SELECT pg_switch_wal()",
        ] {
            primary.sql("postgres", statement).await.unwrap();
        }
        let idle = primary.client("postgres").await.unwrap();
        idle.batch_execute("BEGIN; SELECT txid_current()").await.unwrap();
        Self { primary, standby, _held: vec![idle] }
    }
}

/// Makes the agent's role and the extension it reads.
pub(crate) async fn prepare(cluster: &Cluster) {
    for statement in [
        format!("CREATE ROLE {ROLE} LOGIN"),
        format!("GRANT pg_monitor TO {ROLE}"),
        "CREATE EXTENSION IF NOT EXISTS pg_stat_statements".to_owned(),
    ] {
        cluster.sql("postgres", &statement).await.unwrap();
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

/// Reads until what is read is as expected, or gives the last reading after half a minute.
pub(crate) async fn read_until(agent: &Agent, mut expected: impl FnMut(&Reading) -> bool) -> Reading {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let reading = agent.read(&Want::default()).await;
        if expected(&reading) || tokio::time::Instant::now() > deadline {
            return reading;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
