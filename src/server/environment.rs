//! What the process environment says about servers: libpq's variables and `postgres_exporter`'s.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::keywords::{DsnError, Keywords};
use crate::source::read_plain;

const LARGEST_FILE: u64 = 1 << 20;

/// The environment variables, looked up through a function so that nothing depends on the process' own.
pub struct Environment(Box<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// libpq's variables and the keywords they stand for.
const VARIABLES: &[(&str, &str)] = &[
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGSERVICE", "service"),
    ("PGSERVICEFILE", "servicefile"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
];

impl Environment {
    /// An environment that this function looks up.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Box::new(lookup))
    }

    /// The process' own.
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// The variable, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The home directory: `HOME`, else what `/etc/passwd` says.
    pub fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from).or_else(|| passwd_field(5).map(PathBuf::from))
    }

    /// The operating system's name for the user we run as. Directory services are not asked, `USER` stands in for them.
    pub fn user(&self) -> Option<String> {
        passwd_field(0).or_else(|| self.get("USER")).or_else(|| self.get("LOGNAME"))
    }

    /// libpq's variables as keywords.
    pub fn keywords(&self) -> Result<Keywords, DsnError> {
        let mut keywords = Keywords::default();
        for (variable, keyword) in VARIABLES {
            if let Some(value) = self.get(variable) {
                keywords.set(keyword, &value)?;
            }
        }
        Ok(keywords)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// A service file, or one of `DATA_SOURCE_…_FILE`.
pub(super) fn read(path: &Path) -> Result<String, DsnError> {
    let failure = |reason: String| DsnError::File { path: path.to_owned(), reason };
    let bytes = read_plain(path, LARGEST_FILE).map_err(|error| failure(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| failure("not UTF-8".to_owned()))
}

fn passwd_field(field: usize) -> Option<String> {
    let user = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(user.as_str()))?;
    line.split(':').nth(field).map(ToOwned::to_owned)
}
