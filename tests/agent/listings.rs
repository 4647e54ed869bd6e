//! Every listing on every major: its statement runs, on a primary and on a standby, and names each column once.

use std::collections::BTreeSet;
use std::sync::Arc;

use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use pgvitals::plugin::{AskError, Asked};
use pgvitals::server::{ConnectOptions, Environment};

use crate::client::LIMIT;
use crate::majors;
use crate::pair::{self, Pair, until_true};

/// Extensions that no test machine has: their listings are tried where somebody makes tables of that shape.
const ELSEWHERE: [&str; 2] = ["partman_tables", "pgagent_failures"];

/// A session of the role that may do everything.
async fn superuser(cluster: &Cluster) -> Asked {
    let catalog = Arc::new(Catalog::built_in().unwrap());
    let options = ConnectOptions::parse(&cluster.dsn("postgres"), &Environment::new(|_| None)).unwrap();
    Asked::open(&options, &catalog, LIMIT * 6).await.unwrap()
}

/// A session of the role of every agent.
async fn asked(cluster: &Cluster) -> Asked {
    let catalog = Arc::new(Catalog::built_in().unwrap());
    Asked::open(&pair::options(cluster), &catalog, LIMIT * 6).await.unwrap()
}

#[tokio::test]
async fn every_listing_answers_on_every_major() {
    majors::each(|binaries| async move {
        let pair = Pair::start(&binaries).await;
        // A backup's label is nothing that pg_monitor may look at.
        let grant = format!("GRANT EXECUTE ON FUNCTION pg_stat_file(text, boolean) TO {}", pair::ROLE);
        pair.primary.sql("postgres", &grant).await.unwrap();
        until_true(
            &pair.standby,
            &format!("SELECT has_function_privilege('{}', 'pg_stat_file(text, boolean)', 'EXECUTE')", pair::ROLE),
        )
        .await;
        for cluster in [&pair.primary, &pair.standby] {
            let (mut asked, mut superuser) = (asked(cluster).await, superuser(cluster).await);
            for listing in Catalog::built_in().unwrap().listings() {
                let place = format!("{} on PostgreSQL {}", listing.name, cluster.major());
                let asked = if listing.optional { &mut superuser } else { &mut asked };
                match asked.rows(&listing.name).await {
                    Ok(rows) => {
                        let columns = rows.columns();
                        let distinct: BTreeSet<_> = columns.iter().collect();
                        assert!(!columns.is_empty() && distinct.len() == columns.len(), "{place}: {columns:?}");
                    }
                    // What a version lacks is said by `since`, what a database lacks by `extension`.
                    Err(AskError::Unavailable(_)) if listing.name != "connection" => {}
                    // The servers of the tests have extensions with files for newer ones, which 10 does not read.
                    Err(AskError::Query(_)) if listing.name == "extension_versions" && cluster.major() == 10 => {}
                    Err(AskError::Query(_)) if ELSEWHERE.contains(&&*listing.name) => {}
                    Err(error) => panic!("{place}: {error}"),
                }
            }
        }
    })
    .await;
}

/// What a role may do in a session of its own is not what a listing is asked with.
#[tokio::test]
async fn a_user_s_own_statement_runs_as_in_psql_and_ends_in_time() {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    let mut session = asked(&cluster).await;
    let row = |rows: pgvitals::server::RowSet| rows.value(0, 0).unwrap().to_owned();
    let settings = "SELECT current_setting('search_path') || ' ' || current_setting('transaction_read_only')";
    assert_eq!(row(session.sql(settings).await.unwrap()), "\"$user\", public off");
    let refused = session.rows("connection").await.unwrap_err().to_string();
    assert_eq!(refused, "connection is not asked in a session that is its user's own");
    let catalog = Arc::new(Catalog::built_in().unwrap());
    let limit = LIMIT / 4;
    let mut hurried = Asked::open(&pair::options(&cluster), &catalog, limit).await.unwrap();
    assert!(hurried.rows("connection").await.unwrap().value(0, 0).unwrap().starts_with("PostgreSQL 17"));
    let late = hurried.sql("SELECT pg_sleep(60)").await.unwrap_err();
    assert!(matches!(late, AskError::Late(_)), "{late}");
}
