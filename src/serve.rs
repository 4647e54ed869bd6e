//! The agent as a running service: the web server, the loops that keep time, and taking over another plan.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::agent::{Agent, Ledger, Want};
use crate::judge::Judge;
use crate::panics::survive;
use crate::plan::Plan;
use crate::push::{self, GraphiteConfig, PushStats};
use crate::web;

/// Serves until `shutdown` is ready. A plan that comes through `plans` replaces the one in force.
///
/// # Errors
///
/// The web server ends by itself.
pub async fn run(
    listeners: Vec<TcpListener>,
    plan: Plan,
    ledger: Arc<Ledger>,
    mut plans: mpsc::Receiver<Plan>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (current, judges) = watch::channel(Arc::new(plan.start(&ledger, None)));
    let (stop, stopped) = watch::channel(());
    let serving = web::serve(listeners, judges.clone(), async move {
        let mut stopped = stopped;
        let _ = stopped.changed().await;
    });
    let mut serving = tokio::spawn(serving);
    let mut graphite = Graphite::start(&plan, &judges, &ledger);
    let mut loops = start_loops(plan, &current.borrow());
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            ended = &mut serving => return ended.map_err(io::Error::other),
            Some(plan) = plans.recv() => {
                let judge = plan.start(&ledger, Some(&current.borrow()));
                current.send_replace(Arc::new(judge));
                graphite = graphite.follow(&plan, &judges, &ledger);
                loops = start_loops(plan, &current.borrow());
                info!("configuration taken over");
            }
        }
    }
    drop(loops);
    // Readers in the middle of an answer get it; the time that takes is bounded by their deadlines.
    drop(stop);
    serving.await.map_err(io::Error::other)
}

/// The loops that belong to one plan; dropped, they end.
fn start_loops(plan: Plan, judge: &Arc<Judge>) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    let remembering = Arc::clone(judge);
    let every = plan.config.history.interval.0;
    loops.spawn(survive(move || remember(Arc::clone(&remembering), every)));
    if let Some(every) = plan.discovery_interval() {
        let (plan, agent) = (Arc::new(plan), Arc::clone(judge.agent()));
        loops.spawn(survive(move || discover(Arc::clone(&plan), Arc::clone(&agent), every)));
    }
    loops
}

async fn remember(judge: Arc<Judge>, every: Duration) {
    let mut ticks = ticks(every);
    loop {
        ticks.tick().await;
        judge.remember().await;
    }
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
}

impl Graphite {
    fn start(plan: &Plan, judges: &watch::Receiver<Arc<Judge>>, ledger: &Ledger) -> Self {
        let config = graphite_config(plan);
        let mut pushing = JoinSet::new();
        let stats = config.as_ref().map(|_| Arc::<PushStats>::default());
        ledger.set_push(stats.clone());
        if let (Some(config), Some(stats)) = (config.clone(), stats) {
            let judges = judges.clone();
            let deadline = config.interval.mul_f32(0.8).min(crate::agent::DEADLINE);
            let source = move || {
                let judge = Arc::clone(&judges.borrow());
                async move { Arc::new(judge.agent().read(&Want { deadline, ..Want::default() }).await.snapshot) }
            };
            pushing.spawn(push::run(config, source, stats, std::future::pending()));
        }
        Self { config, pushing }
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
