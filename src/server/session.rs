//! An open connection that cannot do harm: bounded, read-only, cancelled when it takes too long.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use futures_core::Stream as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{CancelToken, Client, SimpleQueryMessage};

use super::connect::{self, Link, Route};
use super::failure::{ConnectFailure, FailureClass, QueryFailure};
use super::options::{ConnectOptions, Host, TargetSession};
use super::rows::{LARGEST, RowSet};
use super::tls::TlsCache;

/// How long a query that missed its deadline may take to be cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);
/// Until the first query says its own.
const FIRST_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a new connection is asked first.
const FACTS: &str = "SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.pg_backend_pid(), \
                     pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// A query is on its way. Stays so when the caller drops its future.
    Busy,
    /// Cancelled or out of step; only good for being dropped.
    Broken,
}

/// A connection to one database, one query at a time.
///
/// Dropping it closes the socket at once; a query that is still running, because the future that waited for it was
/// dropped, is cancelled on the server.
pub struct Session {
    client: Client,
    driver: JoinHandle<()>,
    route: Route,
    settings: Settings,
    opened: Instant,
    version: u32,
    in_recovery: bool,
    state: State,
}

/// What is set in the session, or has to be set for each query.
struct Settings {
    statement_timeout: Duration,
    how: Setting,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    /// By `SET`, once.
    Session,
    /// By `SET LOCAL`, in a transaction for each query: behind a pooler the next transaction may have another server
    /// connection, and this one may go to an application, which would find it read-only.
    Transaction,
    /// Not at all: `PgBouncer`'s console.
    Nothing,
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
        let ascii = link.connection.parameter("server_encoding") == Some("SQL_ASCII");
        let mut session = Self::new(link, Setting::Session);
        let prepared = match timeout_at(deadline, session.prepare(claimed, ascii, target)).await {
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
        let Link { client, connection, route, .. } = link;
        let driver = tokio::spawn(async move {
            // The end of the connection is reported to whoever asks the next question.
            let _ = connection.await;
        });
        Self {
            client,
            driver,
            route,
            settings: Settings { statement_timeout: FIRST_STATEMENT_TIMEOUT, how },
            opened: Instant::now(),
            version: 0,
            in_recovery: false,
            state: State::Idle,
        }
    }

    async fn prepare(
        &mut self,
        claimed: i32,
        ascii: bool,
        target: TargetSession,
    ) -> Result<(), (Next, ConnectFailure)> {
        let failure = |error| (Next::Stop, ConnectFailure::of_driver("prepare the session", &error));
        self.state = State::Busy;
        let answer = select(&self.client, FACTS).await.map_err(|error| match error {
            Reading::Driver(error) => failure(error),
            Reading::TooLarge => unreadable(),
        })?;
        let facts = Facts::read(&answer).ok_or_else(unreadable)?;
        if !facts.fits(target) {
            self.state = State::Idle;
            let message = "the server is not of the kind that target_session_attrs asks for";
            return Err((Next::Host, ConnectFailure::new(FailureClass::Other, message)));
        }
        self.version = facts.version;
        self.in_recovery = facts.in_recovery;
        if claimed == facts.process_id {
            let mut settings = set("SET", self.settings.statement_timeout, facts.version);
            if ascii {
                // With UTF8 the server would refuse to send what is not UTF-8, and with it the whole answer.
                settings.push_str("; SET client_encoding = SQL_ASCII");
            }
            self.client.batch_execute(&settings).await.map_err(failure)?;
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
        if self.state != State::Idle || self.client.is_closed() {
            self.state = State::Broken;
            let message = "the session is closed".to_owned();
            return Err(QueryFailure::Lost { class: FailureClass::Unreachable, message });
        }
        let token = self.client.cancel_token();
        self.state = State::Busy;
        let mut asking = pin!(ask(&self.client, &mut self.settings, self.version, sql, statement_timeout));
        let outcome = if let Ok(outcome) = timeout(deadline, asking.as_mut()).await {
            outcome
        } else {
            let cancelled = timeout(CANCEL_LIMIT, async {
                self.route.cancel(&token).await?;
                // Only when the query has ended is the server rid of it, and its connection free to be replaced.
                let _ = asking.await;
                Ok::<_, ConnectFailure>(())
            });
            match cancelled.await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => tracing::debug!(%failure, "cancel request was not sent"),
                Err(_) => tracing::debug!("cancel request had no effect within {CANCEL_LIMIT:?}"),
            }
            Err(QueryFailure::Deadline(deadline))
        };
        self.state = match outcome {
            Err(QueryFailure::Deadline(_) | QueryFailure::TooLarge(_) | QueryFailure::Lost { .. }) => State::Broken,
            _ => State::Idle,
        };
        outcome
    }

    /// `server_version_num`, such as 150006; 0 on a console.
    pub fn version(&self) -> u32 {
        self.version
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

    /// Whether it is of no more use.
    pub fn is_closed(&self) -> bool {
        self.state != State::Idle || self.client.is_closed()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("version", &self.version).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.state == State::Idle {
            // The driver takes leave of the server and ends as soon as the client is gone.
            return;
        }
        if self.state == State::Busy
            && !self.client.is_closed()
            && let Ok(runtime) = Handle::try_current()
        {
            let (route, token) = (self.route.clone(), self.client.cancel_token());
            runtime.spawn(async move { cancel(&route, &token).await });
        }
        self.driver.abort();
    }
}

async fn cancel(route: &Route, token: &CancelToken) {
    if let Ok(Err(failure)) = timeout(CANCEL_LIMIT, route.cancel(token)).await {
        tracing::debug!(%failure, "cancel request was not sent");
    }
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

/// The settings as one batch, each by `verb`.
fn set(verb: &str, statement_timeout: Duration, version: u32) -> String {
    let mut batch = format!(
        "{verb} application_name = 'pgvitals'; {verb} statement_timeout = {}; {verb} lock_timeout = {}; \
         {verb} idle_in_transaction_session_timeout = {}; {verb} default_transaction_read_only = on; \
         {verb} search_path = pg_catalog",
        milliseconds(statement_timeout),
        milliseconds(LOCK_TIMEOUT),
        milliseconds(IDLE_IN_TRANSACTION),
    );
    if version >= 110_000 {
        let _ = write!(batch, "; {verb} jit = off");
    }
    batch
}

/// Never 0, which would mean no limit.
fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1)
}

async fn ask(
    client: &Client,
    settings: &mut Settings,
    version: u32,
    sql: &str,
    statement_timeout: Duration,
) -> Result<RowSet, QueryFailure> {
    let failure = |error| QueryFailure::of_driver(&error, statement_timeout);
    match settings.how {
        Setting::Session if settings.statement_timeout != statement_timeout => {
            // In a message of its own: up to PostgreSQL 12 a new limit does not count for the rest of its message.
            let set = format!("SET statement_timeout = {}", milliseconds(statement_timeout));
            client.batch_execute(&set).await.map_err(failure)?;
            settings.statement_timeout = statement_timeout;
        }
        Setting::Transaction => {
            let begin = format!("BEGIN READ ONLY; {}", set("SET LOCAL", statement_timeout, version));
            client.batch_execute(&begin).await.map_err(failure)?;
        }
        Setting::Session | Setting::Nothing => {}
    }
    let answer = select(client, sql).await.map_err(|error| match error {
        Reading::Driver(error) => failure(error),
        Reading::TooLarge => QueryFailure::TooLarge(LARGEST),
    });
    if settings.how == Setting::Transaction && !matches!(answer, Err(QueryFailure::TooLarge(_))) {
        client.batch_execute("ROLLBACK").await.map_err(failure)?;
    }
    answer
}

enum Reading {
    Driver(tokio_postgres::Error),
    TooLarge,
}

impl From<tokio_postgres::Error> for Reading {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Driver(error)
    }
}

async fn select(client: &Client, sql: &str) -> Result<RowSet, Reading> {
    let mut messages = pin!(client.simple_query_raw(sql).await?);
    let mut rows = RowSet::default();
    while let Some(message) = poll_fn(|cx| messages.as_mut().poll_next(cx)).await {
        match message? {
            SimpleQueryMessage::RowDescription(columns) => {
                rows = RowSet::new(columns.iter().map(|column| column.name().to_owned()).collect());
            }
            SimpleQueryMessage::Row(row) => {
                for column in 0..row.len() {
                    if !rows.push(row.try_get(column)?) {
                        return Err(Reading::TooLarge);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(rows)
}
