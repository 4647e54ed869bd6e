//! The lane's one session: opened when it is needed, replaced after its time, given up where a query does not end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{CONNECT_TIMEOUT, Lane};
use crate::server::{ConnectFailure, FailureClass, QueryFailure, RowSet, Sent, Session};

/// How long an attempt to connect goes on in the background; the DSN may say less. A server that hangs queues every
/// attempt and forks for each of them when it wakes, so there is one attempt at a time and not one for each reader.
const LONGEST_OPENING: Duration = Duration::from_secs(10);
/// The same on a socket of this host, where the kernel tells when the server goes: an attempt given up earlier would be
/// served in vain when a hanging server wakes, and so would every one after it.
const LONGEST_OPENING_OF_SOCKET: Duration = Duration::from_secs(86_400);
/// Each try to come in where we may not is a line in the server's log, and readers may be many.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long a server's lanes wait after a reload for those of the configuration before to leave it.
const LONGEST_SUCCESSION: Duration = Duration::from_secs(2);
/// How long a session has to end that is to be replaced.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

impl Lane {
    /// Makes sure of an open connection.
    pub(super) async fn connect(&mut self) -> Result<(), ConnectFailure> {
        let longest = self.shared.server.options().longest_session();
        if self.session.as_ref().is_some_and(|session| !session.is_closed() && session.age() < longest) {
            return Ok(());
        }
        if let Some((_, failure)) = self.refused.as_ref().filter(|(at, _)| at.elapsed() < ASK_AGAIN_AFTER) {
            return Err(failure.clone());
        }
        // Gone before the next one opens: two lanes are two connections at any moment.
        if let Some(session) = self.session.take() {
            session.close(FAREWELL).await;
        }
        self.shared.wait_for_predecessor(LONGEST_SUCCESSION).await;
        if self.opening.is_empty() {
            let shared = Arc::clone(&self.shared);
            let is_socket = shared.server.options().is_one_socket();
            let limit = if is_socket { LONGEST_OPENING_OF_SOCKET } else { LONGEST_OPENING };
            self.opening.spawn(async move { shared.server.open(limit).await });
        }
        let other = |class, message| ConnectFailure { class, message, sqlstate: None };
        let opened = match timeout(CONNECT_TIMEOUT, self.opening.join_next()).await {
            Ok(Some(Ok(opened))) => opened,
            Ok(_) => Err(other(FailureClass::Other, "the attempt to connect ended early".to_owned())),
            Err(_) => Err(other(FailureClass::Timeout, format!("connect: no answer within {CONNECT_TIMEOUT:?}"))),
        };
        self.shared.door.note(Instant::now(), opened.as_ref().err().map(|failure| failure.class));
        self.refused =
            opened.as_ref().err().filter(|failure| failure.is_judgement()).map(|it| (Instant::now(), it.clone()));
        self.hold(opened?);
        Ok(())
    }

    /// Has a session that was opened just now.
    pub(super) fn hold(&mut self, session: Session) {
        self.session = Some(session);
        self.of_role = None;
        self.shared.connects.fetch_add(1, Ordering::Relaxed);
        self.count_open();
    }

    /// Runs a statement that the server ends after `statement_timeout`, and we give up after `timeout`.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        statement_timeout: Duration,
        timeout: Duration,
    ) -> Result<RowSet, QueryFailure> {
        let Some(session) = &mut self.session else { return Err(no_connection()) };
        let answer = session.query(sql, statement_timeout, timeout).await;
        self.part_if_closed().await;
        answer
    }

    /// The same for what is asked again and again under this name.
    pub(super) async fn query_again(
        &mut self,
        name: &str,
        sql: &str,
        statement_timeout: Duration,
        timeout: Duration,
    ) -> Result<RowSet, QueryFailure> {
        let Some(session) = &mut self.session else { return Err(no_connection()) };
        let answer = session.query_again(name, sql, statement_timeout, timeout).await;
        self.part_if_closed().await;
        answer
    }

    /// Takes the answer to what was sent first; nothing where it has to be asked again, alone.
    pub(super) async fn receive(&mut self, sent: Sent, timeout: Duration) -> Result<Option<RowSet>, QueryFailure> {
        let Some(session) = &mut self.session else { return Err(no_connection()) };
        let (_, answer) = session.receive(sent, timeout).await;
        self.part_if_closed().await;
        answer
    }

    /// Gives up the session if it is of no more use.
    pub(super) async fn part_if_closed(&mut self) {
        if let Some(session) = self.session.take_if(|session| session.is_closed()) {
            self.strand();
            if session.is_stuck() {
                self.count_until(session.ended());
            } else {
                session.close(FAREWELL).await;
            }
        }
    }

    /// Counts a session that takes too long to come or to go: it holds a place on the server until then.
    pub(super) fn count_until(&self, gone: impl Future<Output = ()> + Send + 'static) {
        let count = Arc::clone(&self.shared.stuck);
        count.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            gone.await;
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Why the slow lane opens no connection now: the budget of two counts processes that are still busy with what we
    /// gave up.
    pub(super) fn pause(&self) -> Option<String> {
        let stuck = self.slow && self.session.is_none() && self.shared.stuck.load(Ordering::Relaxed) > 0;
        stuck.then(|| "a query that could not be stopped is still running on the server".to_owned())
    }

    pub(super) fn count_open(&self) {
        let open = self.session.as_ref().is_some_and(|session| !session.is_closed());
        if let Some(count) = self.shared.open.get(usize::from(self.slow)) {
            count.store(u64::from(open), Ordering::Relaxed);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Who comes after us waits until nothing of us is left, and for as long as that takes we are not.
        if let (Some(session), Ok(runtime)) = (self.session.take(), Handle::try_current()) {
            let shared = Arc::clone(&self.shared);
            runtime.spawn(async move {
                session.close(FAREWELL).await;
                drop(shared);
            });
        }
    }
}

fn no_connection() -> QueryFailure {
    QueryFailure::Lost { class: FailureClass::Unreachable, message: "no connection".to_owned() }
}
