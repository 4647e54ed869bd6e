//! What became of the points, for the agent's own metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::metric::{Described, Family};

const SENT: Described =
    Described::counter("pgvitals_graphite_points_sent_total", &[], "Points written to carbon for the first time");
const RESENT: Described = Described::counter(
    "pgvitals_graphite_points_resent_total",
    &[],
    "Points written once more after a lost connection, as carbon may not have read them",
);
const DROPPED: Described = Described::counter(
    "pgvitals_graphite_points_dropped_total",
    &[],
    "Points lost because the queue was full: carbon was away for too long",
);
const COLLIDED: Described = Described::counter(
    "pgvitals_graphite_points_collided_total",
    &[],
    "Points not sent because another series has the same path once special characters are replaced",
);
const MISSED: Described = Described::counter(
    "pgvitals_graphite_intervals_missed_total",
    &[],
    "Intervals without points because collecting took longer than the interval",
);
const RECONNECTS: Described =
    Described::counter("pgvitals_graphite_reconnects_total", &[], "Connections to carbon that replaced a lost one");
const QUEUED: Described = Described::gauge("pgvitals_graphite_queue_points", &[], "Points that wait to be sent");
const CONNECTED: Described =
    Described::gauge("pgvitals_graphite_connected", &[], "Whether the last write to carbon succeeded");
const LAST_ERROR: Described = Described::gauge(
    "pgvitals_graphite_last_error_timestamp_seconds",
    &[],
    "When carbon was last found out of reach; absent if never",
);

/// What is told of the points.
pub const DESCRIBED: &[Described] =
    &[SENT, RESENT, DROPPED, COLLIDED, MISSED, RECONNECTS, QUEUED, CONNECTED, LAST_ERROR];

/// Counters of the push loop since the agent started.
#[derive(Debug, Default)]
pub struct PushStats {
    sent: AtomicU64,
    resent: AtomicU64,
    dropped: AtomicU64,
    collided: AtomicU64,
    missed: AtomicU64,
    reconnects: AtomicU64,
    queued: AtomicU64,
    connected: AtomicU64,
    /// Seconds since 1970; 0 for never.
    last_error: AtomicU64,
}

impl PushStats {
    /// Points that were written for the first time.
    pub fn points_sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Points that were written once more after a loss.
    pub fn points_resent(&self) -> u64 {
        self.resent.load(Relaxed)
    }

    /// Points that never were sent and had to make room for younger ones.
    pub fn points_dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Points that wait now.
    pub fn points_queued(&self) -> u64 {
        self.queued.load(Relaxed)
    }

    /// Connections that replaced a lost one and took points.
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Relaxed)
    }

    /// The same as families named `pgvitals_graphite_…`; the time of the last error only once there was one.
    pub fn families(&self) -> Vec<Family> {
        let shown = [
            (SENT, &self.sent),
            (RESENT, &self.resent),
            (DROPPED, &self.dropped),
            (COLLIDED, &self.collided),
            (MISSED, &self.missed),
            (RECONNECTS, &self.reconnects),
            (QUEUED, &self.queued),
            (CONNECTED, &self.connected),
            (LAST_ERROR, &self.last_error),
        ];
        shown
            .into_iter()
            .map(|(metric, value)| (metric, value.load(Relaxed)))
            .filter(|(metric, value)| *metric != LAST_ERROR || *value > 0)
            .map(|(metric, value)| metric.family(value as f64))
            .collect()
    }

    pub(super) fn sent(&self, points: usize, again: bool) {
        let counter = if again { &self.resent } else { &self.sent };
        counter.fetch_add(points as u64, Relaxed);
    }

    pub(super) fn dropped(&self, points: usize) {
        self.dropped.fetch_add(points as u64, Relaxed);
    }

    pub(super) fn collided(&self, points: usize) {
        self.collided.fetch_add(points as u64, Relaxed);
    }

    pub(super) fn missed(&self, intervals: u128) {
        self.missed.fetch_add(u64::try_from(intervals).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn queued(&self, points: usize) {
        self.queued.store(points as u64, Relaxed);
    }

    pub(super) fn connected(&self, again: bool) {
        self.reconnects.fetch_add(u64::from(again), Relaxed);
        self.connected.store(1, Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.connected.store(0, Relaxed);
    }

    pub(super) fn failed(&self) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.last_error.store(seconds, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(stats: &PushStats, name: &str) -> Option<f64> {
        let families = stats.families();
        let family = families.iter().find(|family| family.metric().name == format!("pgvitals_graphite_{name}"))?;
        family.samples().next().map(|sample| sample.value)
    }

    #[test]
    fn there_is_no_time_of_an_error_before_one() {
        let stats = PushStats::default();
        assert_eq!(find(&stats, "last_error_timestamp_seconds"), None);
        stats.failed();
        assert!(find(&stats, "last_error_timestamp_seconds").unwrap() > 1e9);
        stats.sent(3, false);
        stats.sent(2, true);
        assert_eq!((find(&stats, "points_sent_total"), find(&stats, "points_resent_total")), (Some(3.0), Some(2.0)));
    }
}
