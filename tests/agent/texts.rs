//! Texts of statements, for those who ask for them: of what is shown, harmless, and nobody's password.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use pgvitals::agent::{Agent, Outcome, Reading, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use pgvitals::plan::Plan;
use pgvitals::server::Environment;

use crate::majors;
use crate::pair::{self, ROLE};

const GRANT: &str = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO";

/// An agent that asks anew for each reader, by definitions with other texts in them.
fn agent(cluster: &Cluster, change: impl Fn(&str) -> String) -> Agent {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::built_in().unwrap();
    for name in ["statements", "statement_texts"] {
        let text = catalog.definition(name).unwrap().text.replace("fresh_for = \"10s\"", "fresh_for = \"1ms\"");
        fs::write(folder.path().join(format!("{name}.toml")), change(&text)).unwrap();
    }
    let catalog = Catalog::load(folder.path()).unwrap_or_else(|error| panic!("{error}")).with_texts(Some(120));
    let agent = Agent::new(Arc::new(catalog), None, Arc::default());
    assert!(agent.watch(cluster.name(), pair::options(cluster), None));
    agent
}

fn often(text: &str) -> String {
    text.replace("\"5min\"", "\"1ms\"")
}

fn labels(reading: &Reading, metric: &str, label: &str) -> Vec<String> {
    let group = reading.snapshot.find(metric);
    let samples = group.into_iter().flat_map(|group| group.samples());
    samples.filter_map(|sample| sample.label(label).map(str::to_owned)).collect()
}

fn texts(reading: &Reading) -> Vec<String> {
    labels(reading, "pg_stat_statements_query_id", "query")
}

fn outcome(reading: &Reading) -> Outcome {
    reading.reports_of("statement_texts").next().unwrap().outcome.clone()
}

fn refusal(reading: &Reading) -> String {
    match outcome(reading) {
        Outcome::Failed { class: "declined", reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn texts_are_those_of_what_is_shown_short_and_without_values() {
    majors::on([11, 14, 18], |binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&cluster).await;
        let before = cluster.log().len();
        let agent = agent(&cluster, often);
        let reading = agent.read(&Want::default()).await;
        let reason = outcome(&reading).reason().unwrap_or_default().to_owned();
        assert!(matches!(outcome(&reading), Outcome::Skipped { .. }) && reason.contains("pg_stat_file"), "{reason}");

        // A reading has asked so much that what is quick would not be among the first.
        cluster.sql("postgres", "SELECT pg_stat_statements_reset()").await.unwrap();
        for statement in [
            "SELECT 'Юникод', \"Ж\".\"Ж\" FROM (SELECT 1 AS \"Ж\") AS \"Ж\" /* ".to_owned()
                + &"Ж".repeat(3_000)
                + " */",
            "/* first\u{7} \u{1b}[2J */\n\tSELECT 1,\r\n\t\t'secret'::text -- secret".to_owned(),
            "ALTER ROLE postgres PASSWORD 'verysecret'".to_owned(),
            "SET my.token = verysecret".to_owned(),
        ] {
            cluster.sql("postgres", &statement).await.unwrap();
        }
        cluster.sql("postgres", &format!("{GRANT} {ROLE}")).await.unwrap();
        let reading = agent.read(&Want::only(["statement_texts".to_owned()])).await;
        assert_eq!(outcome(&reading), Outcome::Ok);
        assert!(reading.snapshot.find("pg_stat_statements_calls_total").is_none(), "nobody asked for numbers");
        for wanted in ["\"Ж\".\"Ж\"", "ALTER ROLE postgres PASSWORD ?", "SET my.token = ?"] {
            assert!(texts(&reading).iter().any(|text| text.contains(wanted)), "{wanted}: {:?}", texts(&reading));
        }
        for columns in 1..150 {
            cluster.sql("postgres", &format!("SELECT {}", vec!["1"; columns].join(", "))).await.unwrap();
        }
        // All are read again only after a hundred times what that took.
        let ids = |reading: &Reading, metric: &str| labels(reading, &format!("pg_stat_statements_{metric}"), "queryid");
        let are_all = |reading: &Reading| {
            let [of, shown]: [BTreeSet<_>; 2] =
                ["query_id", "calls_total"].map(|metric| ids(reading, metric).into_iter().collect());
            of.len() > 50 && of == shown
        };
        let reading = pair::read_until(&agent, are_all).await;
        assert!(are_all(&reading), "{:?} {:?}", ids(&reading, "query_id"), ids(&reading, "calls_total"));
        assert_eq!(texts(&reading).len(), ids(&reading, "query_id").into_iter().collect::<BTreeSet<_>>().len());
        for text in texts(&reading) {
            assert!(text.chars().count() <= 120 && !text.chars().any(char::is_control), "{text:?}");
            assert!(!text.contains("secret"), "{text:?}");
        }
        let log = &cluster.log()[before..];
        assert!(!log.contains("ERROR"), "{log}");
    })
    .await;
}

/// How often our role had all texts read.
async fn asked(cluster: &Cluster) -> u64 {
    let sql = format!(
        "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE 'DO %' AND userid = '{ROLE}'::regrole"
    );
    cluster.sql("postgres", &sql).await.unwrap().concat().pop().flatten().unwrap().parse().unwrap()
}

#[tokio::test]
async fn only_new_texts_are_asked_for_and_only_now_and_then() {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    cluster.sql("postgres", &format!("{GRANT} {ROLE}")).await.unwrap();
    let seldom = agent(&cluster, str::to_owned);
    let eager = agent(&cluster, often);
    let first = texts(&seldom.read(&Want::default()).await);
    assert!(!first.is_empty() && asked(&cluster).await == 1, "{first:?}");
    cluster.sql("postgres", "SELECT pg_sleep(0.3), 1 AS late").await.unwrap();
    for _ in 0..3 {
        let reading = seldom.read(&Want::default()).await;
        assert_eq!(outcome(&reading), Outcome::Ok);
        assert!(!texts(&reading).iter().any(|text| text.contains("AS late")));
    }
    assert_eq!(asked(&cluster).await, 1);
    let has_late = |reading: &Reading| texts(reading).iter().any(|text| text.contains("AS late"));
    assert!(has_late(&pair::read_until(&eager, has_late).await));
    // What the agent itself asks is new until it was asked.
    let (mut before, mut same) = (asked(&cluster).await, 0);
    let deadline = std::time::Instant::now() + pair::PATIENCE;
    while same < 30 && std::time::Instant::now() < deadline {
        assert!(has_late(&eager.read(&Want::default()).await));
        let now = asked(&cluster).await;
        same = if now == before { same + 1 } else { 0 };
        before = now;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(same, 30, "asked again and again for what is known");
}

#[tokio::test]
async fn a_large_file_of_texts_is_not_loaded_and_a_broken_text_is_no_error_and_costs_no_number() {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    cluster.sql("postgres", &format!("{GRANT} {ROLE}")).await.unwrap();
    let before = cluster.log().len();
    // No column of the function's is ever looked at if it is not called.
    let small = agent(&cluster, |text| {
        text.replace("16 * 1024 * 1024", "16").replace("s.query,", "(s.calls / 0)::pg_catalog.text,")
    });
    let reading = small.read(&Want::default()).await;
    assert!(refusal(&reading).contains("expected 16 MB at most"), "{}", refusal(&reading));
    assert_eq!(texts(&reading), [""; 0]);

    // Of a database without encoding, cut where a letter is not yet whole: the server itself cannot show it.
    cluster.sql("postgres", "CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII'").await.unwrap();
    let broken = "DO $$ BEGIN EXECUTE 'SELECT 1 AS \"' || chr(195) || '\"'; END $$";
    cluster.sql("postgres", "ALTER SYSTEM SET pg_stat_statements.track = 'all'").await.unwrap();
    cluster.sql("postgres", "SELECT pg_reload_conf()").await.unwrap();
    pair::until_true(&cluster, "SELECT current_setting('pg_stat_statements.track') = 'all'").await;
    let agent = agent(&cluster, often);
    let known = texts(&agent.read(&Want::default()).await);
    assert!(!known.is_empty());
    cluster.sql("raw", broken).await.unwrap();
    let reading = pair::read_until(&agent, |reading| outcome(reading) != Outcome::Ok).await;
    assert!(refusal(&reading).contains("invalid byte sequence"), "{}", refusal(&reading));
    assert!(reading.snapshot.find("pg_stat_statements_calls_total").is_some());
    assert!(!texts(&reading).is_empty(), "what is known already is shown");
    let log = &cluster.log()[before..];
    assert!(!log.contains("ERROR"), "{log}");
    cluster.sql("postgres", "SELECT pg_stat_statements_reset()").await.unwrap();
    let reading = pair::read_until(&agent, |reading| outcome(reading) == Outcome::Ok).await;
    assert_eq!(outcome(&reading), Outcome::Ok);
}

#[tokio::test]
async fn the_configuration_says_whether_texts_are_shown_and_how_much_of_them() {
    let cluster = Cluster::start(&Binaries::major(10).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgvitals.toml");
    // On 10 only a superuser learns how large the texts are.
    for (user, section, expected) in [
        ("postgres", "", None),
        ("postgres", "[statements]\ntexts = true\ntext_length = 6", Some("SELECT")),
        (ROLE, "[statements]\ntexts = true", None),
    ] {
        let dsn = cluster.dsn("postgres").replace("user=postgres", &format!("user={user}"));
        fs::write(&file, format!("{section}\n[[server]]\nname = \"one\"\ndsn = \"{dsn}\"\n")).unwrap();
        let before = cluster.log().len();
        let plan = Plan::load(Some(&file), &[], Environment::new(|_| None)).unwrap();
        let reading = plan.start(&Arc::default(), None).agent().read(&Want::default()).await;
        assert_eq!(reading.reports_of("statement_texts").count(), usize::from(!section.is_empty()));
        let texts = texts(&reading);
        assert_eq!(texts.iter().find(|text| text.starts_with("SEL")).map(String::as_str), expected, "{texts:?}");
        if user == ROLE {
            assert!(refusal(&reading).contains("superuser"), "{}", refusal(&reading));
        }
        let log = &cluster.log()[before..];
        assert!(!log.contains("ERROR"), "{log}");
    }
}
