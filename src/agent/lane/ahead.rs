//! What is sent ahead: while the server works on one collector's statement, those of the next are on their way already, and
//! the rows of the one before become families. With a probe go those who are expected to be next, if it finds what the one
//! before found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Ask, FAST_LIMIT, Lane, fast_statement_timeout, run_of_answer};
use crate::agent::facts::Facts;
use crate::agent::queue::Queue;
use crate::agent::slot::{Outcome, Run, Slot};
use crate::catalog::{Definition, Role};
use crate::server::Sent;

/// Who comes with something urgent waits behind so many at most.
const MOST: usize = 8;
/// What took longer the last time is asked alone, so that what waits behind so many does not wait long.
const QUICK: Duration = Duration::from_millis(50);

/// A collector whose statement was sent.
pub(super) struct Ahead {
    pub(super) at: usize,
    epoch: u64,
    facts: Arc<Facts>,
    sent: Sent,
}

impl Lane {
    /// Sends the statements of those who are next, as long as there is room and nobody else's turn comes before.
    pub(super) async fn send_ahead(&mut self, queue: &mut Queue<Ask>) {
        if self.slow || self.ahead.len() > MOST / 2 {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let longest = shared.server.options().longest_session();
        let (epoch, condition) = shared.state();
        while self.ahead.len() < MOST {
            let Some(&Ask::Collect(at)) = queue.next(|ask| self.rank(*ask)) else { return };
            let (Some(slot), Some(definition)) = (shared.slots.get(at), shared.definitions.get(at)) else { return };
            let Ok((facts, sql)) = condition.plan(definition) else { return };
            let session = self.session.as_mut().filter(|session| session.age() < longest);
            let may_be = slot.is_claimed() && may_be_ahead(slot, definition, epoch);
            let Some(session) = session.filter(|_| may_be) else { return };
            let Some(sent) = session.send(&definition.name, &sql, fast_statement_timeout(definition)).await else {
                return;
            };
            queue.take(|ask| self.rank(*ask));
            self.ahead.push_back(Ahead { at, epoch, facts, sent });
        }
    }

    /// Takes the answer to what was sent first.
    pub(super) async fn land(&mut self, ahead: Ahead) {
        let shared = Arc::clone(&self.shared);
        let Ahead { at, epoch, facts, sent } = ahead;
        let (Some(slot), Some(definition)) = (shared.slots.get(at), shared.definitions.get(at)) else { return };
        let Some(session) = &mut self.session else { return self.stranded.push(Ask::Collect(at)) };
        let (started, answer) = session.receive(sent, definition.timeout.min(FAST_LIMIT)).await;
        self.part_if_closed().await;
        let Some(answer) = answer.transpose() else { return self.stranded.push(Ask::Collect(at)) };
        let started = started.into_std();
        let answer = self.weighed(slot, definition, started, answer);
        let run = run_of_answer(slot, definition, (started, answer), epoch);
        self.complete(slot, definition, &facts, run).await;
    }

    /// Sends, behind a probe that is on its way, the statements of those who are expected to be next. What it finds does not
    /// decide over them: they are of both roles, and were answered in the state that was known.
    pub(super) async fn send_expected(&mut self, (asked, collectors): (Instant, Vec<usize>)) {
        let shared = Arc::clone(&self.shared);
        let (epoch, condition) = shared.state();
        for at in collectors {
            let (Some(slot), Some(definition)) = (shared.slots.get(at), shared.definitions.get(at)) else { continue };
            let Some(session) = self.session.as_mut().filter(|_| self.ahead.len() < MOST) else { return };
            let may_be = definition.role == Role::Any && may_be_ahead(slot, definition, epoch);
            if !may_be || slot.fresh(asked, epoch).is_some() {
                continue;
            }
            let Ok((facts, sql)) = condition.plan(definition) else { continue };
            if !slot.claim() {
                continue;
            }
            match session.send(&definition.name, &sql, fast_statement_timeout(definition)).await {
                Some(sent) => self.ahead.push_back(Ahead { at, epoch, facts, sent }),
                // Whoever comes now waits for who claimed it.
                None => return self.stranded.push(Ask::Collect(at)),
            }
        }
    }

    /// Lets the answers to what was sent pass unread: it has to be asked again, in the state that was found, or behind what
    /// has to be asked alone.
    pub(super) async fn recall(&mut self) {
        while let Some(ahead) = self.ahead.pop_front() {
            self.stranded.push(Ask::Collect(ahead.at));
            // How it ended is found out when it is asked again.
            let _ = self.receive(ahead.sent, FAST_LIMIT).await;
        }
    }

    /// What was sent on a session that is gone has to be asked again.
    pub(super) fn strand(&mut self) {
        self.stranded.extend(self.ahead.drain(..).map(|ahead| Ask::Collect(ahead.at)));
    }
}

fn may_be_ahead(slot: &Slot, definition: &Definition, epoch: u64) -> bool {
    let was_quick = |run: Arc<Run>| run.epoch == epoch && run.outcome == Outcome::Ok && run.duration() < QUICK;
    let is_plain = definition.texts.is_none() && !definition.sampled;
    is_plain && !slot.is_slow() && slot.latest().is_some_and(was_quick)
}
