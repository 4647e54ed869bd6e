//! What the commands have in common: the plan, the runtime, the log.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{CheckArgs, SourceArgs};
use crate::plan::{Plan, PlanError, Servers, name_of};
use crate::server::{ConnectOptions, Environment, farewell, parse_dsn};

/// How long servers may take to be told that we go.
pub(super) const FAREWELL: Duration = Duration::from_millis(200);

pub(super) fn plan(args: &SourceArgs) -> Result<Plan, PlanError> {
    Plan::load(args.config.as_deref(), &args.dsn, Environment::of_process())
}

/// What to say about a password in `--dsn`, if there is one.
pub(super) fn exposed_password(args: &SourceArgs) -> Option<&'static str> {
    let has_one = |dsn: &String| parse_dsn(dsn).is_ok_and(|keywords| keywords.get("password").is_some());
    args.dsn.iter().any(has_one).then_some(
        "the password in --dsn shows in the process list to every user of this host: \
         use a password file, ~/.pgpass or the configuration",
    )
}

/// The plan for a check: what -H, -p, -U and -d say comes before the file and the environment.
pub(super) fn plan_for_check(name: &str, args: &CheckArgs) -> anyhow::Result<Plan> {
    let port = args.port.map(|port| port.to_string());
    let given = [("host", &args.host), ("port", &port), ("user", &args.user), ("dbname", &args.dbname)];
    let pairs: Vec<String> =
        given.iter().filter_map(|(key, value)| Some(format!("{key}={}", quote(value.as_deref()?)))).collect();
    let plan = || {
        let source = &args.source;
        Plan::load_for_check(name, source.config.as_deref(), &source.dsn, Environment::of_process())
    };
    if pairs.is_empty() {
        return Ok(plan()?);
    }
    anyhow::ensure!(args.source.dsn.is_empty(), "expected --dsn or -H, -p, -U and -d, not both");
    let options = ConnectOptions::parse(&pairs.join(" "), &Environment::of_process())?;
    let mut plan = plan()?;
    plan.servers = Servers::Named(vec![(name_of(&options), options)]);
    Ok(plan)
}

/// A value of a keyword/value connection string.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The catalog that a configuration asks for, without its servers.
pub(super) fn load_catalog(file: Option<&Path>) -> anyhow::Result<crate::catalog::Catalog> {
    let loaded = crate::config::Loaded::read(file)?;
    Ok(crate::plan::load_catalog(&loaded.config)?)
}

/// The same for a command line that only asks for row sets.
pub(super) fn load_rows() -> anyhow::Result<crate::catalog::Catalog> {
    let loaded = crate::config::Loaded::read(None)?;
    Ok(crate::plan::load_rows(&loaded.config)?)
}

/// Runs what asks servers and ends, and takes leave of them: who just goes away is counted as abandoned.
pub(super) fn ask<T>(asking: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = runtime()?;
    let answer = runtime.block_on(asking);
    runtime.block_on(farewell(FAREWELL));
    Ok(answer)
}

/// A runtime of one thread: to wake another takes longer than most of what there is to do.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

/// Sends the log to stderr; `RUST_LOG` chooses other levels than `info`, as `debug` or `info,hyper=debug`.
pub(super) fn start_log() {
    // The driver logs every notice of a server, as often as that likes.
    let usual = || Targets::new().with_default(Level::INFO).with_target("tokio_postgres", Level::WARN);
    let asked = std::env::var("RUST_LOG").ok().filter(|levels| !levels.is_empty());
    let asked = asked.and_then(|levels| levels.parse::<Targets>().ok());
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(asked.unwrap_or_else(usual)).init();
}
