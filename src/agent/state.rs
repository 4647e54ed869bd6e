//! What is known of one server: its state and its collectors' places.

use std::borrow::Cow;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::census::Census;
use super::cost::{LONGEST_INTERVAL, RoundTrip};
use super::door::Door;
use super::facts::{Facts, Probe};
use super::listed::Listed;
use super::slot::{Outcome, Slot};
use super::turn::Turn;
use super::walk::Walks;
use crate::catalog::{Catalog, Definition, Scope};
use crate::server::{ConnectOptions, Databases, FailureClass, Server};

/// What is known of a server for as long as one state of it lasts.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Nobody asked yet.
    Unknown,
    /// It answered the last probe.
    Up(Arc<Facts>),
    /// It did not.
    Down { class: FailureClass, reason: String },
}

impl Condition {
    /// The facts and the statement of a definition to run, or how its run ends without one.
    pub(super) fn plan<'a>(&self, definition: &'a Definition) -> Result<(Arc<Facts>, Cow<'a, str>), Outcome> {
        match self {
            Self::Up(facts) => match facts.plan(definition) {
                Ok(sql) => Ok((Arc::clone(facts), sql)),
                Err(obstacle) => Err(facts.skipped(&obstacle)),
            },
            Self::Down { class, reason } => Err(Outcome::server_down(class.as_str(), reason)),
            Self::Unknown => Err(Outcome::server_down("unknown", "not probed yet")),
        }
    }
}

/// What the readers and the lanes of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) server: Server,
    /// The definitions that ask something, in the order of their slots.
    pub(super) definitions: Vec<Arc<Definition>>,
    pub(super) slots: Vec<Slot>,
    pub(super) probe: Slot,
    /// When the reader came who has the probe asked, and whom he asks next if it finds what the one before found.
    expected: Mutex<Option<(Instant, Vec<usize>)>>,
    /// The row sets that may be asked for by name.
    listings: Vec<Listed>,
    /// What a probe asks.
    pub(super) probing: Probe,
    pub(super) census: Census,
    /// How long the latest probe took.
    pub(super) round_trip: Arc<RoundTrip>,
    /// Whether new connections are taken.
    pub(super) door: Door,
    /// Connections opened since the start, and open now by lane.
    pub(super) connects: AtomicU64,
    pub(super) open: [AtomicU64; 2],
    pub(super) turns: [Turn; 2],
    /// Connections that we gave up, and that the server is still busy with.
    pub(super) stuck: Arc<AtomicU64>,
    pub(super) walks: Walks,
    /// How many characters of a text are shown.
    pub(super) text_length: usize,
    /// Whether samples are taken between readings.
    sampled: AtomicBool,
    /// What watched the same server with other settings until now.
    predecessor: Mutex<Weak<Self>>,
    state: RwLock<(u64, Condition)>,
}

impl Shared {
    /// A server of which nothing is known yet.
    pub(super) fn new(name: Arc<str>, options: ConnectOptions, catalog: &Catalog, databases: Databases) -> Self {
        let definitions: Vec<_> = catalog.asking().cloned().collect();
        let round_trip = Arc::<RoundTrip>::default();
        let slot = |definition: &Arc<Definition>| match definition.scope {
            Scope::Server => Slot::weighed(definition.fresh_for, Arc::clone(&round_trip), LONGEST_INTERVAL),
            // What a walk costs is weighed as a whole.
            Scope::Database => Slot::new(definition.fresh_for),
        };
        Self {
            server: Server::new(&*name, options),
            name,
            slots: definitions.iter().map(slot).collect(),
            definitions,
            probe: Slot::new(Duration::ZERO),
            expected: Mutex::default(),
            listings: Listed::all(catalog),
            probing: Probe::new(catalog),
            census: Census::default(),
            round_trip,
            door: Door::default(),
            connects: AtomicU64::new(0),
            open: Default::default(),
            turns: Default::default(),
            stuck: Arc::default(),
            walks: Walks::new(databases),
            text_length: catalog.text_length().unwrap_or_default(),
            sampled: AtomicBool::new(false),
            predecessor: Mutex::default(),
            state: RwLock::new((0, Condition::Unknown)),
        }
    }

    /// Says what watched the same server until now, and goes on with what its samples add up to.
    pub(super) fn succeed(&self, predecessor: &Arc<Self>) {
        if predecessor.server.options().hosts() == self.server.options().hosts() {
            for (slot, definition) in self.slots.iter().zip(&self.definitions).filter(|(_, it)| it.sampled) {
                let known = predecessor.slots.iter().zip(&predecessor.definitions);
                let mut same =
                    known.filter(|(_, known)| known.name == definition.name && known.text == definition.text);
                if let Some((known, _)) = same.next() {
                    slot.continue_tally(known);
                }
            }
            *self.predecessor.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(predecessor);
        }
    }

    /// Waits until what watched the same server has left it, so that its sessions and ours are not there at once. Its last
    /// readers keep it for as long as they wait, so this does not last longer than `limit`.
    pub(super) async fn wait_for_predecessor(&self, limit: Duration) {
        let predecessor = mem::take(&mut *self.predecessor.lock().unwrap_or_else(PoisonError::into_inner));
        let until = Instant::now() + limit;
        while predecessor.strong_count() > 0 && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where the row set of this name has its place; a listing comes before a definition.
    pub(super) fn place_of_listing(&self, name: &str) -> Option<usize> {
        self.listings.iter().position(|listed| listed.definition().name == name)
    }

    /// The row set in this place.
    pub(super) fn listing(&self, at: usize) -> Option<(&Slot, &Arc<Definition>)> {
        let listed = self.listings.get(at)?;
        Some((listed.slot(&self.round_trip), listed.definition()))
    }

    /// Says what a reader who came at `asked` asks behind the probe, unless that finds another state.
    pub(super) fn expect(&self, asked: Instant, collectors: Vec<usize>) {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, collectors));
    }

    /// What was said of the probe whose turn it is.
    pub(super) fn take_expected(&self) -> Option<(Instant, Vec<usize>)> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The number of the present state, and the state.
    pub(super) fn state(&self) -> (u64, Condition) {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what a probe found. Another start, version, role or availability begins a new epoch: older runs are void.
    pub(super) fn note(&self, now: Condition) -> u64 {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let same = match (&state.1, &now) {
            (Condition::Up(old), Condition::Up(new)) => old == new,
            (Condition::Down { .. }, Condition::Down { .. }) => true,
            _ => false,
        };
        if !same {
            state.0 += 1;
        }
        state.1 = now;
        state.0
    }

    /// Whether it is known to hang: nobody waits for such a server again.
    pub(super) fn hangs(&self) -> bool {
        matches!(self.state().1, Condition::Down { class: FailureClass::Timeout, .. })
    }

    /// Whether samples are taken between readings.
    pub(super) fn is_sampled(&self) -> bool {
        self.sampled.load(Ordering::Relaxed)
    }

    pub(super) fn set_sampled(&self, sampled: bool) {
        self.sampled.store(sampled, Ordering::Relaxed);
    }

    /// What the fast or the slow lane is at.
    pub(super) fn turn(&self, slow: bool) -> &Turn {
        let [fast, other] = &self.turns;
        if slow { other } else { fast }
    }

    /// Sessions open now.
    pub(super) fn open_sessions(&self, lane: usize) -> u64 {
        self.open.get(lane).map_or(0, |open| open.load(Ordering::Relaxed))
    }
}
