//! An open connection that cannot do harm: bounded, read-only, cancelled when it takes too long.

mod ahead;
mod asking;
mod kept;
mod leaving;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{CancelToken, Client};

use super::connect::{self, Link, Route};
use super::failure::{ConnectFailure, FailureClass, QueryFailure};
use super::options::{ConnectOptions, Host, TargetSession};
use super::rows::RowSet;
use super::tls::TlsCache;
use asking::{Reading, Setting, Settings, ask, select};
use leaving::Driven;

pub use ahead::Sent;
use kept::Kept;
pub use leaving::farewell;

/// How long a query that missed its deadline may take to be cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);
/// A cancel request ends one query, and others may stand behind it.
const CANCEL_AGAIN: Duration = Duration::from_millis(200);
/// What a new connection is asked first.
const FACTS: &str = "SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.pg_backend_pid(), \
                     pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// So many answers are to come to what was sent ahead.
    Ahead(usize),
    /// A query is on its way. Stays so when the caller drops its future, or has no use for the rest of the answer.
    Busy,
    /// Cancelled or out of step; only good for being dropped.
    Broken,
    /// Given up by us while the server is still at it.
    Stuck,
}

impl State {
    /// What it is after an answer, when so many more are to come.
    fn after<T>(self, answer: &Result<T, QueryFailure>, left: usize) -> Self {
        match answer {
            _ if self == Self::Stuck => Self::Stuck,
            // The server is still sending.
            Err(QueryFailure::TooLarge(_)) => Self::Busy,
            Err(QueryFailure::Deadline(_) | QueryFailure::Lost { .. }) => Self::Broken,
            _ if left > 0 => Self::Ahead(left),
            _ => Self::Idle,
        }
    }
}

/// A connection to one database, one query at a time.
///
/// Dropping it takes leave of the server without waiting for it; a query that is still running, because the future that
/// waited for it was dropped, is cancelled on the server.
pub struct Session {
    client: Client,
    driver: Option<JoinHandle<()>>,
    lingers: Arc<AtomicBool>,
    route: Route,
    settings: Settings,
    kept: Kept,
    /// When the latest answer had come.
    answered: Instant,
    opened: Instant,
    in_recovery: bool,
    state: State,
}

struct Facts {
    version: u32,
    process_id: i32,
    in_recovery: bool,
    read_only: bool,
}

impl Session {
    /// Opens a session on the first host that answers and is of the right kind, within `timeout` for all of it: names,
    /// sockets, TLS, password and settings.
    pub async fn open(options: &ConnectOptions, timeout: Duration, tls: &TlsCache) -> Result<Self, ConnectFailure> {
        let deadline = Instant::now() + timeout;
        let passes: &[TargetSession] = match options.target {
            TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
            TargetSession::Any => &[TargetSession::Any],
            TargetSession::ReadWrite => &[TargetSession::ReadWrite],
            TargetSession::ReadOnly => &[TargetSession::ReadOnly],
            TargetSession::Primary => &[TargetSession::Primary],
            TargetSession::Standby => &[TargetSession::Standby],
        };
        let mut tries = passes.len() * options.hosts.len();
        let mut failure = ConnectFailure::new(FailureClass::Other, "no host is named");
        for target in passes {
            for host in &options.hosts {
                let until = connect::share(deadline, tries, options.connect_timeout);
                tries -= 1;
                match Self::open_host(options, host, *target, tls, until).await {
                    Ok(session) => return Ok(session),
                    Err((Next::Stop, refused)) => return Err(refused),
                    Err((Next::Host, other)) => failure = other,
                }
            }
        }
        Err(failure)
    }

    /// Opens a session on `PgBouncer`'s own console, database `pgbouncer`: nothing is set and no version is known there.
    pub async fn open_console(
        options: &ConnectOptions,
        timeout: Duration,
        tls: &TlsCache,
    ) -> Result<Self, ConnectFailure> {
        let deadline = Instant::now() + timeout;
        let mut failure = ConnectFailure::new(FailureClass::Other, "no host is named");
        for (at, host) in options.hosts.iter().enumerate() {
            let until = connect::share(deadline, options.hosts.len() - at, options.connect_timeout);
            match connect::connect(options, host, tls, until).await {
                Ok(link) => return Ok(Self::new(link, Setting::Nothing)),
                Err(refused) if !refused.class.may_differ_on_another_host() => return Err(refused),
                Err(other) => failure = other,
            }
        }
        Err(failure)
    }

    async fn open_host(
        options: &ConnectOptions,
        host: &Host,
        target: TargetSession,
        tls: &TlsCache,
        deadline: Instant,
    ) -> Result<Self, (Next, ConnectFailure)> {
        let started = Instant::now();
        let link = connect::connect(options, host, tls, deadline).await.map_err(|failure| {
            (if failure.class.may_differ_on_another_host() { Next::Host } else { Next::Stop }, failure)
        })?;
        let claimed = link.process_id();
        let mut session = Self::new(link, Setting::Session);
        let prepared = match timeout_at(deadline, session.prepare(claimed, target)).await {
            Ok(outcome) => outcome,
            Err(_) => Err((Next::Host, ConnectFailure::timeout("prepare the session", deadline - started))),
        };
        match prepared {
            Ok(()) => Ok(session),
            Err((next, failure)) => {
                Err((next, ConnectFailure { message: format!("{host}: {}", failure.message), ..failure }))
            }
        }
    }

    fn new(link: Link, how: Setting) -> Self {
        let Link { client, connection, route, lingers, .. } = link;
        let ascii = connection.parameter("server_encoding") == Some("SQL_ASCII");
        let alive = Driven::begin();
        let driver = tokio::spawn(async move {
            let _alive = alive;
            // The end of the connection is reported to whoever asks the next question.
            let _ = connection.await;
        });
        Self {
            client,
            driver: Some(driver),
            lingers,
            route,
            settings: Settings { statement_timeout: asking::FIRST_STATEMENT_TIMEOUT, version: 0, ascii, how },
            kept: Kept::default(),
            answered: Instant::now(),
            opened: Instant::now(),
            in_recovery: false,
            state: State::Idle,
        }
    }

    async fn prepare(&mut self, claimed: i32, target: TargetSession) -> Result<(), (Next, ConnectFailure)> {
        let failure = |error| (Next::Stop, ConnectFailure::of_driver("prepare the session", &error));
        self.state = State::Busy;
        let answer = select(&self.client, &Settings::first_transaction(FACTS)).await.map_err(|error| match error {
            Reading::Driver(error) => failure(error),
            Reading::TooLarge => unreadable(),
        })?;
        let facts = Facts::read(&answer).ok_or_else(unreadable)?;
        if !facts.fits(target) {
            self.state = State::Idle;
            let message = "the server is not of the kind that target_session_attrs asks for";
            return Err((Next::Host, ConnectFailure::new(FailureClass::Other, message)));
        }
        self.settings.version = facts.version;
        self.in_recovery = facts.in_recovery;
        if claimed == facts.process_id {
            self.client.batch_execute(&self.settings.batch("SET")).await.map_err(failure)?;
        } else {
            self.settings.how = Setting::Transaction;
        }
        self.state = State::Idle;
        Ok(())
    }

    /// Asks, and gives the rows of the last statement that has any.
    ///
    /// The server gives up after `statement_timeout`, we do after `deadline`, which should be a little longer. Then the
    /// query is cancelled on the server, which may take up to a second more, and the session is broken.
    pub async fn query(
        &mut self,
        sql: &str,
        statement_timeout: Duration,
        deadline: Duration,
    ) -> Result<RowSet, QueryFailure> {
        self.put(None, sql, statement_timeout, deadline).await
    }

    /// The same for what will be asked again under this name: from the second time on it is prepared, where that can be
    /// done, so that the server need not parse and plan it each time. What can no longer be used of that is forgotten, and the
    /// statement asked by its text in the same turn.
    pub async fn query_again(
        &mut self,
        name: &str,
        sql: &str,
        statement_timeout: Duration,
        deadline: Duration,
    ) -> Result<RowSet, QueryFailure> {
        self.put(Some(name), sql, statement_timeout, deadline).await
    }

    async fn put(
        &mut self,
        name: Option<&str>,
        sql: &str,
        statement_timeout: Duration,
        deadline: Duration,
    ) -> Result<RowSet, QueryFailure> {
        if self.state != State::Idle || self.client.is_closed() {
            self.state = State::Broken;
            return Err(closed());
        }
        self.state = State::Busy;
        let kept = name.map(|name| (&mut self.kept, name));
        let mut asking = pin!(ask(&self.client, &mut self.settings, kept, sql, statement_timeout));
        let outcome = if let Ok(outcome) = timeout(deadline, asking.as_mut()).await {
            outcome
        } else {
            // Only when the query has ended is the server rid of it, and its connection free to be replaced.
            let ended = async { drop(asking.await) };
            self.state = give_up(&self.route, &self.client.cancel_token(), ended).await;
            Err(QueryFailure::Deadline(deadline))
        };
        self.answered = Instant::now();
        self.state = self.state.after(&outcome, 0);
        outcome
    }

    /// Takes back all that was set, so that what is asked from now on is answered as psql would be: with the search path, the
    /// rights and the limits that the role has of its own. Only the limits of [`Session::query`] stay, and behind a pooler
    /// not even that of the server.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub async fn give_to_user(&mut self) -> Result<(), QueryFailure> {
        if self.settings.how == Setting::Session {
            let started = Instant::now();
            let failure = |error| QueryFailure::of_driver(&error, CANCEL_LIMIT, started.elapsed());
            self.client.batch_execute("RESET ALL").await.map_err(failure)?;
            // The next query says its own.
            self.settings.statement_timeout = Duration::ZERO;
        } else {
            self.settings.how = Setting::Nothing;
        }
        Ok(())
    }

    /// `server_version_num`, such as 150006; 0 on a console.
    pub fn version(&self) -> u32 {
        self.settings.version
    }

    /// Whether the server was in recovery when the session was opened.
    pub fn was_in_recovery(&self) -> bool {
        self.in_recovery
    }

    /// Whether a pooler stands between the server and us.
    pub fn is_pooled(&self) -> bool {
        self.settings.how == Setting::Transaction
    }

    /// How long it has been open.
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Whether we gave up a query that the server does not end: its process lives on, whether we close the socket or not.
    pub fn is_stuck(&self) -> bool {
        self.state == State::Stuck && !self.client.is_closed()
    }

    /// Waits until the server is rid of a query that we gave up.
    pub async fn ended(self) {
        // Answered after what was asked before, or never when the connection ends.
        let _ = self.client.batch_execute("").await;
    }

    /// Takes leave and waits until the server's process is gone too, so that the next session does not come on top of
    /// this one; false when it is still there after `limit`. What follows a pooler's own connections is not seen.
    pub async fn close(mut self, limit: Duration) -> bool {
        if self.state != State::Idle {
            return false;
        }
        self.lingers.store(true, Ordering::Relaxed);
        let Some(mut driver) = self.driver.take() else { return true };
        drop(self);
        let ended = timeout(limit, &mut driver).await.is_ok();
        driver.abort();
        ended
    }

    /// Whether it is of no more use.
    pub fn is_closed(&self) -> bool {
        !matches!(self.state, State::Idle | State::Ahead(_)) || self.client.is_closed()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("version", &self.settings.version)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.state == State::Idle {
            // The driver takes leave of the server and ends as soon as the client is gone.
            return;
        }
        let Some(mut driver) = self.driver.take() else { return };
        if matches!(self.state, State::Busy | State::Ahead(_))
            && !self.client.is_closed()
            && let Ok(runtime) = Handle::try_current()
        {
            let (route, token) = (self.route.clone(), self.client.cancel_token());
            // The driver reads to the end what is still to come, and takes leave.
            runtime.spawn(async move {
                give_up(&route, &token, async { drop((&mut driver).await) }).await;
                driver.abort();
            });
        } else {
            driver.abort();
        }
    }
}

/// Has the server cancel what it is at, and what stands behind that, until all has ended: the session is broken then, or
/// stuck.
async fn give_up(route: &Route, token: &CancelToken, ended: impl Future<Output = ()>) -> State {
    let mut ended = pin!(ended);
    let cancelled = timeout(CANCEL_LIMIT, async {
        loop {
            route.cancel(token).await?;
            if timeout(CANCEL_AGAIN, ended.as_mut()).await.is_ok() {
                return Ok::<_, ConnectFailure>(());
            }
        }
    });
    match cancelled.await {
        Ok(Ok(())) => return State::Broken,
        Ok(Err(failure)) => tracing::debug!(%failure, "cancel request was not sent"),
        Err(_) => tracing::debug!("cancel request had no effect within {CANCEL_LIMIT:?}"),
    }
    State::Stuck
}

fn closed() -> QueryFailure {
    QueryFailure::Lost { class: FailureClass::Unreachable, message: "the session is closed".to_owned() }
}

/// Whether the next host may be asked.
enum Next {
    Host,
    Stop,
}

fn unreadable() -> (Next, ConnectFailure) {
    (Next::Stop, ConnectFailure::new(FailureClass::Other, "the server's answer is not PostgreSQL's"))
}

impl Facts {
    fn read(rows: &RowSet) -> Option<Self> {
        Some(Self {
            version: rows.value(0, 0)?.parse().ok()?,
            process_id: rows.value(0, 1)?.parse().ok()?,
            in_recovery: rows.value(0, 2)? == "t",
            read_only: rows.value(0, 3)? == "on",
        })
    }

    fn fits(&self, target: TargetSession) -> bool {
        match target {
            TargetSession::Any | TargetSession::PreferStandby => true,
            TargetSession::ReadWrite => !self.read_only && !self.in_recovery,
            TargetSession::ReadOnly => self.read_only || self.in_recovery,
            TargetSession::Primary => !self.in_recovery,
            TargetSession::Standby => self.in_recovery,
        }
    }
}
