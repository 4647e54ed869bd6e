//! TLS, certificates and how `sslmode` is understood.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use pgvitals::demo::cluster::{Cluster, Settings};
use pgvitals::server::{FailureClass, QueryFailure, Server};
use tempfile::TempDir;

use crate::client::{self, LIMIT, give, let_in_only, open, options, psql, reload, try_open, value};
use crate::sessions::{SHORT, SLEEP, assert_gone};

const IN_USE: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// Of 5 certificates, 6 modes, 5 roots and 2 hosts.
const REFUSED: u32 = 110;

/// Certificates of one root, made by OpenSSL.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.openssl("req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.crt -days 2 -subj /CN=root");
        this.openssl("req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.crt -days 2 -subj /CN=other");
        this
    }

    fn openssl(&self, line: &str) {
        let out = Command::new("openssl").args(line.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(out.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// A certificate that the root has signed, good for so many days and these names.
    fn issue(&self, name: &str, days: i32, extensions: &str) {
        fs::write(self.path("extensions"), extensions).unwrap();
        self.openssl(&format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA root.crt -CAkey root.key -CAcreateserial -days {days} \
             -extfile extensions -out {name}.crt"
        ));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Has a cluster show this certificate from now on, and check those of its clients with the root.
    async fn install(&self, name: &str, cluster: &Cluster) {
        for (from, to) in [
            (format!("{name}.crt"), "server.crt"),
            (format!("{name}.key"), "server.key"),
            ("root.crt".to_owned(), "root.crt"),
        ] {
            give(cluster, to, fs::read(self.path(&from)).unwrap());
        }
        cluster.sql("postgres", "ALTER SYSTEM SET ssl = on").await.unwrap();
        reload(cluster).await;
    }
}

/// Whether TLS is used (`t` or `f`), or the class of the refusal.
async fn outcome(server: &Cluster, dsn: &str) -> Result<String, FailureClass> {
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
    // A cancel request takes the way of its session.
    let mut late = open(&server, &format!("{dsn} sslmode=require")).await;
    let failure = late.query(SLEEP, LIMIT * 10, SHORT).await.unwrap_err();
    assert!(matches!(failure, QueryFailure::Deadline(_)), "{failure}");
    assert_gone(&server).await;
}

#[tokio::test]
async fn a_client_certificate_logs_in_with_a_key_in_any_usual_form() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    certificates.issue("monitor", 2, "basicConstraints=CA:FALSE");
    certificates.openssl("rsa -in monitor.key -traditional -out pkcs1.key");
    certificates.openssl("ecparam -name prime256v1 -genkey -noout -out ec.key");
    certificates.openssl("req -new -key ec.key -out ec.csr -subj /CN=monitor");
    certificates.openssl("x509 -req -in ec.csr -CA root.crt -CAkey root.key -days 2 -extfile extensions -out ec.crt");
    let settings = Settings {
        conf: vec!["ssl_ca_file = 'root.crt'".to_owned()],
        hba: vec!["hostssl all all 127.0.0.1/32 cert".to_owned()],
        tcp: true,
        ..Settings::default()
    };
    let server = client::start_with(settings).await;
    certificates.install("good", &server).await;
    server.sql("postgres", "CREATE ROLE monitor LOGIN").await.unwrap();
    let dsn = |certificate: &str, key: &str| {
        let (certificate, key) = (certificates.path(certificate), certificates.path(key));
        format!(
            "host=127.0.0.1 port={} user=monitor sslmode=require sslcert={} sslkey={}",
            server.port(),
            certificate.display(),
            key.display()
        )
    };
    for (certificate, key) in [("monitor.crt", "monitor.key"), ("monitor.crt", "pkcs1.key"), ("ec.crt", "ec.key")] {
        assert_eq!(outcome(&server, &dsn(certificate, key)).await.as_deref(), Ok("t"), "{key}");
    }
    assert_eq!(outcome(&server, &dsn("none.crt", "monitor.key")).await, Err(FailureClass::Authentication));
    assert_eq!(outcome(&server, &dsn("monitor.crt", "none.key")).await, Err(FailureClass::Tls));
    assert_eq!(outcome(&server, &dsn("monitor.crt", "ec.key")).await, Err(FailureClass::Tls));
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
