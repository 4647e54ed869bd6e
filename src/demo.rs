//! The demo: a throw-away primary and standby with load and trouble, and an agent that watches them.

pub mod cluster;
mod load;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::plan::{Plan, Servers};
use crate::serve::Reload;
use crate::server::{ConnectOptions, Environment};
use cluster::{Binaries, Cluster, Settings};

/// The role the agent connects as: LOGIN and `pg_monitor`, nothing else.
const ROLE: &str = "pgvitals";

/// Runs the demo until Ctrl-C, or for a given time.
///
/// # Errors
///
/// No server binaries, a cluster that does not start, an address that is taken.
#[expect(clippy::print_stdout, reason = "a demo talks to the person who started it")]
pub fn run(time: Option<Duration>, listen: Option<&str>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        // Before the first process is started, so that a signal during the set-up cleans up too.
        let mut end = Box::pin(end()?);
        let demo = tokio::select! {
            demo = Demo::start(listen, |step| println!("{step}")) => demo?,
            () = &mut end => return Ok(()),
        };
        println!("{}", demo.instructions());
        // Counted from here: on a slow machine the set-up takes longer than somebody wants to look.
        match time {
            Some(time) => drop(tokio::time::timeout(time, end).await),
            None => end.await,
        }
        println!("stopping, removing the clusters");
        demo.stop().await;
        Ok(())
    })
}

/// Ready when somebody wants it to end.
fn end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// A running demo.
pub struct Demo {
    /// The cluster that takes the load.
    pub primary: Cluster,
    /// The cluster that follows it.
    pub standby: Cluster,
    /// Where the agent listens.
    pub address: SocketAddr,
    load: load::Load,
    agent: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Demo {
    /// Starts everything, telling each step.
    ///
    /// # Errors
    ///
    /// No server binaries, a cluster that does not start, an address that is taken.
    pub async fn start(listen: Option<&str>, tell: impl Fn(&str)) -> anyhow::Result<Self> {
        let listeners = crate::web::bind(&[listen.unwrap_or("127.0.0.1:0").to_owned()]).await?;
        let address = listeners.first().context("listen on no address")?.local_addr();
        let address = address.context("read the listener's address")?;
        for folder in cluster::clean_left_over(&std::env::temp_dir()) {
            tell(&format!("removed {}, left over from a demo that was killed", folder.display()));
        }
        let binaries = Binaries::find()?.pop().context("no PostgreSQL server binaries on this machine")?;
        tell(&format!("starting a primary, PostgreSQL {}", binaries.major));
        // No problem shall be shown that the demo does not mean to show: servers of tests run without fsync.
        let conf = ["fsync = on", "synchronous_commit = off"].map(str::to_owned).to_vec();
        let settings = Settings { name: "demo-primary".to_owned(), conf, ..Settings::default() };
        let primary = Cluster::start(&binaries, settings).await.context("start the primary")?;
        primary.sql("postgres", &format!("CREATE ROLE {ROLE} LOGIN; GRANT pg_monitor TO {ROLE}")).await?;
        primary.sql("postgres", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await?;
        primary.sql("postgres", "CREATE DATABASE demo").await?;
        tell("starting a streaming standby");
        let standby = primary.standby("demo-standby").await.context("start the standby")?;
        tell("starting load: 4 clients, and one session that blocks another");
        let load = load::Load::start(&primary).await.context("start the load")?;
        let plan = plan(&primary, &standby)?;
        let (_, nobody) = mpsc::channel(1);
        let reload = Reload { asked: nobody, load: Arc::new(|| Plan::load(None, &[], Environment::of_process())) };
        let (ledger, notifier) = (Arc::default(), Arc::default());
        let agent = tokio::spawn(crate::serve::run(listeners, plan, ledger, notifier, reload, std::future::pending()));
        Ok(Self { primary, standby, address, load, agent })
    }

    /// What one can look at, and three things to try.
    pub fn instructions(&self) -> String {
        let url = format!("http://{}", self.address);
        let me = std::env::current_exe().map_or_else(|_| "pgvitals".to_owned(), |path| path.display().to_string());
        format!(
            "\nThe agent watches both servers:\n  {url}/          servers and checks\n  {url}/metrics   for Prometheus\n  {url}/checks    verdicts as JSON\n\n\
             Three things to try:\n  1. who blocks whom:   {me} check blocked -w 1s --agent {url}\n  \
             2. a stopped replay:  {psql}\n     and then:          {me} check replication-lag -w 1MB --agent {url}\n  \
             3. a failover:        {promote}\n     and then:          curl -s {url}/metrics | grep ^pg_replication_is_replica\n\n\
             Ctrl-C ends it and removes everything.",
            psql = format_args!(
                "psql -h {} -p {} -U postgres -c 'SELECT pg_wal_replay_pause()'",
                self.standby.socket_dir().display(),
                self.standby.port()
            ),
            promote = format_args!(
                "psql -h {} -p {} -U postgres -c 'SELECT pg_promote()'",
                self.standby.socket_dir().display(),
                self.standby.port()
            ),
        )
    }

    /// Ends the load, the agent and the clusters.
    pub async fn stop(self) {
        self.load.stop().await;
        self.agent.abort();
        drop(self.standby);
        drop(self.primary);
    }
}

fn plan(primary: &Cluster, standby: &Cluster) -> anyhow::Result<Plan> {
    let options = |cluster: &Cluster| {
        let dsn =
            format!("host={} port={} user={ROLE} dbname=postgres", cluster.socket_dir().display(), cluster.port());
        ConnectOptions::parse(&dsn, &Environment::new(|_| None)).context("name the server")
    };
    let servers = vec![("demo/primary".to_owned(), options(primary)?), ("demo/standby".to_owned(), options(standby)?)];
    let catalog = Arc::new(Catalog::built_in().context("load the built-in definitions")?);
    Ok(Plan::new(Config::default(), catalog, Servers::Named(servers)))
}
