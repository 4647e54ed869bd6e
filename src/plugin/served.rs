//! An agent in place of sessions: which of the command lines that somebody sends it are answered, and from what.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Target;
use crate::agent::Agent;
use crate::server::{ConnectOptions, Host};

/// Where libpq looks when no port is named.
const USUAL_PORT: u16 = 5432;
/// What was kept counts as the last call's for so long, however many readers call meanwhile: a rate over less says little.
const LEAST_AGE: Duration = Duration::from_secs(10);
/// So many values are kept, and each is no longer than this.
const MOST_KEPT: usize = 1_000;
const LONGEST_KEPT: usize = 256 << 10;

/// An agent that answers one command line.
#[derive(Clone, Debug)]
pub struct Served {
    agent: Arc<Agent>,
    server: Option<Arc<str>>,
    names_place: bool,
    names_database: bool,
    role: Option<String>,
    recalled: Arc<Recalled>,
    refused: Arc<AtomicBool>,
}

/// What command lines keep from one call to the next, in place of their status files.
#[derive(Debug, Default)]
pub struct Recalled(Mutex<BTreeMap<(String, String), (Instant, Value)>>);

impl Served {
    /// What an agent answers about this server, or about the only one that it watches.
    pub fn new(agent: Arc<Agent>, server: Option<Arc<str>>, recalled: Arc<Recalled>) -> Self {
        Self { agent, server, names_place: false, names_database: true, role: None, recalled, refused: Arc::default() }
    }

    /// The same for a command line that names a host or a port, a database, or a role; where it names no database, any will do.
    #[must_use]
    pub fn naming(self, place: bool, database: bool, role: Option<&str>) -> Self {
        Self { names_place: place, names_database: database, role: role.map(ToOwned::to_owned), ..self }
    }

    /// Whether the command line names a database.
    pub fn names_database(&self) -> bool {
        self.names_database
    }

    /// Notes that the agent does not answer this, and gives the reason back.
    pub fn refuse(&self, reason: impl Into<String>) -> String {
        self.refused.store(true, Ordering::Relaxed);
        reason.into()
    }

    /// Whether something was asked that only a session of one's own can answer.
    pub fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// The agent.
    pub(super) fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// The server that is watched at a place.
    ///
    /// # Errors
    ///
    /// There is none, or the agent asks it in another way than the command line wants.
    pub(super) fn find(&self, target: &Target) -> Result<Arc<str>, String> {
        if target.service.is_some() || target.password.is_some() {
            return Err(self.refuse(
                "the agent reaches its servers as its own configuration says: expected no service and no password",
            ));
        }
        let there = match (&self.server, self.names_place) {
            (Some(server), false) => vec![Arc::clone(server)],
            (None, false) => self.agent.servers(),
            (_, true) => {
                let port = target.port.as_deref().map_or(Some(USUAL_PORT), |port| port.parse().ok());
                self.agent
                    .servers_where(|options| port.is_some_and(|port| is_at(options, target.host.as_deref(), port)))
            }
        };
        let server = match there.as_slice() {
            [server] => Arc::clone(server),
            [] => return Err(self.refuse("the agent watches no server there")),
            several => {
                return Err(
                    self.refuse(format!("the agent watches several servers, expected one of: {}", several.join(", ")))
                );
            }
        };
        let own = self.agent.database_of(&server).unwrap_or_default();
        if let Some(database) = target.database.as_ref().filter(|database| **database != own) {
            return Err(self.refuse(format!("the agent is connected to database {own}, not to {database}")));
        }
        let is_role = |role: &String| !self.agent.servers_where(|options| options.user() == role).contains(&server);
        if let Some(role) = self.role.as_ref().filter(|role| is_role(role)) {
            return Err(self.refuse(format!("the agent asks as its own role, not as {role}")));
        }
        Ok(server)
    }

    /// What was kept under these names.
    pub fn load(&self, host: &str, name: &str) -> Option<Value> {
        let kept = self.recalled.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(host.to_owned(), name.to_owned())).map(|(_, value)| value.clone())
    }

    /// Keeps a value for a later call.
    pub fn save(&self, host: &str, name: &str, value: Value) {
        let mut kept = self.recalled.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, now) = ((host.to_owned(), name.to_owned()), Instant::now());
        let is_young = |(at, _): &(Instant, Value)| now.saturating_duration_since(*at) < LEAST_AGE;
        let is_known = kept.contains_key(&key);
        let is_too_much = !is_known && kept.len() >= MOST_KEPT || value.to_string().len() > LONGEST_KEPT;
        if is_too_much || kept.get(&key).is_some_and(is_young) {
            return;
        }
        kept.insert(key, (now, value));
    }
}

/// Whether a server is reached at this host and port. Without a host it is any socket of this machine.
fn is_at(options: &ConnectOptions, host: Option<&str>, port: u16) -> bool {
    options.hosts().iter().any(|known| match (known, host) {
        (Host::Socket { port: known, .. }, None) => *known == port,
        (Host::Socket { directory, port: known }, Some(host)) => *known == port && directory.to_str() == Some(host),
        (Host::Tcp { name, address, port: known }, Some(host)) => {
            let is_address = || address.is_some_and(|address| host.parse() == Ok(address));
            *known == port && (name.eq_ignore_ascii_case(host) || is_address())
        }
        (Host::Tcp { .. }, None) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::server::Environment;

    fn served(dsns: &[(&str, &str)]) -> Served {
        let agent = Agent::new(Arc::new(Catalog::built_in().unwrap()), None, Arc::default());
        for (name, dsn) in dsns {
            agent.watch(name, ConnectOptions::parse(dsn, &Environment::new(|_| None)).unwrap(), None);
        }
        Served::new(Arc::new(agent), None, Arc::default())
    }

    #[tokio::test]
    async fn a_command_line_is_answered_of_a_server_that_is_watched_and_of_no_other() {
        let target = |host: Option<&str>, port: &str, database: &str| Target {
            host: host.map(ToOwned::to_owned),
            port: Some(port.to_owned()),
            database: Some(database.to_owned()),
            ..Target::default()
        };
        let one = served(&[("15/main", "host=/run/postgresql port=5433 user=a dbname=app")]);
        let found = |served: &Served, target: &Target| served.find(target).map(|name| name.to_string());
        let named = one.clone().naming(true, true, None);
        assert_eq!(found(&one, &target(None, "5432", "app")).as_deref(), Ok("15/main"), "no place is named");
        assert_eq!(found(&named, &target(None, "5433", "app")).as_deref(), Ok("15/main"));
        assert_eq!(found(&named, &target(Some("/run/postgresql"), "5433", "app")).as_deref(), Ok("15/main"));
        assert_eq!(
            found(&one.clone().naming(false, true, Some("a")), &target(None, "", "app")).as_deref(),
            Ok("15/main")
        );
        assert!(!one.has_refused());
        for (served, target, reason) in [
            (&named, target(None, "5432", "app"), "the agent watches no server there"),
            (&named, target(Some("db1"), "5433", "app"), "the agent watches no server there"),
            (&one, target(None, "5432", "other"), "the agent is connected to database app, not to other"),
            (&one.clone().naming(false, true, Some("b")), target(None, "", "app"), "as its own role, not as b"),
            (&one, Target { service: Some("x".to_owned()), ..Target::default() }, "no service and no password"),
        ] {
            let refused = served.find(&target).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(one.has_refused());
        let two = served(&[("a", "host=db1 user=a"), ("b", "host=db2 user=a")]);
        assert!(two.find(&Target::default()).unwrap_err().ends_with("expected one of: a, b"));
        let chosen = Served::new(Arc::clone(&two.agent), Some(Arc::from("b")), Arc::default());
        assert_eq!(found(&chosen, &Target::default()).as_deref(), Ok("b"));
        assert_eq!(found(&two.naming(true, true, None), &target(Some("DB2"), "5432", "postgres")).as_deref(), Ok("b"));
    }

    #[test]
    fn what_is_kept_stays_for_a_while_so_that_many_callers_see_a_rate() {
        let served = served(&[]);
        assert_eq!(served.load("a:1", "x"), None);
        served.save("a:1", "x", Value::from(1));
        served.save("a:1", "x", Value::from(2));
        assert_eq!(served.load("a:1", "x"), Some(Value::from(1)));
        served.save("a:1", "y", Value::from("x".repeat(LONGEST_KEPT)));
        assert_eq!(served.load("a:1", "y"), None);
        for n in 0..2 * MOST_KEPT {
            served.save("a:1", &n.to_string(), Value::Null);
        }
        assert_eq!(served.recalled.0.lock().unwrap().len(), MOST_KEPT);
    }
}
