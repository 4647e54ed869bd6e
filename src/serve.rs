//! The agent as a running service: the web server, the loops that keep time, taking over another plan, and what the
//! service manager is told of it.

mod notify;
mod watchdog;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};

pub use notify::Notifier;

use crate::access::{Access, Policy};
use crate::agent::{Agent, DEADLINE, Ledger, Reading, Turn, Want};
use crate::judge::Judge;
use crate::panics::survive;
use crate::plan::{Plan, PlanError};
use crate::push::{self, GraphiteConfig, PushStats};
use crate::web;
use watchdog::Watchdog;

/// More than a reading takes that keeps to its deadline, on a machine with better things to do.
const LONGEST_READING: Duration = Duration::from_secs(35);
/// How long a configuration may take to be read; it may lie on a mount that hangs.
const LONGEST_LOAD: Duration = Duration::from_secs(10);
/// What readers in the middle of an answer have when the agent ends; none waits for a server any longer.
const LAST_ANSWERS: Duration = DEADLINE.saturating_add(Duration::from_secs(1));

/// Where another plan comes from while the agent runs.
pub struct Reload {
    /// Each message asks for it. What is asked meanwhile is done once, afterwards.
    pub asked: mpsc::Receiver<()>,
    /// Reads the configuration anew. It runs on a thread that may block.
    pub load: Arc<dyn Fn() -> Result<Plan, PlanError> + Send + Sync>,
}

/// Serves until `shutdown` is ready, which takes ten seconds at most. A configuration that cannot be taken over leaves
/// the one before it in force.
///
/// # Errors
///
/// The web server ends by itself.
pub async fn run(
    listeners: Vec<TcpListener>,
    mut plan: Plan,
    ledger: Arc<Ledger>,
    notifier: Arc<Notifier>,
    mut reload: Reload,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
    let first = plan.start(&ledger, None);
    first.agent().sample_every(plan.sampling_interval());
    let (current, judges) = watch::channel(Arc::new(first));
    let (stop, stopped) = watch::channel(());
    warn_of_open_doors(&addresses, &plan.policy);
    let access = Access::new(mem::take(&mut plan.policy), Arc::clone(&ledger));
    let serving = web::serve(listeners, judges.clone(), Arc::clone(&access), async move {
        let mut stopped = stopped;
        let _ = stopped.changed().await;
    });
    let mut serving = tokio::spawn(serving);
    let mut graphite = Graphite::start(&plan, &judges, &ledger);
    let rounds = Arc::<Turn>::default();
    let mut loops = start_loops(plan, &current.borrow(), &rounds, &notifier);
    let _watchdog = start_watchdog(Watchdog {
        notifier: Arc::clone(&notifier),
        judges: judges.clone(),
        rounds: Arc::clone(&rounds),
        web: addresses.iter().copied().map(watchdog::from_here).collect(),
    });
    let mut loading = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            ended = &mut serving => return ended.map_err(io::Error::other),
            Some(()) = reload.asked.recv(), if loading.is_empty() => {
                notifier.reloading();
                let (load, ledger) = (Arc::clone(&reload.load), Arc::clone(&ledger));
                loading.spawn(follow(load, ledger, Arc::clone(&current.borrow())));
            }
            Some(loaded) = loading.join_next() => {
                match loaded.unwrap_or_else(|_| Err(crate::panics::REASON.to_owned())) {
                    Ok((mut plan, judge)) => {
                        ledger.note_reload(true);
                        warn_of_open_doors(&addresses, &plan.policy);
                        access.replace(mem::take(&mut plan.policy));
                        current.send_replace(Arc::new(judge));
                        graphite = graphite.follow(&plan, &judges, &ledger);
                        loops = start_loops(plan, &current.borrow(), &rounds, &notifier);
                        info!("configuration taken over");
                    }
                    Err(mistake) => {
                        ledger.note_reload(false);
                        error!("configuration not taken over, the one before stays in force: {mistake}");
                    }
                }
                notifier.ready();
            }
        }
    }
    notifier.stopping();
    // None is under way when the sessions are closed, which would have to be cancelled.
    current.borrow().agent().sample_every(None);
    drop(loops);
    drop(stop);
    let served = async {
        let served = timeout(LAST_ANSWERS, &mut serving).await;
        serving.abort();
        served
    };
    let (served, ()) = tokio::join!(served, graphite.end());
    current.borrow().agent().close();
    if let Ok(served) = served {
        return served.map_err(io::Error::other);
    }
    info!("somebody did not take the last answer in time");
    Ok(())
}

/// Reads the configuration and starts what it says, with all of what runs now that is the same.
async fn follow(
    load: Arc<dyn Fn() -> Result<Plan, PlanError> + Send + Sync>,
    ledger: Arc<Ledger>,
    current: Arc<Judge>,
) -> Result<(Plan, Judge), String> {
    let loading = tokio::task::spawn_blocking(move || {
        let plan = load().map_err(|mistake| mistake.to_string())?;
        let judge = plan.start(&ledger, Some(&current));
        judge.agent().sample_every(plan.sampling_interval());
        Ok((plan, judge))
    });
    match timeout(LONGEST_LOAD, loading).await {
        Ok(loaded) => loaded.unwrap_or_else(|_| Err(crate::panics::REASON.to_owned())),
        Err(_) => Err(format!("it cannot be read within {LONGEST_LOAD:?}")),
    }
}

/// Beats only where somebody listens.
fn start_watchdog(watchdog: Watchdog) -> JoinSet<()> {
    let mut beating = JoinSet::new();
    if let Some(patience) = watchdog.notifier.watchdog() {
        let watchdog = Arc::new(watchdog);
        beating.spawn(survive(move || {
            let watchdog = Arc::clone(&watchdog);
            async move { watchdog.run(patience).await }
        }));
    }
    beating
}

/// Beyond loopback, facts and passwords cross a network that others may listen on.
fn warn_of_open_doors(addresses: &[SocketAddr], policy: &Policy) {
    let Some(address) = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback()) else { return };
    let danger = match (policy.tls().is_some(), policy.knows_its_readers()) {
        (true, true) => return,
        (true, false) => "everybody who reaches this address may read: no password, no client certificate",
        (false, true) => "passwords and facts cross the network in the clear: no TLS",
        (false, false) => "everybody who reaches this address may read: no TLS, no password",
    };
    warn!(%address, "{danger}");
}

/// The loops that belong to one plan; dropped, they end.
fn start_loops(plan: Plan, judge: &Arc<Judge>, rounds: &Arc<Turn>, notifier: &Arc<Notifier>) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    let every = plan.config.history.interval.0;
    rounds.begin(every + LONGEST_READING);
    let told = (Arc::clone(rounds), Arc::clone(notifier));
    let remembering = Arc::clone(judge);
    loops.spawn(survive(move || remember(Arc::clone(&remembering), every, told.clone())));
    if let Some(every) = plan.discovery_interval() {
        let (plan, agent) = (Arc::new(plan), Arc::clone(judge.agent()));
        loops.spawn(survive(move || discover(Arc::clone(&plan), Arc::clone(&agent), every)));
    }
    loops
}

/// The first reading makes the agent ready: it has then asked every server, whether that answered or not.
async fn remember(judge: Arc<Judge>, every: Duration, (rounds, notifier): (Arc<Turn>, Arc<Notifier>)) {
    let mut ticks = ticks(every);
    loop {
        ticks.tick().await;
        let reading = judge.remember().await;
        rounds.begin(every + LONGEST_READING);
        notifier.status(status(&reading));
        notifier.ready();
    }
}

fn status(reading: &Reading) -> String {
    let up = reading.servers.iter().filter(|server| server.state.is_ok()).count();
    format!("{} servers watched: {up} up, {} down", reading.servers.len(), reading.servers.len() - up)
}

async fn discover(plan: Arc<Plan>, agent: Arc<Agent>, every: Duration) {
    let mut ticks = ticks(every);
    loop {
        ticks.tick().await;
        let plan = Arc::clone(&plan);
        // A folder on a mount that hangs must not hold up what else runs on this thread.
        let Ok(found) = tokio::task::spawn_blocking(move || plan.find_servers()).await else { continue };
        for (name, options) in found {
            if agent.watch(&name, options, None) {
                info!(server = name, "cluster discovered, or found at another address");
            }
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// The push loop. It outlives plans that say the same of it, so that its queue does.
struct Graphite {
    config: Option<GraphiteConfig>,
    pushing: JoinSet<()>,
    stop: watch::Sender<()>,
}

impl Graphite {
    fn start(plan: &Plan, judges: &watch::Receiver<Arc<Judge>>, ledger: &Ledger) -> Self {
        let config = graphite_config(plan);
        let mut pushing = JoinSet::new();
        let (stop, mut stopped) = watch::channel(());
        let stats = config.as_ref().map(|_| Arc::<PushStats>::default());
        ledger.set_push(stats.clone());
        if let (Some(config), Some(stats)) = (config.clone(), stats) {
            let judges = judges.clone();
            let deadline = config.interval.mul_f32(0.8).min(DEADLINE);
            let source = move || {
                let judge = Arc::clone(&judges.borrow());
                async move { Arc::new(judge.agent().read(&Want { deadline, ..Want::default() }).await.snapshot) }
            };
            pushing.spawn(push::run(config, source, stats, async move {
                let _ = stopped.changed().await;
            }));
        }
        Self { config, pushing, stop }
    }

    /// Ends it when the points that wait are sent, or cannot be.
    async fn end(mut self) {
        drop(self.stop);
        while self.pushing.join_next().await.is_some() {}
    }

    fn follow(self, plan: &Plan, judges: &watch::Receiver<Arc<Judge>>, ledger: &Ledger) -> Self {
        if graphite_config(plan) == self.config {
            return self;
        }
        if !self.pushing.is_empty() {
            warn!("graphite settings changed, points still queued for the old ones are dropped");
        }
        Self::start(plan, judges, ledger)
    }
}

fn graphite_config(plan: &Plan) -> Option<GraphiteConfig> {
    plan.config.graphite.as_ref().map(|section| GraphiteConfig {
        address: section.address.clone(),
        prefix: section.prefix.clone(),
        host: None,
        interval: section.interval.0,
        queue_points: section.queue,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::config::{Config, GraphiteSection};
    use crate::plan::Servers;
    use crate::unit::Span;

    fn plan(queue: usize) -> Plan {
        let (address, prefix) = ("127.0.0.1:0".to_owned(), "pgvitals".to_owned());
        let graphite = Some(GraphiteSection { address, prefix, interval: Span(Duration::from_secs(10)), queue });
        let catalog = Arc::new(Catalog::built_in().unwrap());
        Plan::new(Config { graphite, ..Config::default() }, catalog, Servers::Named(Vec::new()))
    }

    #[tokio::test]
    async fn a_reload_that_changes_only_the_queue_of_graphite_is_followed() {
        let ledger = Arc::default();
        let (_, judges) = watch::channel(Arc::new(plan(1).start(&ledger, None)));
        let graphite = Graphite::start(&plan(100), &judges, &ledger);
        let graphite = graphite.follow(&plan(100), &judges, &ledger).follow(&plan(200), &judges, &ledger);
        assert_eq!(graphite.config.map(|config| config.queue_points), Some(200));
    }
}
