//! The server's log: roles of every kind are watched with, and it says no more than that they connected.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgvitals::agent::{Agent, Outcome, Reading, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};
use pgvitals::server::{ConnectOptions, Environment};
use tokio::process::Command;

use crate::majors;
use crate::pair::{read_in_full, read_until, until_true};

/// One for what is asked of the server, and one for the walk, which finds one database here.
const CONNECTIONS: usize = 2 * ROLES.len();

/// The roles, and what is said to make each of them. All names begin as in [`noise`].
const ROLES: &[(&str, &[&str])] = &[
    ("pgvitals_monitor", &["GRANT pg_monitor TO pgvitals_monitor"]),
    ("pgvitals_nothing", &[]),
    ("pgvitals_stats", &["GRANT pg_read_all_stats TO pgvitals_stats"]),
    ("pgvitals_settings", &["GRANT pg_read_all_settings TO pgvitals_settings"]),
    ("pgvitals_heir", &["ALTER ROLE pgvitals_heir NOINHERIT", "GRANT pg_monitor TO pgvitals_heir"]),
    (
        "pgvitals_hat",
        &[
            "CREATE ROLE hat",
            "GRANT pg_monitor TO hat",
            "GRANT hat TO pgvitals_hat",
            "ALTER ROLE pgvitals_hat SET role = hat",
        ],
    ),
    (
        "pgvitals_set",
        &[
            "GRANT pg_monitor TO pgvitals_set",
            "ALTER ROLE pgvitals_set SET default_transaction_read_only = on",
            "ALTER ROLE pgvitals_set SET statement_timeout = 500",
            "ALTER ROLE pgvitals_set SET search_path = public, pg_catalog",
            "ALTER ROLE pgvitals_set SET standard_conforming_strings = off",
            "ALTER ROLE pgvitals_set SET extra_float_digits = -15",
            "ALTER ROLE pgvitals_set SET quote_all_identifiers = on",
            "ALTER ROLE pgvitals_set SET datestyle = 'German'",
        ],
    ),
];

/// A primary that tells who did what, with all roles and a database with settings of its own.
async fn start(binaries: &Binaries) -> Cluster {
    let conf = [
        "log_connections = on",
        "log_disconnections = on",
        "log_line_prefix = '%u as %a: '",
        "wal_level = logical",
        "archive_mode = on",
        "archive_command = 'true'",
    ];
    let settings = Settings { conf: conf.map(str::to_owned).to_vec(), ..Settings::default() };
    let primary = Cluster::start(binaries, settings).await.unwrap();
    let ask = async |statement: &str| drop(primary.sql("postgres", statement).await.unwrap());
    for (role, statements) in ROLES {
        ask(&format!("CREATE ROLE {role} LOGIN")).await;
        for statement in *statements {
            ask(statement).await;
        }
    }
    if binaries.major >= 14 {
        // Time enough for a busy machine to say that it does not hold, and less than the pauses between readings.
        ask("ALTER ROLE pgvitals_set SET idle_session_timeout = '1s'").await;
    }
    ask("CREATE DATABASE closed").await;
    ask("REVOKE CONNECT ON DATABASE closed FROM public").await;
    ask("CREATE SCHEMA monitoring").await;
    ask("CREATE EXTENSION pg_stat_statements SCHEMA monitoring").await;
    ask("GRANT USAGE ON SCHEMA monitoring TO pgvitals_monitor").await;
    ask("ALTER DATABASE postgres SET default_transaction_isolation = serializable").await;
    ask("ALTER DATABASE postgres SET search_path = public").await;
    primary
}

fn agent_as(role: &str, clusters: &[&Cluster]) -> Agent {
    let agent = Agent::new(Arc::new(Catalog::built_in().unwrap()), None, Arc::default());
    for cluster in clusters {
        let (host, port) = (cluster.socket_dir(), cluster.port());
        let dsn = format!("host={} port={port} user={role} dbname=postgres", host.display());
        let options = ConnectOptions::parse(&dsn, &Environment::new(|_| None)).unwrap();
        assert!(agent.watch(cluster.name(), options, None));
    }
    agent
}

/// What the log says of our roles' sessions and of their end, and how often they connected.
fn noise(cluster: &Cluster) -> (Vec<String>, usize) {
    let log = cluster.log();
    let ours = log.lines().filter(|line| line.starts_with("pgvitals") || line.contains(" as pgvitals: "));
    let is_connection = |line: &&str| {
        ["connection received", "connection authenticated", "connection authorized", "disconnection"]
            .iter()
            .any(|kind| line.contains(&format!("LOG:  {kind}")))
            || line.contains("DETAIL:  Connection matched")
    };
    let connects = ours.clone().filter(|line| line.contains("connection authorized")).count();
    (ours.filter(|line| !is_connection(line)).map(str::to_owned).collect(), connects)
}

/// Everybody may know whether it is up; nothing fails; and what a role may not see is absent and says what to grant.
fn assert_honest(role: &str, reading: &Reading) {
    for server in &reading.servers {
        assert!(server.state.is_ok(), "{role}: {server:?}");
    }
    for report in &reading.reports {
        assert!(!matches!(report.outcome, Outcome::Failed { .. }), "{role}: {report:?}");
    }
    let sees = |family: &str| reading.snapshot.find(family).is_some();
    assert!(sees("pg_stat_database_xact_commit") && sees("pg_settings_max_connections"), "{role}");
    let stats = !["pgvitals_nothing", "pgvitals_settings", "pgvitals_heir"].contains(&role);
    let settings = !["pgvitals_nothing", "pgvitals_stats", "pgvitals_heir"].contains(&role);
    assert_eq!(sees("pg_stat_activity_count"), stats, "{role}");
    assert_eq!(sees("pg_settings_pending_restart"), settings, "{role}");
    assert_eq!(sees("pg_wal_segments"), stats && settings, "{role}");
    assert_eq!(sees("pg_replication_is_replica"), stats && settings, "{role}");
    // Its schema is open for this role alone.
    assert_eq!(sees("pg_stat_statements_calls_total"), role == "pgvitals_monitor", "{role}");
}

#[tokio::test]
async fn no_role_leaves_more_than_its_connection_in_the_log() {
    majors::each(|binaries| async move {
        let primary = start(&binaries).await;
        for (role, _) in ROLES {
            assert_honest(role, &read_in_full(&agent_as(role, &[&primary])).await);
        }
        assert_eq!(noise(&primary), (Vec::new(), CONNECTIONS), "PostgreSQL {}", binaries.major);
    })
    .await;
}

#[tokio::test]
async fn who_is_not_let_in_does_not_knock_at_every_reading() {
    let server = Cluster::start(&majors::newest(), Settings::default()).await.unwrap();
    let sql = async |statement: &str| drop(server.sql("postgres", statement).await.unwrap());
    sql("CREATE ROLE pgvitals_out LOGIN").await;
    sql("REVOKE CONNECT ON DATABASE postgres FROM public").await;
    let agent = agent_as("pgvitals_out", &[&server]);
    let started = Instant::now();
    for _ in 0..20 {
        let reading = agent.read(&Want::default()).await;
        assert!(matches!(reading.servers[0].state, Err(("permission", _))), "{:?}", reading.servers);
    }
    let knocks = server.log().matches("FATAL:  permission denied for database").count();
    assert!(
        knocks <= 1 + usize::try_from(started.elapsed().as_secs() / 10).unwrap(),
        "{knocks} in {:?}",
        started.elapsed()
    );
    sql("GRANT CONNECT ON DATABASE postgres TO pgvitals_out").await;
    let reading = read_until(&agent, |reading| reading.servers[0].state.is_ok()).await;
    assert!(reading.servers[0].state.is_ok(), "{:?}", reading.servers);
}

#[tokio::test]
async fn many_readings_of_a_primary_a_standby_and_a_backup_leave_one_connection_each_in_the_log() {
    // Debian has a pg_basebackup for servers up to 15.
    majors::on([10, 15, 17], |binaries| async move {
        let primary = start(&binaries).await;
        primary.sql("postgres", "SELECT pg_create_logical_replication_slot('decoded', 'pgoutput')").await.unwrap();
        let slot = Some("standby".to_owned());
        let conf = vec!["hot_standby_feedback = on".to_owned()];
        let standby = primary.standby(Standby { slot, conf, ..Standby::from("standby") }).await.unwrap();
        if binaries.major >= 16 {
            // It waits until the primary has written what transactions run.
            let snapshots = async {
                loop {
                    primary.sql("postgres", "SELECT pg_log_standby_snapshot()").await.unwrap();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let slot = standby.sql("template1", "SELECT pg_create_logical_replication_slot('decoded', 'pgoutput')");
            tokio::select! {
                () = snapshots => {}
                slot = slot => drop(slot.unwrap()),
            }
        }
        let target = tempfile::tempdir().unwrap();
        let backup = (binaries.major <= 15).then(|| {
            Command::new("/usr/lib/postgresql/15/bin/pg_basebackup")
                .args(["-U", "postgres", "-X", "none", "--max-rate=32k", "--checkpoint=fast", "--no-sync", "-h"])
                .arg(primary.socket_dir())
                .args(["-p", &primary.port().to_string(), "-D"])
                .arg(target.path().join("copy"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        });
        if backup.is_some() {
            until_true(&primary, "SELECT count(*) > 0 FROM pg_stat_replication WHERE state = 'backup'").await;
        }
        let began = Instant::now();
        let agents: Vec<_> = ROLES.iter().map(|(role, _)| (role, agent_as(role, &[&primary, &standby]))).collect();
        for _ in 0..4 {
            for (role, agent) in &agents {
                assert_honest(role, &read_in_full(agent).await);
            }
            // Longer than most facts stay fresh, and than the server's patience with idle sessions.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        drop(backup);
        // The walk is made again after a minute, which a busy machine may take for this.
        let minutes = usize::try_from(began.elapsed().as_secs() / 60).unwrap();
        for server in [&primary, &standby] {
            let (lines, connections) = noise(server);
            assert_eq!(lines, [""; 0], "{} {}", server.name(), binaries.major);
            let most = CONNECTIONS + minutes * ROLES.len();
            assert!((CONNECTIONS..=most).contains(&connections), "{} {}", server.name(), binaries.major);
        }
    })
    .await;
}
