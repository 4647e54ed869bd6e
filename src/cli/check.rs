//! `pgvitals check`: a Nagios plugin. Whatever goes wrong, it prints one line on stdout and exits 0, 1, 2 or 3; with `--lsb`
//! 0, 3 or 4, as a cluster manager expects of the status of a service.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::ask::{Agent, Answer};
use super::conceal::Secrets;
use super::{CheckArgs, EXIT_UNKNOWN, in_full, print, sources};
use crate::check::{GROUP, Service, Verdict};
use crate::config::USUAL_ADDRESS;
use crate::judge::Overrides;
use crate::panics::{self, caught};
use crate::sink::nagios;

/// What a busy host may take from a deadline to the verdict.
const LEAST_MARGIN: Duration = Duration::from_millis(500);

pub(super) fn run(args: &CheckArgs, secrets: &Secrets) -> ExitCode {
    let name = args.asked();
    let asking = async {
        let limit = Duration::from_secs(args.timeout.max(1));
        match tokio::time::timeout(limit, caught(answer(args, &name, limit))).await {
            Ok(Some(Ok(answer))) => answer,
            Ok(Some(Err(error))) => unknown(&name, &in_full(&error)),
            // 101, with which a program ends that panics, is no answer to Nagios.
            Ok(None) => unknown(&name, panics::REASON),
            Err(_) => unknown(&name, &format!("no answer within {} s", limit.as_secs())),
        }
    };
    let answer = sources::ask(asking).unwrap_or_else(|error| unknown(&name, &in_full(&error)));
    let Answer { text, exit_code, lsb_code, .. } = answer;
    print(&secrets.conceal(&text));
    ExitCode::from(if args.lsb { lsb_code.unwrap_or(Service::Unclear.exit_code()) } else { exit_code })
}

/// The answer to a command line that is not understood: Nagios shows stdout, and takes 2 for CRITICAL. A cluster
/// manager takes 3 for a server that was stopped in order.
pub(super) fn refuse(error: &clap::Error, arguments: &[OsString], secrets: &Secrets) -> ExitCode {
    let text = error.to_string();
    // What is wrong ends at the first empty line; after it come tips and the usage.
    let lines: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let reason = format!("{}, see `pgvitals check --help`", lines.join(" ").trim_start_matches("error: "));
    print(&secrets.conceal(&nagios::write(&Verdict::unknown("check", reason))));
    let is_lsb = arguments.iter().any(|argument| argument == "--lsb");
    ExitCode::from(if is_lsb { Service::Unclear.exit_code() } else { EXIT_UNKNOWN })
}

async fn answer(args: &CheckArgs, name: &str, limit: Duration) -> anyhow::Result<Answer> {
    let named = !args.source.dsn.is_empty() || args.host.is_some() || args.port.is_some();
    let named = named || args.user.is_some() || args.dbname.is_some();
    let mut agent = Agent::named(&args.agent)?;
    if agent.is_none() && !named && args.source.config.is_none() {
        agent = Agent::open_at(USUAL_ADDRESS).await;
    }
    if let Some(agent) = agent {
        let given = [("w", &args.warning), ("c", &args.critical)];
        let given: Vec<_> = given.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
        return agent.check(name, &given).await;
    }
    let plan = sources::plan_for_check(name, args)?;
    let overrides = Overrides { warning: args.warning.clone(), critical: args.critical.clone() };
    let judge = plan.start(&Arc::default(), None);
    // What is left is for the answer: a server that never answers is to be told of before the time is over.
    let deadline = limit.saturating_sub(LEAST_MARGIN.max(limit / 10));
    let verdict = judge.check_now(name, &overrides, deadline).await?;
    Ok(of_verdict(&verdict))
}

impl CheckArgs {
    /// The name of what is asked for, as the agent has it too.
    fn asked(&self) -> String {
        let group = self.group.as_ref().map(|group| format!("{GROUP}{group}"));
        group.or_else(|| self.name.clone()).unwrap_or_default()
    }
}

fn of_verdict(verdict: &Verdict) -> Answer {
    let (exit_code, lsb_code) = (verdict.status.exit_code(), Some(verdict.service.exit_code()));
    Answer { text: nagios::write(verdict), exit_code, stderr: String::new(), is_whole: true, lsb_code }
}

fn unknown(name: &str, reason: &str) -> Answer {
    of_verdict(&Verdict::unknown(name, reason))
}
