//! `/probe?target=`: one of the servers that are watched, alone. Nobody makes the agent connect to anything else.

use std::sync::Arc;

use crate::agent::Agent;
use crate::server::{ConnectOptions, Host};

/// Why a target is not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    /// It would not be needed, and an address is logged on its way.
    #[error("expected a target without user and password: how a server is reached is said in the configuration")]
    Credentials,
    /// None of the servers is meant.
    #[error("no such server is watched, expected one of: {0}")]
    Unknown(String),
    /// Several servers are meant.
    #[error("several servers are there, expected one of: {0}")]
    Several(String),
}

/// The server that a target means: its name, else where it is, as `postgres_exporter` has it: `host`, `host:port`,
/// `host:port/database`, with `postgresql://` before it or not; also `/directory:port`.
pub(super) fn find(agent: &Agent, target: &str) -> Result<Arc<str>, TargetError> {
    let names = agent.servers();
    if let Some(name) = names.iter().find(|name| ***name == *target) {
        return Ok(Arc::clone(name));
    }
    let place = Place::parse(target)?;
    let mut there = agent.servers_where(|options| place.is_of(options));
    match (there.pop(), there.is_empty()) {
        (Some(name), true) => Ok(name),
        (Some(name), false) => {
            there.push(name);
            Err(TargetError::Several(there.join(", ")))
        }
        (None, _) => Err(TargetError::Unknown(names.join(", "))),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    database: Option<String>,
}

impl Place {
    fn parse(target: &str) -> Result<Self, TargetError> {
        let rest = ["postgresql://", "postgres://"].iter().find_map(|scheme| target.strip_prefix(scheme));
        let rest = rest.unwrap_or(target);
        if rest.contains('@') || rest.contains("password") {
            return Err(TargetError::Credentials);
        }
        let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
        // A directory begins with what elsewhere is before a database.
        let (address, database) = match rest.split_once('/') {
            Some((address, database)) if !address.is_empty() => (address, Some(database)),
            _ => (rest, None),
        };
        let (host, port) = match address.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => (host, port),
            _ => (address, 5432),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let database = database.filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self { host, port, database })
    }

    fn is_of(&self, options: &ConnectOptions) -> bool {
        let is_here = |host: &Host| match host {
            Host::Socket { directory, port } => *port == self.port && directory.to_str() == Some(&self.host),
            Host::Tcp { name, address, port } => {
                let is_address = || address.is_some_and(|address| self.host.parse() == Ok(address));
                *port == self.port && (name.eq_ignore_ascii_case(&self.host) || is_address())
            }
        };
        options.hosts().iter().any(is_here)
            && self.database.as_ref().is_none_or(|database| database == options.database())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::server::Environment;

    fn options(dsn: &str) -> ConnectOptions {
        ConnectOptions::parse(dsn, &Environment::new(|_| None)).unwrap()
    }

    #[tokio::test]
    async fn a_target_is_a_server_that_is_watched_and_nothing_else() {
        let agent = Agent::new(Arc::new(Catalog::built_in().unwrap()), None, Arc::default());
        for (name, dsn) in [
            ("orders", "host=db1.example port=5433 user=a dbname=orders"),
            ("stock", "host=db1.example port=5433 user=a dbname=stock"),
            ("here", "host=/var/run/postgresql port=5432 user=a"),
            ("pair", "host=db2.example,db3.example hostaddr=192.0.2.2,192.0.2.3 user=a"),
            ("six", "host=::1 user=a"),
        ] {
            agent.watch(name, options(dsn), None);
        }
        let found = |target: &str| find(&agent, target).map(|name| name.to_string());
        for (target, name) in [
            ("orders", "orders"),
            ("db1.example:5433/orders", "orders"),
            ("postgresql://DB1.example:5433/stock?sslmode=disable", "stock"),
            ("/var/run/postgresql:5432", "here"),
            ("/var/run/postgresql", "here"),
            ("db3.example", "pair"),
            ("192.0.2.2:5432", "pair"),
            ("[::1]:5432", "six"),
        ] {
            assert_eq!(found(target).as_deref(), Ok(name), "{target}");
        }
        let all = "here, orders, pair, six, stock".to_owned();
        for target in [
            "",
            "db1.example",
            "db1.example:5432",
            "db1.example:5433/other",
            "localhost",
            "127.0.0.1:22",
            "Orders",
            ":",
            "/",
            "x:99999999",
        ] {
            assert_eq!(found(target), Err(TargetError::Unknown(all.clone())), "{target}");
        }
        assert_eq!(found("db1.example:5433"), Err(TargetError::Several("orders, stock".to_owned())));
        for target in ["postgres://a:canary@db1.example:5433/orders", "db1.example/orders?password=canary"] {
            assert_eq!(found(target), Err(TargetError::Credentials), "{target}");
        }
    }
}
