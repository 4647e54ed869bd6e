//! How sessions come: with TLS, in the open, through a socket.

use pgvitals::agent::{Reading, Want};

use crate::certificates::Certificates;
use crate::client::{self, open};
use crate::pair;

fn value(reading: &Reading, metric: &str) -> f64 {
    let group = reading.snapshot.find(metric).unwrap_or_else(|| panic!("{metric} is absent"));
    group.samples().map(|sample| sample.value).sum()
}

#[tokio::test]
async fn sessions_in_the_open_are_told_from_those_that_need_no_encryption() {
    let certificates = Certificates::new();
    certificates.issue("localhost", 2, "subjectAltName=DNS:localhost");
    let server = client::start(&[]).await;
    pair::prepare(&server).await;
    certificates.install("localhost", &server).await;
    let dsn = |mode: &str| format!("{} sslmode={mode}", server.tcp_dsn("postgres"));
    let _encrypted = [open(&server, &dsn("require")).await, open(&server, &dsn("require")).await];
    let _open = open(&server, &dsn("disable")).await;
    let reading = pair::agent(&[&server]).read(&Want::default()).await;
    for (metric, expected) in [
        ("pg_stat_ssl_encrypted_sessions", 2.0),
        ("pg_stat_ssl_sessions", 2.0),
        ("pg_stat_ssl_unencrypted_sessions", 1.0),
        ("pg_stat_ssl_certified_sessions", 0.0),
        ("pg_stat_gssapi_encrypted_sessions", 0.0),
    ] {
        assert!((value(&reading, metric) - expected).abs() < 0.5, "{metric}");
    }
    // The agent is one of them.
    assert!(value(&reading, "pg_stat_ssl_local_sessions") >= 1.0);
    let group = reading.snapshot.find("pg_stat_ssl_sessions").unwrap();
    assert!(group.samples().all(|sample| sample.label("version").is_some_and(|version| version.starts_with("TLSv1."))));
}
