use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby, clean_left_over};

use crate::majors;

/// A folder for clusters that their own user can get to as well.
fn parent() -> tempfile::TempDir {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    parent
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Whether any process was started with this folder.
fn is_served(data: &Path) -> bool {
    let data = data.to_str().unwrap();
    procfs::process::all_processes()
        .unwrap()
        .flatten()
        .any(|it| it.cmdline().unwrap_or_default().iter().any(|word| word == data))
}

async fn one_value(cluster: &Cluster, sql: &str) -> String {
    cluster.sql("postgres", sql).await.unwrap().concat().pop().flatten().unwrap()
}

/// Asks until the answer is the expected one.
async fn comes_true(cluster: &Cluster, sql: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !matches!(cluster.sql("postgres", sql).await, Ok(rows) if rows.concat() == [Some("t".to_owned())]) {
        assert!(Instant::now() < deadline, "{sql} stays false; log: {}", cluster.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_cluster_lives_through_everything_until_it_is_dropped() {
    majors::each(|binaries| async move {
        let parent = parent();
        let settings = Settings {
            name: "it's one".to_owned(),
            conf: vec!["work_mem = '3MB'".to_owned()],
            hba: vec!["host all nobody 127.0.0.1/32 reject".to_owned()],
            encoding: "LATIN1".to_owned(),
            tcp: true,
            parent: parent.path().to_owned(),
            ..Settings::default()
        };
        let mut cluster = Cluster::start(&binaries, settings).await.unwrap();
        let (data, first_pid) = (cluster.data(), cluster.pid().unwrap());
        assert_eq!(one_value(&cluster, "SHOW cluster_name").await, "it's one");
        assert_eq!(one_value(&cluster, "SHOW work_mem").await, "3MB");
        assert_eq!(one_value(&cluster, "SHOW server_encoding").await, "LATIN1");
        assert_eq!(one_value(&cluster, "SHOW shared_preload_libraries").await, "pg_stat_statements");
        assert!(one_value(&cluster, "SHOW server_version").await.starts_with(&binaries.major.to_string()));
        assert_eq!(cluster.sql("postgres", "SELECT 1, NULL").await.unwrap(), [[Some("1".to_owned()), None]]);
        for (dsn, can_connect) in [
            (cluster.dsn("postgres"), true),
            (cluster.tcp_dsn("postgres"), true),
            (cluster.tcp_dsn("postgres").replace("user=postgres", "user=nobody"), false),
        ] {
            assert_eq!(tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await.is_ok(), can_connect, "{dsn}");
        }

        cluster.freeze().await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(100), cluster.client("postgres")).await;
        assert!(answer.is_err(), "a frozen server answers");
        cluster.thaw();
        cluster.sql("postgres", "CREATE TABLE kept AS SELECT 1").await.unwrap();
        cluster.restart().await.unwrap();
        assert_ne!(cluster.pid(), Some(first_pid));
        cluster.kill_hard();
        assert!(cluster.sql("postgres", "SELECT 1").await.is_err());
        cluster.start_again().await.unwrap();
        assert!(cluster.log().contains("not properly shut down"), "{}", cluster.log());
        assert_eq!(one_value(&cluster, "SELECT count(*) FROM kept").await, "1");

        // Nothing is harder to end than what does not hear.
        cluster.freeze().await.unwrap();
        drop(cluster);
        assert!(!is_served(&data));
        assert!(is_empty(parent.path()));
    })
    .await;
}

#[tokio::test]
async fn a_standby_follows_a_busy_primary_and_takes_over() {
    majors::each(|binaries| async move {
        let primary = Cluster::start(&binaries, Settings::default()).await.unwrap();
        primary.sql("postgres", "CREATE TABLE rows AS SELECT g FROM generate_series(1, 1000) g").await.unwrap();
        let busy = primary.client("postgres").await.unwrap();
        let load = tokio::spawn(async move {
            loop {
                let churn = "INSERT INTO rows SELECT g FROM generate_series(1, 1000) g; CREATE TEMP TABLE gone (); DROP TABLE gone";
                if busy.batch_execute(churn).await.is_err() {
                    return;
                }
            }
        });
        let standby = primary.standby(Standby { slot: Some("kept".to_owned()), ..Standby::from("b") }).await.unwrap();
        let cascade = standby.standby("c").await.unwrap();
        load.abort();

        let sees = "SELECT string_agg(application_name || ' ' || state, ',') FROM pg_stat_replication";
        assert_eq!(one_value(&primary, sees).await, "b streaming");
        assert_eq!(one_value(&standby, sees).await, "c streaming");
        let slots = "SELECT string_agg(slot_name, ',') FROM pg_replication_slots WHERE active";
        assert_eq!(one_value(&primary, slots).await, "kept");
        assert_eq!(one_value(&standby, "SELECT pg_is_in_recovery()").await, "t");
        let count = one_value(&primary, "SELECT count(*) FROM rows").await;
        for copy in [&standby, &cascade] {
            comes_true(copy, &format!("SELECT count(*) >= {count} FROM rows")).await;
        }

        standby.promote().await.unwrap();
        standby.sql("postgres", "CREATE TABLE after_promotion AS SELECT 1").await.unwrap();
        comes_true(&cascade, "SELECT to_regclass('after_promotion') IS NOT NULL").await;
    })
    .await;
}

#[tokio::test]
async fn a_panic_leaves_nothing_behind() {
    let parent = parent();
    let settings = Settings { parent: parent.path().to_owned(), ..Settings::default() };
    let cluster = Cluster::start(&Binaries::major(18).unwrap(), settings).await.unwrap();
    let data = cluster.data();
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(move || {
        assert_eq!(cluster.major(), 0, "this panic is wanted");
    }));
    assert!(panicked.is_err());
    assert!(!is_served(&data));
    assert!(is_empty(parent.path()));
}

#[tokio::test]
async fn what_keeps_a_server_from_starting_is_told() {
    let settings = Settings { conf: vec!["work_mem = 'plenty'".to_owned()], ..Settings::default() };
    let error = Cluster::start(&Binaries::major(17).unwrap(), settings).await.unwrap_err().to_string();
    assert!(error.contains("invalid value for parameter \"work_mem\""), "{error}");
    let error = Binaries::major(9).unwrap_err().to_string();
    assert!(error.contains("no PostgreSQL 9 here") && error.contains("tests/setup"), "{error}");
}

/// Set for the child process that this test kills.
const OWNER: &str = "PGVITALS_TEST_OWNED_FOLDER";

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the other half of the test waits for this line")]
async fn what_a_killed_owner_leaves_is_cleaned_up() {
    if let Some(parent) = std::env::var_os(OWNER) {
        let settings = Settings { parent: PathBuf::from(parent), ..Settings::default() };
        let cluster = Cluster::start(&Binaries::major(18).unwrap(), settings).await.unwrap();
        cluster.freeze().await.unwrap();
        eprintln!("frozen {}", cluster.data().display());
        return std::future::pending().await;
    }
    let parent = parent();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::what_a_killed_owner_leaves_is_cleaned_up", "--nocapture"])
        .env(OWNER, parent.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(owner.stderr.take().unwrap()).lines().map_while(Result::ok);
    let data = said.find_map(|line| line.strip_prefix("frozen ").map(PathBuf::from)).unwrap();

    assert_eq!(clean_left_over(parent.path()), Vec::<PathBuf>::new(), "its owner lives");
    assert!(is_served(&data));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(clean_left_over(parent.path()), [data.parent().unwrap()]);
    assert!(!is_served(&data));
    assert!(is_empty(parent.path()));
}
