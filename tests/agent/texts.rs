//! Texts of statements, with the definition in `docs/checks.d`: bounded, harmless, and nobody's password.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pgvitals::agent::{Agent, Outcome, Reading, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::majors;
use crate::pair::{self, ROLE};

const GRANT: &str = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO";

fn agent(cluster: &Cluster, change: impl Fn(String) -> String) -> Agent {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/checks.d/statement_texts.toml");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("statement_texts.toml"), change(fs::read_to_string(text).unwrap())).unwrap();
    let catalog = Catalog::load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let agent = Agent::new(Arc::new(catalog), None, Arc::default());
    assert!(agent.watch(cluster.name(), pair::options(cluster), None));
    agent
}

fn texts(reading: &Reading) -> Vec<String> {
    let group = reading.snapshot.find("pg_stat_statements_query_id");
    let samples = group.into_iter().flat_map(|group| group.samples());
    samples.filter_map(|sample| sample.label("query").map(str::to_owned)).collect()
}

#[tokio::test]
async fn texts_are_short_plain_and_bounded() {
    majors::on([11, 17], |binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&cluster).await;
        for statement in [
            "SELECT 'Юникод', \"Ж\".\"Ж\" FROM (SELECT 1 AS \"Ж\") AS \"Ж\" /* ".to_owned()
                + &"Ж".repeat(3_000)
                + " */",
            "/* first\u{7} \u{1b}[2J */\n\tSELECT 1,\r\n\t\t'secret'::text".to_owned(),
            "ALTER ROLE postgres PASSWORD 'verysecret'".to_owned(),
        ] {
            cluster.sql("postgres", &statement).await.unwrap();
        }
        let agent = agent(&cluster, |text| text.replace("\"10min\"", "\"1ms\""));
        let refused = agent.read(&Want::default()).await;
        let outcome = |reading: &Reading| reading.reports_of("statement_texts").next().unwrap().outcome.clone();
        let reason = outcome(&refused).reason().unwrap_or_default().to_owned();
        assert!(matches!(outcome(&refused), Outcome::Skipped { .. }) && reason.contains("pg_stat_file"), "{reason}");

        cluster.sql("postgres", &format!("{GRANT} {ROLE}")).await.unwrap();
        let reading = agent.read(&Want::default()).await;
        assert_eq!(outcome(&reading), Outcome::Ok);
        let found = texts(&reading);
        assert!(found.iter().any(|text| text.contains("\"Ж\".\"Ж\"")), "{found:?}");
        assert!(found.iter().any(|text| text == "ALTER"), "{found:?}");
        for text in &found {
            assert!(text.chars().count() <= 120 && !text.chars().any(char::is_control), "{text:?}");
            assert!(!text.contains("secret"), "{text:?}");
        }
        for columns in 1..150 {
            cluster.sql("postgres", &format!("SELECT {}", vec!["1"; columns].join(", "))).await.unwrap();
        }
        assert_eq!(texts(&agent.read(&Want::default()).await).len(), 100);
        let size = reading.snapshot.find("pg_stat_statements_texts_bytes").unwrap().samples().next().unwrap().value;
        assert!(size > 3_000.0, "{size}");
    })
    .await;
}

#[tokio::test]
async fn a_large_file_of_texts_is_not_loaded_and_a_broken_text_costs_no_other_definition() {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    cluster.sql("postgres", &format!("{GRANT} {ROLE}")).await.unwrap();
    // No column of the function's is ever looked at if it is not called.
    let small = agent(&cluster, |text| {
        text.replace("16 * 1024 * 1024", "16").replace("s.query,", "(s.calls / 0)::pg_catalog.text,")
    });
    let reading = small.read(&Want::default()).await;
    assert_eq!(reading.reports_of("statement_texts").next().unwrap().outcome, Outcome::Ok);
    assert_eq!(texts(&reading), [""; 0]);
    assert!(reading.snapshot.find("pg_stat_statements_texts_bytes").is_some());

    // Of a database without encoding, cut where a letter is not yet whole: the server itself cannot show it.
    cluster.sql("postgres", "CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII'").await.unwrap();
    let broken = "DO $$ BEGIN EXECUTE 'SELECT 1 AS \"' || chr(195) || '\"'; END $$";
    cluster.sql("postgres", "ALTER SYSTEM SET pg_stat_statements.track = 'all'").await.unwrap();
    cluster.sql("postgres", "SELECT pg_reload_conf()").await.unwrap();
    pair::until_true(&cluster, "SELECT current_setting('pg_stat_statements.track') = 'all'").await;
    cluster.sql("raw", broken).await.unwrap();
    let reading = agent(&cluster, |text| text).read(&Want::default()).await;
    let texts = &reading.reports_of("statement_texts").next().unwrap().outcome;
    assert!(texts.reason().is_some_and(|reason| reason.contains("invalid byte sequence")), "{texts:?}");
    assert!(reading.snapshot.find("pg_stat_statements_calls_total").is_some());
}
