//! The columns of every query on every major: they are of a type that fits, and whatever stands in them is read or told,
//! never dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use pgvitals::agent::{Agent, Outcome, Want};
use pgvitals::catalog::{Catalog, Definition, MetricColumn, Scope, Version};
use pgvitals::collect::CollectError;
use pgvitals::collect::gathered::Gathered;
use pgvitals::collect::shown::Shown;
use pgvitals::collect::sql::{Collected, families_of};
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use pgvitals::metric::{Family, Kind};
use pgvitals::server::RowSet;

use crate::client::{admin, ask};
use crate::majors;
use crate::pair;

/// The definitions that apply to a primary of this version, each with its statement.
async fn asked(cluster: &Cluster) -> Vec<(Arc<Definition>, String)> {
    let of_server = Version { major: cluster.major(), minor: 0 };
    let rows = cluster.sql("postgres", "SELECT extname, extversion FROM pg_extension").await.unwrap();
    let cell = |row: &[Option<String>], at: usize| row[at].clone().unwrap();
    let of_extension: BTreeMap<String, Version> =
        rows.iter().map(|row| (cell(row, 0), cell(row, 1).parse().unwrap())).collect();
    let catalog = Catalog::built_in().unwrap();
    let query = |definition: &Arc<Definition>| {
        let version = definition.extension.as_ref().map_or(of_server, |name| of_extension[name]);
        let sql = definition.query_for(version)?.sql.replace("{schema}", "public");
        Some((Arc::clone(definition), sql))
    };
    catalog.asking().filter_map(query).collect()
}

/// Texts that are digits and nothing else: a pattern has cut them out of a longer one.
const DIGITS: [&str; 1] = ["upstream_node"];

/// Columns without a metric: only checks read them that ask for the rows of the definition, or what explains one.
const ASKED_BY_NAME: [(&str, &str); 4] =
    [("slots", "restart_lsn"), ("slru", "own_name"), ("table_bloat", "size"), ("index_bloat", "size")];

/// What PostgreSQL calls a type that may become a value.
fn fits(type_name: &str, kind: Kind) -> bool {
    match type_name {
        "int2" | "int4" | "int8" | "float4" | "float8" | "numeric" => true,
        "bool" => kind == Kind::Gauge,
        _ => false,
    }
}

async fn assert_types(cluster: &Cluster) {
    let session = cluster.client("postgres").await.unwrap();
    session.batch_execute("SET search_path = pg_catalog, pg_temp").await.unwrap();
    for (definition, sql) in asked(cluster).await {
        let place = format!("{} on PostgreSQL {}", definition.name, cluster.major());
        let statement = session.prepare(&sql).await.unwrap_or_else(|error| panic!("{place}: {error:?}"));
        let type_of = |name: &str| {
            let named: Vec<_> = statement.columns().iter().filter(|column| column.name() == name).collect();
            assert_eq!(named.len(), 1, "{place}: columns {name}");
            named[0].type_().name().to_owned()
        };
        // What a version has nothing to say of is NULL, to the server a text.
        let is_null = |column: &str| sql.contains(&format!("NULL AS {column}"));
        for metric in &definition.metrics {
            let found = type_of(&metric.column);
            let is_text = found == "text" && (is_null(&metric.column) || DIGITS.contains(&&*metric.column));
            assert!(is_text || fits(&found, metric.metric.kind), "{place}: {} is {found}", metric.column);
        }
        if let Some(top) = &definition.top {
            assert!(fits(&type_of(&top.rank_by), Kind::Gauge), "{place}: {}", top.rank_by);
        }
        // A label of a time or a fraction would be a new series with every reading.
        let labels = definition.metrics.iter().flat_map(|metric| metric.labels.iter().map(String::as_str));
        // In database scope the walk knows the database's name.
        let labels = labels.filter(|label| definition.scope == Scope::Server || *label != "datname");
        for label in labels.chain(definition.metrics.iter().flat_map(MetricColumn::template_columns)) {
            let found = type_of(label);
            let expected = ["text", "name", "varchar", "oid", "int4"];
            assert!(expected.contains(&&*found), "{place}: the label {label} is {found}");
        }
    }
}

/// The first rows of an answer with another value in one column; one row if there was none.
fn with(answer: &RowSet, column: usize, value: Option<&str>) -> RowSet {
    let mut changed = RowSet::new(answer.columns().to_vec());
    // Of a row without any label the numbers are not looked at.
    let any = vec![Some("0"); answer.columns().len()];
    let rows = answer.rows().map(Iterator::collect::<Vec<_>>);
    let rows: Vec<_> = if answer.is_empty() { vec![any] } else { rows.collect() };
    for row in rows.into_iter().take(2) {
        for (at, own) in row.into_iter().enumerate() {
            assert!(changed.push(if at == column { value } else { own }));
        }
    }
    changed
}

fn names_of(families: &[Family]) -> BTreeSet<&str> {
    families.iter().map(|family| family.metric().name.as_str()).collect()
}

fn assert_no_twins(families: &[Family], place: &str) {
    for family in families {
        let labels: Vec<_> = family.samples().map(|it| (it.suffix(), it.labels().collect::<Vec<_>>())).collect();
        let distinct: BTreeSet<_> = labels.iter().collect();
        assert_eq!(distinct.len(), labels.len(), "{place}: {}", family.metric().name);
    }
}

/// What is made of an answer: on the spot, or at the end of a walk over one database.
fn collected(definition: &Arc<Definition>, answer: &RowSet) -> Result<Collected, CollectError> {
    if definition.scope == Scope::Server {
        return families_of(definition, answer, &mut Shown::default());
    }
    let mut gathered = Gathered::new(Arc::clone(definition));
    gathered.add("postgres", answer)?;
    gathered.into_collected(&mut Shown::default())
}

async fn assert_decoding(cluster: &Cluster) {
    let numbers = ["-1.5", "1e300", "170141183460469231731687303715884105727", "t", "NaN", "-Infinity"];
    let texts = ["", "12 kB", "1e999", "2026-01-01 00:00:00+00", "x\0\n{}\"\\|"];
    let mut session = admin(cluster).await;
    for (definition, sql) in asked(cluster).await {
        let answer = ask(&mut session, &sql).await;
        let labels: BTreeSet<&str> = definition
            .metrics
            .iter()
            .flat_map(|metric| metric.labels.iter().map(String::as_str).chain(metric.template_columns()))
            .collect();
        let values: BTreeSet<&str> = definition
            .metrics
            .iter()
            .map(|metric| metric.column.as_str())
            .chain(definition.top.iter().map(|top| top.rank_by.as_str()))
            .collect();
        for (at, column) in answer.columns().iter().enumerate() {
            let place = |value| format!("{}.{column} = {value:?} on PostgreSQL {}", definition.name, cluster.major());
            let read = |value| collected(&definition, &with(&answer, at, value));
            let without = read(None).unwrap_or_else(|error| panic!("{}: {error}", place("NULL"))).families;
            let only: Vec<_> = definition.metrics.iter().filter(|metric| metric.column == *column).collect();
            for metric in only.iter().filter(|metric| metric.template_columns().next().is_none()) {
                let name = metric.metric.name.as_str();
                assert!(!names_of(&without).contains(name), "{}: NULL is no sample", place("NULL"));
            }
            for value in numbers {
                let families = read(Some(value)).unwrap_or_else(|error| panic!("{}: {error}", place(value))).families;
                assert_no_twins(&families, &place(value));
                for metric in only.iter().filter(|metric| metric.template_columns().next().is_none()) {
                    assert!(names_of(&families).contains(metric.metric.name.as_str()), "{} is dropped", place(value));
                }
            }
            for value in texts {
                match read(Some(value)) {
                    Ok(collected) => {
                        assert!(!values.contains(column.as_str()), "{} is taken for a number", place(value));
                        assert_no_twins(&collected.families, &place(value));
                    }
                    Err(error) => {
                        assert!(values.contains(column.as_str()), "{}: {error}", place(value));
                        assert!(
                            error.to_string().starts_with(&format!("column `{column}`: expected a number")),
                            "{error}"
                        );
                    }
                }
            }
            let by_name = ASKED_BY_NAME.contains(&(&definition.name, column));
            let known = by_name || labels.contains(column.as_str()) || values.contains(column.as_str());
            assert!(known, "{}: nothing uses the column {column}", definition.name);
        }
    }
}

#[tokio::test]
async fn every_column_is_of_a_fitting_type_and_read_or_told_whatever_it_holds() {
    majors::each(|binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        pair::prepare(&cluster).await;
        assert_types(&cluster).await;
        assert_decoding(&cluster).await;
    })
    .await;
}

/// A definition of one's own with two columns, the second of which is no number.
const WRONG: &str = r#"
help = "One column that is a number, and one that is not"
[[query]]
since = 10
sql = "SELECT 1 AS right, 'many'::pg_catalog.text AS wrong"
[[metric]]
name = "pg_right"
type = "gauge"
column = "right"
help = "A number"
[[metric]]
name = "pg_wrong"
type = "gauge"
column = "wrong"
help = "No number"
"#;

#[tokio::test]
async fn a_text_where_a_number_should_be_is_told_and_counted_and_costs_no_other_definition() {
    let cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    pair::prepare(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wrong.toml"), WRONG).unwrap();
    let agent = Agent::new(Arc::new(Catalog::load(folder.path()).unwrap()), None, Arc::default());
    assert!(agent.watch(cluster.name(), pair::options(&cluster), None));
    for failures in 1..3 {
        let reading = agent.read(&Want::default()).await;
        let report = reading.reports_of("wrong").next().unwrap();
        let Outcome::Failed { class, reason } = &report.outcome else { panic!("{report:?}") };
        assert_eq!((*class, &**reason), ("column", "column `wrong`: expected a number or a boolean, got \"many\""));
        let value = |name: &str| {
            let group = reading.snapshot.find(name)?;
            group.samples().find(|sample| sample.label("collector") == Some("wrong")).map(|sample| sample.value)
        };
        assert_eq!(value("pgvitals_collector_success"), Some(0.0));
        assert_eq!(value("pgvitals_collector_failures_total"), Some(f64::from(failures)));
        assert_eq!(value("pgvitals_collector_absent"), Some(1.0));
        assert!(reading.snapshot.find("pg_stat_database_xact_commit").is_some());
        // What is fresh for a second is asked again after it.
        tokio::time::sleep(std::time::Duration::from_millis(1_001)).await;
    }
}
