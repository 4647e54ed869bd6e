//! The walk over the databases: who is entered, who is not, and what it costs.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgvitals::agent::{Agent, Outcome, Reading, Want};
use pgvitals::catalog::Catalog;
use pgvitals::demo::cluster::{Binaries, Cluster, Settings, Standby};
use pgvitals::metric::Snapshot;
use pgvitals::server::Databases;
use tempfile::TempDir;

use crate::command::pgvitals;
use crate::lifecycle::Sessions;
use crate::majors;
use crate::pair::{self, ROLE, options, prepare, read_until, until_true};
use crate::pooler::PgBouncer;
use crate::program::{Program, watching};

/// A definition that gives one sample in each database, and a rule over it.
const HERE: &str = r#"
help = "Whether we have been here"
scope = "database"
fresh_for = "1s"

[[query]]
since = 10
sql = '''
SELECT pg_catalog.count(*) AS sessions, pg_catalog.pg_backend_pid() AS pid
  FROM pg_catalog.pg_stat_activity WHERE application_name = 'pgvitals'
'''

[[metric]]
name = "pg_here"
type = "gauge"
column = "sessions"
help = "Sessions of ours"

[[metric]]
name = "pg_process"
type = "gauge"
column = "pid"
help = "The process that answers"

[[rule]]
name = "here"
value = "pg_here"
warning = "2"
summary = "{value} sessions in {datname}"
reason = "No more than two at any moment"
"#;

/// A folder of definitions with these texts.
fn checks(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    }
    folder
}

fn agent_with(cluster: &Cluster, checks: &TempDir, databases: Databases) -> Agent {
    let catalog = Arc::new(Catalog::load(checks.path()).unwrap());
    let agent = Agent::new(catalog, None, Arc::default()).with_databases(databases);
    assert!(agent.watch(cluster.name(), options(cluster), None));
    agent
}

pub(crate) async fn start(major: u32) -> Cluster {
    let conf = vec!["log_connections = on".to_owned(), "autovacuum = off".to_owned()];
    let cluster = Cluster::start(&Binaries::major(major).unwrap(), Settings { conf, ..Settings::default() }).await;
    let cluster = cluster.unwrap();
    prepare(&cluster).await;
    cluster
}

pub(crate) async fn execute(cluster: &Cluster, database: &str, statements: &[&str]) {
    for statement in statements {
        cluster.sql(database, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// The values of a metric by its labels, without the server's, each as `a/b`.
pub(crate) fn samples(snapshot: &Snapshot, metric: &str) -> BTreeMap<String, f64> {
    let samples = snapshot.find(metric).into_iter().flat_map(|group| group.samples().collect::<Vec<_>>());
    let labels = |sample: &pgvitals::metric::Sample<'_>| {
        sample.labels().skip(1).map(|(_, value)| value.to_owned()).collect::<Vec<_>>().join("/")
    };
    samples.map(|sample| (labels(&sample), sample.value)).collect()
}

fn state(reading: &Reading, state: &str) -> Option<f64> {
    samples(&reading.snapshot, "pgvitals_databases").get(state).copied()
}

/// What each database answered to [`HERE`].
fn visited(reading: &Reading) -> Vec<String> {
    samples(&reading.snapshot, "pg_here").into_keys().collect()
}

/// Lines of the server's log that say that something went wrong, but for who came before it was there.
pub(crate) fn complaints(cluster: &Cluster) -> Vec<String> {
    let log = cluster.log();
    let wrong = |line: &&str| ["ERROR:", "FATAL:", "WARNING:"].iter().any(|word| line.contains(word));
    let wrong = |line: &&str| wrong(line) && !line.contains("the database system is starting up");
    log.lines().filter(wrong).map(str::to_owned).collect()
}

const HOSTILE: &str = "a \"b\" {c} %d\\e\nf|größe";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_database_is_entered_over_two_sessions_at_most() {
    const COUNT: usize = 100;
    let cluster = start(17).await;
    let mut creating = tokio::task::JoinSet::new();
    for part in 0..4 {
        let session = cluster.client("postgres").await.unwrap();
        creating.spawn(async move {
            for n in (part..COUNT).step_by(4) {
                let create = format!("CREATE DATABASE db{n} TEMPLATE template0 STRATEGY file_copy");
                session.batch_execute(&create).await.unwrap();
            }
        });
    }
    while let Some(created) = creating.join_next().await {
        created.unwrap();
    }
    let hostile = HOSTILE.replace('"', "\"\"");
    execute(
        &cluster,
        "postgres",
        &[
            &format!("ALTER DATABASE db0 RENAME TO \"{hostile}\""),
            "REVOKE CONNECT ON DATABASE db1 FROM public",
            "ALTER DATABASE db2 ALLOW_CONNECTIONS false",
            "ALTER DATABASE db3 CONNECTION LIMIT 1",
            "ALTER DATABASE db4 RENAME TO db4_test",
        ],
    )
    .await;
    let checks = checks(&[("here", HERE)]);
    let databases = format!("[databases]\nexclude = [\"*_test\", \"template1\"]\nmax = {}\n", COUNT - 6);
    let config = format!("checks = '{}'\n{}{databases}", checks.path().display(), watching(&[&cluster]));
    let sessions = Sessions::count(&cluster).await;
    let agent = Program::start(&config);
    let (facts, _) = agent.facts_until("the walk is through", |facts| !facts.values("pg_here", &[]).is_empty());
    let count = |state: &str| facts.value("pgvitals_databases", &[&format!("state=\"{state}\"")]);
    for (state, expected) in [
        ("walked", COUNT - 6),
        ("failed", 0),
        ("denied", 1),
        // The two templates, and the one that allows no connections.
        ("closed", 3),
        ("full", 1),
        ("excluded", 1),
        ("over_max", 3),
    ] {
        assert_eq!(count(state), Some(expected as f64), "{state} of {}", facts.text);
    }
    let of_hostile = "datname=\"a \\\"b\\\" {c} %d\\\\e\\nf|größe\"";
    assert_eq!(facts.value("pg_here", &[of_hostile]).map(|sessions| sessions <= 2.0), Some(true), "{}", facts.text);
    assert_eq!(facts.values("pg_here", &[]).len(), COUNT - 6);
    assert!(sessions.most() <= 2, "{} sessions at once", sessions.most());
    assert_eq!(complaints(&cluster), [""; 0]);
    // The walk rests for a hundred times what it took, so that readers cause no second one.
    let walks = |facts: &crate::program::Facts| facts.value("pgvitals_databases_walks_total", &[]);
    assert_eq!((walks(&facts), walks(&agent.facts())), (Some(1.0), Some(1.0)));
    let rest = facts.value("pgvitals_databases_walk_rest_seconds", &[]).unwrap();
    let duration = facts.value("pgvitals_databases_walk_duration_seconds", &[]).unwrap();
    assert!((rest - (duration * 100.0).min(900.0)).abs() < 1e-3, "{rest} after {duration}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_walk_sees_what_came_and_went() {
    majors::on(majors::TWO, |binaries| async move {
        let cluster = start(binaries.major).await;
        let raw = "CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0";
        execute(&cluster, "postgres", &["CREATE DATABASE old", "CREATE DATABASE kept", "CREATE DATABASE odd", raw])
            .await;
        // A name that nobody can ask for who speaks UTF-8.
        execute(&cluster, "raw", &["UPDATE pg_database SET datname = 'M' || chr(252) || 'ller' WHERE datname = 'odd'"])
            .await;
        execute(&cluster, "kept", &["CREATE TABLE gone (id int)", "CREATE TABLE there (id int)"]).await;
        // What is set in a database changes how it writes times and numbers, and nothing else.
        for setting in ["timezone = 'Asia/Tokyo'", "datestyle = 'SQL, DMY'", "extra_float_digits = -3"] {
            execute(&cluster, "postgres", &[&format!("ALTER DATABASE kept SET {setting}")]).await;
        }
        let checks = checks(&[("here", HERE), ("user_tables", &quick("user_tables"))]);
        let agent = agent_with(&cluster, &checks, Databases::default());
        let tables = |reading: &Reading| samples(&reading.snapshot, "pg_stat_user_tables_seq_scan").into_keys();
        let reading = read_until(&agent, |reading| !visited(reading).is_empty()).await;
        assert_eq!(visited(&reading), ["kept", "old", "postgres", "raw"]);
        assert_eq!(state(&reading, "unnamable"), Some(1.0));
        let first = samples(&reading.snapshot, "pg_process");
        assert_eq!(tables(&reading).collect::<Vec<_>>(), ["kept/public/gone", "kept/public/there"]);

        execute(&cluster, "postgres", &["DROP DATABASE old", "CREATE DATABASE new"]).await;
        execute(&cluster, "kept", &["DROP TABLE gone", "CREATE TABLE came (id int)"]).await;
        need_no_rest(&cluster).await;
        let reading = read_until(&agent, |reading| visited(reading).contains(&"new".to_owned())).await;
        assert_eq!(visited(&reading), ["kept", "new", "postgres", "raw"]);
        let second = samples(&reading.snapshot, "pg_process");
        for datname in ["kept", "postgres", "raw"] {
            assert_ne!(first.get(datname), second.get(datname), "a session that lasts grows with all it has seen");
        }
        assert_eq!(tables(&reading).collect::<Vec<_>>(), ["kept/public/came", "kept/public/there"]);
        let ours = format!("SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = '{ROLE}'");
        until_true(&cluster, &ours).await;
        assert_eq!(complaints(&cluster), [""; 0]);
    })
    .await;
}

/// Has the next walk begin at once: what was walked in another state of the server says nothing of this one.
async fn need_no_rest(cluster: &Cluster) {
    execute(cluster, "postgres", &["DROP EXTENSION pg_stat_statements"]).await;
}

/// A built-in definition that is asked anew as soon as the walk may go again.
fn quick(name: &str) -> String {
    let catalog = Catalog::built_in().unwrap();
    format!("fresh_for = \"1s\"\n{}", catalog.definition(name).unwrap().text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_locked_costs_nobody_but_itself() {
    majors::on(majors::TWO, |binaries| async move {
        let cluster = start(binaries.major).await;
        execute(&cluster, "postgres", &["CREATE DATABASE busy", "CREATE DATABASE shut", "CREATE DATABASE calm"]).await;
        execute(&cluster, "busy", &["CREATE TABLE wanted (id int)", "CREATE TABLE other (id int)"]).await;
        let reader = cluster.client("busy").await.unwrap();
        reader.batch_execute("BEGIN; SELECT * FROM wanted").await.unwrap();
        let writer = cluster.client("busy").await.unwrap();
        let altering =
            tokio::spawn(async move { writer.batch_execute("ALTER TABLE wanted ADD COLUMN more int").await });
        until_true(&cluster, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted").await;
        // Who connects to this database now waits until the end of that transaction.
        let holder = cluster.client("shut").await.unwrap();
        holder.batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_class IN ACCESS EXCLUSIVE MODE").await.unwrap();

        let checks = checks(&[("here", HERE)]);
        let agent = agent_with(&cluster, &checks, Databases::default());
        let reading = read_until(&agent, |reading| !visited(reading).is_empty()).await;
        assert_eq!(visited(&reading), ["busy", "calm", "postgres"]);
        assert_eq!((state(&reading, "locked"), state(&reading, "failed")), (Some(1.0), Some(0.0)));
        let tables = samples(&reading.snapshot, "pg_stat_user_tables_seq_scan");
        assert_eq!(tables.into_keys().collect::<Vec<_>>(), ["busy/public/other", "busy/public/wanted"]);
        let sizes = samples(&reading.snapshot, "pg_stat_user_tables_table_size_bytes");
        assert_eq!(sizes.into_keys().collect::<Vec<_>>(), ["busy/public/other"]);
        let locked = samples(&reading.snapshot, "pg_stat_user_tables_size_locked");
        assert_eq!(locked, BTreeMap::from([("busy".to_owned(), 1.0)]));
        holder.batch_execute("ROLLBACK").await.unwrap();
        need_no_rest(&cluster).await;
        let reading = read_until(&agent, |reading| visited(reading).len() == 4).await;
        assert_eq!(visited(&reading), ["busy", "calm", "postgres", "shut"]);
        assert_eq!(complaints(&cluster), [""; 0]);
        drop(reader);
        altering.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_and_the_remainder_are_together_what_the_server_has() {
    let cluster = start(17).await;
    execute(&cluster, "postgres", &["CREATE DATABASE one", "CREATE DATABASE two"]).await;
    for (database, tables) in [("one", 200), ("two", 150)] {
        let make = format!(
            "DO $$ BEGIN FOR n IN 1..{tables} LOOP EXECUTE format('CREATE TABLE t%s AS SELECT generate_series(1, %s) AS id', n, n);
             END LOOP; END $$"
        );
        let parts = "CREATE TABLE parted (id int, at int) PARTITION BY RANGE (id); \
             CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (at); \
             CREATE TABLE part_1_1 PARTITION OF part_1 FOR VALUES FROM (0) TO (10); \
             CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (10) TO (2000); \
             INSERT INTO parted SELECT g, 1 FROM generate_series(1, 9) AS g; \
             INSERT INTO parted SELECT g, 1 FROM generate_series(10, 1500) AS g";
        execute(&cluster, database, &[&make, parts, "SELECT pg_stat_force_next_flush()"]).await;
        until_true_in(&cluster, database, "SELECT sum(n_tup_ins) > 11000 FROM pg_stat_user_tables").await;
    }
    let agent = pair::agent(&[&cluster]);
    let reading = agent.read(&Want::only(["user_tables".to_owned()])).await;
    let inserted = samples(&reading.snapshot, "pg_stat_user_tables_n_tup_ins");
    assert_eq!(inserted.get("one/public/parted"), Some(&1500.0), "{inserted:?}");
    assert_eq!(inserted.keys().filter(|table| table.contains("part_")).count(), 0);
    assert!(inserted.len() <= 101, "{}", inserted.len());
    for metric in ["n_tup_ins", "n_live_tup"] {
        let mut truth = 0.0;
        for database in ["postgres", "one", "two"] {
            let sum = format!("SELECT coalesce(sum({metric}), 0) FROM pg_stat_user_tables");
            truth += cluster.sql(database, &sum).await.unwrap().concat()[0].as_ref().unwrap().parse::<f64>().unwrap();
        }
        let name = format!("pg_stat_user_tables_{metric}");
        let mut shown = samples(&reading.snapshot, &name).values().sum::<f64>();
        let remainder = reading.snapshot.find("pgvitals_collector_remainder").unwrap();
        let remainder = remainder.samples().filter(|sample| sample.label("metric") == Some(&name));
        shown += remainder.map(|sample| sample.value).sum::<f64>();
        assert!((shown - truth).abs() < 0.5, "{metric}: {shown}, not {truth}");
    }
}

pub(crate) async fn until_true_in(cluster: &Cluster, database: &str, sql: &str) {
    let deadline = Instant::now() + pair::PATIENCE;
    while cluster.sql(database, sql).await.unwrap().concat() != [Some("t".to_owned())] {
        assert!(Instant::now() < deadline, "{sql} stays false");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_voids_what_was_walked_before() {
    let primary = start(17).await;
    let standby = primary.standby(Standby::from("standby")).await.unwrap();
    let checks = checks(&[("here", &HERE.replace("fresh_for = \"1s\"", "fresh_for = \"1h\""))]);
    let agent = agent_with(&standby, &checks, Databases::default());
    let walks = |reading: &Reading| samples(&reading.snapshot, "pgvitals_databases_walks_total").into_values().next();
    let reading = read_until(&agent, |reading| !visited(reading).is_empty()).await;
    assert_eq!((walks(&reading), walks(&agent.read(&Want::default()).await)), (Some(1.0), Some(1.0)));
    standby.promote().await.unwrap();
    let promoted = Instant::now();
    // What is shown now was asked after the promotion, or is absent: an hour has not passed.
    let reading = agent.read(&Want::default()).await;
    let report = reading.reports_of("here").next().unwrap();
    assert!(report.outcome != Outcome::Ok || report.age < promoted.elapsed(), "{report:?}");
    let reading = read_until(&agent, |reading| !visited(reading).is_empty()).await;
    assert!(walks(&reading) >= Some(2.0));
    let errors = |cluster: &Cluster| complaints(cluster).into_iter().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors(&standby), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_agent_a_command_waits_for_the_walk() {
    let cluster = start(17).await;
    execute(&cluster, "postgres", &["CREATE DATABASE first", "CREATE DATABASE second"]).await;
    let checks = checks(&[("here", HERE)]);
    let config = checks.path().join("pgvitals.conf");
    let direct = format!("checks = '{}'\n{}", checks.path().display(), watching(&[&cluster]));
    fs::write(&config, &direct).unwrap();
    let config = config.to_str().unwrap();
    let once = pgvitals(&["once", "--config", config, "here"]).await;
    assert_eq!((once.code, once.stderr.as_str()), (0, ""));
    for datname in ["first", "second", "postgres"] {
        assert!(
            once.stdout.contains(&format!("pg_here{{server=\"primary\",datname=\"{datname}\"}} ")),
            "{}",
            once.stdout
        );
    }
    let check = pgvitals(&["check", "here", "--config", config]).await;
    assert_eq!((check.code, check.stderr.as_str()), (0, ""), "{}", check.stdout);
    assert!(check.stdout.starts_with("PGVITALS HERE OK: "), "{}", check.stdout);
    assert!(
        pgvitals(&["list", "--config", config]).await.stdout.contains("Whether we have been here (in each database)")
    );
    assert!(pgvitals(&["show", "here", "--sql", "--config", config]).await.stdout.contains("AS sessions"));

    // The same through a pooler, which knows each database by its name.
    let pooler = PgBouncer::start(&cluster, "transaction");
    let config_of_pooler = format!(
        "checks = '{}'\n[discovery]\nenabled = false\n[[server]]\nname = \"primary\"\ndsn = \"{}\"\n",
        checks.path().display(),
        pooler.dsn()
    );
    fs::write(config, config_of_pooler).unwrap();
    let once = pgvitals(&["once", "--config", config, "here"]).await;
    assert_eq!((once.code, once.stderr.as_str()), (0, ""));
    for datname in ["first", "second", "postgres"] {
        assert!(
            once.stdout.contains(&format!("pg_here{{server=\"primary\",datname=\"{datname}\"}} ")),
            "{}",
            once.stdout
        );
    }
    assert_eq!(complaints(&cluster), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lets_nobody_in_costs_no_third_session() {
    let cluster = start(17).await;
    execute(&cluster, "postgres", &["CREATE DATABASE calm", "CREATE DATABASE shut", "CREATE DATABASE later"]).await;
    let function = format!(
        "CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF session_user = '{ROLE}' THEN PERFORM pg_sleep(6); END IF; END $$"
    );
    let trigger = "CREATE EVENT TRIGGER wait ON login EXECUTE FUNCTION wait()";
    execute(&cluster, "shut", &[&function, trigger, "ALTER EVENT TRIGGER wait ENABLE ALWAYS"]).await;
    let checks = checks(&[("here", HERE)]);
    let sessions = Sessions::count(&cluster).await;
    let agent = Program::start(&format!("checks = '{}'\n{}", checks.path().display(), watching(&[&cluster])));
    let (facts, _) = agent.facts_until("the first walk is through", |facts| !facts.values("pg_here", &[]).is_empty());
    assert_eq!(facts.values("pg_here", &[]).len(), 2, "{}", facts.text);
    assert_eq!(facts.value("pgvitals_connections", &["lane=\"stuck\""]), Some(1.0), "{}", facts.text);
    for datname in ["datname=\"shut\"", "datname=\"later\""] {
        let failure = facts.value("pgvitals_database_failure", &[datname, "collector=\"here\"", "class=\"timeout\""]);
        assert_eq!(failure, Some(1.0), "{datname}: {}", facts.text);
    }
    assert!(sessions.most() <= 2, "{} sessions at once", sessions.most());
    // It is left alone from now on, and the others are not.
    let is_rid = |facts: &crate::program::Facts| facts.value("pgvitals_connections", &["lane=\"stuck\""]) == Some(0.0);
    agent.facts_until("the server is rid of it", is_rid);
    until_true(&cluster, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'shut'").await;
}

/// Sleeps in every database but one.
const SLEEPS: &str = r#"
help = "A query that does not end but in one database"
scope = "database"
fresh_for = "1s"
timeout = "300ms"

[[query]]
since = 10
sql = "SELECT 1 AS one FROM (SELECT CASE WHEN pg_catalog.current_database() <> 'awake' THEN pg_catalog.pg_sleep(60) END) AS slept"

[[metric]]
name = "pg_sleeps"
type = "gauge"
column = "one"
help = "Seen in one database"

[[rule]]
name = "sleeps"
value = "pg_sleeps"
warning = "2"
summary = "awake in {datname}"
reason = "None"
"#;

/// Always too late for the fast lane, and so on the slow one beside the walk.
const LATE: &str = r#"
help = "A query that takes a while"
fresh_for = "1s"
timeout = "4s"

[[query]]
since = 10
sql = "SELECT 1 AS one FROM pg_catalog.pg_sleep(2.5)"

[[metric]]
name = "pg_late"
type = "gauge"
column = "one"
help = "Seen in time"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_costs_only_itself_and_starves_nobody() {
    let cluster = start(17).await;
    let create: Vec<_> = (0..6).map(|n| format!("CREATE DATABASE asleep{n}")).collect();
    execute(&cluster, "postgres", &["CREATE DATABASE awake"]).await;
    execute(&cluster, "postgres", &create.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let checks = checks(&[("here", HERE), ("sleeps", SLEEPS), ("late", LATE)]);
    let sessions = Sessions::count(&cluster).await;
    let agent = Program::start(&format!("checks = '{}'\n{}", checks.path().display(), watching(&[&cluster])));
    let (facts, _) = agent.facts_until("both are through", |facts| {
        facts.values("pg_here", &[]).len() == 8 && facts.value("pg_late", &[]).is_some()
    });
    let failures = facts.values("pgvitals_database_failure", &["collector=\"sleeps\"", "class=\"timeout\""]);
    assert_eq!(facts.values("pg_sleeps", &["datname=\"awake\""]), [1.0], "{}", facts.text);
    assert_eq!(failures.len(), 7, "{}", facts.text);
    assert_eq!(facts.value("pgvitals_collector_success", &["collector=\"sleeps\""]), Some(1.0));
    let verdict = agent.get("/check/sleeps").body;
    assert!(verdict.starts_with("PGVITALS SLEEPS UNKNOWN: "), "{verdict}");
    assert!(verdict.contains("(and 6 more databases)"), "{verdict}");
    assert!(sessions.most() <= 2, "{} sessions at once", sessions.most());
    until_true(
        &cluster,
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()",
    )
    .await;
}
