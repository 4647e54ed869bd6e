//! A sample between readings: on the session that is there, quickly or not at all.

use std::sync::Arc;
use std::time::Instant;

use super::Lane;
use crate::agent::sampler::is_resting;
use crate::agent::slot::{Outcome, Run};
use crate::agent::state::Condition;
use crate::agent::tally::Missed;

impl Lane {
    /// Takes a sample with the collector in this place, unless this moment has passed.
    pub(super) async fn sample(&mut self, at: usize, until: Instant) {
        let shared = Arc::clone(&self.shared);
        let (Some(slot), Some(definition)) = (shared.slots.get(at), shared.definitions.get(at)) else { return };
        let (epoch, condition) = shared.state();
        let is_open = self.session.as_ref().is_some_and(|session| !session.is_closed());
        let facts = match condition {
            _ if Instant::now() > until => Err(Missed::Busy),
            Condition::Up(_) if is_open && is_resting(slot, epoch) => Err(Missed::Resting),
            // The next reader opens one, if the server lets us in.
            Condition::Up(facts) if is_open => Ok(facts),
            _ => Err(Missed::Down),
        };
        let facts = match facts {
            Ok(facts) => facts,
            Err(why) => {
                slot.tally().miss(why, 1);
                return slot.release();
            }
        };
        let run = match facts.plan(definition) {
            Ok(sql) => self.run(slot, definition, &sql, epoch).await,
            Err(obstacle) => Run::without_families(Instant::now(), epoch, facts.skipped(&obstacle)),
        };
        match run.outcome {
            Outcome::Ok => slot.tally().add(&run.families),
            Outcome::Skipped { .. } => slot.tally().miss(Missed::Skipped, 1),
            Outcome::Failed { .. } => slot.tally().miss(Missed::Failed, 1),
        }
        self.settle(slot, definition, Run { families: Vec::new(), ..run }).await;
    }
}
