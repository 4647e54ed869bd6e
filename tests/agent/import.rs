//! Queries that people bring along: where they look for names, and what becomes of files written for other exporters.

use std::fs;
use std::sync::Arc;

use pgvitals::agent::{Agent, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};
use tempfile::TempDir;

use crate::command::{Ended, pgvitals};
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
        "CREATE TABLE public.shop_orders AS SELECT * FROM shop.orders",
        "GRANT SELECT ON shop.orders, public.shop_orders TO public",
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
    assert!(walked.samples().any(|it| it.label("state") == Some("walked") && it.value > 3.0));
    assert!(!cluster.log().contains("ERROR:"), "{}", cluster.log());
}

#[tokio::test]
async fn a_metric_of_two_roles_is_judged_in_both() {
    let primary = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    prepare(&primary).await;
    let standby = primary.standby(Standby::from("standby")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let checks = folder.path().join("checks.d");
    fs::create_dir(&checks).unwrap();
    for (role, sql) in [("primary", "SELECT 1 AS value"), ("standby", "SELECT 2 AS value")] {
        let text = definition("role", &format!("role = \"{role}\""), sql);
        fs::write(checks.join(format!("{role}.toml")), text).unwrap();
    }
    let rule = "help = \"x\"\n[[rule]]\nname = \"role\"\nvalue = \"pg_role\"\nwarning = \"1\"\nsummary = \"role {value}\"\n\
                reason = \"x\"\n";
    fs::write(checks.join("rule.toml"), rule).unwrap();
    let config = folder.path().join("pgvitals.toml").display().to_string();
    fs::write(&config, format!("checks = '{}'\n", checks.display())).unwrap();
    for (cluster, expected) in [(&primary, (0, "OK: role 1")), (&standby, (1, "WARNING: role 2"))] {
        let (host, port) = (cluster.socket_dir().display().to_string(), cluster.port());
        let dsn = format!("host={host} port={port} user=pgvitals dbname=postgres");
        let ended = pgvitals(&["check", "role", "--config", &config, "--dsn", &dsn]).await;
        assert!(ended.code == expected.0 && ended.stdout.contains(expected.1), "{ended:?}");
    }
}

/// A folder with what the binary makes of files, which a configuration may name.
async fn imported(arguments: &[&str]) -> (TempDir, Ended) {
    let folder = tempfile::tempdir().unwrap();
    let checks = folder.path().join("checks.d").display().to_string();
    let fixtures = format!("{}/tests/fixtures/import", env!("CARGO_MANIFEST_DIR"));
    let mut all: Vec<String> = vec!["import".to_owned(), "--to".to_owned(), checks.clone()];
    all.extend(arguments.iter().map(|argument| argument.replace("FIXTURES", &fixtures)));
    let ended = pgvitals(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    fs::write(folder.path().join("pgvitals.toml"), format!("checks = '{checks}'\n[discovery]\nenabled = false\n"))
        .unwrap();
    (folder, ended)
}

/// What the binary shows of a server with these definitions, without the label of the server.
async fn shown(folder: &TempDir, cluster: &Cluster, collectors: &[&str]) -> String {
    let config = folder.path().join("pgvitals.toml").display().to_string();
    let validated = pgvitals(&["validate", "--config", &config]).await;
    assert_eq!(validated.code, 0, "{validated:?}");
    let (host, port) = (cluster.socket_dir().display().to_string(), cluster.port());
    let dsn = format!("host={host} port={port} user=pgvitals dbname=postgres");
    let mut arguments = vec!["once", "--config", &config, "--dsn", &dsn];
    arguments.extend(collectors);
    let once = pgvitals(&arguments).await;
    assert_eq!((once.code, once.stderr.as_str()), (0, ""));
    let label = format!("server=\"{host}:{port}\"");
    once.stdout.replace(&format!("{label},"), "").replace(&format!("{{{label}}}"), "").replace(&label, "")
}

fn assert_shows(text: &str, expected: &[&str]) {
    for line in expected {
        assert!(text.lines().any(|shown| shown == *line), "{line} is not in:\n{text}");
    }
}

#[tokio::test]
async fn queries_of_other_exporters_keep_their_names() {
    let cluster = shop(18).await;
    let (folder, ended) = imported(&["postgres-exporter", "FIXTURES/queries.yaml"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let text = shown(&folder, &cluster, &["shop_orders", "shop_star", "shop_ids", "pg_stat_archiver"]).await;
    assert_shows(
        &text,
        &[
            "# HELP shop_orders_number Orders in (state)",
            "# TYPE shop_orders_MinId counter",
            "shop_orders_number{state=\"open\"} 2",
            "shop_orders_last_placed{state=\"open\"} 86400",
            "shop_orders_MinId{state=\"paid\"} 3",
            "shop_orders_quantity{state=\"open\"} 2",
            "shop_orders_quantity{state=\"paid\"} 1",
            "shop_star_id{state=\"open\"} 1",
            "pg_stat_archiver_imported 7",
            "# HELP shop_ids_id_bucket Numbers of orders: how many are up to le",
            "shop_ids_id_bucket{state=\"open\",le=\"1\"} 1",
            "shop_ids_id_bucket{state=\"open\",le=\"2.5\"} 2",
            "shop_ids_id_bucket{state=\"open\",le=\"+Inf\"} 2",
            "shop_ids_id_sum{state=\"open\"} 3",
            "shop_ids_id_count{state=\"open\"} 2",
            "shop_ids_id_bucket{state=\"paid\",le=\"2.5\"} 0",
            "shop_ids_half_bucket{state=\"paid\",le=\"3\"} 1",
            "shop_ids_half_bucket{state=\"paid\",le=\"+Inf\"} 1",
            "shop_ids_half_sum{state=\"paid\"} 1.5",
            "shop_ids_seen{state=\"open\"} 2",
        ],
    );
    assert_eq!(text.matches("\nshop_ids_id_bucket{").count(), 6, "{text}");
    assert_eq!(text.matches("\nshop_ids_half_bucket{").count(), 4, "{text}");
    assert!(!text.contains("shop_orders_last_placed{state=\"paid\"}"), "NULL is no sample: {text}");

    let (folder, ended) = imported(&["pg-exporter", "FIXTURES/pg_exporter.yml"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let collectors =
        ["shop_state", "shop_role_primary", "shop_role_standby", "shop_table", "shop_statements", "shop_age"];
    let text = shown(&folder, &cluster, &collectors).await;
    assert_shows(
        &text,
        &[
            "shop_state_seconds 2.5",
            "shop_state_nothing 0",
            "shop_state_only_new 17",
            "shop_role_writes 1",
            "shop_table_pages{datname=\"postgres\",exported_server=\"shop_orders\"} 0",
            "# HELP shop_age_seconds Age of an order",
            "# TYPE shop_age_seconds histogram",
            "shop_age_seconds_bucket{state=\"open\",le=\"0.5\"} 1",
            "shop_age_seconds_bucket{state=\"open\",le=\"1\"} 2",
            "shop_age_seconds_bucket{state=\"open\",le=\"2000000\"} 2",
            "shop_age_seconds_bucket{state=\"open\",le=\"+Inf\"} 2",
            "shop_age_seconds_sum{state=\"open\"} 1.5",
            "shop_age_seconds_count{state=\"open\"} 2",
            "shop_age_seconds_count{state=\"paid\"} 1",
        ],
    );

    let files = ["sql-exporter", "FIXTURES/sql_exporter.yml", "FIXTURES/elephant_shed.yml"];
    let (folder, ended) = imported(&files).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stdout.contains("canary"), "{ended:?}");
    let text =
        shown(&folder, &cluster, &["sql_shop_orders", "sql_shop_ref", "sql_shop_versions", "sql_shop_tables"]).await;
    assert_shows(
        &text,
        &[
            "sql_shop_orders{state=\"open\",col=\"number\"} 2",
            "sql_shop_orders{state=\"paid\",col=\"largest\"} 3",
            "sql_shop_ref{col=\"one\"} 1",
            "sql_shop_versions{col=\"new\"} 17",
            "sql_shop_tables{datname=\"postgres\",relname=\"shop_orders\",col=\"id\"} 3",
        ],
    );
    let log = cluster.log();
    assert!(!log.contains("ERROR:") && !log.contains("WARNING:"), "{log}");
}

#[tokio::test]
async fn queries_of_collectd_come_with_their_servers_and_without_passwords() {
    let cluster = shop(10).await;
    let (folder, ended) = imported(&["collectd", "FIXTURES/collectd.conf"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let text = shown(&folder, &cluster, &["collectd_orders", "collectd_here"]).await;
    assert_shows(
        &text,
        &[
            "# TYPE collectd_orders_derive_total counter",
            "collectd_orders_gauge{type=\"number-open\"} 2",
            "collectd_orders_derive_total{type=\"paid\"} 3",
            "collectd_here_pg_numbackends 1",
            "collectd_here_duration_seconds 6",
        ],
    );
    for part in [
        "[[server]]\ndsn = \"host=/run/postgresql user='perf mon' dbname=postgres\"\n# Its password is not repeated",
        "collectd_idle is left out",
        "no <Database> asks it",
        "collectd.conf:49: nothing is written to PostgreSQL here",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {ended:?}");
    }
    let orders = fs::read_to_string(folder.path().join("checks.d/collectd_orders.toml")).unwrap();
    for part in ["the type made_up is not known here", "fresh_for = \"20s\"", "no longer HOST"] {
        assert!(orders.contains(part), "{part}: {orders}");
    }
    assert!(!format!("{ended:?}{orders}").contains("canary"));
    assert!(!cluster.log().contains("ERROR:"), "{}", cluster.log());
}

#[tokio::test]
async fn what_cannot_be_imported_is_said_and_nothing_is_overwritten() {
    let (folder, ended) = imported(&["postgres-exporter", "FIXTURES/queries.yaml"]).await;
    let star = fs::read_to_string(folder.path().join("checks.d/shop_star.toml")).unwrap();
    for part in [
        "# queries.yaml:37: duration is a text such as 1h30m",
        "#     - duration: {usage: \"DURATION\", description: \"A text\"}",
        "since = 11",
    ] {
        assert!(star.contains(part), "{part}: {star}");
    }
    let archiver = fs::read_to_string(folder.path().join("checks.d/pg_stat_archiver.toml")).unwrap();
    assert!(archiver.contains("# queries.yaml:49: is built in: pgvitals show archiver\n"), "{archiver}");
    for part in ["shop_old is left out", "archiver is left out", "is for none of the versions that pgvitals reads"] {
        assert!(ended.stdout.contains(part), "{part}: {ended:?}");
    }
    let checks = folder.path().join("checks.d").display().to_string();
    let queries = format!("{}/tests/fixtures/import/queries.yaml", env!("CARGO_MANIFEST_DIR"));
    let again = pgvitals(&["import", "postgres-exporter", &queries, "--to", &checks]).await;
    assert_eq!((again.code, again.stdout.as_str()), (2, ""));
    assert!(again.stderr.contains("shop_orders.toml exists"), "{again:?}");

    let printed = pgvitals(&["import", "postgres-exporter", &queries]).await;
    assert!(printed.stdout.starts_with("# file shop_orders.toml\n# Imported from queries.yaml:2.\n"), "{printed:?}");

    let ids = fs::read_to_string(folder.path().join("checks.d/shop_ids.toml")).unwrap();
    assert!(ids.contains("# queries.yaml:69: the query returns no column lost_bucket\n"), "{ids}");
    let (folder, _) = imported(&["pg-exporter", "FIXTURES/pg_exporter.yml"]).await;
    let age = fs::read_to_string(folder.path().join("checks.d/shop_age.toml")).unwrap();
    for part in [
        "# pg_exporter.yml:85: bucket: expected up to 30 rising numbers from 0 on; what is above them is counted in +Inf",
        "#     - wide:  { usage: HISTOGRAM, bucket: [1, .inf], description: With the last bucket }\n#     - steep: {",
        "# pg_exporter.yml:87: cannot stand beside shop_age_seconds",
        "buckets = [0.5, 1, 2000000]\n",
    ] {
        assert!(age.contains(part), "{part}: {age}");
    }

    let wrong = pgvitals(&["import", "pg-exporter", &queries]).await;
    assert_eq!((wrong.code, wrong.stdout.as_str()), (2, ""));
    assert!(wrong.stderr.contains("queries.yaml:26: `metric_mapping`: expected usage, rename, default"), "{wrong:?}");
}
