//! Questions that are on their way while the server is at others: no time is lost between one answer and the next.
//!
//! Each is a transaction of its own, so what fails leaves the others alone. A cancel request may reach the server late, when
//! it is at the next question already: after one, no answer of this session is used any more.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::SimpleQueryStream;

use super::asking::{Setting, failure_of, rows_of};
use super::kept::Ahead;
use super::{Session, State, closed, give_up};
use crate::server::failure::QueryFailure;
use crate::server::rows::RowSet;

/// A question that was sent and not answered yet.
#[must_use = "its answer stands in the way of the others"]
pub struct Sent {
    answer: SimpleQueryStream,
    name: Box<str>,
    /// Its text, if that is what was sent.
    plain: Option<Box<str>>,
    at: Instant,
    statement_timeout: Duration,
}

impl Session {
    /// Sends a question to be answered behind those that were sent before it; none where it can only be asked alone, with
    /// [`Session::query_again`], because something has to be set or prepared first, or a pooler stands between.
    ///
    /// The answers have to be taken in the order of the questions, with [`Session::receive`].
    pub async fn send(&mut self, name: &str, sql: &str, statement_timeout: Duration) -> Option<Sent> {
        let before = match self.state {
            State::Idle => 0,
            State::Ahead(before) => before,
            _ => return None,
        };
        let is_set = self.settings.how == Setting::Session && self.settings.statement_timeout == statement_timeout;
        if !is_set || self.client.is_closed() {
            return None;
        }
        let (text, plain) = match self.kept.ahead(name, sql)? {
            Ahead::Plain => (None, Some(sql.into())),
            Ahead::Execute(text) => (Some(text), None),
        };
        // Comes back as soon as it is handed to the driver.
        let answer = self.client.simple_query_raw(text.as_deref().unwrap_or(sql)).await.ok()?;
        self.state = State::Ahead(before + 1);
        Some(Sent { answer, name: name.into(), plain, at: Instant::now(), statement_timeout })
    }

    /// The answer to the first of the questions that were sent, and since when the server has been at it. Nothing where it was
    /// asked by a prepared statement that is of no use any more: it has to be asked again, alone.
    ///
    /// Its time begins with the end of the answer before. After `deadline` it is cancelled, and the session is broken: what
    /// was sent behind it has to be asked in another.
    pub async fn receive(&mut self, sent: Sent, deadline: Duration) -> (Instant, Result<Option<RowSet>, QueryFailure>) {
        let Sent { answer, name, plain, at, statement_timeout } = sent;
        let State::Ahead(left) = self.state else { return (at, Err(closed())) };
        let begun = at.max(self.answered);
        // As for any question on its way, in case nobody waits for the answer.
        self.state = State::Busy;
        let mut reading = pin!(rows_of(answer));
        let outcome = if let Ok(outcome) = timeout(deadline, reading.as_mut()).await {
            outcome.map_err(|error| failure_of(error, statement_timeout, at.elapsed()))
        } else {
            let ended = async {
                drop(reading.await);
                // Answered behind everything that was sent.
                let _ = self.client.batch_execute("").await;
            };
            self.state = give_up(&self.route, &self.client.cancel_token(), ended).await;
            Err(QueryFailure::Deadline(deadline))
        };
        self.answered = Instant::now();
        self.state = self.state.after(&outcome, left.saturating_sub(1));
        let outcome = match (outcome, plain) {
            (Ok(rows), Some(sql)) => {
                self.kept.note_plain(&name, &sql);
                Ok(Some(rows))
            }
            (Err(failure), None) if self.kept.note_failure(&name, &failure) => Ok(None),
            (outcome, _) => outcome.map(Some),
        };
        (begun, outcome)
    }
}
