//! Who answers by the names of listings, a session or an agent, within one limit for everything.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Served, Target};
use crate::agent::ListError;
use crate::catalog::{Catalog, Definition, Version};
use crate::collect::redact::redacted;
use crate::server::{ConnectFailure, ConnectOptions, FailureClass, QueryFailure, RowSet, Session, TlsCache};

/// What the server gets less than we have: it should end a query before we give it up.
const MARGIN: Duration = Duration::from_millis(200);
/// The schema and version of an extension.
const EXTENSION: &str = "SELECT e.extname, e.extversion, pg_catalog.quote_ident(n.nspname) \
     FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace";

/// Who asks an agent waits for so long at most.
const LONGEST_SERVED: Duration = Duration::from_secs(60);
/// What is shown of a statement to who asks an agent.
const LONGEST_STATEMENT: usize = 1_024;

/// A session to one database, or an agent that has one.
#[derive(Debug)]
pub struct Asked {
    via: Via,
    catalog: Arc<Catalog>,
    until: Instant,
    limit: Duration,
    is_its_users: bool,
}

#[derive(Debug)]
enum Via {
    Session(Box<Session>),
    /// The agent, and what it found the server to be.
    Agent {
        served: Served,
        name: Arc<str>,
        version: u32,
        is_standby: bool,
    },
}

/// Why there are no rows.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// The server cannot be reached, or does not let us in.
    #[error(transparent)]
    Connect(#[from] ConnectFailure),
    /// The server refused or ended the query.
    #[error(transparent)]
    Query(#[from] QueryFailure),
    /// The time is over.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The server is too old for it, or an extension is missing; or nothing is called so.
    #[error("{0}")]
    Unavailable(String),
}

impl Asked {
    /// Opens a session; this and all that is asked in it share the limit.
    ///
    /// # Errors
    ///
    /// The server cannot be reached in time, or does not let us in.
    pub async fn open(options: &ConnectOptions, catalog: &Arc<Catalog>, limit: Duration) -> Result<Self, AskError> {
        let until = Instant::now() + limit;
        let session =
            Session::open(options, limit, &TlsCache::default()).await.map_err(|failure| late(failure, limit))?;
        let via = Via::Session(Box::new(session));
        Ok(Self { via, catalog: Arc::clone(catalog), until, limit, is_its_users: false })
    }

    /// Opens a session on `PgBouncer`'s own console, where only [`Asked::sql`] can be used.
    ///
    /// # Errors
    ///
    /// The pooler cannot be reached in time, or does not let us in.
    pub async fn open_console(
        options: &ConnectOptions,
        catalog: &Arc<Catalog>,
        limit: Duration,
    ) -> Result<Self, AskError> {
        let until = Instant::now() + limit;
        let session = Session::open_console(options, limit, &TlsCache::default()).await;
        let session = session.map_err(|failure| late(failure, limit))?;
        let via = Via::Session(Box::new(session));
        Ok(Self { via, catalog: Arc::clone(catalog), until, limit, is_its_users: true })
    }

    /// Has an agent answer, over the connections that it has. The server is looked at first: nothing is told of one that
    /// does not answer now.
    ///
    /// # Errors
    ///
    /// The agent does not watch what is meant, or the server does not answer it in time.
    pub async fn served(
        served: &Served,
        target: &Target,
        catalog: &Arc<Catalog>,
        limit: Duration,
    ) -> Result<Self, AskError> {
        let limit = limit.min(LONGEST_SERVED);
        let until = Instant::now() + limit;
        let name = served.find(target).map_err(AskError::Unavailable)?;
        let looked = served.agent().look(&name, limit).await;
        let (version, is_standby) = looked.map_err(|error| of_agent(error, limit))?;
        let via = Via::Agent { served: served.clone(), name, version, is_standby };
        Ok(Self { via, catalog: Arc::clone(catalog), until, limit, is_its_users: false })
    }

    /// Becomes another role for all that is asked from now on: its name as SQL writes it.
    ///
    /// # Errors
    ///
    /// There is no such role, or ours may not become it.
    pub async fn set_role(&mut self, role: &str) -> Result<(), AskError> {
        let bare = role.strip_prefix('"').and_then(|role| role.strip_suffix('"'));
        let name = bare.map_or_else(|| role.to_lowercase(), |bare| bare.replace("\"\"", "\""));
        self.ask(&format!("SET ROLE \"{}\"", name.replace('"', "\"\""))).await.map(drop)
    }

    /// `server_version_num`, such as 150006; 0 on a console.
    pub fn version(&self) -> u32 {
        match &self.via {
            Via::Session(session) => session.version(),
            Via::Agent { version, .. } => *version,
        }
    }

    /// Whether the server was in recovery when the session was opened.
    pub fn is_standby(&self) -> bool {
        match &self.via {
            Via::Session(session) => session.was_in_recovery(),
            Via::Agent { is_standby, .. } => *is_standby,
        }
    }

    /// The rows of a listing, or of what a definition asks.
    ///
    /// # Errors
    ///
    /// The server is too old for it, refuses, or takes too long.
    pub async fn rows(&mut self, name: &str) -> Result<RowSet, AskError> {
        if self.is_its_users {
            let reason = format!("{name} is not asked in a session that is its user's own");
            return Err(AskError::Unavailable(reason));
        }
        if let Via::Agent { served, name: place, .. } = &self.via {
            let rows = served.agent().list(place, name, self.left()).await;
            return rows.map(|rows| without_values(&rows)).map_err(|error| of_agent(error, self.limit));
        }
        let sql = self.statement(name).await?;
        self.ask(&sql).await
    }

    /// The answer to a user's own statement, run as psql would run it: with the search path, the limits and the rights
    /// that the role has, but no longer than the time that is left. After it no listing is asked in this session.
    ///
    /// # Errors
    ///
    /// The server refuses or takes too long.
    pub async fn sql(&mut self, sql: &str) -> Result<RowSet, AskError> {
        if !self.is_its_users {
            if let Via::Session(session) = &mut self.via {
                session.give_to_user().await?;
            }
            self.is_its_users = true;
        }
        self.ask(sql).await
    }

    /// The rows of a listing in the session that a user's own statement has: for what is about that session itself.
    ///
    /// # Errors
    ///
    /// As [`Asked::rows`].
    pub async fn rows_as_user(&mut self, name: &str) -> Result<RowSet, AskError> {
        let sql = self.statement(name).await?;
        self.sql(&sql).await
    }

    async fn statement(&mut self, name: &str) -> Result<String, AskError> {
        let listing = self.catalog.listing(name).map(Arc::clone);
        let listing = listing.ok_or_else(|| AskError::Unavailable(format!("no listing is called {name}")))?;
        let server = Version::of_server(self.version());
        let Some(extension) = &listing.extension else { return statement_for(&listing, server, "PostgreSQL") };
        let rows = self.ask(EXTENSION).await?;
        let found = (0..rows.len()).find(|row| rows.value(*row, 0) == Some(extension));
        let missing = || AskError::Unavailable(format!("extension {extension} is not installed in this database"));
        let row = found.ok_or_else(missing)?;
        let version = rows.value(row, 1).and_then(|version| version.parse().ok());
        let version = version.unwrap_or(Version { major: 0, minor: 0 });
        let sql = statement_for(&listing, version, extension)?;
        Ok(sql.replace("{schema}", rows.value(row, 2).unwrap_or_default()))
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    async fn ask(&mut self, sql: &str) -> Result<RowSet, AskError> {
        let left = self.left();
        if left.is_zero() {
            return Err(AskError::Late(self.limit));
        }
        let session = match &mut self.via {
            Via::Session(session) => session,
            Via::Agent { served, .. } => {
                return Err(AskError::Unavailable(served.refuse("the agent runs no statement that is sent to it")));
            }
        };
        let of_server = left.saturating_sub(MARGIN.min(left / 4));
        session.query(sql, of_server, left).await.map_err(|failure| match failure {
            QueryFailure::Deadline(_) | QueryFailure::StatementTimeout(_) => AskError::Late(self.limit),
            other => AskError::Query(other),
        })
    }
}

fn statement_for(listing: &Definition, version: Version, of: &str) -> Result<String, AskError> {
    let query = listing.query_for(version);
    let too_old = || {
        let first = listing.queries.first().map(|query| query.since.to_string()).unwrap_or_default();
        AskError::Unavailable(format!("needs {of} {first}, this is {version}"))
    };
    Ok(query.ok_or_else(too_old)?.sql.clone())
}

/// Who may read the agent's port may not see the values in other people's statements.
fn without_values(rows: &RowSet) -> RowSet {
    let is_statement = |column: &String| column == "query" || column.ends_with("_query");
    if !rows.columns().iter().any(is_statement) {
        return rows.clone();
    }
    let mut shown = RowSet::new(rows.columns().to_vec());
    for row in rows.rows() {
        for (value, column) in row.zip(rows.columns()) {
            let hidden = value.filter(|_| is_statement(column)).map(|text| redacted(text, LONGEST_STATEMENT));
            // What is shown is no longer than what came.
            let _ = shown.push(hidden.as_deref().or(value));
        }
    }
    shown
}

fn of_agent(error: ListError, limit: Duration) -> AskError {
    match error {
        ListError::Down { class, reason } => late(ConnectFailure { class, message: reason, sqlstate: None }, limit),
        ListError::Late(_) | ListError::Failed { class: "timeout", .. } => AskError::Late(limit),
        other => AskError::Unavailable(other.to_string()),
    }
}

fn late(failure: ConnectFailure, limit: Duration) -> AskError {
    match failure.class {
        FailureClass::Timeout => AskError::Late(limit),
        _ => AskError::Connect(failure),
    }
}
