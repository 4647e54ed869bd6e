//! `pgvitals doctor`: its statements leave nothing missing.

use pgvitals::demo::cluster::{Cluster, Settings};

use crate::client::{self, give, let_in_only, reload};
use crate::command::{Ended, pgvitals};
use crate::majors;
use crate::pair::grant_optional;

/// A name that nobody should give a role.
const HOSTILE: &str = "Mo'ni\"tor\\; DROP ROLE \"x\";\n-- %s {schema} $1";

/// How this role gets to a cluster.
fn dsn(cluster: &Cluster, role: &str) -> String {
    let role = role.replace('\\', "\\\\").replace('\'', "\\'");
    format!("host={} port={} user='{role}' dbname=postgres", cluster.socket_dir().display(), cluster.port())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn doctor(cluster: &Cluster, role: &str, format: &str) -> Ended {
    let ended = pgvitals(&["doctor", "--format", format, "--dsn", &dsn(cluster, role)]).await;
    assert!(ended.stderr.is_empty(), "{ended:?}");
    ended
}

/// Does as the doctor says until nothing is missing; gives how often that was.
async fn heal(cluster: &Cluster, role: &str) -> usize {
    for round in 0..3 {
        let said = doctor(cluster, role, "sql").await;
        if said.code == 0 {
            assert!(said.stdout.lines().all(|line| line.starts_with("-- ")), "{}", said.stdout);
            let text = doctor(cluster, role, "text").await;
            assert!(text.code == 0 && text.stdout.contains("nothing is missing"), "{text:?}");
            return round;
        }
        assert_eq!(said.code, 1, "{said:?}");
        cluster.sql("postgres", &said.stdout).await.unwrap();
    }
    panic!("{}", doctor(cluster, role, "text").await.stdout);
}

fn log_has(cluster: &Cluster, kinds: &[&str]) -> Vec<String> {
    let log = cluster.log();
    // While it started, those who wanted to know were told so.
    let lines = log.lines().filter(|line| !line.contains("the database system is starting up"));
    let told = lines.filter(|line| kinds.iter().any(|kind| line.contains(kind)));
    told.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_the_doctor_says_leaves_nothing_missing() {
    majors::on([10, 13, 14, 17, 18], |binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        let sql = async |statement: &str| drop(cluster.sql("postgres", statement).await.unwrap());
        sql(&format!("CREATE ROLE {} LOGIN", quoted(HOSTILE))).await;
        sql("CREATE ROLE heir LOGIN NOINHERIT; GRANT pg_monitor TO heir").await;
        sql("CREATE ROLE stats LOGIN; GRANT pg_read_all_stats TO stats").await;
        sql("CREATE ROLE outside LOGIN").await;

        let text = doctor(&cluster, HOSTILE, "text").await;
        let grant = format!("GRANT pg_monitor TO {};", quoted(HOSTILE));
        let said = &text.stdout;
        assert_eq!(text.code, 1);
        assert!(said.contains(&grant) && said.contains("CREATE EXTENSION pg_stat_statements;"), "{said}");
        assert!(said.contains("absent: activity: pg_stat_activity_count, pg_stat_activity_max_tx_duration"), "{said}");
        assert!(said.contains("UNKNOWN: check ") && said.contains("hint: "), "{said}");
        for role in [HOSTILE, "heir", "stats"] {
            assert_eq!(heal(&cluster, role).await, 1, "{role:?}");
        }
        assert_eq!(log_has(&cluster, &["ERROR:", "FATAL:"]), [""; 0], "PostgreSQL {}", binaries.major);

        // Who may not even connect is told so first.
        sql("REVOKE CONNECT ON DATABASE postgres FROM public").await;
        let said = doctor(&cluster, "outside", "sql").await.stdout;
        assert!(said.contains("\nGRANT CONNECT ON DATABASE \"postgres\" TO \"outside\";\n"), "{said}");
        assert_eq!(heal(&cluster, "outside").await, 2);
        assert_eq!(log_has(&cluster, &["ERROR:"]), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_was_revoked_from_everybody_is_found_without_being_refused() {
    majors::on(majors::TWO, |binaries| async move {
        let cluster = Cluster::start(&binaries, Settings::default()).await.unwrap();
        let sql = async |statement: &str| drop(cluster.sql("postgres", statement).await.unwrap());
        sql("CREATE ROLE pgvitals LOGIN; GRANT pg_monitor TO pgvitals").await;
        grant_optional(&cluster, "pgvitals").await;
        sql("CREATE SCHEMA away; CREATE EXTENSION pg_stat_statements SCHEMA away").await;
        sql("REVOKE SELECT ON pg_catalog.pg_stat_database FROM public").await;
        sql("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_checkpoint() FROM public").await;
        let said = doctor(&cluster, "pgvitals", "sql").await.stdout;
        let statements: Vec<&str> = said.lines().filter(|line| !line.starts_with("--")).collect();
        let expected = [
            "GRANT USAGE ON SCHEMA away TO pgvitals;",
            "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_checkpoint() TO pgvitals;",
            "GRANT SELECT ON TABLE pg_catalog.pg_stat_database TO pgvitals;",
        ];
        assert_eq!(statements, expected, "{said}");
        assert_eq!(heal(&cluster, "pgvitals").await, 1);
        assert_eq!(log_has(&cluster, &["ERROR:", "FATAL:"]), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn more_than_is_needed_is_a_warning_that_nobody_runs_by_accident() {
    let cluster = Cluster::start(&majors::newest(), Settings::default()).await.unwrap();
    let sql = async |statement: &str| drop(cluster.sql("postgres", statement).await.unwrap());
    sql("CREATE EXTENSION pg_stat_statements").await;
    sql("CREATE ROLE boss LOGIN SUPERUSER").await;
    sql("CREATE ROLE clerk LOGIN CREATEROLE CREATEDB CONNECTION LIMIT 1").await;
    sql("GRANT pg_monitor, pg_execute_server_program TO clerk").await;
    grant_optional(&cluster, "clerk").await;
    sql("ALTER ROLE clerk VALID UNTIL 'tomorrow'").await;
    sql("CREATE DATABASE closed").await;
    sql("REVOKE CONNECT ON DATABASE closed FROM public").await;
    for (role, expected) in [
        ("postgres", &["warning: postgres is a superuser", "CREATE ROLE pgvitals LOGIN NOSUPERUSER"] as &[&str]),
        ("boss", &["warning: boss is a superuser", "GRANT pg_monitor TO boss;", "ALTER ROLE boss NOSUPERUSER;"]),
        (
            "clerk",
            &[
                "ALTER ROLE clerk NOCREATEROLE;",
                "ALTER ROLE clerk NOCREATEDB;",
                "REVOKE pg_execute_server_program FROM clerk;",
                "ALTER ROLE clerk CONNECTION LIMIT 4;",
                "hint: the password of clerk is valid for 1 more days",
                "GRANT CONNECT ON DATABASE closed TO clerk;",
                "track_io_timing = on    # in postgresql.conf, then reload",
            ],
        ),
    ] {
        let text = doctor(&cluster, role, "text").await;
        assert_eq!(text.code, 0, "{text:?}");
        for said in expected {
            assert!(text.stdout.contains(said), "{role}: {said}: {}", text.stdout);
        }
        assert_eq!(heal(&cluster, role).await, 0);
    }
}

#[tokio::test]
async fn an_extension_that_many_do_without_is_only_a_hint() {
    let cluster = Cluster::start(&majors::newest(), Settings::default()).await.unwrap();
    let sql = async |statement: &str| drop(cluster.sql("postgres", statement).await.unwrap());
    sql("CREATE ROLE pgvitals LOGIN; GRANT pg_monitor TO pgvitals; CREATE EXTENSION pg_stat_statements").await;
    let text = doctor(&cluster, "pgvitals", "text").await;
    assert_eq!(text.code, 0, "{text:?}");
    assert!(text.stdout.contains("hint: extension pg_buffercache, version 1.4 or newer"), "{text:?}");
    let said = doctor(&cluster, "pgvitals", "sql").await.stdout;
    assert!(!said.contains("\nCREATE EXTENSION"), "nobody creates it by accident: {said}");
}

#[tokio::test]
async fn each_obstacle_to_connect_has_its_remedy() {
    let mut cluster = client::start(&[]).await;
    let tcp = format!("host=127.0.0.1 port={} dbname=postgres", cluster.port());
    let doctor = async |dsn: &str| {
        let ended = pgvitals(&["doctor", "--dsn", dsn]).await;
        assert_eq!(ended.code, 1, "{ended:?}");
        ended.stdout
    };
    let said = doctor(&dsn(&cluster, "nobody")).await;
    assert!(
        said.contains("CREATE ROLE \"nobody\" LOGIN") && said.contains("GRANT pg_monitor TO \"nobody\";"),
        "{said}"
    );
    cluster.sql("postgres", "CREATE ROLE mute; CREATE ROLE pgvitals LOGIN").await.unwrap();
    let said = doctor(&dsn(&cluster, "mute")).await;
    assert!(said.contains("ALTER ROLE \"mute\" LOGIN;"), "{said}");
    let said = doctor(&format!("{} dbname=gone", dsn(&cluster, "pgvitals"))).await;
    assert!(said.contains("unknown_database"), "{said}");

    let_in_only(&cluster, &[]).await;
    let said = doctor(&format!("{tcp} user=pgvitals")).await;
    let line = "host \"postgres\" \"pgvitals\" 127.0.0.1/32 scram-sha-256";
    assert!(said.contains(&format!("{line}    # in pg_hba.conf, then reload")), "{said}");
    give(&cluster, "pg_hba.conf", format!("local all postgres trust\n{line}\n"));
    reload(&cluster).await;
    let said = doctor(&format!("{tcp} user=pgvitals")).await;
    assert!(said.contains("authentication") && said.contains("password_file"), "{said}");
    cluster.stop().await.unwrap();
    assert!(doctor(&dsn(&cluster, "pgvitals")).await.contains("refused"));

    let ended = pgvitals(&["doctor", "--dsn", &format!("{tcp} user=x"), "other"]).await;
    assert!(ended.code == 2 && ended.stderr.contains("no server \"other\", expected one of: "), "{ended:?}");
}

#[tokio::test]
async fn a_library_that_is_not_loaded_is_a_line_beside_those_that_are() {
    let conf = vec!["shared_preload_libraries = 'auto_explain'".to_owned()];
    let mut cluster = Cluster::start(&majors::newest(), Settings { conf, ..Settings::default() }).await.unwrap();
    cluster.sql("postgres", "CREATE ROLE pgvitals LOGIN; GRANT pg_monitor TO pgvitals").await.unwrap();
    let said = doctor(&cluster, "pgvitals", "text").await.stdout;
    let line = "shared_preload_libraries = 'auto_explain, pg_stat_statements'";
    assert!(said.contains(&format!("{line}    # in postgresql.conf, then restart")), "{said}");
    give(&cluster, "postgresql.auto.conf", line);
    cluster.restart().await.unwrap();
    assert_eq!(heal(&cluster, "pgvitals").await, 1);
}
