//! Standbys that commits wait for.

use pgvitals::demo::cluster::{Cluster, Settings, Standby};

use crate::majors::{self, TWO};
use crate::pair;
use crate::program::{Facts, Program, watching};

fn count(facts: &Facts, primary: &Cluster, what: &str) -> Option<f64> {
    facts.of(primary, &format!("pg_stat_replication_sync_{what}"))
}

async fn wait_for(primary: &Cluster, names: &str) {
    // It waits for nobody: the setting is in force only after it.
    primary.sql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await.unwrap();
    primary.sql("postgres", "SELECT pg_reload_conf()").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_commit_that_waits_for_a_missing_standby_is_told_of() {
    majors::on(TWO, |binaries| async move {
        let primary = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&primary).await;
        let agent = Program::start(&watching(&[&primary]));
        let verdict = || {
            let answer = agent.get("/check/synchronous");
            (answer.header("pgvitals-exit-code").unwrap_or_default().to_owned(), answer.body)
        };
        let (facts, _) = agent
            .facts_until("nobody is there", |facts| facts.of(&primary, "pg_stat_replication_downstreams") == Some(0.0));
        assert_eq!(count(&facts, &primary, "required"), Some(0.0));
        assert_eq!(verdict().0, "0", "{}", verdict().1);

        let mut standby = primary.standby(Standby::from("near")).await.unwrap();
        for (names, required, connected) in [
            ("near", 1.0, 1.0),
            ("*", 1.0, 1.0),
            ("FIRST 2 (near, far)", 2.0, 1.0),
            ("any 1 (near, far)", 1.0, 1.0),
            (" 3 (near, far, \"any 9 (\")", 3.0, 1.0),
            ("\"first 2 (near)\", near", 1.0, 1.0),
            ("far", 1.0, 0.0),
            ("", 0.0, 0.0),
            ("ANY 1 (near, far)", 1.0, 1.0),
        ] {
            wait_for(&primary, names).await;
            agent.facts_until(names, |facts| {
                count(facts, &primary, "required") == Some(required)
                    && count(facts, &primary, "connected") == Some(connected)
            });
            let expected = if required > connected { "2" } else { "0" };
            assert_eq!(verdict().0, expected, "{names}: {}", verdict().1);
        }
        standby.stop().await.unwrap();
        agent.facts_until("it is gone", |facts| count(facts, &primary, "connected") == Some(0.0));
        let (code, said) = verdict();
        assert!(code == "2" && said.contains("1 too few synchronous standbys are connected"), "{code} {said}");
    })
    .await;
}
