//! A fault for a rule: nothing is said before it is planted, and it is named afterwards, with who or what is behind it.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Cluster, Settings, Standby};
use tokio::process::Command;

use crate::client::PSQL;
use crate::command::{Ended, pgvitals};
use crate::majors::{self, TWO};
use crate::pair::{PATIENCE, ROLE, prepare, until_true};
use crate::program::{Program, watching};

/// A check with its arguments, what is done to the server, the exit code, and parts of what is said then.
type Fault = (&'static str, &'static [&'static str], i32, &'static [&'static str]);

const RELOAD: &str = "SELECT pg_reload_conf()";

async fn start(major_conf: &[&str], binaries: &pgvitals::demo::cluster::Binaries) -> Cluster {
    let conf = major_conf.iter().map(|&line| line.to_owned()).collect();
    let cluster = Cluster::start(binaries, Settings { conf, ..Settings::default() }).await.unwrap();
    prepare(&cluster).await;
    cluster
}

/// Whom `pgvitals check` asks.
struct Asked(Vec<String>);

impl Asked {
    /// The cluster itself.
    fn of(cluster: &Cluster) -> Self {
        let (folder, port) = (cluster.socket_dir().display().to_string(), cluster.port().to_string());
        Self(["-H", &folder, "-p", &port, "-U", ROLE, "-d", "postgres"].map(str::to_owned).to_vec())
    }

    /// The agent that watches it.
    fn by(program: &Program) -> Self {
        Self(vec!["--agent".to_owned(), format!("http://{}", program.address())])
    }

    async fn check(&self, asked: &str) -> Ended {
        let there = self.0.iter().map(String::as_str);
        let arguments: Vec<&str> = ["check"].into_iter().chain(asked.split(' ')).chain(there).collect();
        pgvitals(&arguments).await
    }

    /// Asks until the answer is this one: what a session has counted is told a moment later.
    async fn until(&self, asked: &str, code: i32, parts: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Ended { stdout, stderr, code: now } = self.check(asked).await;
            if now == code && parts.iter().all(|part| stdout.contains(part)) {
                break;
            }
            assert!(Instant::now() < deadline, "{asked}: expected {code} {parts:?}: {now} {stdout}{stderr}");
        }
    }
}

/// In this order, as later ones look at what earlier ones have made.
const FAULTS: &[Fault] = &[
    (
        "stale-statistics",
        &[
            "CREATE TABLE changed AS SELECT 1 AS id FROM generate_series(1, 20000)",
            "ANALYZE changed",
            "UPDATE changed SET id = 2",
        ],
        1,
        &[" of the rows of public.changed in postgres have changed since", "\npublic.changed in postgres: 20000 rows"],
    ),
    ("last-analyze -w 0s", &[], 1, &["\npublic.changed in postgres: analyzed "]),
    (
        "last-vacuum -w 0s",
        &["VACUUM changed", "UPDATE changed SET id = 3"],
        1,
        &["\npublic.changed in postgres: vacuumed ", " ago, 20000 dead rows"],
    ),
    ("dead-rows -w 100", &[], 1, &["\npublic.changed in postgres has 20000 dead and "]),
    ("tables-without-key -w 0", &[], 1, &["\npublic.changed in postgres has no primary key"]),
    (
        "disabled-triggers",
        &[
            "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER fires BEFORE INSERT ON changed FOR EACH ROW EXECUTE PROCEDURE fire()",
            "ALTER TABLE changed DISABLE TRIGGER fires",
        ],
        1,
        &["\nfires on changed in postgres"],
    ),
    (
        "invalid-indexes",
        &["CREATE UNIQUE INDEX CONCURRENTLY twice ON changed (id)"],
        1,
        &["\npublic.twice on changed in postgres is invalid"],
    ),
    (
        "unlogged-tables -w 0",
        &["CREATE UNLOGGED TABLE lost (id int)"],
        1,
        &["\npublic.lost of postgres in postgres is unlogged"],
    ),
    (
        "bloat -w 100kB",
        &[
            "CREATE TABLE holes AS SELECT g AS id, repeat('x', 100) AS text FROM generate_series(1, 20000) AS g",
            "CREATE INDEX holes_id ON holes (id)",
            "DELETE FROM holes WHERE id % 100 > 0",
            "VACUUM ANALYZE holes",
            "GRANT SELECT ON holes TO pgvitals",
        ],
        1,
        &[
            "\npublic.holes in postgres: ",
            " hold no rows",
            "\npublic.holes_id on holes in postgres: ",
            " hold no entries",
        ],
    ),
    ("unused-indexes -w 0B", &[], 1, &["\npublic.holes_id on holes in postgres takes "]),
    ("table-size -w 2MB", &[], 1, &["public.holes in postgres takes 2."]),
    ("indexes-size -w 400kB", &[], 1, &["the indexes of public.holes in postgres take 4"]),
    ("total-size -w 2500kB", &[], 1, &["public.holes in postgres takes ", " with its indexes"]),
    ("index-size -w 400kB", &[], 1, &["index public.holes_id in postgres takes 4"]),
    (
        "pending-restart",
        &["ALTER SYSTEM SET max_connections = 77", RELOAD],
        1,
        &["\nmax_connections was changed and waits for a restart"],
    ),
    (
        "configuration",
        &[
            "ALTER SYSTEM SET enable_seqscan = off",
            "ALTER SYSTEM SET fsync = off",
            "ALTER SYSTEM SET autovacuum = off",
            "ALTER SYSTEM SET track_counts = off",
            RELOAD,
        ],
        2,
        &[
            "CRITICAL: fsync is off",
            "CRITICAL: autovacuum is off",
            "CRITICAL: track_counts is off",
            "WARNING: planner settings that are off for everybody: 1",
            "\nenable_seqscan is off for everybody by configuration file",
        ],
    ),
];

/// What is there in any case, with a threshold that it does not keep.
const VALUES: &[(&str, i32, &[&str])] = &[
    ("version -w 990000:", 1, &["WARNING: PostgreSQL 1"]),
    ("uptime -w 1h:", 1, &["WARNING: started "]),
    ("settings-checksum -c 1:1", 2, &["CRITICAL: the parameters make the number "]),
    ("timeline -c 2:2", 2, &["CRITICAL: this server is on timeline 1"]),
    ("checkpoint-age -w 0s", 1, &["WARNING: the last checkpoint was "]),
    ("sessions -w 0", 1, &["\npostgres in postgres (cluster) has 1 sessions, 0 of them idle"]),
    ("long-query -w 0s", 1, &[": running for ", ": SELECT pg_sleep(?)"]),
    ("disk -w 0%", 1, &["\ndatabase postgres takes ", "\nWAL takes "]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_is_named_once_it_is_there() {
    majors::on(TWO, |binaries| async move {
        let cluster = start(&["fsync = on", "autovacuum_naptime = 1h"], &binaries).await;
        for (asked, statements, code, parts) in FAULTS {
            // Of what an earlier one has made there is no before.
            if !statements.is_empty() {
                let before = Asked::of(&cluster).check(asked).await;
                assert_eq!(before.code, 0, "{asked}: {}", before.stdout);
            }
            for statement in *statements {
                let done = cluster.sql("postgres", statement).await;
                // That is how such an index comes about.
                assert!(done.is_ok() || statement.contains("CONCURRENTLY"), "{statement}: {done:?}");
            }
            Asked::of(&cluster).until(asked, *code, parts).await;
        }
        let sleeper = cluster.client("postgres").await.unwrap();
        let sleeping = tokio::spawn(async move { sleeper.batch_execute("SELECT pg_sleep(3600)").await });
        for (asked, code, parts) in VALUES {
            Asked::of(&cluster).until(asked, *code, parts).await;
        }
        let (code, part) = if binaries.major < 17 { (0, "older than 17") } else { (2, "huge pages: 0") };
        Asked::of(&cluster).until("huge-pages -c 1:", code, &[part]).await;

        // A crash within the first seconds is not told from a slow start.
        until_true(&cluster, "SELECT now() - pg_postmaster_start_time() > interval '6 s'").await;
        let before = Asked::of(&cluster).check("uptime").await;
        assert!(
            before.code == 0 && before.stdout.contains("no process has crashed since the start"),
            "{}",
            before.stdout
        );
        let pid = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)'";
        let pid = cluster.sql("postgres", pid).await.unwrap().concat()[0].clone().unwrap();
        assert!(Command::new("kill").args(["-KILL", &pid]).status().await.unwrap().success());
        assert!(sleeping.await.unwrap().is_err());
        Asked::of(&cluster).until("uptime", 1, &["WARNING: a process crashed ", ", and every session was lost"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_does_not_end_and_an_archive_that_falls_behind_are_seen_on_old_servers_too() {
    majors::on(TWO, |binaries| async move {
        let conf = ["archive_mode = on", "archive_command = true", "max_wal_senders = 3"];
        let cluster = start(&conf, &binaries).await;
        for statement in ["CREATE TABLE filled (id int)", "SELECT pg_switch_wal()"] {
            cluster.sql("postgres", statement).await.unwrap();
        }
        until_true(&cluster, "SELECT archived_count > 0 FROM pg_stat_archiver").await;
        Asked::of(&cluster).until("archiver", 0, &["archiver_behind_files=0."]).await;
        cluster.sql("postgres", "ALTER SYSTEM SET archive_command = 'false'").await.unwrap();
        cluster.sql("postgres", RELOAD).await.unwrap();
        until_true(&cluster, "SELECT current_setting('archive_command') = 'false'").await;
        for _ in 0..12 {
            cluster.sql("postgres", "INSERT INTO filled VALUES (1)").await.unwrap();
            cluster.sql("postgres", "SELECT pg_switch_wal()").await.unwrap();
        }
        Asked::of(&cluster)
            .until(
                "archiver",
                1,
                &["WARNING: the archive is 1", " WAL files behind", "\nthe last that was archived is 00000001"],
            )
            .await;

        Asked::of(&cluster).until("backups -w 0s", 0, &["no base backup is running"]).await;
        let mut psql = Command::new(PSQL);
        let backup = match binaries.major {
            ..15 => "BASE_BACKUP LABEL 'b' FAST MAX_RATE 32",
            _ => "BASE_BACKUP (LABEL 'b', CHECKPOINT 'fast', MAX_RATE 32)",
        };
        let dsn = format!("{} replication=1 application_name=nightly", cluster.dsn("postgres"));
        psql.env_clear().args(["-X", "-c", backup, &dsn]).kill_on_drop(true);
        let _backup = psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let parts = ["WARNING: a base backup has been running for ", "\nnightly takes a base backup (pid "];
        Asked::of(&cluster).until("backups -w 0s", 1, &parts).await;
        if binaries.major < 15 {
            cluster.sql("postgres", "SELECT pg_start_backup('left', true)").await.unwrap();
            Asked::of(&cluster).until("backups -w 0s", 1, &["WARNING: an exclusive backup began "]).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autovacuum_that_keeps_its_only_worker_busy_is_named() {
    let conf = ["autovacuum_naptime = 1s", "autovacuum_max_workers = 1"];
    let cluster = start(&conf, &majors::newest()).await;
    cluster
        .sql(
            "postgres",
            "CREATE TABLE slow (text text) WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, \
             autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)",
        )
        .await
        .unwrap();
    cluster.sql("postgres", "INSERT INTO slow SELECT repeat('x', 1000) FROM generate_series(1, 5000)").await.unwrap();
    cluster.sql("postgres", "DELETE FROM slow WHERE random() < 0.5").await.unwrap();
    let parts = ["WARNING: 100 % of the autovacuum workers are busy", "\npid ", " in postgres for ", "public.slow"];
    Asked::of(&cluster).until("autovacuum", 1, &parts).await;
}

/// Definitions that are asked again at once, where the catalog lets a minute pass.
fn impatient(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::built_in().unwrap();
    for name in names {
        let text = &catalog.definition(name).unwrap().text;
        let hasty = text.replace("fresh_for = \"1min\"", "fresh_for = \"1s\"");
        assert_ne!(*hasty, **text);
        fs::write(folder.path().join(format!("{name}.toml")), hasty).unwrap();
    }
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_happened_lately_is_known_to_an_agent() {
    let cluster = start(&["pg_stat_statements.max = 100"], &majors::newest()).await;
    let checks = impatient(&["pending_restart", "statements_info"]);
    let config = format!(
        "checks = '{}'\n{}[host]\nenabled = false\n[history]\ninterval = \"1s\"\n",
        checks.path().display(),
        watching(&[&cluster])
    );
    let program = Program::start(&config);
    let agent = Asked::by(&program);
    let direct = Asked::of(&cluster).check("settings").await;
    assert!(direct.code == 3 && direct.stdout.contains("only an agent that was there before"), "{}", direct.stdout);
    agent.until("settings", 0, &["no parameter has changed in the last hour"]).await;
    agent.until("statements-evicted -w 0", 0, &["made room 0 times"]).await;
    agent.until("sessions-lost -w 0", 0, &["0 sessions in postgres ended badly"]).await;

    cluster.sql("postgres", "ALTER SYSTEM SET work_mem = '8MB'").await.unwrap();
    cluster.sql("postgres", RELOAD).await.unwrap();
    agent.until("settings", 1, &["WARNING: 1 changes of parameters in the last hour"]).await;
    // Each has a column more than the one before, and so is another statement.
    let statements: Vec<_> = (1..=200).map(|columns| format!("SELECT {}", vec!["1"; columns].join(", "))).collect();
    cluster.sql("postgres", &statements.join(";")).await.unwrap();
    agent.until("statements-evicted -w 0", 1, &["WARNING: pg_stat_statements made room "]).await;
    let client = cluster.client("postgres").await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().try_get(0).unwrap();
    cluster.sql("postgres", &format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
    agent.until("sessions-lost -w 0", 1, &["WARNING: 1 sessions in postgres ended badly"]).await;
    cluster.sql("postgres", "CREATE TABLE filled AS SELECT g FROM generate_series(1, 10000) AS g").await.unwrap();
    cluster.sql("postgres", "CHECKPOINT").await.unwrap();
    agent.until("wal-rate -w 0B", 1, &[" of WAL a second"]).await;
    agent.until("backend-writes -w 200%:", 1, &[" of the blocks were written by sessions themselves"]).await;
    agent.until("slru-hit-ratio -w 200%:", 1, &[" of the blocks of transaction were in its cache"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_is_told_with_the_standby_or_what_replay_waits_for_and_a_slot_before_it_is_lost() {
    let conf = ["max_slot_wal_keep_size = 64MB", "wal_keep_size = 0", "checkpoint_timeout = 1h"];
    let primary = start(&conf, &majors::newest()).await;
    let standby = primary.standby(Standby::from("behind")).await.unwrap();
    until_true(&primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'").await;
    let reader = standby.client("postgres").await.unwrap();
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    standby.sql("postgres", "SELECT pg_wal_replay_pause()").await.unwrap();
    primary.sql("postgres", "CREATE TABLE filled AS SELECT g FROM generate_series(1, 10000) AS g").await.unwrap();
    let parts = ["WARNING: behind is ", "\nbehind (streaming): ", " not sent, ", " not replayed"];
    Asked::of(&primary).until("replication-lag -w 1kB", 1, &parts).await;
    let parts = [
        "\nreplay is paused, ",
        " received and not replayed, waiting for ",
        "\na snapshot for which replay may wait: pid ",
        " of postgres in postgres, idle in transaction, for ",
    ];
    Asked::of(&standby).until("replication-lag -w 1kB", 1, &parts).await;

    Asked::of(&primary).until("synchronous", 0, &[""]).await;
    primary.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'another'").await.unwrap();
    primary.sql("postgres", RELOAD).await.unwrap();
    Asked::of(&primary).until("synchronous", 2, &["\nbehind is connected (streaming, async)"]).await;
    primary.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    primary.sql("postgres", RELOAD).await.unwrap();
    Asked::of(&primary).until("synchronous", 0, &[""]).await;

    primary.sql("postgres", "SELECT pg_create_physical_replication_slot('left_over', true)").await.unwrap();
    Asked::of(&primary).until("slots", 0, &["slot left_over may still keep "]).await;
    for _ in 0..4 {
        primary.sql("postgres", "INSERT INTO filled VALUES (0)").await.unwrap();
        primary.sql("postgres", "SELECT pg_switch_wal()").await.unwrap();
    }
    Asked::of(&primary)
        .until("slots", 2, &["slot left_over is lost when another ", "\nslot left_over (physical) keeps "])
        .await;
}
