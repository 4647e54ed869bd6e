//! What a subscriber says of its subscriptions when they do not go on.

use pgvitals::agent::{Reading, Want};
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::majors;
use crate::pair::{self, ROLE, until_true, until_true_in};
use crate::program::{Facts, Program, watching};

/// A server whose database `there` subscribes to its database `postgres`.
async fn subscriber(binaries: &Binaries) -> Cluster {
    let conf = ["wal_level = logical", "wal_retrieve_retry_interval = 100ms"].map(str::to_owned).to_vec();
    let cluster = Cluster::start(binaries, Settings { conf, ..Settings::default() }).await.unwrap();
    pair::prepare(&cluster).await;
    let subscription = format!(
        "CREATE SUBSCRIPTION orders CONNECTION '{}' PUBLICATION orders WITH (create_slot = false, slot_name = 'orders')",
        cluster.dsn("postgres")
    );
    for (dbname, statement) in [
        ("postgres", "CREATE TABLE orders (id int PRIMARY KEY)"),
        ("postgres", "CREATE TABLE late (id int)"),
        ("postgres", "CREATE PUBLICATION orders FOR TABLE orders"),
        ("postgres", "SELECT pg_create_logical_replication_slot('orders', 'pgoutput')"),
        ("postgres", "CREATE DATABASE there"),
        ("there", "CREATE TABLE orders (id int PRIMARY KEY)"),
        ("there", "CREATE TABLE late (id int)"),
        ("there", &subscription),
    ] {
        cluster.sql(dbname, statement).await.unwrap();
    }
    until_true_in(&cluster, "there", "SELECT srsubstate = 'r' FROM pg_subscription_rel").await;
    cluster
}

const ORDERS: &[&str] = &["datname=\"there\"", "subname=\"orders\""];

fn of_orders(facts: &Facts, metric: &str) -> Option<f64> {
    facts.value(metric, ORDERS)
}

fn verdict(agent: &Program) -> (String, String) {
    let answer = agent.get("/check/subscriptions");
    (answer.header("pgvitals-exit-code").unwrap_or_default().to_owned(), answer.body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_subscription_that_does_not_go_on_says_so() {
    majors::on([10, 15, 18], |binaries| async move {
        let major = binaries.major;
        let cluster = subscriber(&binaries).await;
        let ask = async |dbname: &str, statement: &str| drop(cluster.sql(dbname, statement).await.unwrap());

        // A table that it cannot begin to copy while a transaction is open that was there before.
        let open = cluster.client("postgres").await.unwrap();
        open.batch_execute("BEGIN; SELECT txid_current()").await.unwrap();
        ask("postgres", "ALTER PUBLICATION orders ADD TABLE late").await;
        ask("there", "ALTER SUBSCRIPTION orders REFRESH PUBLICATION").await;
        until_true(&cluster, "SELECT count(*) > 0 FROM pg_stat_subscription WHERE relid IS NOT NULL").await;
        let agent = Program::start(&watching(&[&cluster]));
        let (facts, _) = agent.facts_until("a worker copies", |facts| {
            of_orders(facts, "pg_stat_subscription_sync_workers") == Some(1.0)
                && of_orders(facts, "pg_stat_subscription_last_msg_age_seconds").is_some()
                && !facts.values("pg_subscription_tables", ORDERS).is_empty()
        });
        let state = |state: &str| facts.value("pg_subscription_tables", &[&format!("state={state:?}")]);
        assert_eq!(state("ready"), Some(1.0), "{}", facts.text);
        assert_eq!(state("init").or(state("copying")), Some(1.0), "{}", facts.text);
        assert_eq!(facts.of(&cluster, "pg_stat_subscription_workers"), Some(2.0));
        assert_eq!(of_orders(&facts, "pg_stat_subscription_up"), Some(1.0));
        assert_eq!(verdict(&agent).0, "0", "{}", verdict(&agent).1);
        let log = cluster.log();
        assert!(!log.contains("ERROR:"), "{log}");
        drop(open);

        // What it cannot apply ends its worker, which begins again and ends again.
        ask("there", "INSERT INTO orders VALUES (1)").await;
        ask("postgres", "INSERT INTO orders VALUES (1)").await;
        agent.facts_until("it fails", |facts| {
            let failed = of_orders(facts, "pg_stat_subscription_stats_apply_error_count_total");
            let conflicts = of_orders(facts, "pg_stat_subscription_stats_confl_insert_exists_total");
            of_orders(facts, "pg_stat_subscription_up") == Some(0.0)
                && (failed > Some(0.0) || major < 15)
                && (conflicts > Some(0.0) || major < 18)
        });

        // Somebody switched it off, which is nobody's mistake; an error that does it is one.
        ask("there", "ALTER SUBSCRIPTION orders DISABLE").await;
        agent.facts_until("it is off", |facts| {
            of_orders(facts, "pg_subscription_enabled") == Some(0.0)
                && of_orders(facts, "pg_stat_subscription_up").is_none()
        });
        assert_eq!(verdict(&agent).0, "0", "{}", verdict(&agent).1);
        if major >= 15 {
            ask("there", "ALTER SUBSCRIPTION orders SET (disable_on_error = true)").await;
            ask("there", "ALTER SUBSCRIPTION orders ENABLE").await;
            agent.facts_until("an error switched it off", |facts| {
                of_orders(facts, "pg_subscription_disabled_on_error") == Some(1.0)
            });
            let (code, said) = verdict(&agent);
            assert!(code == "2" && said.contains("subscription orders in there was disabled"), "{code} {said}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_may_ask_sees_how_far_an_origin_is_applied() {
    majors::on([13, 14, 18], |binaries| async move {
        let cluster = subscriber(&binaries).await;
        let agent = pair::agent(&[&cluster]);
        let function = "EXECUTE ON FUNCTION pg_catalog.pg_show_replication_origin_status()";
        cluster.sql("postgres", &format!("REVOKE {function} FROM {ROLE}")).await.unwrap();
        let grant = format!("GRANT {function} TO {ROLE}");
        let reading = agent.read(&Want::only(["replication_origins".to_owned()])).await;
        let reason = reading.reports_of("replication_origins").next().unwrap().outcome.reason().unwrap();
        if binaries.major < 14 {
            assert_eq!(reason, "needs PostgreSQL 14, this is 13");
            return;
        }
        assert!(reason.ends_with(&grant), "{reason}");
        cluster.sql("postgres", &grant).await.unwrap();
        cluster.sql("postgres", "INSERT INTO orders VALUES (1)").await.unwrap();
        let applied = |reading: &Reading| {
            let group = reading.snapshot.find("pg_replication_origin_status_remote_bytes_total")?;
            group.samples().find(|sample| sample.label("subname") == Some("orders")).map(|sample| sample.value)
        };
        let reading = pair::read_until(&agent, |reading| applied(reading) > Some(0.0)).await;
        assert!(applied(&reading) > Some(0.0), "{:?}", reading.reports_of("replication_origins").collect::<Vec<_>>());
        assert!(!cluster.log().contains("ERROR:"), "{}", cluster.log());
    })
    .await;
}
