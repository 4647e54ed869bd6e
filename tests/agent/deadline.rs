//! A query that does not end harms no other, neither in the agent nor on the server.

use std::fs;
use std::time::{Duration, Instant};

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::majors;
use crate::pair::{self, ROLE};
use crate::program::{Facts, Program, label, watching};

/// A query that does not end.
pub(crate) const ENDLESS: &str = r#"
help = "A query that does not end"
timeout = "1s"

[[query]]
since = 10
sql = "SELECT 1 AS one FROM pg_catalog.pg_sleep(60)"

[[metric]]
name = "pg_endless"
type = "gauge"
column = "one"
help = "Never seen"
"#;

const STUBBORN: &str = r#"
help = "A query that hears neither a time-out nor a cancel request, as one in the kernel's hands"
timeout = "1s"

[[query]]
since = 10
sql = "SELECT public.stubborn() AS one"

[[metric]]
name = "pg_stubborn"
type = "gauge"
column = "one"
help = "Seen once it ends"
"#;

const STUBBORN_FUNCTION: &str = "CREATE FUNCTION stubborn() RETURNS int LANGUAGE plpgsql AS $$
    BEGIN
        LOOP
            BEGIN
                IF EXISTS (SELECT FROM public.released) THEN RETURN 1; END IF;
                PERFORM pg_catalog.pg_sleep(0.1);
            EXCEPTION WHEN query_canceled THEN NULL;
            END;
        END LOOP;
    END $$";

/// How many sessions the agent has on the server.
async fn sessions(server: &Cluster) -> u32 {
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'");
    server.sql("postgres", &count).await.unwrap().concat().pop().flatten().unwrap().parse().unwrap()
}

/// How long the server has been at it, in seconds; none when it is not.
async fn endless(server: &Cluster) -> Option<f64> {
    let sql = "SELECT extract(epoch FROM clock_timestamp() - query_start) FROM pg_stat_activity
                WHERE state = 'active' AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()";
    server.sql("postgres", sql).await.unwrap().concat().pop().flatten().map(|age| age.parse().unwrap())
}

async fn check(binaries: Binaries) {
    let primary = Cluster::start(&binaries, Settings::default()).await.unwrap();
    pair::prepare(&primary).await;
    let checks = tempfile::tempdir().unwrap();
    fs::write(checks.path().join("endless.toml"), ENDLESS).unwrap();
    let agent = Program::start(&format!("checks = '{}'\n{}", checks.path().display(), watching(&[&primary])));
    let of_endless = [label(&primary), "collector=\"endless\"".to_owned()];
    let of_endless = of_endless.each_ref().map(String::as_str);

    let began = Instant::now();
    let mut was_slow = false;
    while began.elapsed() < Duration::from_secs(8) {
        let facts = agent.facts();
        assert_eq!(facts.values("pgvitals_collector_absent", &[&of_endless[..], &["timeout"]].concat()), [1.0]);
        assert_eq!(facts.value("pgvitals_collector_success", &of_endless), Some(0.0));
        let succeeded = facts.values("pgvitals_collector_success", &[&label(&primary)]);
        assert_eq!(succeeded.iter().filter(|success| **success == 0.0).count(), 1, "{}", facts.text);
        assert!(facts.names_of(&primary).len() > 100 && !facts.text.contains("\npg_endless"));
        was_slow |= facts.value("pgvitals_connections", &["lane=\"slow\""]) == Some(1.0);

        let sessions = sessions(&primary).await;
        assert!((1..=2).contains(&sessions), "{sessions} sessions");
        let age = endless(&primary).await;
        // The timeout of one second, and what a busy machine takes for the cancelling; without it we would see eight.
        assert!(age.is_none_or(|age| age < 5.0), "it has been running for {age:?} s");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(was_slow, "it was never asked on the slow lane");
    assert!(agent.log().contains("lane changed server=\"primary\" collector=\"endless\" slow=true"), "{}", agent.log());
    let failures = agent.facts().value("pgvitals_collector_failures_total", &of_endless);
    assert!(failures.is_some_and(|failures| failures >= 2.0), "{failures:?}");

    // Without readers nobody asks, and nothing of the last question is left.
    drop(agent);
    let deadline = Instant::now() + Duration::from_secs(10);
    while endless(&primary).await.is_some() {
        assert!(Instant::now() < deadline, "the query lives on without its agent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_query_delays_nobody_and_is_gone_in_time() {
    majors::on(majors::TWO, check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_cannot_be_stopped_costs_no_third_session() {
    let primary = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&primary).await;
    for statement in ["CREATE TABLE released (id int)", "GRANT SELECT ON released TO public", STUBBORN_FUNCTION] {
        primary.sql("postgres", statement).await.unwrap();
    }
    let checks = tempfile::tempdir().unwrap();
    fs::write(checks.path().join("stubborn.toml"), STUBBORN).unwrap();
    let agent = Program::start(&format!("checks = '{}'\n{}", checks.path().display(), watching(&[&primary])));
    let stuck = |facts: &Facts| facts.value("pgvitals_connections", &["lane=\"stuck\""]) == Some(1.0);

    agent.facts_until("it is given up", stuck);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let facts = agent.facts();
        assert!(stuck(&facts) && facts.of(&primary, "pg_up") == Some(1.0), "{}", agent.log());
        assert!(facts.names_of(&primary).len() > 100 && !facts.text.contains("\npg_stubborn"));
        assert!(sessions(&primary).await <= 2);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    primary.sql("postgres", "INSERT INTO released VALUES (1)").await.unwrap();
    agent.facts_until("it is asked again", |facts| facts.of(&primary, "pg_stubborn") == Some(1.0));
    assert!(sessions(&primary).await <= 2);
}
