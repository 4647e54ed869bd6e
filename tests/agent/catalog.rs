//! Every definition on every major, on a primary and on a standby.

use pgvitals::agent::Outcome;

use crate::majors;
use crate::pair::{self, Pair};

/// Why a definition may give nothing: it is of another role, or the server is older than what it reads.
pub(crate) fn is_expected(reason: &str) -> bool {
    [
        "runs on a primary only",
        "runs on a standby only",
        "needs PostgreSQL ",
        "needs pg_stat_statements ",
        "needs pg_buffercache ",
    ]
    .iter()
    .any(|expected| reason.starts_with(expected))
}

#[tokio::test]
async fn every_definition_gives_its_columns_on_every_major_and_in_both_roles() {
    majors::each(|binaries| async move {
        let pair = Pair::start(&binaries).await;
        let agent = pair::agent(&[&pair.primary, &pair.standby]);
        let reading = pair::read_sampled(&agent).await;
        assert!(reading.reports.len() > 20, "{} reports", reading.reports.len());
        for report in &reading.reports {
            let place = format!("{} on {:?} of PostgreSQL {}", report.collector, report.server, binaries.major);
            match &report.outcome {
                Outcome::Ok => {}
                Outcome::Skipped { reason, .. } => assert!(is_expected(reason), "{place}: {reason}"),
                Outcome::Failed { class, reason } => panic!("{place}: {class}: {reason}"),
            }
        }
        for cluster in [&pair.primary, &pair.standby] {
            let log = cluster.log();
            let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR:")).collect();
            assert_eq!(errors, [""; 0], "in the log of PostgreSQL {}", binaries.major);
        }
    })
    .await;
}
