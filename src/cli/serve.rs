//! `pgvitals serve`: the agent until SIGTERM, with reload on SIGHUP.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{ServeArgs, heap, sources};
use crate::agent::Ledger;
use crate::plan::{Plan, PlanError};
use crate::serve::{Notifier, Reload};
use crate::web;

/// What sessions have to take leave of their servers, and cancelled queries to end.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    heap::be_frugal();
    sources::start_log();
    crate::panics::watch();
    let plan = plan(args)?;
    if let Some(warning) = sources::exposed_password(&args.source) {
        warn!("{warning}");
    }
    let listen = if args.listen.is_empty() { plan.config.listen.clone() } else { args.listen.clone() };
    let runtime = sources::runtime()?;
    let ended = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        let listeners = web::bind(&listen).await?;
        for listener in &listeners {
            info!(address = %listener.local_addr().context("read the listener's address")?, "listening");
        }
        let ledger = Arc::<Ledger>::default();
        ledger.note_reload(true);
        let (ask, asked) = mpsc::channel(1);
        let reload = Reload { asked, load: loader(args, listen) };
        let shutdown = async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => break,
                    _ = terminate.recv() => break,
                    _ = hangup.recv() => {
                        // One that is asked for already comes after this one too.
                        let _ = ask.try_send(());
                    }
                }
            }
            info!("shutting down");
        };
        let notifier = Arc::new(Notifier::of_process());
        let ended = crate::serve::run(listeners, plan, ledger, notifier, reload, shutdown).await.context("serve");
        let _ = timeout(FAREWELL, quiet()).await;
        ended
    });
    // A thread that reads from a mount that hangs never ends.
    runtime.shutdown_background();
    ended
}

/// Reads the configuration anew. What only a restart can change is told.
fn loader(args: &ServeArgs, listen: Vec<String>) -> Arc<dyn Fn() -> Result<Plan, PlanError> + Send + Sync> {
    let args = args.clone();
    Arc::new(move || {
        let plan = plan(&args)?;
        if args.listen.is_empty() && plan.config.listen != listen {
            warn!(now = ?listen, then = ?plan.config.listen, "another address to listen on needs a restart");
        }
        Ok(plan)
    })
}

fn plan(args: &ServeArgs) -> Result<Plan, PlanError> {
    let mut plan = sources::plan(&args.source)?;
    plan.read_policy(args.web_config_file.as_deref())?;
    Ok(plan)
}

/// Waits until no task is left.
async fn quiet() {
    let tasks = Handle::current().metrics();
    while tasks.num_alive_tasks() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
}
