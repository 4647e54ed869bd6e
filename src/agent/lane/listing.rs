//! Asking for the rows of a listing, for as many as want them at that time.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep;

use super::Lane;
use crate::agent::listed::LARGEST;
use crate::agent::slot::{Outcome, Run};
use crate::server::RowSet;

impl Lane {
    /// Asks for the rows in this place.
    pub(super) async fn list_rows(&mut self, at: usize) {
        let shared = Arc::clone(&self.shared);
        let Some((slot, definition)) = shared.listing(at) else { return };
        let (epoch, condition) = shared.state();
        let run = match condition.plan(definition) {
            Ok((_, sql)) => {
                let (started, answer) = self.rows(slot, definition, &sql).await;
                match answer.and_then(bounded) {
                    Ok(rows) => {
                        let listed = Some(Arc::new(rows));
                        Run { listed, ..Run::without_families(started, epoch, Outcome::Ok) }
                    }
                    Err(outcome) => Run::without_families(started, epoch, outcome),
                }
            }
            Err(outcome) => Run::without_families(Instant::now(), epoch, outcome),
        };
        let (started, has_rows) = (run.started, run.listed.is_some());
        self.settle(slot, definition, run).await;
        if has_rows {
            // Whoever waits has them by then, and nobody else gets them.
            let (interval, shared) = (slot.interval(), Arc::downgrade(&shared));
            tokio::spawn(async move {
                sleep(interval).await;
                if let Some(shared) = shared.upgrade()
                    && let Some((slot, _)) = shared.listing(at)
                {
                    slot.drop_rows(started);
                }
            });
        }
    }
}

fn bounded(rows: RowSet) -> Result<RowSet, Outcome> {
    let bytes = rows.bytes();
    if bytes <= LARGEST {
        return Ok(rows);
    }
    let reason = format!("the rows take {bytes} bytes, expected {LARGEST} at most");
    Err(Outcome::Failed { class: "too_large", reason })
}
