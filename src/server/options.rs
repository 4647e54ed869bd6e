//! Everything needed to connect to one server, understood and complete.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::dsn;
use super::environment::Environment;
use super::keywords::{DsnError, Keywords};
use super::secret::Password;
use super::service;

const DEFAULT_PORT: u16 = 5432;
const DEFAULT_SOCKETS: &str = "/var/run/postgresql";
/// A backend's caches grow with what it saw, so sessions are not kept for ever.
const LONGEST_SESSION: Duration = Duration::from_secs(3600);

/// One of the places where a server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A socket `.s.PGSQL.<port>` in a directory.
    Socket {
        /// The directory.
        directory: PathBuf,
        /// The port in the socket's name.
        port: u16,
    },
    /// A TCP port.
    Tcp {
        /// The name, or the address as text; the server's certificate is checked against it.
        name: String,
        /// Where to connect to; without it the name is looked up.
        address: Option<IpAddr>,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { directory, port } => write!(f, "{}:{port}", directory.display()),
            Self::Tcp { name, port, .. } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp { name, port, .. } => write!(f, "{name}:{port}"),
        }
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $keyword:literal, $expected:literal,
     { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl FromStr for $name {
            type Err = DsnError;

            fn from_str(text: &str) -> Result<Self, DsnError> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(DsnError::Value { keyword: $keyword, expected: $expected }),
                }
            }
        }
    };
}

choice! {
    /// How much TLS is wanted; libpq's `sslmode`. Sockets never use TLS.
    SslMode, "sslmode", "disable, allow, prefer, require, verify-ca or verify-full", {
        /// None.
        Disable = "disable",
        /// Only when the server refuses us without.
        Allow = "allow",
        /// If the server can.
        Prefer = "prefer",
        /// Always; the certificate is checked only when there is a root certificate.
        Require = "require",
        /// Always, with a certificate that a root certificate vouches for.
        VerifyCa = "verify-ca",
        /// As before, and the certificate names the host.
        VerifyFull = "verify-full",
    }
}

choice! {
    /// Whether SCRAM is tied to the TLS connection; libpq's `channel_binding`.
    ChannelBinding, "channel_binding", "disable, prefer or require", {
        /// Never.
        Disable = "disable",
        /// If both sides can.
        Prefer = "prefer",
        /// Always.
        Require = "require",
    }
}

choice! {
    /// Which host of several will do; libpq's `target_session_attrs`.
    TargetSession, "target_session_attrs", "any, read-write, read-only, primary, standby or prefer-standby", {
        /// The first that answers.
        Any = "any",
        /// One that accepts writes.
        ReadWrite = "read-write",
        /// One that does not.
        ReadOnly = "read-only",
        /// One that is not in recovery.
        Primary = "primary",
        /// One in recovery.
        Standby = "standby",
        /// One in recovery if there is one, else any.
        PreferStandby = "prefer-standby",
    }
}

/// Where the certificates come from that we trust.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RootCertificate {
    /// The operating system's.
    System,
    /// This PEM file.
    File(PathBuf),
}

/// TLS settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// How much TLS is wanted.
    pub mode: SslMode,
    /// Whom we trust; the file need not exist unless the mode says that we verify.
    pub root: Option<RootCertificate>,
    /// Certificates that are no longer trusted, if the file exists: lists in PEM form, one of each root and intermediate.
    pub revoked: Option<PathBuf>,
    /// Our own certificate, if the file exists, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Begin with TLS and not with the question for it; needs `PostgreSQL` 17, and a mode that insists on TLS.
    pub direct: bool,
}

/// How to reach one server and as whom. Never shows its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) password: Option<Password>,
    pub(super) passfile: Option<PathBuf>,
    pub(super) tls: TlsOptions,
    pub(super) channel_binding: ChannelBinding,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) target: TargetSession,
    pub(super) longest_session: Duration,
}

impl ConnectOptions {
    /// Reads a connection string and completes it as libpq does.
    pub fn parse(dsn: &str, environment: &Environment) -> Result<Self, DsnError> {
        Self::resolve(dsn::parse(dsn)?, environment)
    }

    /// Whether there is but one way to the server, a socket of this host.
    pub fn is_one_socket(&self) -> bool {
        matches!(self.hosts.as_slice(), [Host::Socket { .. }])
    }

    /// Completes keywords: they win over the service file, that over `PG*` variables, and those over defaults. The
    /// database, though, is `postgres` unless one is named, because an agent's role seldom has one of its own.
    pub fn resolve(keywords: Keywords, environment: &Environment) -> Result<Self, DsnError> {
        let variables = environment.keywords()?;
        let given = |keyword| keywords.get(keyword).or(variables.get(keyword)).map(ToOwned::to_owned);
        let all = match given("service") {
            Some(service) => {
                let section = service::load(&service, given("servicefile").as_deref(), environment)?;
                keywords.over(section).over(variables)
            }
            None => keywords.over(variables),
        };
        let user = all.get("user").map(ToOwned::to_owned).or_else(|| environment.user());
        let passfile = match all.get("passfile") {
            Some(path) => Some(PathBuf::from(path)),
            None => environment.home().map(|home| home.join(".pgpass")),
        };
        Ok(Self {
            hosts: hosts(&all)?,
            user: user.ok_or(DsnError::Value { keyword: "user", expected: "a name: ours is not in /etc/passwd" })?,
            database: all.get("dbname").unwrap_or("postgres").to_owned(),
            password: all.get("password").map(Password::given),
            passfile,
            tls: tls(&all, environment)?,
            channel_binding: all.get("channel_binding").map_or(Ok(ChannelBinding::Prefer), str::parse)?,
            connect_timeout: connect_timeout(&all)?,
            target: all.get("target_session_attrs").map_or(Ok(TargetSession::Any), str::parse)?,
            longest_session: LONGEST_SESSION,
        })
    }

    /// The same with this source of the password, which wins over all others.
    #[must_use]
    pub fn with_password(self, password: Password) -> Self {
        Self { password: Some(password), ..self }
    }

    /// The same in another database of the server.
    #[must_use]
    pub fn with_database(self, database: impl Into<String>) -> Self {
        Self { database: database.into(), ..self }
    }

    /// The same without any password.
    #[must_use]
    pub fn without_password(self) -> Self {
        Self { password: None, passfile: None, ..self }
    }

    /// The same with sessions that are replaced after this time, and not after an hour.
    #[must_use]
    pub fn with_longest_session(self, longest_session: Duration) -> Self {
        Self { longest_session, ..self }
    }

    /// After this time a session is replaced.
    pub fn longest_session(&self) -> Duration {
        self.longest_session
    }

    /// `host:port` or `/directory:port` of the first host: the server's name unless it has a better one.
    pub fn name(&self) -> String {
        self.hosts.first().map(ToString::to_string).unwrap_or_default()
    }

    /// The places to try, in this order; never empty.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The role we connect as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database we connect to.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Where the password comes from, unless it is the password file of libpq.
    pub fn password(&self) -> Option<&Password> {
        self.password.as_ref()
    }

    /// TLS settings.
    pub fn tls(&self) -> &TlsOptions {
        &self.tls
    }
}

impl fmt::Display for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.user, self.name(), self.database)
    }
}

fn hosts(all: &Keywords) -> Result<Vec<Host>, DsnError> {
    let list = |keyword| all.get(keyword).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let names = list("host").unwrap_or_default();
    let addresses = list("hostaddr").unwrap_or_default();
    let ports = list("port").unwrap_or_default();
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(DsnError::Value { keyword: "hostaddr", expected: "as many addresses as there are hosts" });
    }
    let count = names.len().max(addresses.len()).max(1);
    if ports.len() > 1 && ports.len() != count {
        return Err(DsnError::Value { keyword: "port", expected: "one port, or as many as there are hosts" });
    }
    (0..count)
        .map(|at| {
            let port = match ports.get(at).or(ports.first().filter(|_| ports.len() == 1)) {
                None | Some(&"") => DEFAULT_PORT,
                Some(port) => port
                    .parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or(DsnError::Value { keyword: "port", expected: "a number from 1 to 65535" })?,
            };
            host(names.get(at).copied().unwrap_or_default(), addresses.get(at).copied().unwrap_or_default(), port)
        })
        .collect()
}

fn host(name: &str, address: &str, port: u16) -> Result<Host, DsnError> {
    const ADDRESS: DsnError = DsnError::Value { keyword: "hostaddr", expected: "an IP address" };
    const ABSTRACT: DsnError =
        DsnError::Value { keyword: "host", expected: "a name, an address or a directory, not an abstract socket" };
    match (name, address) {
        ("", "") => Ok(Host::Socket { directory: DEFAULT_SOCKETS.into(), port }),
        (name, "") if name.starts_with('/') => Ok(Host::Socket { directory: name.into(), port }),
        (name, _) if name.starts_with('@') => Err(ABSTRACT),
        (name, "") => Ok(Host::Tcp { name: name.to_owned(), address: name.parse().ok(), port }),
        (name, text) => {
            let address = text.parse().map_err(|_| ADDRESS)?;
            let name = if name.is_empty() { text } else { name };
            Ok(Host::Tcp { name: name.to_owned(), address: Some(address), port })
        }
    }
}

fn tls(all: &Keywords, environment: &Environment) -> Result<TlsOptions, DsnError> {
    let folder = environment.home().map(|home| home.join(".postgresql"));
    let file = |keyword, name: &str| {
        all.get(keyword).map(PathBuf::from).or_else(|| folder.as_deref().map(|folder: &Path| folder.join(name)))
    };
    let mode = all.get("sslmode").map(SslMode::from_str).transpose()?;
    let (mode, root) = match (all.get("sslrootcert"), mode) {
        (Some("system"), None | Some(SslMode::VerifyFull)) => (SslMode::VerifyFull, Some(RootCertificate::System)),
        (Some("system"), _) => {
            return Err(DsnError::Value { keyword: "sslmode", expected: "verify-full with sslrootcert=system" });
        }
        (_, mode) => (mode.unwrap_or(SslMode::Prefer), file("sslrootcert", "root.crt").map(RootCertificate::File)),
    };
    let direct = match (all.get("sslnegotiation"), mode) {
        (None | Some("postgres"), _) => false,
        (Some("direct"), SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => true,
        (Some("direct"), _) => {
            let expected = "require, verify-ca or verify-full with sslnegotiation=direct";
            return Err(DsnError::Value { keyword: "sslmode", expected });
        }
        _ => return Err(DsnError::Value { keyword: "sslnegotiation", expected: "postgres or direct" }),
    };
    Ok(TlsOptions {
        mode,
        root,
        revoked: file("sslcrl", "root.crl"),
        identity: file("sslcert", "postgresql.crt").zip(file("sslkey", "postgresql.key")),
        direct,
    })
}

/// Zero and less mean no limit of its own, as in libpq.
fn connect_timeout(all: &Keywords) -> Result<Option<Duration>, DsnError> {
    let Some(text) = all.get("connect_timeout") else { return Ok(None) };
    let seconds: i64 = text
        .trim()
        .parse()
        .map_err(|_| DsnError::Value { keyword: "connect_timeout", expected: "a whole number of seconds" })?;
    Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dsn: &str) -> Result<ConnectOptions, DsnError> {
        ConnectOptions::parse(dsn, &Environment::new(|name| (name == "HOME").then(|| "/home/me".to_owned())))
    }

    #[test]
    fn what_is_not_given_is_completed() {
        let options = options("user=me").unwrap();
        assert_eq!(options.to_string(), "me@/var/run/postgresql:5432/postgres");
        assert_eq!(options.tls.root, Some(RootCertificate::File("/home/me/.postgresql/root.crt".into())));
        assert_eq!(options.passfile, Some("/home/me/.pgpass".into()));
    }

    #[test]
    fn hosts_addresses_and_ports_go_together() {
        let names = |dsn| options(dsn).unwrap().hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("host=a,/run/b,::1 port=7"), ["a:7", "/run/b:7", "[::1]:7"]);
        assert_eq!(names("host=a,b port=1,"), ["a:1", "b:5432"]);
        assert_eq!(names("hostaddr=10.0.0.1"), ["10.0.0.1:5432"]);
        for (dsn, keyword) in [
            ("host=a,b port=1,2,3", "port"),
            ("host=a port=0", "port"),
            ("host=a,b hostaddr=::1", "hostaddr"),
            ("hostaddr=a", "hostaddr"),
            ("sslmode=no", "sslmode"),
            ("sslrootcert=system sslmode=require", "sslmode"),
            ("sslnegotiation=direct", "sslmode"),
            ("sslnegotiation=now sslmode=require", "sslnegotiation"),
            ("connect_timeout=soon", "connect_timeout"),
        ] {
            assert!(matches!(options(dsn), Err(DsnError::Value { keyword: k, .. }) if k == keyword), "{dsn}");
        }
    }

    #[test]
    fn the_password_is_in_no_form_of_the_options() {
        let options = options("host=h user=me password=canary").unwrap();
        assert!(!format!("{options:?} {options:#?} {options}").contains("canary"));
    }
}
