//! The WAL and its archive, tablespaces, and what is measured of input and output.

use pgvitals::agent::{Outcome, Reading, Report};
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::majors::{self, TWO};
use crate::pair::{self, until_true};

const SEGMENT: f64 = 16.0 * 1024.0 * 1024.0;

async fn start(binaries: &Binaries, conf: &[&str]) -> Cluster {
    let conf = conf.iter().map(|line| (*line).to_owned()).collect();
    let cluster = Cluster::start(binaries, Settings { conf, ..Settings::default() }).await.unwrap();
    pair::prepare(&cluster).await;
    cluster
}

/// What an agent that knows nothing yet reads: some of these facts stay fresh for long.
async fn read(cluster: &Cluster) -> Reading {
    let failed = |report: &Report| matches!(report.outcome, Outcome::Failed { .. });
    pair::read_until(&pair::agent(&[cluster]), |reading| !reading.reports.iter().any(failed)).await
}

/// The only value of a family, or that of the row with this label.
fn value(reading: &Reading, family: &str, label: Option<(&str, &str)>) -> Option<f64> {
    let group = reading.snapshot.find(family)?;
    let mut samples =
        group.samples().filter(|sample| label.is_none_or(|(name, value)| sample.label(name) == Some(value)));
    samples.next().map(|sample| sample.value)
}

#[tokio::test]
async fn what_the_archive_lacks_is_told_in_bytes() {
    majors::on(TWO, |binaries| async move {
        let cluster = start(&binaries, &["archive_mode = on", "archive_command = 'test -e works'"]).await;
        // Gives the file that is full now.
        let write = async || {
            cluster.sql("postgres", "CREATE TABLE written (); DROP TABLE written").await.unwrap();
            let switched = cluster.sql("postgres", "SELECT pg_walfile_name(pg_switch_wal())").await.unwrap();
            switched.concat().pop().flatten().unwrap()
        };
        write().await;
        until_true(&cluster, "SELECT failed_count > 0 FROM pg_stat_archiver").await;
        let never = read(&cluster).await;
        assert_eq!(value(&never, "pg_stat_archiver_failing", None), Some(1.0), "it has never worked");
        assert!(value(&never, "pg_stat_archiver_last_failed_age_seconds", None).is_some());
        for unknown in ["pg_stat_archiver_lag_bytes", "pg_stat_archiver_last_archived_age_seconds"] {
            assert_eq!(value(&never, unknown, None), None, "{unknown}");
        }

        std::fs::write(cluster.data().join("works"), "").unwrap();
        // After three failures the archiver rests for a minute; a full file wakes it.
        let last = write().await;
        until_true(&cluster, &format!("SELECT coalesce(last_archived_wal = '{last}', false) FROM pg_stat_archiver"))
            .await;
        let lag = value(&read(&cluster).await, "pg_stat_archiver_lag_bytes", None).unwrap();
        assert!((0.0..SEGMENT).contains(&lag), "{lag} bytes after the last whole segment");

        std::fs::remove_file(cluster.data().join("works")).unwrap();
        for _ in 0..3 {
            write().await;
        }
        let lag = value(&read(&cluster).await, "pg_stat_archiver_lag_bytes", None).unwrap();
        assert!((3.0 * SEGMENT..4.0 * SEGMENT).contains(&lag), "{lag} bytes with three segments that wait");
    })
    .await;
}

#[tokio::test]
async fn a_promoted_standby_tells_its_new_timeline_and_its_old_origin() {
    majors::on(TWO, |binaries| async move {
        let primary = start(&binaries, &[]).await;
        let standby = primary.standby("follower").await.unwrap();
        for server in [&primary, &standby] {
            assert_eq!(value(&read(server).await, "pg_wal_timeline_id", None), Some(1.0), "{}", server.name());
        }
        standby.promote().await.unwrap();
        let (old, new) = (read(&primary).await, read(&standby).await);
        assert_eq!(value(&old, "pg_wal_timeline_id", None), Some(1.0));
        assert_eq!(value(&new, "pg_wal_timeline_id", None), Some(2.0));
        let origin = |reading: &Reading| {
            let group = reading.snapshot.find("pg_control_system_info").unwrap();
            group.samples().next().unwrap().label("system_identifier").unwrap().to_owned()
        };
        assert_eq!(origin(&old), origin(&new));
    })
    .await;
}

#[tokio::test]
async fn a_tablespace_tells_its_folder_and_the_temporary_files_in_it() {
    majors::on(TWO, |binaries| async move {
        let cluster = start(&binaries, &[]).await;
        let sql = async |statement: &str| drop(cluster.sql("postgres", statement).await.unwrap());
        // The server's own user has to own the folder.
        sql("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; mkdir -m 700 elsewhere'").await;
        let folder = cluster.data().join("elsewhere");
        sql(&format!("CREATE TABLESPACE elsewhere LOCATION '{}'", folder.display())).await;
        let session = cluster.client("postgres").await.unwrap();
        let spill = "SET work_mem = '64kB'; SET temp_tablespaces = elsewhere; BEGIN; \
                     DECLARE spilled CURSOR FOR SELECT * FROM generate_series(1, 100000); FETCH FROM spilled";
        session.batch_execute(spill).await.unwrap();

        let reading = read(&cluster).await;
        let group = reading.snapshot.find("pg_tablespace_info").unwrap();
        let told = group.samples().find(|sample| sample.label("spcname") == Some("elsewhere")).unwrap();
        assert_eq!(told.label("location"), folder.to_str());
        let there = Some(("spcname", "elsewhere"));
        assert!(value(&reading, "pg_tablespace_size_bytes", there).is_some());
        let known = binaries.major >= 12;
        assert_eq!(value(&reading, "pg_tmpdir_files", there) >= Some(1.0), known);
        assert_eq!(value(&reading, "pg_tmpdir_oldest_file_age_seconds", there).is_some(), known);
        let default = Some(("spcname", "pg_default"));
        assert_eq!(value(&reading, "pg_tmpdir_files", default), known.then_some(0.0));
        assert_eq!(value(&reading, "pg_tmpdir_oldest_file_age_seconds", default), None, "no file has no age");

        session.batch_execute("ROLLBACK").await.unwrap();
        sql("DROP TABLESPACE elsewhere").await;
        let reading = read(&cluster).await;
        for family in ["pg_tablespace_info", "pg_tablespace_size_bytes", "pg_tmpdir_files"] {
            assert_eq!(value(&reading, family, there), None, "{family}");
        }
    })
    .await;
}

#[tokio::test]
async fn times_that_nobody_measures_are_absent_and_not_zero() {
    let cluster = start(&majors::newest(), &[]).await;
    let times = ["pg_stat_io_write_time_seconds_total", "pg_stat_wal_write_time_seconds_total"];
    let reading = read(&cluster).await;
    assert!(value(&reading, "pg_stat_io_writes_total", None).is_some());
    assert!(value(&reading, "pg_stat_wal_write_total", None) > Some(0.0));
    for time in times {
        assert_eq!(value(&reading, time, None), None, "{time}");
    }
    for parameter in ["track_io_timing", "track_wal_io_timing"] {
        cluster.sql("postgres", &format!("ALTER SYSTEM SET {parameter} = on")).await.unwrap();
    }
    cluster.sql("postgres", "SELECT pg_reload_conf()").await.unwrap();
    until_true(&cluster, "SELECT current_setting('track_wal_io_timing')::boolean").await;
    let reading = read(&cluster).await;
    for time in times {
        assert!(value(&reading, time, None).is_some(), "{time}");
    }
}
