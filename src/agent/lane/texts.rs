//! Asking for the texts of what another collector shows: only those that are new, and in the order of the two.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::{Lane, run_of};
use crate::agent::slot::{Outcome, Run, Slot};
use crate::agent::texts::Asked;
use crate::catalog::{Definition, Texts, WANTED};
use crate::collect::sql::REMAINDER;
use crate::metric::Family;

impl Lane {
    /// A run that asks nothing while all texts are known that are shown.
    pub(super) async fn run_texts(
        &mut self,
        slot: &Slot,
        definition: &Definition,
        texts: &Texts,
        sql: &str,
        epoch: u64,
    ) -> Run {
        let shared = Arc::clone(&self.shared);
        let of = shared.definitions.iter().position(|other| other.name == texts.of);
        let Some((of, source)) = of.and_then(|at| Some((at, shared.slots.get(at)?))) else {
            let reason = format!("nothing asks for {}", texts.of);
            return Run::without_families(Instant::now(), epoch, Outcome::Failed { class: "column", reason });
        };
        if source.is_claimed() && !source.is_slow() {
            // It waits for its turn behind us, and is to be shown with its texts.
            Box::pin(self.collect(of)).await;
        }
        let latest = source.latest().filter(|run| run.epoch == epoch && run.outcome == Outcome::Ok);
        let shown = latest.map(|run| keys_of(&run.families, &texts.key)).unwrap_or_default();
        let began = Instant::now();
        let known = || slot.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = known().missing(epoch, began, &shown);
        let mut started = began;
        if !missing.is_empty() {
            let sql = sql.replace(WANTED, &format!("'{}'", missing.join(",")));
            let (asked, answer) = self.rows(slot, definition, &sql).await;
            started = asked;
            let Texts { key, text, at_most_every, .. } = texts;
            let at_most_every = *at_most_every;
            let how = Asked { began: asked, at_most_every, key, text, length: shared.text_length };
            known().note(how, &missing, answer.as_ref().map_err(Clone::clone));
        }
        let known = known();
        let rows = known.rows(&shown);
        let mut run = if rows.is_empty() {
            Run::without_families(started, epoch, Outcome::Ok)
        } else {
            run_of(slot, definition, &rows, epoch, started)
        };
        if let Some(failure) = known.failure(&shown) {
            run.outcome = failure;
        }
        run
    }
}

/// The values of a label. What could end a literal, or be taken for two, is no key.
fn keys_of(families: &[Arc<Family>], label: &str) -> BTreeSet<String> {
    let samples = families.iter().flat_map(|family| family.samples());
    let is_key = |key: &&str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let keys = samples.filter_map(|sample| sample.label(label)).filter(is_key).filter(|key| *key != REMAINDER);
    keys.map(str::to_owned).collect()
}
