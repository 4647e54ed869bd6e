//! Whether a server takes new connections, which the one that is open does not tell.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::FailureClass;

/// Each connection is a line in the log of a server that is told to log them, so knocking is rare as long as it opens.
const KNOCK_AFTER: Duration = Duration::from_secs(300);
/// What was shut is tried again after this time.
const KNOCK_AGAIN: Duration = Duration::from_secs(10);

/// When somebody last tried to connect, and why the latest attempt failed if it did.
#[derive(Debug, Default)]
pub(super) struct Door(Mutex<Option<(Instant, Option<FailureClass>)>>);

impl Door {
    /// Notes that an attempt ended at `now`, and why it failed if it did.
    pub(super) fn note(&self, now: Instant, failure: Option<FailureClass>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, failure));
    }

    /// Takes the turn to connect for no other reason than to see whether that is possible: true for the first who asks
    /// when it is time.
    pub(super) fn claim(&self, now: Instant) -> bool {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((tried, failure)) = latest.as_mut() else { return false };
        let is_due = now.saturating_duration_since(*tried) >= if failure.is_some() { KNOCK_AGAIN } else { KNOCK_AFTER };
        if is_due {
            *tried = now;
        }
        is_due
    }

    /// Why nobody gets in, if the latest attempt failed for a reason that concerns everybody: what our role may not do,
    /// others may.
    pub(super) fn refusal(&self) -> Option<FailureClass> {
        let (_, failure) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        failure.filter(|class| {
            use FailureClass as Class;
            let shuts_out_all =
                [Class::Refused, Class::Timeout, Class::StartingUp, Class::ShuttingDown, Class::NotAccepting];
            shuts_out_all.contains(class)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_knocks_now_and_then_and_sooner_at_a_door_that_was_shut() {
        let (door, start) = (Door::default(), Instant::now());
        assert!(!door.claim(start), "nobody ever came in: who does will tell");
        door.note(start, None);
        assert!(!door.claim(start + KNOCK_AFTER / 2));
        assert!(door.claim(start + KNOCK_AFTER) && !door.claim(start + KNOCK_AFTER), "one at a time");
        door.note(start + KNOCK_AFTER, Some(FailureClass::Timeout));
        assert_eq!(door.refusal(), Some(FailureClass::Timeout));
        assert!(!door.claim(start + KNOCK_AFTER) && door.claim(start + KNOCK_AFTER + KNOCK_AGAIN));
        door.note(start, Some(FailureClass::TooManyConnections));
        assert_eq!(door.refusal(), None, "the role may have a limit of its own");
    }
}
