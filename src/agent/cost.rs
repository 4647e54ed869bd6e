//! What a collector costs its server, and how much less often it is asked for that.

use std::time::Duration;

/// A collector may keep its server busy for one part in so many of the time.
const SHARE: u32 = 100;
/// What is this quick is asked as often as its definition says. Asked every 5 s it stays within the share, and it is twice
/// what a cheap query was ever seen to take with seven busy processes for each CPU.
const CHEAP: Duration = Duration::from_millis(50);
/// Asked at least this often, whatever it costs.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// How long the latest runs of a collector took, on one state of its server.
#[derive(Debug, Default)]
pub(super) struct Cost {
    epoch: u64,
    recent: [Option<Duration>; 3],
}

impl Cost {
    /// Notes a run. Runs of another epoch say nothing about this one: the server may be another machine now.
    pub(super) fn note(&mut self, epoch: u64, took: Duration) {
        let [_, second, third] = if self.epoch == epoch { self.recent } else { [None; 3] };
        *self = Self { epoch, recent: [second, third, Some(took)] };
    }

    /// The least time from the beginning of one run to the next; zero as long as one of the last three was cheap, so that
    /// neither a single slow run makes a difference, nor does it take long to recover.
    pub(super) fn interval(&self) -> Duration {
        // None is the least of all: with fewer than three runs nothing is known.
        let quickest = self.recent.into_iter().min().flatten().unwrap_or_default();
        if quickest < CHEAP { Duration::ZERO } else { quickest.saturating_mul(SHARE).min(LONGEST_INTERVAL) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_costly_runs_stretch_the_interval_and_one_cheap_run_ends_that() {
        let mut cost = Cost::default();
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
}
