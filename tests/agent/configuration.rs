//! What is said of a server's own configuration: lines that are wrong, changes that wait, changes at all.

use std::fs::OpenOptions;
use std::io::Write as _;

use pgvitals::agent::{Reading, Want};
use pgvitals::demo::cluster::{Cluster, Settings};
use pgvitals::metric::Group;

use crate::client::reload;
use crate::majors::{self, TWO};
use crate::pair;

/// Reads anew: what is known of configuration files stays fresh for a minute.
async fn read(cluster: &Cluster) -> Reading {
    pair::agent(&[cluster]).read(&Want::default()).await
}

fn value(reading: &Reading, metric: &str) -> f64 {
    let group = reading.snapshot.find(metric).unwrap_or_else(|| panic!("{metric} is absent"));
    group.samples().next().unwrap().value
}

/// The label of the one sample that there is; empty if there is none.
fn label(reading: &Reading, metric: &str, label: &str) -> String {
    let group = reading.snapshot.find(metric);
    let labels: Vec<_> = group.iter().flat_map(Group::samples).map(|sample| sample.label(label)).collect();
    assert!(labels.len() <= 1, "{metric}: {labels:?}");
    labels.into_iter().flatten().next().unwrap_or_default().to_owned()
}

fn append(cluster: &Cluster, file: &str, lines: &str) {
    let mut file = OpenOptions::new().append(true).open(cluster.data().join(file)).unwrap();
    write!(file, "\n{lines}\n").unwrap();
}

#[tokio::test]
async fn a_wrong_line_is_told_with_its_place_and_a_change_that_waits_is_not_wrong() {
    majors::on(TWO, |binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&cluster).await;
        let before = read(&cluster).await;
        for metric in ["pg_file_settings_errors", "pg_hba_file_rules_errors", "pg_settings_pending_restart"] {
            assert!(value(&before, metric).abs() < 0.5, "{metric}");
        }
        let fingerprint = |reading: &Reading| value(reading, "pg_settings_fingerprint").to_bits();
        assert_eq!(fingerprint(&before), fingerprint(&read(&cluster).await), "another session has the same");

        cluster.sql("postgres", "ALTER SYSTEM SET max_files_per_process = 999").await.unwrap();
        reload(&cluster).await;
        let waiting = read(&cluster).await;
        assert_eq!(label(&waiting, "pg_settings_pending_restart_parameter", "name"), "max_files_per_process");
        assert!((value(&waiting, "pg_settings_pending_restart") - 1.0).abs() < 0.5);
        assert!(value(&waiting, "pg_file_settings_errors").abs() < 0.5, "it waits, and is not wrong");
        assert_eq!(fingerprint(&waiting), fingerprint(&before), "and nothing has changed yet");

        append(&cluster, "cluster.conf", "work_mem = much");
        // Two lines: one that is none, and one that never matches as long as there is no TLS.
        append(&cluster, "pg_hba.conf", "whatever\nhostssl all all all scram-sha-256");
        let wrong = read(&cluster).await;
        let conf = std::fs::read_to_string(cluster.data().join("cluster.conf")).unwrap();
        let line = conf.lines().position(|line| line.starts_with("work_mem = much")).unwrap() + 1;
        assert!(label(&wrong, "pg_file_settings_error", "sourcefile").ends_with("/cluster.conf"));
        assert_eq!(label(&wrong, "pg_file_settings_error", "sourceline"), line.to_string());
        assert_eq!(label(&wrong, "pg_file_settings_error", "name"), "work_mem");
        assert!((value(&wrong, "pg_file_settings_errors") - 1.0).abs() < 0.5);
        assert!(label(&wrong, "pg_hba_file_rules_error", "file_name").ends_with("/pg_hba.conf"));
        assert!((value(&wrong, "pg_hba_file_rules_errors") - 1.0).abs() < 0.5);
        assert!((value(&wrong, "pg_hba_file_rules_idle") - 1.0).abs() < 0.5, "PostgreSQL {}", binaries.major);

        cluster.sql("postgres", "ALTER SYSTEM SET maintenance_work_mem = '33MB'").await.unwrap();
        reload(&cluster).await;
        assert_ne!(fingerprint(&read(&cluster).await), fingerprint(&before));
        let log = cluster.log();
        assert!(!log.contains("ERROR:"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn what_our_session_sets_for_itself_is_not_taken_for_the_servers() {
    majors::on(TWO, |binaries| async move {
        let conf = vec!["statement_timeout = '77s'".to_owned()];
        let cluster = Cluster::start(&binaries, Settings { conf, ..Settings::default() }).await.unwrap();
        pair::prepare(&cluster).await;
        let reading = read(&cluster).await;
        for (setting, expected) in [
            ("statement_timeout_seconds", 77.0),
            ("lock_timeout_seconds", 0.0),
            ("idle_in_transaction_session_timeout_seconds", 0.0),
            ("default_transaction_read_only", 0.0),
            ("transaction_read_only", 0.0),
        ] {
            let shown = value(&reading, &format!("pg_settings_{setting}"));
            assert!((shown - expected).abs() < 1e-9, "{setting} on PostgreSQL {}: {shown}", binaries.major);
        }
        if binaries.major >= 12 {
            assert!((value(&reading, "pg_settings_jit") - 1.0).abs() < 1e-9);
        }
    })
    .await;
}
