//! TLS, certificates and how `sslmode` is understood.

use std::fs;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use pgvitals::server::{FailureClass, QueryFailure, Server};

use crate::certificates::{Certificates, both};
use crate::client::{self, LIMIT, let_in_only, open, options, psql, try_open, value};
use crate::command::run;
use crate::program::BINARY;
use crate::sessions::{SHORT, SLEEP, assert_gone};

pub(crate) const IN_USE: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// Of 5 certificates, 6 modes, 5 roots and 2 hosts.
const REFUSED: u32 = 110;

/// Whether TLS is used (`t` or `f`), or the class of the refusal.
pub(crate) async fn outcome(server: &Cluster, dsn: &str) -> Result<String, FailureClass> {
    match try_open(server, dsn).await {
        Ok(mut session) => Ok(value(&mut session, IN_USE).await),
        Err(failure) => Err(failure.class),
    }
}

#[tokio::test]
async fn each_sslmode_accepts_and_refuses_what_libpq_does() {
    let certificates = Certificates::new();
    let here = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1";
    certificates.issue("good", 2, here);
    certificates.issue("expired", -1, here);
    certificates.issue("elsewhere", 2, "subjectAltName=DNS:elsewhere.example");
    certificates.issue("localhost", 2, "basicConstraints=CA:FALSE");
    certificates.openssl("req -x509 -newkey rsa:2048 -nodes -keyout own.key -out own.crt -days 2 -subj /CN=localhost");
    let root = certificates.path("root.crt").display().to_string();
    let own = certificates.path("own.crt").display().to_string();
    let other = certificates.path("other.crt").display().to_string();
    let mut refused = 0;
    let server = client::start(&[]).await;
    for certificate in ["good", "expired", "elsewhere", "localhost", "own"] {
        certificates.install(certificate, &server).await;
        for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
            for trusted in ["", &root, &own, &other, "/nowhere"] {
                for host in ["host=localhost hostaddr=127.0.0.1", "host=127.0.0.1"] {
                    let dsn =
                        format!("{host} port={} user=postgres sslmode={mode} sslrootcert='{trusted}'", server.port());
                    let (theirs, ours) = tokio::join!(psql(&server, &dsn, IN_USE), outcome(&server, &dsn));
                    let case = format!("{certificate} {mode} {host} root={trusted}");
                    match &theirs {
                        Ok(in_use) => assert_eq!(ours.as_ref(), Ok(in_use), "{case}"),
                        Err(said) => {
                            assert_eq!(ours, Err(FailureClass::Tls), "{case}: psql says {said}");
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    // Libpq's judgement above would be worth nothing if it accepted all.
    assert_eq!(refused, REFUSED);
}

#[tokio::test]
async fn pg_hba_conf_decides_which_way_allow_and_prefer_end_up() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    let server = client::start(&[]).await;
    certificates.install("good", &server).await;
    let hba = ["hostssl all encrypted 127.0.0.1/32 trust", "hostnossl all plain 127.0.0.1/32 trust"];
    let_in_only(&server, &hba).await;
    server.sql("postgres", "CREATE ROLE encrypted LOGIN; CREATE ROLE plain LOGIN").await.unwrap();
    for mode in ["disable", "allow", "prefer", "require"] {
        for user in ["encrypted", "plain"] {
            let dsn = format!("host=127.0.0.1 port={} user={user} sslmode={mode}", server.port());
            match psql(&server, &dsn, IN_USE).await {
                Ok(in_use) => assert_eq!(outcome(&server, &dsn).await, Ok(in_use), "{dsn}"),
                Err(_) => assert_eq!(outcome(&server, &dsn).await, Err(FailureClass::NoPgHbaEntry), "{dsn}"),
            }
        }
    }
    let socket = format!("{} sslmode=verify-full", server.dsn("postgres"));
    assert_eq!(outcome(&server, &socket).await.as_deref(), Ok("f"), "sockets have no TLS");
}

#[tokio::test]
async fn scram_is_bound_to_the_tls_connection() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    let server = client::start(&["host all all 127.0.0.1/32 scram-sha-256"]).await;
    certificates.install("good", &server).await;
    let create = "SET password_encryption = 'scram-sha-256'; CREATE ROLE monitor LOGIN PASSWORD 'secret'";
    server.sql("postgres", create).await.unwrap();
    let dsn = format!("host=127.0.0.1 port={} user=monitor password=secret", server.port());
    for (more, expected) in [
        ("sslmode=require channel_binding=require", Ok("t")),
        ("sslmode=require channel_binding=disable", Ok("t")),
        ("sslmode=disable channel_binding=require", Err(FailureClass::Authentication)),
    ] {
        let outcome = outcome(&server, &format!("{dsn} {more}")).await;
        assert_eq!(outcome, expected.map(ToOwned::to_owned), "{more}");
    }
    let closed = open(&server, &format!("{dsn} sslmode=require")).await;
    assert!(closed.close(LIMIT).await, "the server's end of it is heard of");
    // A cancel request takes the way of its session.
    let mut late = open(&server, &format!("{dsn} sslmode=require")).await;
    let failure = late.query(SLEEP, LIMIT * 10, SHORT).await.unwrap_err();
    assert!(matches!(failure, QueryFailure::Deadline(_)), "{failure}");
    assert_gone(&server).await;
}

#[tokio::test]
async fn a_new_root_certificate_is_read_without_a_restart() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    let server = client::start(&[]).await;
    certificates.install("good", &server).await;
    let root = certificates.path("trusted.crt");
    let dsn = format!(
        "host=localhost port={} user=postgres sslmode=verify-full sslrootcert={}",
        server.port(),
        root.display()
    );
    let watched = Server::new("watched", options(&server, &dsn));
    for (installed, expected) in [("other", false), ("root", true), ("other", false)] {
        let text = fs::read(certificates.path(&format!("{installed}.crt"))).unwrap();
        fs::write(&root, text).unwrap();
        let opened = watched.open(LIMIT).await;
        assert_eq!(opened.is_ok(), expected, "{installed}: {opened:?}");
    }
}

#[tokio::test]
async fn channel_binding_is_kept_as_with_libpq() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    certificates.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -sha384 -nodes -keyout p384.key -out p384.crt -days 2 -subj /CN=localhost");
    certificates.openssl(
        "req -x509 -newkey rsa:2048 -sha512 -nodes -keyout sha512.key -out sha512.crt -days 2 -subj /CN=localhost",
    );
    let server = client::start(&[]).await;
    let hba = [
        "host all scram 127.0.0.1/32 scram-sha-256",
        "host all md5 127.0.0.1/32 md5",
        "host all plain 127.0.0.1/32 password",
        "host all trusted 127.0.0.1/32 trust",
    ];
    let_in_only(&server, &hba).await;
    let roles = "SET password_encryption = 'scram-sha-256'; SET scram_iterations = 2; \
                 CREATE ROLE scram LOGIN PASSWORD 'secret'; CREATE ROLE plain LOGIN PASSWORD 'secret'; \
                 CREATE ROLE trusted LOGIN; SET password_encryption = md5; CREATE ROLE md5 LOGIN PASSWORD 'secret'";
    server.sql("postgres", roles).await.unwrap();
    for certificate in ["good", "p384", "sha512"] {
        certificates.install(certificate, &server).await;
        for user in ["scram", "md5", "plain", "trusted"] {
            for binding in ["disable", "prefer", "require"] {
                for mode in ["disable", "require"] {
                    let dsn = format!(
                        "host=127.0.0.1 port={} user={user} password=secret channel_binding={binding} sslmode={mode}",
                        server.port()
                    );
                    let bound = user == "scram" && mode == "require";
                    let accepted = both(&server, &dsn).await.is_ok();
                    assert_eq!(accepted, bound || binding != "require", "{certificate} {dsn}");
                }
            }
            if user != "scram" && certificate != "good" {
                break;
            }
        }
    }
}

#[tokio::test]
async fn tls_can_begin_without_asking_from_17_on() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    let root = certificates.path("root.crt").display().to_string();
    for (major, expected) in [(16, Err(FailureClass::Tls)), (17, Ok("t")), (18, Ok("t"))] {
        let settings = Settings { tcp: true, ..Settings::default() };
        let server = Cluster::start(&Binaries::major(major).unwrap(), settings).await.unwrap();
        certificates.install("good", &server).await;
        let dsn = format!(
            "host=localhost port={} user=postgres sslmode=verify-full sslrootcert={root} sslnegotiation=direct",
            server.port()
        );
        assert_eq!(outcome(&server, &dsn).await.as_deref(), expected.as_ref().map(|used| *used), "{major}");
    }
}

#[tokio::test]
async fn the_system_s_certificates_are_found_and_nothing_weaker_goes_with_them() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    let server = client::start(&[]).await;
    certificates.install("good", &server).await;
    let dsn = format!("host=localhost port={} user=postgres sslrootcert=system", server.port());
    for (file, up) in [("root.crt", true), ("other.crt", false)] {
        // Where OpenSSL and those who follow it look before they ask the distribution.
        let mut command = tokio::process::Command::new(BINARY);
        command.args(["once", "roles", "--dsn", &dsn]).env("SSL_CERT_FILE", certificates.path(file));
        let ended = run(command).await;
        let said = format!("pg_up{{server=\"localhost:{}\"}} {}", server.port(), u8::from(up));
        assert!(ended.stdout.contains(&said), "{file}: {}{}", ended.stdout, ended.stderr);
    }
    let mut command = tokio::process::Command::new(BINARY);
    command.args(["check", "connections", "--dsn", &dsn]);
    command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nowhere");
    let ended = run(command).await;
    assert!(ended.code == 3 && ended.stdout.contains("system certificates: "), "{ended:?}");
}

#[tokio::test]
async fn what_libpq_ignores_is_ignored_and_what_we_cannot_do_is_refused() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    let server = client::start(&[]).await;
    certificates.install("good", &server).await;
    let dsn = format!("host=localhost port={} user=postgres sslmode=require", server.port());
    for ignored in ["sslcompression=1", "sslsni=0", "keepalives=0", "ssl_min_protocol_version=TLSv1.2"] {
        assert_eq!(both(&server, &format!("{dsn} {ignored}")).await.as_deref(), Ok("t"), "{ignored}");
    }
    for refused in ["sslcrldir=/etc", "sslpassword=canary", "sslcertmode=require", "ssl_max_protocol_version=TLSv1.2"] {
        let environment = pgvitals::server::Environment::new(|_| None);
        let error = pgvitals::server::ConnectOptions::parse(&format!("{dsn} {refused}"), &environment).unwrap_err();
        assert!(error.to_string().contains("is not supported: ") && !error.to_string().contains("canary"), "{error}");
    }
}
