//! A role with less than `pg_monitor`: what it cannot see is absent and says what to grant.

use pgvitals::agent::{Outcome, Skip, Want};
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::pair::{self, ROLE};

#[tokio::test]
async fn what_the_server_hides_is_absent_until_it_is_granted() {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    cluster.sql("postgres", &format!("CREATE ROLE {ROLE} LOGIN")).await.unwrap();
    let agent = pair::agent(&[&cluster]);
    let mut errors = 0;
    for _ in 0..3 {
        let reading = agent.read(&Want::default()).await;
        let sessions = reading.reports_of("sessions").next().unwrap();
        let Outcome::Skipped { why: Skip::Privilege, reason } = &sessions.outcome else { panic!("{sessions:?}") };
        assert!(reason.contains("GRANT pg_monitor"), "{reason}");
        assert!(reading.snapshot.find("pg_stat_activity_count").is_none());
        assert!(reading.snapshot.find("pg_stat_database_xact_commit").is_some(), "what everybody may see is there");
        let refused = cluster.log().lines().filter(|line| line.contains("ERROR:")).count();
        assert!(errors == 0 || errors == refused, "the server is not asked again for what it refuses");
        errors = refused;
    }
    cluster.sql("postgres", &format!("GRANT pg_monitor TO {ROLE}")).await.unwrap();
    let reading = agent.read(&Want::default()).await;
    assert!(reading.snapshot.find("pg_stat_activity_count").is_some());
    let refused = reading.reports.iter().filter(|report| {
        matches!(report.outcome, Outcome::Skipped { why: Skip::Privilege, .. } | Outcome::Failed { .. })
    });
    assert_eq!(refused.map(|report| &report.collector).collect::<Vec<_>>(), Vec::<&String>::new());
}
