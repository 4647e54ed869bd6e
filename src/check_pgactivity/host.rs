//! The servers that a command line names, and asking them.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::call::Stop;
use super::options::Options;
use super::report::Status;
use crate::catalog::Catalog;
use crate::plugin::{AskError, Asked, Row, Served, Target};
use crate::server::{Environment, RowSet};

/// The variables that say where to connect to.
const PLACE: [&str; 5] = ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE"];

/// The servers of a command line, in order.
#[derive(Debug)]
pub struct Hosts(std::vec::IntoIter<Host>);

impl Hosts {
    /// The servers that options and environment name; at least one.
    pub(super) fn parse(options: &Options, access: &Arc<Access>) -> Self {
        let environment = &access.environment;
        let mut hosts = Vec::new();
        for service in list(options.dbservice.as_deref()) {
            let target = Target { service: Some(service.to_owned()), ..Target::default() };
            let hidden: &'static [&'static str] = &PLACE;
            hosts.push(Host::new(format!("service:{service}"), service.to_owned(), target, hidden, access));
        }
        let given = [
            (&options.host, "PGHOST", "localhost"),
            (&options.port, "PGPORT", "5432"),
            (&options.username, "PGUSER", "postgres"),
            (&options.dbname, "PGDATABASE", "template1"),
        ];
        if given.iter().any(|(option, ..)| option.is_some()) {
            let texts = given.map(|(option, variable, usual)| {
                let given = option.clone().filter(|text| !text.is_empty()).or_else(|| environment.get(variable));
                given.unwrap_or_else(|| usual.to_owned())
            });
            let lists = texts.each_ref().map(|text| list(Some(text)));
            let count = lists.iter().map(Vec::len).max().unwrap_or_default();
            for at in 0..count {
                let [host, port, user, database] = lists.each_ref().map(|list| {
                    let own = list.get(at).filter(|text| !text.is_empty());
                    own.or(list.first()).map(ToString::to_string).unwrap_or_default()
                });
                let name = format!("host:{host} port:{port} db:{database}");
                let key = format!("{host}:{port}");
                let target = Target {
                    host: Some(host),
                    port: Some(port),
                    user: Some(user),
                    database: Some(database),
                    ..Target::default()
                };
                hosts.push(Host::new(name, key, target, &["PGSERVICE"], access));
            }
        }
        if hosts.is_empty() {
            hosts.push(of_environment(access));
        }
        Self(hosts.into_iter())
    }

    /// The next of them.
    pub fn take(&mut self) -> Option<Host> {
        self.0.next()
    }

    /// Whether all are taken.
    pub fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// What psql connects to without any option: the database that is called like the role, unless one is named.
fn of_environment(access: &Arc<Access>) -> Host {
    let environment = &access.environment;
    let mut name = "binary defaults".to_owned();
    for (variable, word) in [("PGHOST", "host"), ("PGPORT", "port"), ("PGDATABASE", "db"), ("PGSERVICE", "service")] {
        if let Some(value) = environment.get(variable) {
            let _ = write!(name, " {word}:{value}");
        }
    }
    let service = environment.get("PGSERVICE");
    let key = match (environment.get("PGHOST"), environment.get("PGPORT")) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        _ => service.clone().unwrap_or_else(|| "binary defaults".to_owned()),
    };
    let role = || environment.get("PGUSER").or_else(|| environment.user());
    let is_named = environment.get("PGDATABASE").is_some() || service.is_some();
    let database = if is_named { None } else { role() };
    Host::new(name, key, Target { database, ..Target::default() }, &[], access)
}

fn list(text: Option<&str>) -> Vec<&str> {
    text.map(|text| text.split(',').collect()).unwrap_or_default()
}

/// What it takes to ask.
pub(super) struct Access {
    pub(super) catalog: Arc<Catalog>,
    pub(super) environment: Arc<Environment>,
    /// For each session, from connecting on.
    pub(super) limit: Duration,
    /// What `--debug` prints.
    pub(super) debug: Option<Mutex<String>>,
    /// The agent that answers in place of sessions.
    pub(super) served: Option<Served>,
}

impl Access {
    fn note(&self, text: &str) {
        if let Some(Ok(mut debug)) = self.debug.as_ref().map(Mutex::lock) {
            let _ = writeln!(debug, "DEBUG: {text}");
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A server of the command line, with a session that is opened when it is first asked and lasts as long as the call.
#[derive(Debug)]
pub struct Host {
    /// As messages name it: `host:127.0.0.1 port:5432 db:template1`, `service:NAME` or `binary defaults`.
    pub name: String,
    /// What it is called in the status file.
    pub(super) key: String,
    target: Target,
    /// Variables that do not count for it.
    hidden: &'static [&'static str],
    asked: Option<Asked>,
    access: Arc<Access>,
}

impl Host {
    fn new(name: String, key: String, target: Target, hidden: &'static [&'static str], access: &Arc<Access>) -> Self {
        access.note(&format!("host {name}"));
        Self { name, key, target, hidden, asked: None, access: Arc::clone(access) }
    }

    /// The host as the command line names it, such as `127.0.0.1` or a socket's folder; none if it does not.
    pub fn address(&self) -> Option<&str> {
        self.target.host.as_deref()
    }

    /// The port as the command line names it.
    pub fn port(&self) -> Option<&str> {
        self.target.port.as_deref()
    }

    /// The rows of a listing or a definition.
    ///
    /// # Errors
    ///
    /// UNKNOWN: the server cannot be reached, refuses or takes too long.
    pub async fn rows(&mut self, listing: &str) -> Result<RowSet, Stop> {
        self.try_rows(listing).await.map_err(|error| Stop::refused(Status::Unknown, None, &error))
    }

    /// The same, for who has words of his own for what goes wrong.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, refuses or takes too long.
    pub async fn try_rows(&mut self, listing: &str) -> Result<RowSet, AskError> {
        let rows = self.session().await?.rows(listing).await;
        self.tell(listing, &rows);
        rows
    }

    /// The rows of a listing in another database, in a session that is closed again.
    ///
    /// # Errors
    ///
    /// As [`Host::rows`], with the name of the database.
    pub async fn rows_in(&mut self, database: &str, listing: &str) -> Result<RowSet, Stop> {
        let refused = |error| Stop::refused(Status::Unknown, Some(database), &error);
        let target = Target { database: Some(database.to_owned()), ..self.target.clone() };
        let mut asked = self.open(&target).await.map_err(refused)?;
        let rows = asked.rows(listing).await;
        self.tell(&format!("{listing} in {database}"), &rows);
        rows.map_err(refused)
    }

    /// The answer to the user's own statement. Ask listings before: none is asked after it.
    ///
    /// # Errors
    ///
    /// As [`Host::rows`].
    pub async fn sql(&mut self, sql: &str) -> Result<RowSet, Stop> {
        let refused = |error| Stop::refused(Status::Unknown, None, &error);
        let rows = self.session().await.map_err(refused)?.sql(sql).await;
        self.tell(sql, &rows);
        rows.map_err(refused)
    }

    /// `server_version_num`, such as 150006.
    ///
    /// # Errors
    ///
    /// UNKNOWN: the server cannot be reached.
    pub async fn version(&mut self) -> Result<u32, Stop> {
        let session = self.session().await.map_err(|error| Stop::refused(Status::Unknown, None, &error))?;
        Ok(session.version())
    }

    /// Whether the server is in recovery.
    ///
    /// # Errors
    ///
    /// UNKNOWN: the server cannot be reached.
    pub async fn is_standby(&mut self) -> Result<bool, Stop> {
        let session = self.session().await.map_err(|error| Stop::refused(Status::Unknown, None, &error))?;
        Ok(session.is_standby())
    }

    /// Makes sure that the server's major version is one of these, as in `host.suits("hugepages", 17..=u32::MAX)`.
    ///
    /// # Errors
    ///
    /// It is not.
    pub async fn suits(&mut self, service: &str, majors: RangeInclusive<u32>) -> Result<(), Stop> {
        if majors.contains(&(self.version().await? / 10_000)) {
            return Ok(());
        }
        let rows = self.rows("connection").await?;
        let version = Row::of(&rows).next().map(|row| row.text("server_version").to_owned()).unwrap_or_default();
        let name = &self.name;
        Err(Stop::Incompatible(format!("Service {service} is not compatible with host '{name}' (v{version}).")))
    }

    async fn session(&mut self) -> Result<&mut Asked, AskError> {
        let asked = match self.asked.take() {
            Some(asked) => asked,
            None => self.open(&self.target).await?,
        };
        Ok(self.asked.insert(asked))
    }

    async fn open(&self, target: &Target) -> Result<Asked, AskError> {
        if let Some(served) = &self.access.served {
            // Where no database is named, that of the agent is as good as the usual one.
            let is_any = std::ptr::eq(target, &raw const self.target) && !served.names_database();
            let database = target.database.clone().filter(|_| !is_any);
            let target = Target { database, ..target.clone() };
            return Asked::served(served, &target, &self.access.catalog, self.access.limit).await;
        }
        let (outer, hidden) = (Arc::clone(&self.access.environment), self.hidden);
        let environment = Environment::new(move |name| outer.get(name).filter(|_| !hidden.contains(&name)));
        let options = target.options(&environment).map_err(|error| AskError::Unavailable(error.to_string()))?;
        Asked::open(&options, &self.access.catalog, self.access.limit).await
    }

    fn tell(&self, what: &str, rows: &Result<RowSet, AskError>) {
        if self.access.debug.is_some() {
            let ended = match rows {
                Ok(rows) => format!("{rows:?}"),
                Err(error) => error.to_string(),
            };
            self.access.note(&format!("{}: {what}: {ended}", self.name));
        }
    }
}
