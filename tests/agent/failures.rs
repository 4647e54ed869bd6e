//! Every way to be refused, and passwords from everywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use pgvitals::server::{FailureClass, Password, Session, TlsCache};
use tokio::net::TcpListener;

use crate::client::{self, LIMIT, home, let_in_only, open, options, psql, try_open, value};
use crate::program::free_port;

#[tokio::test]
async fn each_obstacle_has_its_class_and_shows_no_password() {
    let server = client::start(&[]).await;
    let hba = [
        "host all scram 127.0.0.1/32 scram-sha-256",
        "host all md5 127.0.0.1/32 md5",
        "host all plain 127.0.0.1/32 password",
        "host all limited 127.0.0.1/32 trust",
        "host all rejected 127.0.0.1/32 reject",
        "host all ghost 127.0.0.1/32 trust",
    ];
    let_in_only(&server, &hba).await;
    for statement in [
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'right'",
        "SET password_encryption = md5; CREATE ROLE md5 LOGIN PASSWORD 'right'",
        "CREATE ROLE plain LOGIN PASSWORD 'right'",
        "CREATE ROLE limited LOGIN CONNECTION LIMIT 0",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM public",
        "CREATE DATABASE template ALLOW_CONNECTIONS false",
    ] {
        server.sql("postgres", statement).await.unwrap();
    }
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
        let failure = try_open(&server, &dsn).await.expect_err(&dsn);
        assert_eq!(failure.class, class, "{dsn}: {failure}");
        assert!(!format!("{failure} {failure:?}").contains("canary"), "{failure}");
    }
    for user in ["scram", "md5", "plain"] {
        let mut session = open(&server, &format!("{tcp} user={user} password=right")).await;
        assert_eq!(value(&mut session, "SELECT current_user").await, user);
    }
    let log = server.log();
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
    let server = client::start(&[]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = silent.local_addr().unwrap().port();
    let dsn = format!(
        "host=127.0.0.1,127.0.0.1,{} port={},{dead},{} user=postgres connect_timeout=1",
        server.socket_dir().display(),
        free_port(),
        server.port()
    );
    let mut session = open(&server, &dsn).await;
    assert_eq!(value(&mut session, "SELECT 1").await, "1");
    let admin = server.dsn("postgres");
    let failure = try_open(&server, &format!("{admin} target_session_attrs=standby")).await.unwrap_err();
    assert!(failure.message.contains("target_session_attrs"), "{failure}");
    for kind in ["primary", "read-write", "prefer-standby", "any"] {
        open(&server, &format!("{admin} target_session_attrs={kind}")).await;
    }
}

#[tokio::test]
async fn a_rotated_password_is_found_by_the_next_connection() {
    let server = client::start(&["host all all 127.0.0.1/32 scram-sha-256"]).await;
    server.sql("postgres", "CREATE ROLE monitor LOGIN").await.unwrap();
    let file = home(&server).join("password");
    let passfile = home(&server).join(".pgpass");
    let dsn = format!("host=127.0.0.1 port={} user=monitor", server.port());
    let from_file = options(&server, &dsn).with_password(Password::File(file.clone()));
    let argv = vec!["/bin/cat".to_owned(), file.display().to_string()];
    let from_command = options(&server, &dsn).with_password(Password::Command(argv));
    let from_pgpass = options(&server, &dsn);
    for password in ["first: @/%{'\\x", "second"] {
        let quoted = password.replace('\'', "''");
        let rotate = format!("SET password_encryption = 'scram-sha-256'; ALTER ROLE monitor PASSWORD '{quoted}'");
        server.sql("postgres", &rotate).await.unwrap();
        fs::write(&file, format!("{password}\n")).unwrap();
        let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
        fs::write(&passfile, format!("127.0.0.1:{}:*:monitor:{escaped}\n", server.port())).unwrap();
        fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
        for options in [&from_file, &from_command, &from_pgpass] {
            let opened = Session::open(options, LIMIT, &TlsCache::default()).await;
            assert!(opened.is_ok(), "{:?}: {}", options.password(), opened.unwrap_err());
        }
        assert_eq!(psql(&server, &dsn, "SELECT 1").await.as_deref(), Ok("1"), "libpq reads the file so too");
    }
}
