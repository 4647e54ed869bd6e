//! Servers: which there are, how to reach them, and an open session that cannot do harm.
//!
//! # Layout
//!
//! From "which servers" to rows:
//!
//! - `discovery` finds the servers of this host
//! - `environment`, `dsn`, `service` read what the user wrote, as libpq would, into `keywords`; `named` which servers that is
//! - `options` completes them, `password` finds the password anew for each connection
//! - `connect` opens a socket, with `tls`, and logs in; `wire` mends what is not UTF-8
//! - `session` prepares the connection, asks, cancels; `rows` is the answer
//! - `databases` which databases a server has, and which of them are entered
//! - `failure` says why there is none
//! - `place` says whether the server is on this machine

mod connect;
mod databases;
mod discovery;
mod dsn;
mod environment;
mod failure;
mod keywords;
mod named;
mod options;
mod password;
mod place;
mod rows;
mod secret;
mod service;
mod session;
mod tls;
mod wire;

use std::time::Duration;

pub use databases::{Barrier, Database, Databases, Listing, ServerState, matches};
pub use discovery::{Discovered, DiscoveryRoots, cluster_name, discover};
pub use dsn::{parse as parse_dsn, split_list as split_dsn_list};
pub use environment::Environment;
pub use failure::{ConnectFailure, FailureClass, QueryFailure};
pub use keywords::{DsnError, Keywords};
pub use options::{ChannelBinding, ConnectOptions, Host, RootCertificate, SslMode, TargetSession, TlsOptions};
pub use place::is_here;
pub use rows::RowSet;
pub use secret::{Password, Secret};
pub use session::{Sent, Session, farewell};
pub use tls::{TlsCache, TlsFailure, client_config};

/// A PostgreSQL cluster that we watch.
#[derive(Debug)]
pub struct Server {
    name: String,
    options: ConnectOptions,
    tls: TlsCache,
}

impl Server {
    /// A server under a name such as `15/main`.
    pub fn new(name: impl Into<String>, options: ConnectOptions) -> Self {
        Self { name: name.into(), options, tls: TlsCache::default() }
    }

    /// The value of the `server` label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is reached.
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// Opens a session in the database of the options.
    pub async fn open(&self, timeout: Duration) -> Result<Session, ConnectFailure> {
        Session::open(&self.options, timeout, &self.tls).await
    }

    /// Opens a session in another database.
    pub async fn open_in(&self, database: &str, timeout: Duration) -> Result<Session, ConnectFailure> {
        Session::open(&self.options.clone().with_database(database), timeout, &self.tls).await
    }
}
