//! One question and its answer: the limits that go with it, and reading the rows.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_core::Stream as _;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryStream};

use super::kept::Kept;
use crate::server::failure::QueryFailure;
use crate::server::rows::{LARGEST, RowSet};

const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);
/// Until the first query says its own.
pub(super) const FIRST_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// A host that vanishes takes no leave, and by the kernel's own settings its sessions would outlive it by two hours. Has no
/// effect on a socket of the same host, and goes to no connection that a pooler gives to others.
const KEEPALIVES: &str = "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6";

/// What is set in the session, or has to be set for each query.
pub(super) struct Settings {
    pub(super) statement_timeout: Duration,
    /// `server_version_num`.
    pub(super) version: u32,
    /// The database has no encoding. With `client_encoding = UTF8` its server would refuse to send what is not UTF-8, and
    /// with it the whole answer.
    pub(super) ascii: bool,
    pub(super) how: Setting,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// By `SET`, once.
    Session,
    /// By `SET LOCAL`, in a transaction for each query: behind a pooler the next transaction may have another server
    /// connection, and this one may go to an application, which would find it read-only.
    Transaction,
    /// Not at all: `PgBouncer`'s console.
    Nothing,
}

impl Settings {
    /// The very first question, in a transaction of its own before anything is set: our role or the database may have
    /// limits of its own that no query keeps to, or an isolation that a standby refuses. It is one message, so that no
    /// other session of ours finds this one idle in its transaction.
    pub(super) fn first_transaction(question: &str) -> String {
        let limit = milliseconds(FIRST_STATEMENT_TIMEOUT);
        format!("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {limit}; {question}; COMMIT")
    }

    /// The settings as one batch, each by `verb`. Whatever changes an answer or ends a query or a session that others
    /// may have set for our role or the database is among them, and what keeps one session from becoming several, as a large
    /// catalog would make of it. A path without `pg_temp` begins with it, and behind a pooler an application may have left
    /// tables and types there.
    pub(super) fn batch(&self, verb: &str) -> String {
        let mut batch = format!(
            "{verb} application_name = 'pgvitals'; {verb} statement_timeout = {}; {verb} lock_timeout = {}; \
         {verb} idle_in_transaction_session_timeout = {}; {verb} default_transaction_read_only = on; \
         {verb} default_transaction_isolation = 'read committed'; {verb} max_parallel_workers_per_gather = 0; \
         {verb} search_path = pg_catalog, pg_temp; \
         {verb} standard_conforming_strings = on; {verb} extra_float_digits = 1",
            milliseconds(self.statement_timeout),
            milliseconds(LOCK_TIMEOUT),
            milliseconds(IDLE_IN_TRANSACTION),
        );
        let since =
            [(110_000, "jit = off"), (140_000, "idle_session_timeout = 0"), (170_000, "transaction_timeout = 0")];
        for (_, setting) in since.into_iter().filter(|(since, _)| self.version >= *since) {
            let _ = write!(batch, "; {verb} {setting}");
        }
        if self.how == Setting::Session {
            let _ = write!(batch, "; {KEEPALIVES}");
        }
        if self.ascii {
            let _ = write!(batch, "; {verb} client_encoding = SQL_ASCII");
        }
        batch
    }
}

/// Never 0, which would mean no limit.
fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// Asks a statement; what is kept of it, and who asks it, where it will be asked again.
pub(super) async fn ask(
    client: &Client,
    settings: &mut Settings,
    kept: Option<(&mut Kept, &str)>,
    sql: &str,
    statement_timeout: Duration,
) -> Result<RowSet, QueryFailure> {
    let line = Line { client, statement_timeout, started: Instant::now() };
    let failure = |error| line.failure(Reading::Driver(error));
    match settings.how {
        Setting::Session if settings.statement_timeout != statement_timeout => {
            // In a message of its own: up to PostgreSQL 12 a new limit does not count for the rest of its message.
            let set = format!("SET statement_timeout = {}", milliseconds(statement_timeout));
            client.batch_execute(&set).await.map_err(failure)?;
            settings.statement_timeout = statement_timeout;
        }
        Setting::Transaction => {
            settings.statement_timeout = statement_timeout;
            let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {}", settings.batch("SET LOCAL"));
            client.batch_execute(&begin).await.map_err(failure)?;
        }
        Setting::Session | Setting::Nothing => {}
    }
    let answer = match kept.filter(|_| settings.how == Setting::Session) {
        Some((kept, name)) => kept.ask(&line, name, sql).await,
        None => line.select(sql).await,
    };
    if settings.how == Setting::Transaction && !matches!(answer, Err(QueryFailure::TooLarge(_))) {
        // There is nothing to commit; a rollback would count as a transaction of somebody that failed.
        client.batch_execute("COMMIT").await.map_err(failure)?;
    }
    answer
}

pub(super) enum Reading {
    Driver(tokio_postgres::Error),
    TooLarge,
}

impl From<tokio_postgres::Error> for Reading {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Driver(error)
    }
}

/// The way to the server, for one question and what goes with it.
pub(super) struct Line<'a> {
    client: &'a Client,
    statement_timeout: Duration,
    started: Instant,
}

impl Line<'_> {
    pub(super) async fn select(&self, sql: &str) -> Result<RowSet, QueryFailure> {
        select(self.client, sql).await.map_err(|error| self.failure(error))
    }

    /// To how many statements a message comes; what they answer is of no use.
    pub(super) async fn count_answers(&self, sql: &str) -> Result<usize, QueryFailure> {
        count_answers(self.client, sql).await.map_err(|error| self.failure(error))
    }

    /// Has it done, if it can be done.
    pub(super) async fn try_to(&self, sql: &str) {
        let _ = self.client.batch_execute(sql).await;
    }

    fn failure(&self, error: Reading) -> QueryFailure {
        failure_of(error, self.statement_timeout, self.started.elapsed())
    }
}

/// What it amounts to that an answer, asked for this long ago, could not be read.
pub(super) fn failure_of(error: Reading, statement_timeout: Duration, elapsed: Duration) -> QueryFailure {
    match error {
        Reading::Driver(error) => QueryFailure::of_driver(&error, statement_timeout, elapsed),
        Reading::TooLarge => QueryFailure::TooLarge(LARGEST),
    }
}

pub(super) async fn select(client: &Client, sql: &str) -> Result<RowSet, Reading> {
    rows_of(client.simple_query_raw(sql).await?).await
}

/// Reads an answer to its end: the rows of the last statement that has any.
pub(super) async fn rows_of(answer: SimpleQueryStream) -> Result<RowSet, Reading> {
    let mut messages = pin!(answer);
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

async fn count_answers(client: &Client, sql: &str) -> Result<usize, Reading> {
    let mut messages = pin!(client.simple_query_raw(sql).await?);
    let mut answers = 0;
    while let Some(message) = poll_fn(|cx| messages.as_mut().poll_next(cx)).await {
        answers += usize::from(matches!(message?, SimpleQueryMessage::CommandComplete(_)));
    }
    Ok(answers)
}
