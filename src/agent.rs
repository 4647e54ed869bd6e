//! The agent: servers and host × collectors, asked on demand, put together as one reading.
//!
//! Nothing here keeps time but the sampler, where it is asked for. Whoever wants to know reads; a collector whose result is
//! older than its `fresh_for` is asked, and readers who come meanwhile share that run.

mod census;
mod cost;
mod door;
mod facts;
mod host;
mod lane;
mod listed;
mod memory;
mod own;
mod queue;
mod reading;
mod sampler;
mod slot;
mod state;
mod tally;
mod texts;
mod turn;
mod walk;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

pub(crate) use facts::{Facts, LIBRARIES, Obstacle, Probe};
pub use listed::ListError;
pub use own::described::{INHERITED, OF_AGENT, OF_COLLECTORS, OF_SERVERS};
pub use own::{CONNECT_FAILURE, Ledger};
pub use reading::{Reading, Report, ServerReport};
pub use slot::{Gap, Outcome, Skip};
pub use turn::Turn;

use tracing::info;

use crate::catalog::Catalog;
use crate::collect::host::{COLLECTORS, Roots};
use crate::metric::Snapshot;
use crate::server::{ConnectOptions, Databases};
use watched::Watched;

/// How long a reader waits, unless it says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The longest that a reader waits, whatever it says.
const LONGEST_DEADLINE: Duration = Duration::from_secs(3_600);
/// How long the host waits for the names of servers to be resolved, which a dead resolver never does.
const LONGEST_LOOK_UP: Duration = Duration::from_secs(1);

/// Watches servers and the host. Cheap to share; dropped, it closes every connection.
#[derive(Debug)]
pub struct Agent {
    catalog: Arc<Catalog>,
    servers: RwLock<BTreeMap<Arc<str>, Arc<Watched>>>,
    host: Option<Arc<host::Host>>,
    /// Whether the host is only shown while a watched server is on it.
    host_of_servers: bool,
    told_elsewhere: Once,
    databases: Databases,
    databases_of: BTreeMap<String, Databases>,
    sampling: Mutex<Option<Duration>>,
    ledger: Arc<Ledger>,
}

/// What a reader wants, and by when.
#[derive(Clone, Debug)]
pub struct Want {
    /// The collectors, of servers and of the host; none means all.
    pub collectors: Option<BTreeSet<String>>,
    /// The server, without the host and the agent itself; none means all.
    pub server: Option<Arc<str>>,
    /// After this time, and in any case after an hour, the reader gets what there is.
    pub deadline: Duration,
    /// Whether it waits until then for what has to be asked in every database, however long that takes, instead of taking
    /// what the latest walk over them gave.
    pub patient: bool,
    /// Of one who came with many others and had to wait before he could ask: when that was. No server is probed again for him
    /// that was probed since.
    pub came: Option<Instant>,
}

impl Default for Want {
    fn default() -> Self {
        Self { collectors: None, server: None, deadline: DEADLINE, patient: false, came: None }
    }
}

impl Want {
    /// Only these collectors, and patiently: nobody else waits for the answer.
    pub fn only(collectors: impl IntoIterator<Item = String>) -> Self {
        Self { collectors: Some(collectors.into_iter().collect()), patient: true, ..Self::default() }
    }

    fn is_of(&self, server: &str) -> bool {
        self.server.as_ref().is_none_or(|wanted| **wanted == *server)
    }

    fn has(&self, collector: &str) -> bool {
        self.collectors.as_ref().is_none_or(|collectors| collectors.contains(collector))
    }
}

impl Agent {
    /// An agent that watches the host below these roots (none: no host) and no server yet.
    pub fn new(catalog: Arc<Catalog>, host: Option<Roots>, ledger: Arc<Ledger>) -> Self {
        Self {
            catalog,
            servers: RwLock::default(),
            host: host.map(host::Host::new),
            host_of_servers: false,
            told_elsewhere: Once::new(),
            databases: Databases::default(),
            databases_of: BTreeMap::new(),
            sampling: Mutex::default(),
            ledger,
        }
    }

    /// The same, which leaves the host out when no watched server is on it: its facts would pass for theirs.
    #[must_use]
    pub fn with_host_of_servers(self) -> Self {
        Self { host_of_servers: true, ..self }
    }

    /// The same with other databases to enter where definitions ask in every database.
    #[must_use]
    pub fn with_databases(self, databases: Databases) -> Self {
        Self { databases, ..self }
    }

    /// The same with databases of their own to enter for servers of these names.
    #[must_use]
    pub fn with_databases_of(self, databases_of: BTreeMap<String, Databases>) -> Self {
        Self { databases_of, ..self }
    }

    /// The catalog it works with.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Begins to watch a server, anew if it is to be reached in another way than so far; false if it is watched already.
    /// If `previous` watches the same server with the same definitions, it is taken over with its connections and what
    /// it knows, except for label sets that are gone: a reload says that this was noticed.
    ///
    /// Must be called within a Tokio runtime, whose tasks serve the server's connections.
    pub fn watch(&self, name: &str, options: ConnectOptions, previous: Option<&Self>) -> bool {
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        if servers.get(name).is_some_and(|watched| *watched.shared.server.options() == options) {
            return false;
        }
        let databases = self.databases_of(name);
        let same = previous.filter(|previous| {
            previous.databases_of(name) == databases && previous.catalog.asks_the_same(&self.catalog)
        });
        let known = same.and_then(|previous| {
            let watched = previous.servers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()?;
            (*watched.shared.server.options() == options).then_some(watched)
        });
        known.iter().flat_map(|watched| &watched.shared.slots).for_each(|slot| slot.memory.forget());
        let before = previous
            .and_then(|previous| previous.servers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned());
        let before = before.or_else(|| servers.get(name).cloned());
        let name: Arc<str> = Arc::from(name);
        let watched = known.unwrap_or_else(|| {
            let watched = Watched::start(Arc::clone(&name), options, &self.catalog, databases.clone());
            if let Some(before) = before {
                watched.shared.succeed(&before.shared);
            }
            Arc::new(watched)
        });
        watched.sample_every(*self.sampling.lock().unwrap_or_else(PoisonError::into_inner));
        servers.insert(name, watched);
        true
    }

    /// Takes a sample of every server in every span of this length from now on, or none any longer.
    ///
    /// Must be called within a Tokio runtime.
    pub fn sample_every(&self, every: Option<Duration>) {
        *self.sampling.lock().unwrap_or_else(PoisonError::into_inner) = every;
        self.watched().iter().for_each(|server| server.sample_every(every));
    }

    /// The names of the servers it watches.
    pub fn servers(&self) -> Vec<Arc<str>> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// The database that we are connected to on a server of this name.
    pub fn database_of(&self, server: &str) -> Option<String> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        servers.get(server).map(|watched| watched.shared.server.options().database().to_owned())
    }

    /// The names of the servers that are reached in such a way.
    pub fn servers_where(&self, is_wanted: impl Fn(&ConnectOptions) -> bool) -> Vec<Arc<str>> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = servers.iter().filter(|(_, watched)| is_wanted(watched.shared.server.options()));
        wanted.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Takes over the host's collectors of an agent that watches the same host, with what they know: one that hangs is
    /// not to be started again.
    #[must_use]
    pub fn with_host_of(self, previous: &Self) -> Self {
        let same =
            previous.host.as_ref().filter(|host| Some(host.roots()) == self.host.as_deref().map(host::Host::roots));
        Self { host: same.cloned().or(self.host), ..self }
    }

    /// Whether its facts are of the same host as another agent's.
    pub fn has_host_of(&self, other: &Self) -> bool {
        self.host.as_deref().map(host::Host::roots) == other.host.as_deref().map(host::Host::roots)
    }

    /// Whether a server of this name is reached at the same place as another agent's.
    pub fn has_server_of(&self, other: &Self, name: &str) -> bool {
        let place = |agent: &Self| {
            let servers = agent.servers.read().unwrap_or_else(PoisonError::into_inner);
            let options = servers.get(name)?.shared.server.options().clone();
            Some((options.hosts().to_vec(), options.database().to_owned()))
        };
        place(self).is_some_and(|here| place(other) == Some(here))
    }

    /// Watches no server any longer: queries under way are cancelled, and connections closed.
    pub fn close(&self) {
        self.servers.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The server and the lane that does not come back from what it was asked, if there is one. A server that hangs is no
    /// reason for that: every wait has its limit.
    pub fn wedged(&self, now: Instant) -> Option<(Arc<str>, &'static str)> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        servers.iter().find_map(|(name, server)| Some((Arc::clone(name), server.wedged(now)?)))
    }

    fn databases_of(&self, server: &str) -> &Databases {
        self.databases_of.get(server).unwrap_or(&self.databases)
    }

    fn watched(&self) -> Vec<Arc<Watched>> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn wanted(&self, want: &Want) -> Vec<Arc<Watched>> {
        self.watched().into_iter().filter(|server| want.is_of(&server.shared.name)).collect()
    }

    /// Reads what is wanted: fresh results as they are, all others asked anew and waited for until the deadline.
    pub async fn read(&self, want: &Want) -> Reading {
        let asked = Instant::now();
        self.refresh(asked, want).await;
        self.assemble(asked, want)
    }

    /// Has everything asked that is not fresh for a reader who came at `asked`, and waits for it until his deadline. Gives when
    /// a reader has come at the latest who may be shown what is known then: `asked`, or earlier when no server was probed
    /// for this one.
    pub async fn refresh(&self, asked: Instant, want: &Want) -> Instant {
        let deadline = asked + want.deadline.min(LONGEST_DEADLINE);
        let mut refreshing = tokio::task::JoinSet::new();
        for server in self.wanted(want) {
            let want = want.clone();
            refreshing.spawn(async move { server.refresh(asked, deadline, &want).await });
        }
        let of_host = want.server.is_none() && COLLECTORS.iter().any(|collector| want.has(collector.name));
        let host = self.host.as_ref().filter(|_| of_host);
        if let Some(host) = host {
            let sought = if self.host_of_servers { self.watched() } else { Vec::new() };
            for server in &sought {
                if is_elsewhere(&sought) {
                    server.locate(host.proc(), deadline.min(asked + LONGEST_LOOK_UP)).await;
                }
            }
            if !is_elsewhere(&sought) {
                host.refresh(asked, deadline, |name| want.has(name)).await;
            }
        }
        while refreshing.join_next().await.is_some() {}
        self.count_reading(want);
        let Some(came) = want.came else { return asked };
        let probed = |server: &Arc<Watched>| server.shared.probe.latest().map_or(came, |run| run.finished);
        self.wanted(want).iter().map(probed).fold(asked, Instant::min).max(came)
    }

    /// Counts a reading of everything, which refreshing does, or which another reader's answer was given for.
    pub fn count_reading(&self, want: &Want) {
        if want.collectors.is_none() && want.server.is_none() {
            self.ledger.count_reading();
        }
    }

    /// Why the host's collectors are skipped; the log is told once.
    fn elsewhere(&self) -> Outcome {
        let reason = "no watched server is on this host; host.enabled = true shows its facts all the same";
        self.told_elsewhere.call_once(|| info!("host left out: {reason}"));
        Outcome::Skipped { why: Skip::Elsewhere, reason: reason.to_owned() }
    }

    /// What is known now and may be shown to a reader who came at `asked`.
    pub fn assemble(&self, asked: Instant, want: &Want) -> Reading {
        let mut reading =
            Reading { snapshot: Snapshot::new(SystemTime::now()), servers: Vec::new(), reports: Vec::new() };
        if let Some(host) = self.host.as_ref().filter(|_| want.server.is_none()) {
            let mut runs = own::Runs::new(&own::described::PEER_OF_HOST);
            let elsewhere = (self.host_of_servers && is_elsewhere(&self.watched())).then(|| self.elsewhere());
            for (at, collector) in COLLECTORS.iter().enumerate().filter(|(_, collector)| want.has(collector.name)) {
                let (shown, slot) = match &elsewhere {
                    Some(skipped) => (Err(skipped.clone()), None),
                    None => (host.shown(at, asked), host.slots.get(at)),
                };
                reading.add_run(None, collector.name, &shown, &mut runs, slot);
            }
            reading.add(None, runs.into_families());
        }
        for server in self.wanted(want) {
            reading.add_server(&server, asked, want);
        }
        if want.collectors.is_none() && want.server.is_none() {
            reading.add(None, self.ledger.families(&reading, asked));
        }
        reading
    }
}

/// Whether servers are watched and none of them is known to be on this machine.
fn is_elsewhere(servers: &[Arc<Watched>]) -> bool {
    !servers.is_empty() && servers.iter().all(|server| server.here() != Some(true))
}
