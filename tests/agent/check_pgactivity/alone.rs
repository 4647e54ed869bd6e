//! What is ours alone: formats that Perl cannot read, names that hurt, a server that hangs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use serde_json::Value;
use tokio::process::Command;

use crate::command::{Ended, run};
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
