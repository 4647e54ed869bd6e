//! Who may read the web server: exporter-toolkit's web configuration file, with curl and OpenSSL as clients.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::certificates::Certificates;
use crate::clients::NO_SERVERS;
use crate::program::{BINARY, Program, get, run, until};

/// Of `secret`, by libxcrypt.
pub(crate) const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
/// Of `correct horse`.
const HORSE: &str = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2";

/// Certificates, and an agent whose web configuration file lies beside them.
pub(crate) struct Guarded {
    pub(crate) certificates: Certificates,
    pub(crate) agent: Program,
}

/// What curl says of an answer; its exit code where there is none.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Status(u16),
    Failed(i32),
}

impl Guarded {
    /// An agent that shows a certificate for localhost, and does what else the file says.
    pub(crate) fn start(config: &str, web: &str) -> Self {
        let certificates = Certificates::new();
        certificates.issue("good", 2, "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1");
        fs::write(certificates.path("web.yml"), web).unwrap();
        let file = certificates.path("web.yml").display().to_string();
        let agent = Program::start_by(Command::new(BINARY), config, &["--web.config.file", &file]);
        Self { certificates, agent }
    }

    fn write(&self, web: &str) {
        fs::write(self.certificates.path("web.yml"), web).unwrap();
    }

    /// Puts another file into force.
    fn reload(&self, web: &str) {
        let before = self.agent.log().matches("configuration taken over").count();
        self.write(web);
        self.agent.signal(Signal::HUP);
        self.agent.log_until("configuration taken over", before + 1);
    }

    fn path(&self, name: &str) -> String {
        self.certificates.path(name).display().to_string()
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> Said {
        let url = format!("https://localhost:{}{path}", self.agent.address().port());
        let root = self.path("root.crt");
        curl(&[&["--cacert", &root], arguments, &[&url]].concat())
    }
}

fn curl(arguments: &[&str]) -> Said {
    let always =
        ["--silent", "--max-time", "60", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{http_code}"];
    let output = run("curl", &[&always, arguments].concat(), "");
    match output.status.code() {
        Some(0) => Said::Status(String::from_utf8(output.stdout).unwrap().parse().unwrap()),
        code => Said::Failed(code.unwrap_or_default()),
    }
}

const TLS: &str = "tls_server_config: {cert_file: good.crt, key_file: good.key}\n";

#[test]
fn only_those_with_tls_and_a_password_get_an_answer() {
    let users = format!("{TLS}basic_auth_users:\n  alice: {SECRET}\n  bob: {HORSE}\n");
    let guarded = Guarded::start(NO_SERVERS, &users);
    for path in ["/", "/metrics", "/healthz", "/readyz", "/checks", "/check/load", "/nowhere"] {
        assert_eq!(guarded.curl(path, &[]), Said::Status(401), "{path}");
    }
    for wrong in ["alice:wrong", "bob:secret", "carol:secret", "alice:", ":", ":secret"] {
        assert_eq!(guarded.curl("/metrics", &["--user", wrong]), Said::Status(401), "{wrong}");
    }
    for right in ["alice:secret", "bob:correct horse", "alice:secret"] {
        assert_eq!(guarded.curl("/metrics", &["--user", right]), Said::Status(200), "{right}");
    }
    assert_eq!(guarded.curl("/metrics", &["--user", "alice:secret", "-X", "POST"]), Said::Status(405));
    assert_eq!(guarded.curl("/metrics", &["-X", "POST"]), Said::Status(401), "a stranger learns nothing");
    // Not who they think it is.
    assert_eq!(guarded.curl("/", &["--cacert", &guarded.path("other.crt")]), Said::Failed(60));
    // No TLS, no answer.
    let port = guarded.agent.address().port();
    let plain = curl(&["--user", "alice:secret", &format!("http://localhost:{port}/metrics")]);
    assert!(matches!(plain, Said::Failed(_)), "{plain:?}");
    let log = guarded.agent.log();
    assert!(!log.contains("secret") && !log.contains(SECRET), "{log}");
}

#[test]
fn a_client_that_does_not_finish_its_handshake_is_not_waited_for() {
    let guarded = Guarded::start(NO_SERVERS, TLS);
    let mut stream = TcpStream::connect(guarded.agent.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "closed by the agent");
}

#[test]
fn each_client_auth_type_takes_the_certificates_that_go_takes() {
    let guarded = Guarded::start(NO_SERVERS, TLS);
    let certificates = &guarded.certificates;
    certificates.issue("client", 2, "extendedKeyUsage=clientAuth\nsubjectAltName=DNS:prometheus.example,IP:192.0.2.1");
    certificates.issue("expired", -1, "extendedKeyUsage=clientAuth");
    certificates.issue("server", 2, "extendedKeyUsage=serverAuth");
    // Signed by nobody that the agent knows, and signed by itself, which it knows.
    certificates.openssl("req -x509 -newkey rsa:2048 -nodes -keyout own.key -out own.crt -days 2 -subj /CN=own");
    let roots = ["root.crt", "own.crt"].map(|name| fs::read_to_string(certificates.path(name)).unwrap()).concat();
    fs::write(certificates.path("clients.crt"), roots).unwrap();

    let shown = ["", "client", "expired", "server", "other", "own"];
    let verified = "client_ca_file: clients.crt, ";
    let sans = "client_ca_file: clients.crt, client_allowed_sans: [prometheus.example], ";
    let address = "client_ca_file: clients.crt, client_allowed_sans: [192.0.2.1], ";
    let elsewhere = "client_ca_file: clients.crt, client_allowed_sans: [elsewhere.example], ";
    for (more, kind, taken) in [
        ("", "NoClientCert", &shown[..]),
        ("", "RequestClientCert", &shown),
        ("", "RequireAnyClientCert", &["client", "expired", "server", "other", "own"]),
        (verified, "VerifyClientCertIfGiven", &["", "client", "own"]),
        (verified, "RequireAndVerifyClientCert", &["client", "own"]),
        (sans, "RequireAndVerifyClientCert", &["client"]),
        (address, "RequireAndVerifyClientCert", &["client"]),
        (elsewhere, "RequireAndVerifyClientCert", &[]),
    ] {
        guarded.reload(&TLS.replace("{cert", &format!("{{{more}client_auth_type: {kind}, cert")));
        for name in shown {
            let (certificate, key) = (guarded.path(&format!("{name}.crt")), guarded.path(&format!("{name}.key")));
            let identity = ["--cert", &certificate, "--key", &key];
            let said = guarded.curl("/healthz", if name.is_empty() { &[] } else { &identity });
            assert_eq!(said == Said::Status(200), taken.contains(&name), "{more} {kind}, {name:?}: {said:?}");
        }
    }
}

#[test]
fn versions_suites_and_curves_are_those_of_the_file() {
    let guarded = Guarded::start(NO_SERVERS, TLS);
    let speaks = |arguments: &[&str]| {
        let address = guarded.agent.address().to_string();
        let client = ["s_client", "-brief", "-connect", &address];
        run("openssl", &[&client, arguments].concat(), "").status.success()
    };
    let suite = "ECDHE-RSA-AES256-GCM-SHA384";
    let other = "ECDHE-RSA-AES128-GCM-SHA256";
    assert!(speaks(&["-tls1_2"]) && speaks(&["-tls1_3"]) && speaks(&["-groups", "P-256"]));
    assert!(!speaks(&["-tls1_1", "-cipher", "ALL@SECLEVEL=0"]), "TLS 1.1");
    for (more, spoken, not_spoken) in [
        ("min_version: TLS13", &["-tls1_3"][..], &["-tls1_2"][..]),
        ("max_version: TLS12", &["-tls1_2"], &["-tls1_3"]),
        (
            "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA]",
            &["-tls1_2", "-cipher", suite],
            &["-tls1_2", "-cipher", other],
        ),
        ("curve_preferences: [CurveP384, CurveP521]", &["-groups", "P-384"], &["-groups", "X25519"]),
    ] {
        guarded.reload(&TLS.replace("{cert", &format!("{{{more}, cert")));
        assert!(speaks(spoken), "{more}: {spoken:?}; {}", guarded.agent.log());
        assert!(!speaks(not_spoken), "{more}: {not_spoken:?}");
    }
    let log = guarded.agent.log();
    assert!(log.contains("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA is left out"), "{log}");
    assert!(log.contains("CurveP521 is left out"), "{log}");
}

#[test]
fn renewed_certificates_and_passwords_are_followed_and_mistakes_are_not() {
    let with = |hash: &str| format!("{TLS}basic_auth_users: {{alice: {hash}}}\n");
    let guarded = Guarded::start(NO_SERVERS, &with(SECRET));
    let get = |password: &str| guarded.curl("/metrics", &["--user", &format!("alice:{password}")]);
    let file_is_good = || {
        let url = format!("https://localhost:{}/metrics", guarded.agent.address().port());
        let asking = ["--silent", "--user", "alice:correct horse", "--cacert", &guarded.path("root.crt"), &url];
        let text = String::from_utf8(run("curl", &asking, "").stdout).unwrap();
        text.contains("\npgvitals_web_config_last_read_successful 1\n")
    };
    assert_eq!((get("secret"), get("correct horse")), (Said::Status(200), Said::Status(401)));
    guarded.write(&with(HORSE));
    until("the new password is asked for", || get("correct horse") == Said::Status(200));
    assert_eq!(get("secret"), Said::Status(401), "the old password is forgotten");
    assert!(file_is_good());

    for (count, mistake) in ["basic_auth_users: {alice: canary}\n", "", TLS].into_iter().enumerate() {
        guarded.write(mistake);
        until("the mistake is told", || {
            assert_eq!(get("correct horse"), Said::Status(200), "{mistake:?}: the old one stays in force");
            assert_eq!(get("wrong"), Said::Status(401), "{mistake:?}");
            guarded.agent.log().matches("web configuration not taken over").count() > count
        });
        assert!(!file_is_good(), "{mistake:?}");
        guarded.write(&with(HORSE));
        until("all is well again", file_is_good);
    }
    assert!(!guarded.agent.log().contains("canary"), "{}", guarded.agent.log());
    // A reload that finds a mistake changes nothing either.
    guarded.write("basic_auth_users: {alice: canary}\n");
    guarded.agent.signal(Signal::HUP);
    guarded.agent.log_until("serve: configuration not taken over", 1);
    assert_eq!((get("correct horse"), get("wrong")), (Said::Status(200), Said::Status(401)));
    guarded.write(&with(HORSE));
    until("all is well again", file_is_good);

    // Another authority's certificate under the same names, its key a moment later.
    let own = "req -x509 -newkey rsa:2048 -nodes -keyout new.key -out new.crt -days 2 -subj /CN=localhost \
               -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE";
    guarded.certificates.openssl(own);
    let new = ["--cacert", &guarded.path("new.crt"), "--user", "alice:correct horse"];
    for (from, to) in [("new.crt", "good.crt"), ("new.key", "good.key")] {
        assert_eq!(get("correct horse"), Said::Status(200), "half a renewal is none");
        fs::copy(guarded.certificates.path(from), guarded.certificates.path(to)).unwrap();
    }
    until("the new certificate is shown", || guarded.curl("/healthz", &new) == Said::Status(200));
    assert_eq!(get("correct horse"), Said::Failed(60));

    // What opens a door takes a reload.
    guarded.reload(TLS);
    assert_eq!(guarded.curl("/healthz", &["--cacert", &guarded.path("new.crt")]), Said::Status(200));
}

#[test]
fn a_connection_from_before_tls_is_not_answered_any_longer() {
    let guarded = Guarded::start(NO_SERVERS, "");
    let mut stream = TcpStream::connect(guarded.agent.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut ask = || {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (mut said, mut more) = (String::new(), [0; 1024]);
        while !said.ends_with("\r\n\r\nok\n") {
            match stream.read(&mut more).unwrap() {
                0 => break,
                count => said += std::str::from_utf8(&more[..count]).unwrap(),
            }
        }
        said
    };
    assert!(ask().starts_with("HTTP/1.1 200") && ask().starts_with("HTTP/1.1 200"));
    guarded.reload(TLS);
    assert_eq!(ask(), "");
    assert_eq!(guarded.curl("/healthz", &[]), Said::Status(200));
}

#[test]
fn headers_and_rates_are_those_of_the_file() {
    let web = "http_server_config: {headers: {X-Frame-Options: sameorigin, Strict-Transport-Security: max-age=5}}\n\
               rate_limit: {interval: 1h, burst: 2}\n";
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("web.yml");
    fs::write(&file, web).unwrap();
    let config = format!("{NO_SERVERS}[web]\nconfig_file = {file:?}\n");
    let agent = Program::start(&config);
    let answer = agent.get("/healthz");
    assert_eq!(answer.header("x-frame-options"), Some("sameorigin"));
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=5"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    let said: Vec<u16> = (0..3).map(|_| get(agent.address(), "/healthz", "").status).collect();
    assert_eq!(said, [200, 429, 429]);
}

#[test]
fn an_open_door_is_told_of() {
    let everywhere = ["--web.listen-address=:0"];
    let agent = Program::start_by(Command::new(BINARY), NO_SERVERS, &everywhere);
    agent.log_until("everybody who reaches this address may read: no TLS, no password", 1);
    assert!(!Program::start(NO_SERVERS).log().contains("everybody"), "nobody else reaches loopback");
}

#[test]
fn a_check_reaches_an_agent_behind_tls_and_a_password() {
    let users = format!("{TLS}basic_auth_users: {{nagios: {SECRET}}}\n");
    let guarded = Guarded::start(NO_SERVERS, &users);
    let certificates = &guarded.certificates;
    fs::write(certificates.path("right"), "secret\n").unwrap();
    fs::write(certificates.path("wrong"), "canary\n").unwrap();
    let (right, wrong) = (guarded.path("right"), guarded.path("wrong"));
    let (root, other) = (guarded.path("root.crt"), guarded.path("other.crt"));
    let port = guarded.agent.address().port();
    let check = |arguments: &[&str], password: Option<&str>| {
        let mut command = Command::new(BINARY);
        command.args(["check", "load", "-w", "10000", "-c", "20000"]).args(arguments).env_clear();
        command.envs(password.map(|password| ("PGVITALS_AGENT_PASSWORD", password)));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains("canary"), "{said}");
        (output.status.code(), said)
    };
    let (localhost, address) = (format!("https://localhost:{port}"), format!("https://127.0.0.1:{port}/"));
    let (plain, named) = (format!("http://localhost:{port}"), format!("https://nagios:canary@localhost:{port}"));
    let nagios = ["--agent-user", "nagios", "--agent-password-file"];
    for url in [&localhost, &address] {
        let trusting = ["--agent", url, "--agent-ca", &root];
        let (code, said) = check(&[&trusting[..], &nagios, &[&right]].concat(), None);
        assert!(code == Some(0) && said.starts_with("PGVITALS LOAD OK: "), "{said}");
    }
    let trusting = ["--agent", &localhost, "--agent-ca", &root];
    assert_eq!(check(&[&trusting[..], &nagios[..2]].concat(), Some("secret")).0, Some(0));
    for (arguments, part) in [
        (trusting.to_vec(), "expects a user and a password"),
        ([&trusting[..], &nagios, &[&wrong]].concat(), "did not take this user and password"),
        ([&trusting[..], &nagios, &["/nowhere"]].concat(), "read /nowhere: No such file"),
        ([&trusting[..], &nagios[..2]].concat(), "expected --agent-password-file or PGVITALS_AGENT_PASSWORD"),
        (vec!["--agent", &localhost], "speak TLS with the agent at localhost"),
        (vec!["--agent", &localhost, "--agent-ca", &other], "speak TLS with the agent at localhost"),
        (vec!["--agent", &localhost, "--agent-ca", "/nowhere"], "/nowhere does not exist"),
        (vec!["--agent", &plain], "ask the agent at localhost"),
        (vec!["--agent", &named], "in place of a user in the URL"),
    ] {
        let (code, said) = check(&arguments, None);
        assert!(code == Some(3) && said.starts_with("PGVITALS LOAD UNKNOWN: ") && said.contains(part), "{said}");
    }

    certificates.issue("client", 2, "extendedKeyUsage=clientAuth");
    guarded
        .reload(&TLS.replace("{cert", "{client_auth_type: RequireAndVerifyClientCert, client_ca_file: root.crt, cert"));
    assert_eq!(check(&trusting, None).0, Some(3));
    let (certificate, key) = (guarded.path("client.crt"), guarded.path("client.key"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let identity = ["--agent-cert", &certificate, "--agent-key", &key];
    let (code, said) = check(&[&trusting[..], &identity].concat(), None);
    assert_eq!(code, Some(0), "{said}");
}
