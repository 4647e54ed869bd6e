//! One watched server: who wants to know sends to its lanes and waits for them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::timeout_at;

use super::facts::Facts;
use super::lane::{Ask, Lane};
use super::listed::ListError;
use super::sampler;
use super::slot::{Outcome, Run, Slot};
use super::state::{Condition, Shared};
use super::{Want, walk};
use crate::catalog::{Catalog, Definition, Scope};
use crate::panics::survive;
use crate::server::{ConnectOptions, Databases, RowSet, is_here};

/// A server and its lanes; dropping it ends them, and a query that is under way is cancelled.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) shared: Arc<Shared>,
    fast: UnboundedSender<Ask>,
    slow: UnboundedSender<Ask>,
    lanes: [AbortHandle; 2],
    here: OnceCell<bool>,
    /// How often samples are taken, and who sees to it.
    sampler: Mutex<Option<(Duration, AbortHandle)>>,
}

impl Watched {
    /// Begins to watch a server; nothing is asked before the first reader comes.
    pub(super) fn start(name: Arc<str>, options: ConnectOptions, catalog: &Catalog, databases: Databases) -> Self {
        let shared = Arc::new(Shared::new(name, options, catalog, databases));
        let (fast, asks) = unbounded_channel();
        let fast_lane = tokio::spawn(Lane::fast(Arc::clone(&shared), fast.downgrade()).serve(asks));
        let (slow, asks) = unbounded_channel();
        let slow_lane = tokio::spawn(Lane::slow(Arc::clone(&shared), slow.downgrade()).serve(asks));
        let lanes = [fast_lane.abort_handle(), slow_lane.abort_handle()];
        Self { shared, fast, slow, lanes, here: OnceCell::new(), sampler: Mutex::default() }
    }

    /// Takes a sample in every span of this length from now on, or none any longer.
    pub(super) fn sample_every(&self, every: Option<Duration>) {
        let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        if sampler.as_ref().map(|(every, _)| *every) == every {
            return;
        }
        if let Some((_, task)) = sampler.take() {
            task.abort();
        }
        self.shared.set_sampled(every.is_some());
        *sampler = every.map(|every| {
            let (shared, fast) = (Arc::clone(&self.shared), self.fast.downgrade());
            let beating = survive(move || sampler::beat(Arc::clone(&shared), fast.clone(), every));
            (every, tokio::spawn(beating).abort_handle())
        });
    }

    /// The lane that does not come back from what it was asked, if there is one.
    pub(super) fn wedged(&self, now: Instant) -> Option<&'static str> {
        let lanes = ["fast", "slow"].into_iter().zip(&self.shared.turns).zip(&self.lanes);
        let mut wedged = lanes.filter(|((_, turn), task)| turn.is_overdue(now) || task.is_finished());
        wedged.next().map(|((name, _), _)| name)
    }

    /// Finds out whether it is on this machine, once; by the deadline, or with another reader.
    pub(super) async fn locate(&self, proc: &Path, deadline: Instant) {
        let found = async { is_here(self.shared.server.options(), proc).await.ok_or(()) };
        let _ = timeout_at(deadline.into(), self.here.get_or_try_init(|| found)).await;
    }

    /// Whether it is on this machine, as far as that is known.
    pub(super) fn here(&self) -> Option<bool> {
        self.here.get().copied()
    }

    /// Has the wanted collectors asked where their results are not fresh, and waits for them until the deadline; for a
    /// walk over the databases only if it is quick, or if they are patient.
    pub(super) async fn refresh(&self, asked: Instant, deadline: Instant, want: &Want) {
        let (patient, wanted) = (want.patient, |name: &str| want.has(name));
        // Texts are those of what another collector shows.
        let texts_of = |name: &str| {
            let is_of = |definition: &&Arc<Definition>| definition.texts.as_ref().is_some_and(|texts| texts.of == name);
            self.shared.definitions.iter().find(is_of)
        };
        let is_wanted = |name: &str| wanted(name) || texts_of(name).is_some_and(|texts| wanted(&texts.name));
        let chosen = self.shared.slots.iter().zip(&self.shared.definitions).enumerate();
        // What is sampled no reader asks for.
        let chosen = chosen.filter(|(_, (_, definition))| is_wanted(&definition.name) && !definition.sampled);
        let (walked, mut chosen): (Vec<_>, Vec<_>) =
            chosen.partition(|(_, (_, definition))| definition.scope == Scope::Database);
        chosen.sort_by_cached_key(|(_, (slot, _))| slot.took());
        let known = self.shared.state().0;
        let stale = chosen.iter().filter(|(_, (slot, _))| slot.fresh(asked, known).is_none()).map(|&(at, _)| at);
        let Condition::Up(_) = self.probed_since(want.came, asked, deadline, stale.collect()).await else { return };
        let epoch = self.shared.state().0;
        if self.shared.door.claim(Instant::now()) {
            self.send(&self.slow, Ask::Probe);
        }
        for &(at, (slot, _)) in &chosen {
            if slot.fresh(asked, epoch).is_none() && slot.claim() {
                self.ask(at, slot);
            }
        }
        for &(at, (slot, _)) in &walked {
            if walk::is_due(&self.shared, at, asked, epoch) && slot.claim() {
                self.send(&self.slow, Ask::Walk);
            }
        }
        // The one that the lane asks last comes first: when it is there all others are, and the reader was woken once.
        for &(at, (slot, _)) in chosen.iter().rev() {
            let settled = || {
                let (epoch, condition) = self.shared.state();
                slot.fresh(asked, epoch).is_some()
                    || !slot.is_awaited(asked, epoch, deadline)
                    || matches!(condition, Condition::Down { .. })
            };
            wait(slot, deadline, settled, || self.ask(at, slot)).await;
        }
        for (at, (slot, _)) in walked {
            let settled = || {
                let (epoch, condition) = self.shared.state();
                let is_slow = slot.is_slow() && !patient;
                is_slow || !walk::is_due(&self.shared, at, asked, epoch) || matches!(condition, Condition::Down { .. })
            };
            let patience = if patient { deadline } else { deadline.min(asked + walk::PATIENCE) };
            wait(slot, patience, settled, || self.send(&self.slow, Ask::Walk)).await;
            if !settled() && Instant::now() >= asked + walk::PATIENCE {
                slot.set_slow(true);
            }
        }
    }

    /// What the server was found to be since a reader came with others, or is found to be by him.
    async fn probed_since(
        &self,
        came: Option<Instant>,
        asked: Instant,
        deadline: Instant,
        next: Vec<usize>,
    ) -> Condition {
        let (epoch, condition) = self.shared.state();
        match came.and_then(|came| self.shared.probe.fresh(came, epoch)) {
            Some(_) => condition,
            None => self.probed(came.unwrap_or(asked), deadline, next).await,
        }
    }

    /// What the server is found to be by a reader who came at `asked` and asks these collectors next, or was found before when
    /// the answer is late.
    async fn probed(&self, asked: Instant, deadline: Instant, next: Vec<usize>) -> Condition {
        let hangs = self.shared.hangs();
        if self.shared.probe.claim() {
            self.shared.expect(asked, next);
            self.send(&self.fast, Ask::Probe);
        }
        if !hangs {
            let probed = || self.shared.probe.fresh(asked, self.shared.state().0).is_some();
            wait(&self.shared.probe, deadline, probed, || self.send(&self.fast, Ask::Probe)).await;
        }
        self.shared.state().1
    }

    /// What a server that answers is, for a reader who came at `asked` and has this long.
    pub(super) async fn facts(&self, asked: Instant, time: Duration) -> Result<Arc<Facts>, ListError> {
        match self.probed(asked, asked + time, Vec::new()).await {
            Condition::Down { class, reason } => Err(ListError::Down { class, reason }),
            Condition::Up(facts) if self.shared.probe.fresh(asked, self.shared.state().0).is_some() => Ok(facts),
            _ => Err(ListError::Late(time)),
        }
    }

    /// The rows of a listing, for a reader who came at `asked` and has this long.
    pub(super) async fn list(&self, name: &str, asked: Instant, time: Duration) -> Result<Arc<RowSet>, ListError> {
        let shared = &self.shared;
        let at = shared.place_of_listing(name).ok_or_else(|| ListError::NoSuchListing(name.to_owned()))?;
        let (slot, _) = shared.listing(at).ok_or_else(|| ListError::NoSuchListing(name.to_owned()))?;
        let deadline = asked + time;
        self.facts(asked, time).await?;
        let was_slow = slot.is_slow();
        let run = match self.run_of_listing(at, slot, asked, deadline).await? {
            // It overran on the fast lane; the slow one has the time that it takes.
            Some(run) if run.listed.is_none() && slot.is_slow() && !was_slow => {
                self.run_of_listing(at, slot, Instant::now(), deadline).await?
            }
            run => run,
        };
        let run = run.ok_or(ListError::Late(time))?;
        run.listed.clone().ok_or_else(|| ListError::of(run.outcome.clone()))
    }

    /// A run of a listing that a reader who came at `asked` may have; none if there is none by the deadline.
    async fn run_of_listing(
        &self,
        at: usize,
        slot: &Slot,
        asked: Instant,
        deadline: Instant,
    ) -> Result<Option<Arc<Run>>, ListError> {
        let ask = || self.send(if slot.is_slow() { &self.slow } else { &self.fast }, Ask::List(at));
        let is_whole = |run: &Arc<Run>| run.outcome != Outcome::Ok || run.listed.is_some();
        let run = || slot.fresh(asked, self.shared.state().0).filter(is_whole);
        let is_down = || matches!(self.shared.state().1, Condition::Down { .. });
        wait(slot, deadline, || run().is_some() || is_down(), ask).await;
        match self.shared.state().1 {
            Condition::Down { class, reason } => Err(ListError::Down { class, reason }),
            _ => Ok(run()),
        }
    }

    fn ask(&self, at: usize, slot: &Slot) {
        self.send(if slot.is_slow() { &self.slow } else { &self.fast }, Ask::Collect(at));
    }

    #[expect(clippy::unused_self, reason = "reads as what it is: this server sends to its lane")]
    fn send(&self, lane: &UnboundedSender<Ask>, ask: Ask) {
        // A lane ends only when this server is dropped, so nobody is left to miss the answer.
        let _ = lane.send(ask);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.lanes.iter().for_each(AbortHandle::abort);
        self.sample_every(None);
    }
}

/// Waits until a slot is settled, asking again when it ran without that, or until the deadline.
async fn wait(slot: &Slot, deadline: Instant, settled: impl Fn() -> bool, again: impl Fn()) {
    let mut runs = slot.subscribe();
    while !settled() {
        if slot.claim() {
            again();
        }
        if timeout_at(deadline.into(), runs.changed()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::server::Environment;

    fn watched() -> Watched {
        let options = ConnectOptions::parse("host=/nowhere", &Environment::new(|_| None)).unwrap();
        Watched::start(Arc::from("a"), options, &Catalog::built_in().unwrap(), Databases::default())
    }

    async fn next_run(slot: &Slot, ask: impl Fn()) -> Arc<Run> {
        let mut runs = slot.subscribe();
        assert!(slot.claim(), "the place is free to be asked");
        ask();
        runs.changed().await.unwrap();
        slot.latest().unwrap()
    }

    #[test]
    fn a_lane_that_panics_answers_and_goes_on() {
        // Whatever waits with a time limit panics on a runtime without timers.
        Builder::new_current_thread().enable_io().build().unwrap().block_on(async {
            let server = watched();
            let shared = &server.shared;
            let panicked = |run: &Run| matches!(run.outcome, Outcome::Failed { class: "panic", .. });
            for _ in 0..3 {
                let run = next_run(&shared.probe, || server.send(&server.fast, Ask::Probe)).await;
                assert!(panicked(&run), "{run:?}");
                assert!(matches!(shared.state().1, Condition::Down { .. }), "nobody knows that it is up");
            }
            let facts = Facts { version: 170_000, ..Facts::default() };
            let at = shared.definitions.iter().position(|definition| definition.name == "activity").unwrap();
            for lane in [&server.fast, &server.slow] {
                shared.note(Condition::Up(Arc::new(facts.clone())));
                let run = next_run(&shared.slots[at], || server.send(lane, Ask::Collect(at))).await;
                assert!(panicked(&run), "{run:?}");
            }
            assert_eq!(server.wedged(Instant::now()), None);
        });
    }

    #[tokio::test]
    async fn a_server_is_probed_once_for_those_who_came_together_and_again_for_the_next() {
        let server = watched();
        let probes = || server.shared.probe.counts().0;
        let together = Want { came: Some(Instant::now()), ..Want::only([]) };
        for (want, expected) in [(&together, 1), (&together, 1), (&Want::only([]), 2), (&together, 2)] {
            let asked = Instant::now();
            server.refresh(asked, asked + Duration::from_secs(60), want).await;
            assert_eq!(probes(), expected);
        }
        let later = Want { came: Some(Instant::now()), ..Want::only([]) };
        server.refresh(Instant::now(), Instant::now() + Duration::from_secs(60), &later).await;
        assert_eq!(probes(), 3, "they came after the latest probe");
    }

    #[tokio::test]
    async fn a_lane_that_is_not_back_in_time_or_gone_is_wedged() {
        let server = watched();
        assert_eq!(server.wedged(Instant::now()), None);
        server.shared.turns[1].begin(Duration::ZERO);
        assert_eq!(server.wedged(Instant::now() + Duration::from_secs(1)), Some("slow"));
        server.shared.turns[1].end();
        assert_eq!(server.wedged(Instant::now()), None);
        server.lanes[0].abort();
        while !server.lanes[0].is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.wedged(Instant::now()), Some("fast"));
    }
}
