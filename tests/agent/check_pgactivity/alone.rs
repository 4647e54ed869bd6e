//! What is ours alone: formats that Perl cannot read, names that hurt, a server that hangs, servers that Debian has not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use serde_json::Value;
use tokio::process::Command;

use crate::command::{Ended, run};
use crate::majors;
use crate::pair::{self, until_true};
use crate::program::BINARY;

/// Runs a line beside a home of its own, with these variables.
async fn call(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command.env_clear().env("HOME", home).envs(variables.iter().copied()).current_dir(home);
    command.arg("check-pgactivity").args(arguments);
    run(command).await
}

async fn start() -> (Cluster, tempfile::TempDir) {
    let settings = Settings { tcp: true, ..Settings::default() };
    (Cluster::start(&Binaries::major(17).unwrap(), settings).await.unwrap(), tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn a_server_is_found_by_options_by_service_and_by_environment() {
    let (cluster, home) = start().await;
    let (port, home) = (cluster.port().to_string(), home.path());
    let service = format!("[one]\nhost=127.0.0.1\nport={port}\nuser=postgres\ndbname=template1\n");
    fs::write(home.join(".pg_service.conf"), service).unwrap();
    let elsewhere = [("PGHOST", "/nowhere"), ("PGPORT", "1")];
    let variables = [("PGHOST", "127.0.0.1"), ("PGPORT", port.as_str()), ("PGUSER", "postgres")];
    for (variables, arguments) in [
        (elsewhere.as_slice(), vec!["-S", "one"]),
        (&elsewhere, vec!["-h", "127.0.0.1", "-p", &port]),
        // The port alone is enough: the rest is the environment's.
        (&variables, vec!["-p", &port]),
        (&variables, vec![]),
    ] {
        let arguments = [["-s", "is_master"].as_slice(), &arguments].concat();
        let ended = call(home, variables, &arguments).await;
        assert_eq!(ended.stdout, "POSTGRES_IS_MASTER OK: Cluster is master", "{arguments:?}");
    }
    let ended = call(home, &elsewhere, &["-s", "hugepages", "-S", "one"]).await;
    let state = ended.stdout.split(" | ").nth(1);
    assert!(state.is_some_and(|state| state.starts_with("huge_page_status=")), "{ended:?}");
}

#[tokio::test]
async fn what_is_kept_and_written_for_programs_is_json() {
    let (cluster, home) = start().await;
    let (port, home) = (cluster.port().to_string(), home.path());
    let place = ["-h", "127.0.0.1", "-p", &port];
    let say = async |arguments: &[&str]| call(home, &[], &[place.as_slice(), arguments].concat()).await;
    let ended = say(&["-s", "settings"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "POSTGRES_SETTINGS OK: Setting saved"));
    let ended = say(&["-s", "settings"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "POSTGRES_SETTINGS OK: Setting OK"));
    let kept: Value = serde_json::from_str(&say(&["--dump-status-file"]).await.stdout).unwrap();
    assert!(kept[format!("127.0.0.1:{port}")]["settings"]["work_mem"].is_object(), "{kept}");
    // A program that has no folder of the original's keeps it at home.
    assert!(home.join(".local/state/pgvitals/check_pgactivity.data").is_file());

    let ended = say(&["-s", "backends", "-w", "1", "-c", "90%", "-F", "binary", "-o", "out"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    let out = home.join("out").display().to_string();
    let written: Value = serde_json::from_str(&say(&["--dump-bin-file", &out]).await.stdout).unwrap();
    assert_eq!((&written["backends"]["rc"], &written["backends"]["status"]), (&1.into(), &"WARNING".into()));
}

#[tokio::test]
async fn a_server_that_hangs_is_unknown_in_time() {
    let (cluster, home) = start().await;
    let port = cluster.port().to_string();
    cluster.freeze().await.unwrap();
    let arguments = ["-h", "127.0.0.1", "-p", &port, "-s", "backends", "-w", "1", "-c", "2", "-t", "1s"];
    let ended = tokio::time::timeout(Duration::from_secs(30), call(home.path(), &[], &arguments)).await.unwrap();
    cluster.thaw();
    assert_eq!((ended.code, ended.stdout.lines().next()), (3, Some("CHECK_PGACTIVITY UNKNOWN: Query failed !")));
}

#[tokio::test]
async fn a_name_that_hurts_breaks_nothing() {
    let (cluster, home) = start().await;
    let port = cluster.port().to_string();
    let name = "a\n|'b=c ;d";
    cluster.sql("postgres", &format!("CREATE DATABASE \"{name}\"")).await.unwrap();
    let _session = cluster.client(name).await.unwrap();
    let arguments = ["-h", "127.0.0.1", "-p", &port, "-d", "postgres", "-s", "backends", "-w", "80%", "-c", "90%"];
    let ended = call(home.path(), &[], &arguments).await;
    let perfdata = ended.stdout.split_once(" | ").unwrap().1;
    assert!(perfdata.starts_with("'a__''b=c ;d'=1;"), "{ended:?}");
    assert_eq!((ended.code, ended.stdout.lines().count()), (0, 1));
}

/// Thresholds of every kind; each service takes one of them.
const THRESHOLDS: [&[&str]; 5] =
    [&[], &["-w", "80%", "-c", "90%"], &["-w", "1h", "-c", "2h"], &["-w", "10", "-c", "20"], &["-w", "2.10"]];

#[tokio::test]
async fn every_service_answers_on_the_oldest_primary_and_the_newest_standby() {
    majors::on([10, 18], |binaries| async move {
        let conf = vec!["max_prepared_transactions = 2".to_owned(), "wal_level = logical".to_owned()];
        let settings = Settings { conf, tcp: true, ..Settings::default() };
        let primary = Cluster::start(&binaries, settings).await.unwrap();
        pair::prepare(&primary).await;
        primary.sql("postgres", "CREATE DATABASE app").await.unwrap();
        let standby = if primary.major() == 10 { None } else { Some(primary.standby("standby").await.unwrap()) };
        let port = standby.as_ref().unwrap_or(&primary).port().to_string();
        let home = tempfile::tempdir().unwrap();
        let list = call(home.path(), &[], &["-l"]).await.stdout;
        let services: Vec<&str> = list.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
        assert!(services.len() > 20, "{list}");
        for service in services {
            // These ask no server, several, or for more than thresholds.
            if matches!(
                service,
                "archive_folder" | "custom_query" | "hot_standby_delta" | "minor_version" | "pg_dump_backup"
            ) {
                continue;
            }
            // The package of this server has files of a newer one.
            if service == "extensions_versions" && primary.major() == 10 {
                continue;
            }
            let place = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", "postgres", "-s", service];
            let mut answered = None;
            for thresholds in THRESHOLDS {
                let ended = call(home.path(), &[], &[place.as_slice(), thresholds].concat()).await;
                let is_mistake = ended.code == 127;
                answered = Some(ended);
                if !is_mistake {
                    break;
                }
            }
            let ended = answered.unwrap();
            let answers = ended.stdout.starts_with("POSTGRES_") || ended.stdout.starts_with("PGACTIVITY_VERSION");
            let incompatible = ended.code == 1 && ended.stderr.contains("is not compatible with host");
            assert!(answers && ended.code <= 3 || incompatible, "{service} on {}: {ended:?}", primary.major());
        }
    })
    .await;
}

#[tokio::test]
async fn what_autovacuum_is_at_is_told() {
    let conf = vec!["autovacuum_naptime = 1s".to_owned()];
    let settings = Settings { conf, tcp: true, ..Settings::default() };
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), settings).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    for statement in [
        "CREATE TABLE slow WITH (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, \
           autovacuum_vacuum_threshold = 1, autovacuum_analyze_threshold = 1000000) AS \
         SELECT repeat('x', 1000) AS text FROM generate_series(1, 5000)",
        "DELETE FROM slow",
    ] {
        cluster.sql("postgres", statement).await.unwrap();
    }
    let vacuums = "SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'autovacuum: VACUUM public.slow'";
    until_true(&cluster, vacuums).await;
    let port = cluster.port().to_string();
    let ended = call(home.path(), &[], &["-h", "127.0.0.1", "-p", &port, "-s", "autovacuum"]).await;
    let (line, long) = ended.stdout.split_once('\n').unwrap();
    // Others may be at work on catalogs.
    assert!(line.starts_with("POSTGRES_AUTOVACUUM OK: Number of autovacuum: "), "{ended:?}");
    assert!(line.contains(", Oldest autovacuum: ") && line.contains(" | VACUUM="), "{ended:?}");
    assert!(line.ends_with(" max_workers=3") && !line.contains("oldest_autovacuum=NaN"), "{ended:?}");
    assert!(long.contains("VACUUM public.slow"), "{ended:?}");
}

/// A check a minute would look like an application whose connections break and whose transactions fail.
#[tokio::test]
async fn a_check_counts_as_neither_abandoned_nor_rolled_back() {
    let (cluster, home) = start().await;
    let (port, home) = (cluster.port().to_string(), home.path());
    cluster.sql("postgres", "CREATE DATABASE watched").await.unwrap();
    let place = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", "watched"];
    for service in [["-s", "is_master"].as_slice(), &["-s", "locks", "-w", "80%", "-c", "90%"]] {
        let ended = call(home, &[], &[place.as_slice(), service].concat()).await;
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    // What a session did is counted before it is gone.
    until_true(&cluster, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'watched'").await;
    let counted = "SELECT sessions, sessions_abandoned, xact_rollback FROM pg_stat_database WHERE datname = 'watched'";
    let counted: Vec<String> = cluster.sql("postgres", counted).await.unwrap().concat().into_iter().flatten().collect();
    assert_eq!(counted, ["2", "0", "0"]);
}
