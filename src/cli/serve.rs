//! `pgvitals serve`: the agent until SIGTERM, with reload on SIGHUP.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::{ServeArgs, sources};
use crate::agent::Ledger;
use crate::web;

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    sources::start_log();
    crate::panics::watch();
    let plan = sources::plan(&args.source)?;
    if let Some(warning) = sources::exposed_password(&args.source) {
        warn!("{warning}");
    }
    let listen = if args.listen.is_empty() { plan.config.listen.clone() } else { args.listen.clone() };
    // Two threads: one may be writing a large page while the other serves a check.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("start the runtime")?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        let listeners = web::bind(&listen).await?;
        for listener in &listeners {
            info!(address = %listener.local_addr().context("read the listener's address")?, "listening");
        }
        let ledger = Arc::<Ledger>::default();
        ledger.note_reload(true);
        let (plans, next) = mpsc::channel(1);
        let (source, reloads) = (args.source.clone(), Arc::clone(&ledger));
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                match sources::plan(&source) {
                    Ok(plan) => {
                        reloads.note_reload(true);
                        let _ = plans.send(plan).await;
                    }
                    Err(mistake) => {
                        reloads.note_reload(false);
                        error!("configuration not taken over, the one before stays in force: {mistake:#}");
                    }
                }
            }
        });
        let shutdown = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            info!("shutting down");
        };
        crate::serve::run(listeners, plan, ledger, next, shutdown).await.context("serve")
    })
}
