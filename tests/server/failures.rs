use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use pgvitals::server::{FailureClass, Password, Session, TlsCache};
use tokio::net::TcpListener;

use crate::postgres::{PATIENCE, Postgres, free_port, value};

#[tokio::test]
async fn each_obstacle_has_its_class_and_shows_no_password() {
    let hba = "host all scram 127.0.0.1/32 scram-sha-256\nhost all md5 127.0.0.1/32 md5\n\
               host all plain 127.0.0.1/32 password\nhost all limited 127.0.0.1/32 trust\n\
               host all rejected 127.0.0.1/32 reject\nhost all ghost 127.0.0.1/32 trust";
    let server = Postgres::start("", hba, |_| {}).await;
    server.run("SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'right'");
    server.run("SET password_encryption = md5; CREATE ROLE md5 LOGIN PASSWORD 'right'");
    server.run("CREATE ROLE plain LOGIN PASSWORD 'right'");
    server.run("CREATE ROLE limited LOGIN CONNECTION LIMIT 0");
    server.run("CREATE DATABASE closed");
    server.run("REVOKE CONNECT ON DATABASE closed FROM public");
    server.run("CREATE DATABASE template ALLOW_CONNECTIONS false");
    let tcp = format!("host=127.0.0.1 port={}", server.port());
    let shut = free_port();
    for (dsn, class) in [
        (format!("{tcp} user=scram password=canary"), FailureClass::Authentication),
        (format!("{tcp} user=md5 password=canary"), FailureClass::Authentication),
        (format!("{tcp} user=plain password=canary"), FailureClass::Authentication),
        (format!("{tcp} user=scram"), FailureClass::Authentication),
        (format!("{tcp} user=ghost password=canary"), FailureClass::Authentication),
        (format!("{tcp} user=nobody password=canary"), FailureClass::NoPgHbaEntry),
        (format!("{tcp} user=rejected password=canary"), FailureClass::NoPgHbaEntry),
        (format!("{tcp} user=scram password=right dbname=gone"), FailureClass::UnknownDatabase),
        (format!("{tcp} user=scram password=right dbname=closed"), FailureClass::Permission),
        (format!("{tcp} user=scram password=right dbname=template"), FailureClass::Permission),
        (format!("{tcp} user=limited password=canary"), FailureClass::TooManyConnections),
        (format!("{tcp} user=scram password=right sslmode=require"), FailureClass::Tls),
        (format!("{tcp} user=scram password=right channel_binding=require"), FailureClass::Authentication),
        (format!("host=127.0.0.1 port={shut} user=x password=canary"), FailureClass::Refused),
        ("host=/nowhere user=x password=canary".to_owned(), FailureClass::Refused),
        ("host=no.such.name.invalid user=x password=canary".to_owned(), FailureClass::Unreachable),
    ] {
        let failure = server.try_open(&dsn).await.expect_err(&dsn);
        assert_eq!(failure.class, class, "{dsn}: {failure}");
        assert!(!format!("{failure} {failure:?}").contains("canary"), "{failure}");
    }
    for user in ["scram", "md5", "plain"] {
        let mut session = server.open(&format!("{tcp} user={user} password=right")).await;
        assert_eq!(value(&mut session, "SELECT current_user").await, user);
    }
    let log = fs::read_to_string(server.folder().join("log")).unwrap();
    for said in ["password authentication failed for user \"scram\"", "no pg_hba.conf entry for host"] {
        assert_eq!(log.lines().filter(|line| line.contains(said)).count(), 1, "{said} is provoked once: {log}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_no_more_than_the_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let limit = Duration::from_millis(300);
    for mode in ["disable", "prefer", "verify-full sslrootcert=system"] {
        let dsn = format!("host=127.0.0.1 port={port} user=x sslmode={mode}");
        let environment = pgvitals::server::Environment::new(|_| None);
        let options = pgvitals::server::ConnectOptions::parse(&dsn, &environment).unwrap();
        let started = Instant::now();
        let failure = Session::open(&options, limit, &TlsCache::default()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Timeout, "{failure}");
        assert!(started.elapsed() < limit + Duration::from_secs(3), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_dead_host_leaves_time_for_the_next_one() {
    let server = Postgres::start("", "", |_| {}).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = silent.local_addr().unwrap().port();
    let dsn = format!(
        "host=127.0.0.1,127.0.0.1,{} port={},{dead},{} user=postgres connect_timeout=1",
        server.folder().display(),
        free_port(),
        server.port()
    );
    let mut session = server.open(&dsn).await;
    assert_eq!(value(&mut session, "SELECT 1").await, "1");
    let failure = server.try_open(&format!("{} target_session_attrs=standby", server.admin())).await.unwrap_err();
    assert!(failure.message.contains("target_session_attrs"), "{failure}");
    for kind in ["primary", "read-write", "prefer-standby", "any"] {
        server.open(&format!("{} target_session_attrs={kind}", server.admin())).await;
    }
}

#[tokio::test]
async fn a_rotated_password_is_found_by_the_next_connection() {
    let server = Postgres::start("", "host all all 127.0.0.1/32 scram-sha-256", |_| {}).await;
    server.run("CREATE ROLE monitor LOGIN");
    let file = server.folder().join("password");
    let passfile = server.folder().join(".pgpass");
    let dsn = format!("host=127.0.0.1 port={} user=monitor", server.port());
    let from_file = server.options(&dsn).with_password(Password::File(file.clone()));
    let argv = vec!["/bin/cat".to_owned(), file.display().to_string()];
    let from_command = server.options(&dsn).with_password(Password::Command(argv));
    let from_pgpass = server.options(&dsn);
    for password in ["first: @/%{'\\x", "second"] {
        let quoted = password.replace('\'', "''");
        server.run(&format!("SET password_encryption = 'scram-sha-256'; ALTER ROLE monitor PASSWORD '{quoted}'"));
        fs::write(&file, format!("{password}\n")).unwrap();
        let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
        fs::write(&passfile, format!("127.0.0.1:{}:*:monitor:{escaped}\n", server.port())).unwrap();
        fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
        for options in [&from_file, &from_command, &from_pgpass] {
            let opened = Session::open(options, PATIENCE, &TlsCache::default()).await;
            assert!(opened.is_ok(), "{:?}: {}", options.password(), opened.unwrap_err());
        }
        assert_eq!(server.psql(&dsn, "SELECT 1").as_deref(), Ok("1"), "libpq reads the file so too");
    }
}
