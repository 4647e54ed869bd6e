//! A primary with a streaming standby on which everything that can be seen has been provoked, and agents to watch them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgvitals::agent::{Agent, Reading, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};
use pgvitals::server::{ConnectOptions, Environment};
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// The role of every agent in these tests: LOGIN and `pg_monitor`, nothing else.
pub(crate) const ROLE: &str = "pgvitals";

/// How long something that takes a moment may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Two clusters and the sessions that keep something to see.
pub(crate) struct Pair {
    pub(crate) primary: Cluster,
    pub(crate) standby: Cluster,
    _held: Vec<Client>,
    _busy: JoinSet<()>,
}

impl Pair {
    pub(crate) async fn start(binaries: &Binaries) -> Self {
        let primary = Cluster::start(binaries, settings(binaries)).await.unwrap();
        prepare(&primary).await;
        for statement in [
            "CREATE TABLE seen (id int PRIMARY KEY)",
            "CREATE TABLE beats (at timestamptz)",
            "CREATE TABLE wide WITH (autovacuum_enabled = false) AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)",
            "CREATE TABLE worn WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, \
                autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0) AS SELECT 1 AS id",
            "DELETE FROM worn",
            "SELECT * FROM seen",
            "SET enable_seqscan = off; SELECT * FROM seen WHERE id = 1",
            "VACUUM ANALYZE seen",
            // Before any transaction stays open: it waits for the end of all.
            "SELECT pg_create_logical_replication_slot('decoded', 'pgoutput')",
        ] {
            primary.sql("postgres", statement).await.unwrap();
        }
        let standby = Standby {
            slot: Some("standby".to_owned()),
            conf: vec!["hot_standby_feedback = on".to_owned(), "wal_receiver_status_interval = 1s".to_owned()],
            ..Standby::from("standby")
        };
        let standby = primary.standby(standby).await.unwrap();
        for statement in
            ["BEGIN; INSERT INTO seen VALUES (1); PREPARE TRANSACTION 'forgotten'", "SELECT pg_switch_wal()"]
        {
            primary.sql("postgres", statement).await.unwrap();
        }
        // What is read of the archiver stays fresh for a while, so that it has to be there from the beginning.
        until_true(&primary, "SELECT last_archived_time > last_failed_time FROM pg_stat_archiver").await;
        let vacuumed = "count(last_vacuum) > 0 AND count(last_autovacuum) > 0 AND count(last_autoanalyze) > 0";
        until_true(&primary, &format!("SELECT {vacuumed} FROM pg_stat_user_tables")).await;
        let idle = primary.client("postgres").await.unwrap();
        idle.batch_execute("BEGIN; SELECT txid_current()").await.unwrap();
        let mut busy = JoinSet::new();
        for (cluster, statements) in [
            (&primary, &["INSERT INTO seen VALUES (1)"] as &[&str]),
            (&primary, &["SET vacuum_cost_delay = 100", "SET vacuum_cost_limit = 1", "VACUUM wide"]),
            (&standby, &["SELECT pg_sleep(3600)"]),
        ] {
            let session = cluster.client("postgres").await.unwrap();
            busy.spawn(async move {
                // The last one waits for a lock, for the vacuum's limit, for time: none ends before its cluster.
                for statement in statements {
                    let _ = session.batch_execute(statement).await;
                }
            });
        }
        // The primary measures lag only while there is something to replay.
        let session = primary.client("postgres").await.unwrap();
        busy.spawn(async move {
            while session.batch_execute("INSERT INTO beats VALUES (now())").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { primary, standby, _held: vec![idle], _busy: busy }
    }
}

fn settings(binaries: &Binaries) -> Settings {
    let mut conf = vec![
        "archive_mode = on",
        "autovacuum_naptime = 1s",
        // The first attempt fails, as the time of a failure is to be seen too.
        "archive_command = 'test -e tried || { touch tried; false; }'",
        "max_prepared_transactions = 5",
        "pg_stat_statements.track_planning = on",
        "track_io_timing = on",
        "wal_level = logical",
    ];
    if binaries.major >= 18 {
        conf.push("track_cost_delay_timing = on");
    }
    let conf = conf.into_iter().map(str::to_owned).collect();
    Settings { name: "primary".to_owned(), conf, ..Settings::default() }
}

/// Asks a cluster until the answer is yes.
pub(crate) async fn until_true(cluster: &Cluster, sql: &str) {
    let deadline = Instant::now() + PATIENCE;
    while cluster.sql("postgres", sql).await.unwrap().concat() != [Some("t".to_owned())] {
        assert!(Instant::now() < deadline, "{sql} stays false; log: {}", cluster.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
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
