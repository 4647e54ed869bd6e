//! The beat of the sampler: between readings it has the definitions that are `sampled` asked, so that what comes and goes
//! between two of them is seen. It has no session of its own and opens none: a beat that finds the fast lane busy or
//! without a session is missed, and counted as such.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::lane::Ask;
use super::slot::{Outcome, RETRY_AFTER, RETRY_UNPRIVILEGED, Run, Skip, Slot};
use super::state::Shared;
use super::tally::Missed;

/// Asks for samples, one in every span of this length, until it is dropped.
pub(super) async fn beat(shared: Arc<Shared>, fast: WeakUnboundedSender<Ask>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before: Option<Instant> = None;
    loop {
        let due = ticks.tick().await;
        let Some(lane) = fast.upgrade() else { return };
        let skipped = before.map_or(0, |before| skipped(due - before, every));
        before = Some(due);
        for (at, slot) in sampled(&shared) {
            slot.tally().miss(Missed::Late, skipped);
            if slot.claim() {
                let _ = lane.send(Ask::Sample { at, until: due.into_std() + every / 2 });
            } else {
                slot.tally().miss(Missed::Busy, 1);
            }
        }
    }
}

/// The collectors that are sampled, with their places.
pub(super) fn sampled(shared: &Shared) -> impl Iterator<Item = (usize, &Slot)> {
    let all = shared.definitions.iter().zip(&shared.slots).enumerate();
    all.filter(|(_, (definition, _))| definition.sampled).map(|(at, (_, slot))| (at, slot))
}

/// What a reader is shown of a sampled collector.
pub(super) fn shown(shared: &Shared, slot: &Slot, epoch: u64) -> Result<Arc<Run>, Outcome> {
    if !shared.is_sampled() {
        let reason = "samples are taken by a running agent with [sampling] in its configuration";
        return Err(Outcome::Skipped { why: Skip::Nothing, reason: reason.to_owned() });
    }
    let latest = slot.latest().filter(|run| run.epoch == epoch);
    // Before the first sample of this state nothing has failed, and what was counted is true.
    let run = latest.unwrap_or_else(|| Arc::new(Run::without_families(Instant::now().into_std(), epoch, Outcome::Ok)));
    match run.outcome {
        Outcome::Ok => Ok(Arc::new(Run { families: slot.tally().families(), ..Run::clone(&run) })),
        _ => Ok(run),
    }
}

/// Whether the server is to be left alone after the latest sample: each failure may be a line in its log, and one that
/// cost much is not asked for at this pace.
pub(super) fn is_resting(slot: &Slot, epoch: u64) -> bool {
    let Some(run) = slot.latest().filter(|run| run.epoch == epoch) else { return false };
    let rest = match run.outcome {
        Outcome::Ok => slot.stretch(),
        Outcome::Failed { .. } => slot.stretch().max(RETRY_AFTER),
        Outcome::Skipped { why: Skip::Privilege, .. } => RETRY_UNPRIVILEGED,
        Outcome::Skipped { .. } => Duration::ZERO,
    };
    run.started.elapsed() < rest
}

/// How many beats were left out between two of them that are so far from each other.
fn skipped(distance: Duration, every: Duration) -> u64 {
    let beats = distance.as_millis() / every.as_millis().max(1);
    u64::try_from(beats.saturating_sub(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_that_were_left_out_are_counted() {
        let every = Duration::from_secs(1);
        for (millis, expected) in [(1_000, 0), (1_999, 0), (2_000, 1), (60_000, 59)] {
            assert_eq!(skipped(Duration::from_millis(millis), every), expected, "{millis} ms");
        }
    }
}
