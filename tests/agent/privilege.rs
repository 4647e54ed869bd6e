//! A role with less than `pg_monitor`: what it cannot see is absent and says what to grant.

use pgvitals::agent::{Outcome, Reading, Skip, Want};
use pgvitals::demo::cluster::{Cluster, Settings};

use crate::majors;
use crate::pair::{self, ROLE};

/// The collectors that our role lacks a privilege for, each with the reason.
fn lacking(reading: &Reading) -> Vec<(&str, &str)> {
    let of_report = |report: &'_ pgvitals::agent::Report| match &report.outcome {
        Outcome::Skipped { why: Skip::Privilege, .. } | Outcome::Failed { .. } => true,
        Outcome::Ok | Outcome::Skipped { .. } => false,
    };
    let lacking = reading.reports.iter().filter(|report| of_report(report));
    lacking.map(|report| (report.collector.as_str(), report.outcome.reason().unwrap_or_default())).collect()
}

fn errors(cluster: &Cluster) -> Vec<String> {
    cluster.log().lines().filter(|line| line.contains("ERROR:")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_grant_shows_and_a_revoke_hides_in_the_next_reading() {
    majors::on(majors::TWO, |binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        let sql = async |statement: &str| drop(cluster.sql("postgres", statement).await.unwrap());
        sql(&format!("CREATE ROLE {ROLE} LOGIN")).await;
        pair::grant_optional(&cluster, ROLE).await;
        sql("CREATE EXTENSION pg_stat_statements").await;
        let agent = pair::agent(&[&cluster]);
        for _ in 0..2 {
            let reading = agent.read(&Want::default()).await;
            let lacking = lacking(&reading);
            assert!(lacking.len() > 10, "{lacking:?}");
            for (collector, reason) in &lacking {
                assert!(reason.ends_with(": GRANT pg_monitor TO pgvitals"), "{collector}: {reason}");
            }
            assert!(reading.snapshot.find("pg_stat_activity_count").is_none());
            assert!(reading.snapshot.find("pg_stat_database_xact_commit").is_some(), "what everybody may see is there");

            sql(&format!("GRANT pg_monitor TO {ROLE}")).await;
            let reading = agent.read(&Want::default()).await;
            assert_eq!(self::lacking(&reading), []);
            assert!(reading.snapshot.find("pg_stat_activity_count").is_some());
            sql(&format!("REVOKE pg_monitor FROM {ROLE}")).await;
        }
        assert_eq!(errors(&cluster), [""; 0], "the server never had to refuse");
    })
    .await;
}

#[tokio::test]
async fn a_function_or_a_schema_is_asked_for_by_its_own_name() {
    let cluster = Cluster::start(&majors::newest(), Settings::default()).await.unwrap();
    let sql = async |statement: &str| drop(cluster.sql("postgres", statement).await.unwrap());
    sql(&format!("CREATE ROLE {ROLE} LOGIN")).await;
    sql(&format!("GRANT pg_monitor TO {ROLE}")).await;
    sql("CREATE SCHEMA \"My \"\"Schema\"").await;
    sql("CREATE EXTENSION pg_stat_statements SCHEMA \"My \"\"Schema\"").await;
    sql("REVOKE EXECUTE ON FUNCTION pg_ls_waldir() FROM pg_monitor").await;
    for function in ["pg_show_all_file_settings", "pg_ident_file_mappings"] {
        sql(&format!("GRANT EXECUTE ON FUNCTION {function}() TO {ROLE}")).await;
    }
    let agent = pair::agent(&[&cluster]);
    let reading = agent.read(&Want::default()).await;
    let grants: Vec<_> =
        lacking(&reading).into_iter().map(|(name, reason)| (name, reason.rsplit(": ").next().unwrap())).collect();
    let usage = "GRANT USAGE ON SCHEMA \"My \"\"Schema\" TO pgvitals";
    let execute = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO pgvitals";
    let rules = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO pgvitals";
    let origins = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_replication_origin_status() TO pgvitals";
    let expected = [
        ("hba_rules", rules),
        ("replication_origins", origins),
        ("statements", usage),
        ("statements_info", usage),
        ("wal_directory", execute),
    ];
    assert_eq!(grants, expected);
    for grant in [usage, execute, rules, origins] {
        sql(grant).await;
    }
    assert_eq!(lacking(&agent.read(&Want::default()).await), []);
    sql("REVOKE EXECUTE ON FUNCTION \"My \"\"Schema\".pg_stat_statements(boolean) FROM public").await;
    let reading = agent.read(&Want::default()).await;
    let function = "GRANT EXECUTE ON FUNCTION \"My \"\"Schema\".pg_stat_statements(boolean) TO pgvitals";
    assert!(lacking(&reading).iter().all(|(_, reason)| reason.ends_with(function)), "{:?}", lacking(&reading));
    assert_eq!(errors(&cluster), [""; 0]);
}

#[tokio::test]
async fn an_extension_whose_library_was_not_loaded_is_left_alone() {
    // A parameter that is only mentioned does not make it loaded.
    let conf = ["shared_preload_libraries = ''", "pg_stat_statements.max = 1000"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start(&majors::newest(), Settings { conf, ..Settings::default() }).await.unwrap();
    pair::prepare(&cluster).await;
    let agent = pair::agent(&[&cluster]);
    let reading = agent.read(&Want::default()).await;
    let statements = reading.reports_of("statements").next().unwrap();
    let Outcome::Skipped { why: Skip::Extension, reason } = &statements.outcome else { panic!("{statements:?}") };
    assert_eq!(reason, "pg_stat_statements is not in shared_preload_libraries");
    assert_eq!(errors(&cluster), [""; 0]);
    let load = "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'";
    cluster.sql("postgres", load).await.unwrap();
    cluster.restart().await.unwrap();
    assert!(agent.read(&Want::default()).await.snapshot.find("pg_stat_statements_calls_total").is_some());
}
