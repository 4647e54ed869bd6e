//! What a collector costs its server, and how much less often it is asked for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A collector may keep its server busy for one part in so many of the time.
const SHARE: u32 = 100;
/// What costs no more is asked as often as its definition says. Asked every 5 s it stays within the share, and it is twice what
/// a cheap query was ever seen to take with seven busy processes for each CPU.
const CHEAP: Duration = Duration::from_millis(50);
/// Asked at least this often, whatever it costs.
pub(super) const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// What a question takes that costs the server nothing, as the latest probe took it: the way there and back, and what a
/// busy machine adds on either side.
#[derive(Debug, Default)]
pub(super) struct RoundTrip(AtomicU64);

impl RoundTrip {
    pub(super) fn note(&self, took: Duration) {
        self.0.store(took.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn latest(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// How much the latest runs of a collector cost, on one state of its server.
#[derive(Debug)]
pub(super) struct Cost {
    round_trip: Arc<RoundTrip>,
    longest: Duration,
    epoch: u64,
    recent: [Option<Duration>; 3],
}

impl Cost {
    /// Nothing is known yet; the interval will never be above `longest`.
    pub(super) fn new(round_trip: Arc<RoundTrip>, longest: Duration) -> Self {
        Self { round_trip, longest, epoch: 0, recent: [None; 3] }
    }

    /// Notes a run. Runs of another epoch say nothing about this one: the server may be another machine now.
    pub(super) fn note(&mut self, epoch: u64, took: Duration) {
        let [_, second, third] = if self.epoch == epoch { self.recent } else { [None; 3] };
        self.recent = [second, third, Some(took.saturating_sub(self.round_trip.latest()))];
        self.epoch = epoch;
    }

    /// The least time from the beginning of one run to the next; zero as long as one of the last three was cheap, so that
    /// neither a single slow run makes a difference, nor does it take long to recover.
    pub(super) fn interval(&self) -> Duration {
        // None is the least of all: with fewer than three runs nothing is known.
        let quickest = self.recent.into_iter().min().flatten().unwrap_or_default();
        if quickest < CHEAP { Duration::ZERO } else { quickest.saturating_mul(SHARE).min(self.longest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_costly_runs_stretch_the_interval_and_one_cheap_run_ends_that() {
        let mut cost = Cost::new(Arc::default(), LONGEST_INTERVAL);
        let mut after = |epoch, millis| {
            cost.note(epoch, Duration::from_millis(millis));
            cost.interval().as_secs()
        };
        let runs = [(1, 2_000), (1, 49), (1, 3_000), (1, 300), (1, 2_000), (1, 900_000), (1, 900_000), (1, 900_000)];
        let intervals: Vec<_> = runs.into_iter().map(|(epoch, millis)| after(epoch, millis)).collect();
        assert_eq!(intervals, [0, 0, 0, 0, 30, 30, 200, 3_600]);
        assert_eq!([after(1, 1), after(1, 900_000), after(2, 900_000), after(2, 900_000)], [0; 4]);
        assert_eq!([after(2, 500), after(3, 500)], [50, 0]);
    }

    #[test]
    fn a_long_way_to_the_server_is_no_cost() {
        let round_trip = Arc::<RoundTrip>::default();
        let mut cost = Cost::new(Arc::clone(&round_trip), LONGEST_INTERVAL);
        round_trip.note(Duration::from_millis(200));
        (0..3).for_each(|_| cost.note(1, Duration::from_millis(240)));
        assert_eq!(cost.interval(), Duration::ZERO);
        (0..3).for_each(|_| cost.note(1, Duration::from_millis(300)));
        assert_eq!(cost.interval(), Duration::from_secs(10));
    }
}
