//! Objects that somebody planted under the names of the catalog's own: they come first in every search path, and are never
//! executed.

use std::collections::BTreeSet;

use pgvitals::agent::Outcome;
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Cluster, Settings};

use crate::catalog::is_expected;
use crate::majors;
use crate::pair::{self, ROLE};

/// What every planted thing says when it is executed.
const SPRUNG: &str = "a planted object is executed";

/// The names that follow `pg_catalog.` or `{schema}.` in the queries: those of functions, and all others.
fn names() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut functions, mut others) = (BTreeSet::new(), BTreeSet::new());
    for definition in Catalog::built_in().unwrap().definitions() {
        for query in &definition.queries {
            for rest in query.sql.split("pg_catalog.").chain(query.sql.split("{schema}.")).skip(1) {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let kind = if rest[end..].starts_with('(') { &mut functions } else { &mut others };
                kind.insert(rest[..end].to_owned());
            }
        }
    }
    functions.extend(["count", "now", "lower", "extract", "date_part", "coalesce", "version"].map(str::to_owned));
    assert!(functions.contains("pg_is_in_recovery") && others.contains("pg_stat_activity"), "{functions:?} {others:?}");
    (functions, others)
}

/// Plants functions, operators, relations, types and casts in these schemas; what cannot be made is left out.
fn planting(schemas: &[&str]) -> String {
    let quoted = |names: &BTreeSet<String>| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let schemas = schemas.iter().map(|schema| format!("'{schema}'")).collect::<Vec<_>>().join(", ");
    let (functions, others) = names();
    let (functions, others) = (quoted(&functions), quoted(&others));
    format!(
        r#"
SET check_function_bodies = off;
DO $planting$
DECLARE
  types text[] := ARRAY['text', 'name', 'int2', 'int4', 'int8', 'oid', 'bool', 'float8', 'numeric', 'pg_lsn', 'xid',
                        'timestamptz', 'interval', 'inet', '"char"'];
  body text := $$LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''{SPRUNG}''; END'$$;
  arguments text; home text; name text; made int := 0; operator record;
  statements text[]; statement text;
BEGIN
  FOREACH home IN ARRAY ARRAY[{schemas}] LOOP
    statements := ARRAY[format('CREATE FUNCTION %I.trap() RETURNS int %s', home, body)];
    FOREACH name IN ARRAY ARRAY[{functions}] LOOP
      -- the very arguments of the true ones, and some that would do as well
      FOR arguments IN SELECT oidvectortypes(proargtypes) FROM pg_catalog.pg_proc WHERE proname = name
                        UNION VALUES (''), ('anyelement'), ('text'), ('text, boolean') LOOP
        statements := statements || format('CREATE FUNCTION %I.%I(%s) RETURNS int %s', home, name, arguments, body);
      END LOOP;
    END LOOP;
    FOR operator IN SELECT DISTINCT oprname, oprleft::regtype::text AS l, oprright::regtype::text AS r FROM pg_catalog.pg_operator
                     WHERE oprleft = ANY (types::regtype[]) AND oprright = ANY (types::regtype[]) LOOP
      statements := statements
        || format('CREATE FUNCTION %I.operate(%s, %s) RETURNS boolean %s', home, operator.l, operator.r, body)
        || format('CREATE OPERATOR %I.%s (LEFTARG = %s, RIGHTARG = %s, PROCEDURE = %I.operate)', home, operator.oprname,
                  operator.l, operator.r, home);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['text', 'float8', 'int4', 'int8', 'bool', 'interval', 'integer', 'boolean', 'bigint'] LOOP
      statements := statements || format('CREATE DOMAIN %I.%I AS pg_catalog.text CHECK (%I.trap() = 1)', home, name, home);
    END LOOP;
    FOREACH name IN ARRAY ARRAY[{others}] LOOP
      statements := statements || format('CREATE VIEW %I.%I AS SELECT 1 AS pid WHERE %I.trap() = 1', home, name, home);
    END LOOP;
    FOREACH name IN ARRAY types LOOP
      -- as some give their old applications, and enough to make an operator ambiguous
      statements := statements || format('CREATE CAST (%s AS pg_catalog.text) WITH INOUT AS IMPLICIT', name);
    END LOOP;
    FOREACH statement IN ARRAY statements LOOP
      BEGIN
        EXECUTE statement;
        made := made + 1;
      EXCEPTION WHEN OTHERS THEN NULL;
      END;
    END LOOP;
  END LOOP;
  IF made < 1000 THEN RAISE EXCEPTION 'only % planted', made; END IF;
END $planting$"#
    )
}

async fn sprung(cluster: &Cluster, sql: &str) -> bool {
    let answer = pair::session(cluster, ROLE, "postgres").await.batch_execute(sql).await;
    answer.is_err_and(|error| error.as_db_error().is_some_and(|error| error.message() == SPRUNG))
}

#[tokio::test]
async fn nothing_planted_in_any_schema_is_executed() {
    majors::each(|binaries| async move {
        let settings = Settings { conf: vec!["archive_mode = on".to_owned()], ..Settings::default() };
        let cluster = Cluster::start(&binaries, settings).await.unwrap();
        pair::prepare(&cluster).await;
        cluster.sql("postgres", "CREATE DATABASE second").await.unwrap();
        for dbname in ["postgres", "second"] {
            cluster.sql(dbname, &format!("CREATE SCHEMA {ROLE} AUTHORIZATION {ROLE}")).await.unwrap();
            cluster.sql(dbname, &planting(&["public", ROLE])).await.unwrap();
            cluster
                .sql(dbname, &format!("GRANT SELECT ON ALL TABLES IN SCHEMA public, {ROLE} TO {ROLE}"))
                .await
                .unwrap();
            let path = format!("SET search_path = {ROLE}, public, pg_catalog");
            cluster.sql(dbname, &format!("ALTER DATABASE {dbname} {path}; ALTER ROLE {ROLE} {path}")).await.unwrap();
        }
        for bait in [
            "SELECT * FROM pg_stat_activity",
            "SELECT lower('A')",
            "SELECT 1 + 1",
            "SELECT 'a'::text",
            "SELECT pg_catalog.version() || pg_catalog.version()",
        ] {
            assert!(sprung(&cluster, bait).await, "{bait} on PostgreSQL {}", binaries.major);
        }
        let before = cluster.log().len();
        let agent = pair::agent(&[&cluster]);
        let reading = pair::read_sampled(&agent).await;
        assert!(reading.reports.len() > 20, "{} reports", reading.reports.len());
        for report in &reading.reports {
            let place = format!("{} on PostgreSQL {}", report.collector, binaries.major);
            match &report.outcome {
                Outcome::Ok => {}
                Outcome::Skipped { reason, .. } => assert!(is_expected(reason), "{place}: {reason}"),
                Outcome::Failed { class, reason } => panic!("{place}: {class}: {reason}"),
            }
        }
        let log = cluster.log()[before..].to_owned();
        assert!(!log.contains("ERROR"), "on PostgreSQL {}: {log}", binaries.major);
    })
    .await;
}
