//! Histograms of what is there now.

use pgvitals::agent::Reading;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::pair::{self, read_until};

/// The samples of this name with this value of a label, each with the bound of its bucket.
fn found(reading: &Reading, name: &str, label: &str, value: &str) -> Vec<(String, f64)> {
    let samples = reading.snapshot.samples_of(name).filter(|sample| sample.label(label) == Some(value));
    samples.map(|sample| (sample.label("le").unwrap_or_default().to_owned(), sample.value)).collect()
}

fn value(reading: &Reading, name: &str, label: &str, value: &str) -> Option<f64> {
    found(reading, name, label, value).first().map(|(_, value)| *value)
}

#[tokio::test]
async fn idle_sessions_and_open_transactions_are_counted_by_their_age() {
    let server = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&server).await;
    server.sql("postgres", "CREATE DATABASE other").await.unwrap();
    let mut sessions = Vec::new();
    for (application, database, statement) in [
        ("pool", "postgres", "SELECT 1"),
        ("pool", "postgres", "SELECT 1"),
        ("batch", "postgres", "SELECT 1"),
        ("batch", "other", "BEGIN"),
        ("batch", "other", "BEGIN"),
    ] {
        let session = server.client(database).await.unwrap();
        session.batch_execute(&format!("SET application_name = {application}; {statement}")).await.unwrap();
        sessions.push(session);
    }
    let agent = pair::agent(&[&server]);
    // Older than a second, which is the first bound of the one and the second of the other.
    let (idle, age) = ("pg_process_idle_seconds", "pg_stat_activity_transaction_age_seconds");
    let reading = read_until(&agent, |reading| {
        let young = |name: &str, label, value| found(reading, &format!("{name}_bucket"), label, value);
        let none_is = |bounds: &[(String, f64)], le: &str| bounds.iter().any(|(at, n)| at == le && *n < 0.5);
        none_is(&young(idle, "application_name", "pool"), "1") && none_is(&young(age, "datname", "other"), "1")
    })
    .await;
    let buckets = found(&reading, &format!("{idle}_bucket"), "application_name", "pool");
    let bounds: Vec<&str> = buckets.iter().map(|(le, _)| le.as_str()).collect();
    assert_eq!(bounds, ["1", "2", "5", "15", "30", "60", "90", "120", "300", "+Inf"]);
    assert!(buckets.is_sorted_by(|left, right| left.1 <= right.1), "{buckets:?}");
    assert_eq!(value(&reading, &format!("{idle}_count"), "application_name", "pool"), Some(2.0));
    assert!(value(&reading, &format!("{idle}_sum"), "application_name", "pool") > Some(2.0));
    // One that is idle and two that are idle in a transaction, each state by itself.
    let batch = found(&reading, &format!("{idle}_count"), "application_name", "batch");
    assert_eq!(batch.iter().map(|(_, count)| count).sum::<f64>().to_string(), "3", "{batch:?}");
    assert_eq!(value(&reading, &format!("{age}_count"), "datname", "other"), Some(2.0));
    assert!(found(&reading, &format!("{age}_count"), "datname", "postgres").is_empty(), "no transaction is open there");
    // What ended is not counted any longer.
    sessions.truncate(4);
    let gone = read_until(&agent, |reading| {
        value(reading, &format!("{age}_count"), "datname", "other") == Some(1.0)
            && value(reading, &format!("{age}_bucket"), "datname", "other") <= Some(1.0)
    })
    .await;
    assert_eq!(value(&gone, &format!("{age}_count"), "datname", "other"), Some(1.0));
}
