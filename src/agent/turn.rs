//! How long a lane is at what it does, to tell one that waits from one that never comes back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One lane's turn: begun with each thing it is asked, ended with the answer.
#[derive(Debug, Default)]
pub struct Turn {
    due: Mutex<Option<Instant>>,
}

impl Turn {
    /// Notes that what begins now ends within this time. Each step of something long may begin a turn of its own.
    pub fn begin(&self, at_most: Duration) {
        self.set(Some(Instant::now() + at_most));
    }

    /// Notes that nothing is under way.
    pub fn end(&self) {
        self.set(None);
    }

    /// Whether it should have ended before `now`.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|due| now > due)
    }

    fn set(&self, due: Option<Instant>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_overdue_until_it_ends_or_another_begins() {
        let (turn, start, limit) = (Turn::default(), Instant::now(), Duration::from_secs(60));
        assert!(!turn.is_overdue(start + 100 * limit), "nothing is under way");
        turn.begin(limit);
        assert!(!turn.is_overdue(start + limit / 2));
        assert!(turn.is_overdue(start + 2 * limit));
        turn.begin(3 * limit);
        assert!(!turn.is_overdue(start + 2 * limit));
        turn.end();
        assert!(!turn.is_overdue(start + 100 * limit));
    }
}
