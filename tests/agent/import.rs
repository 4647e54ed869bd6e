//! Queries that people bring along: where they look for names, and what becomes of files written for other exporters.

use std::fs;
use std::sync::Arc;

use pgvitals::agent::{Agent, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tempfile::TempDir;

use crate::pair::{options, prepare, read_until};

/// A server with a table of an application's.
async fn shop(major: u32) -> Cluster {
    let cluster = Cluster::start(&Binaries::major(major).unwrap(), Settings::default()).await.unwrap();
    prepare(&cluster).await;
    for statement in [
        "CREATE SCHEMA shop",
        "GRANT USAGE ON SCHEMA shop TO public",
        "CREATE TABLE shop.orders (id int, placed timestamptz, state text)",
        "INSERT INTO shop.orders VALUES (1, 'epoch', 'open'), (2, '1970-01-02 00:00:00+00', 'open'), (3, NULL, 'paid')",
        "GRANT SELECT ON shop.orders TO public",
    ] {
        cluster.sql("postgres", statement).await.unwrap();
    }
    cluster
}

fn agent(cluster: &Cluster, checks: &TempDir) -> Agent {
    let catalog = Catalog::load(checks.path()).unwrap_or_else(|error| panic!("{error}"));
    let agent = Agent::new(Arc::new(catalog), None, Arc::default());
    assert!(agent.watch(cluster.name(), options(cluster), None));
    agent
}

fn definition(name: &str, head: &str, sql: &str) -> String {
    format!(
        "help = \"x\"\n{head}\n[[query]]\nsince = 10\nsql = \"{sql}\"\n\n\
         [[metric]]\nname = \"pg_{name}\"\ntype = \"gauge\"\ncolumn = \"value\"\nhelp = \"x\"\n"
    )
}

#[tokio::test]
async fn names_of_other_schemas_are_found_only_where_a_definition_says_so() {
    for major in [10, 18] {
        let cluster = shop(major).await;
        let checks = tempfile::tempdir().unwrap();
        let strict = "SELECT current_setting('search_path') = 'pg_catalog, pg_temp' AS value";
        for (name, head, sql) in [
            ("a_strict", "", strict),
            ("orders", "search_path = [\"none\", \"shop\"]", "SELECT count(*) AS value FROM orders"),
            ("z_strict", "", strict),
        ] {
            fs::write(checks.path().join(format!("{name}.toml")), definition(name, head, sql)).unwrap();
        }
        let agent = agent(&cluster, &checks);
        for _ in 0..2 {
            let reading = agent.read(&Want::default()).await;
            let value = |name| reading.snapshot.find(name).and_then(|group| group.samples().next().map(|it| it.value));
            assert_eq!(
                [value("pg_a_strict"), value("pg_orders"), value("pg_z_strict")],
                [Some(1.0), Some(3.0), Some(1.0)]
            );
        }
        let log = cluster.log();
        assert!(!log.contains("ERROR:") && !log.contains("WARNING:"), "{log}");
    }
}

#[tokio::test]
async fn a_definition_may_be_asked_in_some_databases_only() {
    let cluster = shop(17).await;
    for database in ["app_one", "app_two", "other"] {
        cluster.sql("postgres", &format!("CREATE DATABASE {database} TEMPLATE template0")).await.unwrap();
    }
    for database in ["app_one", "app_two"] {
        cluster.sql(database, "CREATE TABLE hits AS SELECT 1 AS id").await.unwrap();
        cluster.sql(database, "GRANT SELECT ON hits TO public").await.unwrap();
    }
    let checks = tempfile::tempdir().unwrap();
    let head = "scope = \"database\"\ndatabases = [\"app_*\"]\nsearch_path = [\"public\"]";
    fs::write(checks.path().join("hits.toml"), definition("hits", head, "SELECT count(*) AS value FROM hits")).unwrap();
    let agent = agent(&cluster, &checks);
    let reading = read_until(&agent, |reading| reading.snapshot.find("pg_hits").is_some()).await;
    let hits = reading.snapshot.find("pg_hits").unwrap();
    let found: Vec<_> = hits.samples().map(|it| (it.label("datname").unwrap().to_owned(), it.value)).collect();
    assert_eq!(found, [("app_one".to_owned(), 1.0), ("app_two".to_owned(), 1.0)]);
    let walked = reading.snapshot.find("pgvitals_databases").unwrap();
    assert!(walked.samples().any(|it| it.label("state") == Some("walked") && (it.value - 4.0).abs() < 1e-9));
    assert!(!cluster.log().contains("ERROR:"), "{}", cluster.log());
}
