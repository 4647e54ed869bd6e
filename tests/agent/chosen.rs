//! Databases that are entered on one server and not on another.

use std::fs;

use pgvitals::demo::cluster::{Cluster, Settings};

use crate::majors;
use crate::pair::{self, ROLE};
use crate::program::Program;

const HERE: &str = r#"
help = "Which databases were asked"
scope = "database"
fresh_for = "1s"
[[query]]
since = 10
sql = "SELECT 1 AS one"
[[metric]]
name = "pg_here"
type = "gauge"
column = "one"
help = "Always 1"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_may_have_patterns_of_its_own_for_its_databases() {
    let cluster = Cluster::start(&majors::newest(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    for name in ["app_one", "app_two", "app_two_test", "app_closed", "other"] {
        cluster.sql("postgres", &format!("CREATE DATABASE {name}")).await.unwrap();
    }
    cluster.sql("postgres", "REVOKE CONNECT ON DATABASE app_closed FROM public").await.unwrap();
    let checks = tempfile::tempdir().unwrap();
    fs::write(checks.path().join("here.toml"), HERE).unwrap();
    let config = |patterns: &str| {
        let (host, port) = (cluster.socket_dir().display().to_string(), cluster.port());
        let dsn = format!("host={host} port={port} user={ROLE} dbname=postgres");
        format!(
            "checks = '{}'\n[databases]\nexclude = [\"other\"]\n[[server]]\nname = \"all\"\ndsn = \"{dsn}\"\n\
             [[server]]\nname = \"some\"\ndsn = \"{dsn}\"\n{patterns}\n",
            checks.path().display()
        )
    };
    let agent = Program::start(&config("include_databases = [\"app_*\"]\nexclude_databases = [\"*_test\"]"));
    let entered = |server: &str, expected: &[&str]| {
        agent.facts_until(server, |facts| {
            let here = |datname: &str| {
                let labels = [format!("server={server:?}"), format!("datname={datname:?}")];
                facts.value("pg_here", &labels.each_ref().map(String::as_str)).is_some()
            };
            let all = ["app_one", "app_two", "app_two_test", "app_closed", "other", "postgres", "template1"];
            all.iter().all(|datname| here(datname) == expected.contains(datname))
        });
    };
    entered("some", &["app_one", "app_two"]);
    entered("all", &["app_one", "app_two", "app_two_test", "postgres"]);
    let denied = agent.facts().value("pgvitals_databases", &["server=\"some\"", "state=\"denied\""]);
    assert_eq!(denied, Some(1.0), "who may not connect does not try");

    // What is not said of a server is as for all.
    agent.reload(&config("include_databases = [\"app_one\", \"other\"]"));
    entered("some", &["app_one"]);
    assert!(!cluster.log().contains("FATAL:  permission denied"), "{}", cluster.log());
}
