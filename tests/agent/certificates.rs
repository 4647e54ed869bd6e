//! Certificates of servers and clients, judged as libpq judges them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use pgvitals::demo::cluster::{Cluster, Settings};
use pgvitals::server::FailureClass;
use tempfile::TempDir;

use crate::client::{self, give, psql, reload, try_open, value};
use crate::tls::{IN_USE, outcome};

/// Certificates of one root, made by OpenSSL.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.openssl("req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.crt -days 2 -subj /CN=root");
        this.openssl("req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.crt -days 2 -subj /CN=other");
        this
    }

    pub(crate) fn openssl(&self, line: &str) {
        let out = Command::new("openssl").args(line.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(out.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// A certificate that the root has signed, good for so many days and these names.
    pub(crate) fn issue(&self, name: &str, days: i32, extensions: &str) {
        fs::write(self.path("extensions"), extensions).unwrap();
        self.openssl(&format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA root.crt -CAkey root.key -CAcreateserial -days {days} \
             -extfile extensions -out {name}.crt"
        ));
    }

    /// As [`Certificates::issue`], good from the year 2099 on.
    pub(crate) fn not_yet_valid(&self, name: &str, extensions: &str) {
        self.issue(name, 2, extensions);
        self.authority();
        self.openssl(&format!(
            "ca -config ca.cnf -batch -notext -startdate 20990101000000Z -enddate 21000101000000Z -in {name}.csr \
             -extfile extensions -out {name}.crt"
        ));
    }

    /// Lets the root keep books, which it needs for what `openssl x509` cannot do.
    pub(crate) fn authority(&self) {
        fs::write(self.path("index.txt"), "").unwrap();
        fs::write(self.path("serial"), "77\n").unwrap();
        let config = "[ca]\ndefault_ca = root\n[root]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\n\
                      certificate = root.crt\nprivate_key = root.key\ndefault_md = sha256\npolicy = any\n\
                      crlnumber = serial\ncrl_extensions = list\n[list]\nauthorityKeyIdentifier = keyid\n\
                      [any]\ncommonName = supplied\n";
        fs::write(self.path("ca.cnf"), config).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Has a cluster show this certificate from now on, and check those of its clients with the root.
    pub(crate) async fn install(&self, name: &str, cluster: &Cluster) {
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

/// What psql and we make of a connection string: TLS in use or not, or refused; they must be of one mind.
pub(crate) async fn both(server: &Cluster, dsn: &str) -> Result<String, FailureClass> {
    let (theirs, ours) = tokio::join!(psql(server, dsn, IN_USE), try_open(server, dsn));
    match (theirs, ours) {
        (Ok(theirs), Ok(mut session)) => {
            assert_eq!(value(&mut session, IN_USE).await, theirs, "{dsn}");
            Ok(theirs)
        }
        (Err(_), Err(failure)) => Err(failure.class),
        (theirs, ours) => panic!("{dsn}: psql {theirs:?}, we {ours:?}"),
    }
}

#[tokio::test]
async fn names_and_times_in_a_certificate_count_as_for_libpq() {
    let certificates = Certificates::new();
    certificates.issue("wild", 2, "subjectAltName=DNS:*.example.org");
    certificates.issue("*.example.org", 2, "basicConstraints=CA:FALSE");
    certificates.issue("address", 2, "subjectAltName=IP:127.0.0.1");
    certificates.issue("address_as_name", 2, "subjectAltName=DNS:127.0.0.1");
    certificates.issue("db.example.org", 2, "subjectAltName=email:dba@example.org");
    certificates.issue("127.0.0.1", 2, "basicConstraints=CA:FALSE");
    certificates.not_yet_valid("early", "subjectAltName=DNS:db.example.org,IP:127.0.0.1");
    let server = client::start(&[]).await;
    let root = certificates.path("root.crt").display().to_string();
    let (mut accepted, mut refused) = (0, 0);
    for certificate in ["wild", "*.example.org", "address", "address_as_name", "db.example.org", "127.0.0.1", "early"] {
        certificates.install(certificate, &server).await;
        for host in ["db.example.org", "DB.Example.ORG", "a.b.example.org", "example.org", "127.0.0.1"] {
            for mode in ["verify-ca", "verify-full"] {
                let (port, address) = (server.port(), "hostaddr=127.0.0.1");
                let dsn = format!("host={host} {address} port={port} user=postgres sslmode={mode} sslrootcert={root}");
                match both(&server, &format!("{dsn} application_name='{certificate}'")).await {
                    Ok(_) => accepted += 1,
                    Err(class) => {
                        assert_eq!(class, FailureClass::Tls, "{certificate} {dsn}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(accepted > 35 && refused > 25, "{accepted} accepted, {refused} refused");
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
async fn client_certificates_are_asked_for_and_judged_as_with_libpq() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    for (name, days) in [("monitor", 2), ("somebody", 2), ("late", -1)] {
        certificates.issue(name, days, "basicConstraints=CA:FALSE");
    }
    certificates
        .openssl("req -x509 -newkey rsa:2048 -nodes -keyout foreign.key -out foreign.crt -days 2 -subj /CN=monitor");
    certificates.openssl("rsa -in monitor.key -aes256 -passout pass:canary -out encrypted.key");
    let settings = Settings {
        conf: vec!["ssl_ca_file = 'root.crt'".to_owned()],
        hba: vec!["hostssl all all 127.0.0.1/32 trust clientcert=verify-full".to_owned()],
        tcp: true,
        ..Settings::default()
    };
    let server = client::start_with(settings).await;
    certificates.install("good", &server).await;
    server.sql("postgres", "CREATE ROLE monitor LOGIN").await.unwrap();
    for (certificate, key, mode, expected) in [
        ("monitor.crt", "monitor.key", 0o600, true),
        ("monitor.crt", "monitor.key", 0o644, false),
        ("monitor.crt", "monitor.key", 0o620, false),
        ("monitor.crt", "monitor.key", 0o400, true),
        ("somebody.crt", "somebody.key", 0o600, false),
        ("late.crt", "late.key", 0o600, false),
        ("foreign.crt", "foreign.key", 0o600, false),
        ("monitor.crt", "somebody.key", 0o600, false),
        ("monitor.crt", "encrypted.key", 0o600, false),
        ("none.crt", "monitor.key", 0o600, false),
    ] {
        fs::set_permissions(certificates.path(key), fs::Permissions::from_mode(mode)).unwrap();
        let [certificate, key] = [certificate, key].map(|name| certificates.path(name).display().to_string());
        let dsn = format!(
            "host=127.0.0.1 port={} user=monitor sslmode=require sslcert={certificate} sslkey={key}",
            server.port()
        );
        assert_eq!(both(&server, &dsn).await.is_ok(), expected, "{dsn} {mode:o}");
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_as_with_libpq() {
    let certificates = Certificates::new();
    certificates.issue("good", 2, "subjectAltName=DNS:localhost");
    certificates.issue("bad", 2, "subjectAltName=DNS:localhost");
    certificates.authority();
    certificates.openssl("ca -config ca.cnf -revoke bad.crt");
    certificates.openssl("ca -config ca.cnf -gencrl -crldays 2 -out root.crl");
    let server = client::start(&[]).await;
    let [root, list] = ["root.crt", "root.crl"].map(|name| certificates.path(name).display().to_string());
    let dsn = format!("host=localhost port={} user=postgres sslmode=verify-full sslrootcert={root}", server.port());
    for (certificate, expected) in [("good", Ok("t".to_owned())), ("bad", Err(FailureClass::Tls))] {
        certificates.install(certificate, &server).await;
        assert_eq!(both(&server, &format!("{dsn} sslcrl={list}")).await, expected, "{certificate}");
        assert_eq!(both(&server, &format!("{dsn} sslcrl=/nowhere")).await.as_deref(), Ok("t"), "{certificate}");
    }
}
