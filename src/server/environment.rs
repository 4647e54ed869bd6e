//! What the process environment says about servers: libpq's variables and `postgres_exporter`'s.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::dsn;
use super::keywords::{DsnError, Keywords};
use super::options::ConnectOptions;
use super::password::Password;

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

    /// The servers that the environment names; none means that it is for us to find them.
    ///
    /// In this order: `DATA_SOURCE_NAME`, a list of connection strings; `DATA_SOURCE_URI` with `DATA_SOURCE_USER` and
    /// `DATA_SOURCE_PASS`, each also as `…_FILE`; and `PGHOST`, `PGHOSTADDR`, `PGPORT` or `PGSERVICE`.
    pub fn servers(&self) -> Result<Vec<ConnectOptions>, DsnError> {
        if let Some(list) = self.get("DATA_SOURCE_NAME") {
            return dsn::split_list(&list).into_iter().map(|dsn| ConnectOptions::parse(dsn, self)).collect();
        }
        if let Some(uri) = self.text_or_file("DATA_SOURCE_URI")? {
            return self.data_source(&uri).map(|options| vec![options]);
        }
        if ["PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"].iter().any(|name| self.get(name).is_some()) {
            return ConnectOptions::resolve(Keywords::default(), self).map(|options| vec![options]);
        }
        Ok(Vec::new())
    }

    fn data_source(&self, uri: &str) -> Result<ConnectOptions, DsnError> {
        let mut keywords = Keywords::default();
        if let Some(user) = self.text_or_file("DATA_SOURCE_USER")? {
            keywords.set("user", &user)?;
        }
        let keywords = dsn::parse(&format!("postgresql://{uri}"))?.over(keywords);
        // The file is read at every connection, as any password file, so that a rotated password is found.
        let password = match self.get("DATA_SOURCE_PASS_FILE") {
            Some(path) => Some(Password::File(path.into())),
            None => self.get("DATA_SOURCE_PASS").map(Password::given),
        };
        let options = ConnectOptions::resolve(keywords, self)?;
        Ok(match password {
            Some(password) => options.with_password(password),
            None => options,
        })
    }

    /// `NAME_FILE` wins over `NAME`, as in `postgres_exporter`.
    fn text_or_file(&self, name: &str) -> Result<Option<String>, DsnError> {
        match self.get(&format!("{name}_FILE")) {
            Some(path) => read(Path::new(&path)).map(|text| Some(text.trim().to_owned())),
            None => Ok(self.get(name)),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

pub(super) fn read(path: &Path) -> Result<String, DsnError> {
    fs::read_to_string(path).map_err(|error| DsnError::File { path: path.to_owned(), reason: error.kind().to_string() })
}

fn passwd_field(field: usize) -> Option<String> {
    let user = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(user.as_str()))?;
    line.split(':').nth(field).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &'static [(&str, &str)]) -> Environment {
        Environment::new(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn names(environment: &Environment) -> Vec<String> {
        environment.servers().unwrap().iter().map(ConnectOptions::name).collect()
    }

    #[test]
    fn an_environment_that_names_no_server_leaves_them_to_be_found() {
        assert!(names(&environment(&[("PGUSER", "monitor"), ("PGPASSWORD", "x"), ("HOME", "/nowhere")])).is_empty());
    }

    #[test]
    fn the_exporter_s_list_gives_one_server_each() {
        let environment = environment(&[("DATA_SOURCE_NAME", "postgresql://a:1/x,host=b port=2"), ("PGHOST", "c")]);
        assert_eq!(names(&environment), ["a:1", "b:2"]);
    }

    #[test]
    fn the_exporter_s_parts_make_one_server() {
        let environment = environment(&[
            ("DATA_SOURCE_URI", "h:5433/app?sslmode=disable"),
            ("DATA_SOURCE_USER", "me@site"),
            ("DATA_SOURCE_PASS", "p@:/ %"),
        ]);
        let options = &environment.servers().unwrap()[0];
        assert_eq!((options.name().as_str(), options.user(), options.database()), ("h:5433", "me@site", "app"));
        assert!(matches!(options.password(), Some(Password::Given(secret)) if secret.reveal() == "p@:/ %"));
    }

    #[test]
    fn a_connection_string_wins_over_variables() {
        let environment = environment(&[("PGHOST", "h"), ("PGPORT", "7"), ("PGUSER", "u"), ("PGDATABASE", "d")]);
        let options = ConnectOptions::parse("host=other user=me", &environment).unwrap();
        assert_eq!((options.name().as_str(), options.user(), options.database()), ("other:7", "me", "d"));
        assert_eq!(names(&environment), ["h:7"]);
    }
}
