//! The moments at which snapshots are taken: multiples of the interval since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The number of the next boundary, counted from 1970, and how long it is until then.
///
/// A boundary is never used twice, even when the timer fires early; after the clock was set back it starts anew.
pub(super) fn next_boundary(now: Duration, interval: Duration, last: Option<u128>) -> (u128, Duration) {
    let width = interval.as_nanos().max(1);
    let mut next = now.as_nanos() / width + 1;
    if last == Some(next) {
        next += 1;
    }
    let wait = (next * width).saturating_sub(now.as_nanos());
    (next, Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
}

/// The number of the boundary that a timer set for `planned` woke at.
///
/// A timer does not run while a virtual machine stands still: what is read then must not be dated back.
pub(super) fn reached(now: Duration, interval: Duration, planned: u128) -> u128 {
    let current = now.as_nanos() / interval.as_nanos().max(1);
    if current + 1 == planned { planned } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_used_once_and_never_dated_back() {
        let second = Duration::from_secs;
        let early = Duration::from_millis(9_999);
        assert_eq!(next_boundary(second(7), second(10), None), (1, second(3)));
        assert_eq!(next_boundary(second(10), second(10), None), (2, second(10)));
        assert_eq!(next_boundary(early, second(10), Some(1)), (2, Duration::from_millis(10_001)));
        assert_eq!(next_boundary(second(7), second(10), Some(99)), (1, second(3)));
        assert_eq!(reached(second(10), second(10), 1), 1);
        assert_eq!(reached(early, second(10), 1), 1);
        assert_eq!(reached(second(64), second(10), 1), 6);
    }
}
