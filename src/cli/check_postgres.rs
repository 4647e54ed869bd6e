//! `pgvitals check-postgres`, and pgvitals called as `check_postgres`, `check_postgres.pl` or `check_postgres_ACTION`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use super::ask::Answer;
use super::{AgentArgs, EXIT_UNKNOWN, in_full, print, served, sources};
use crate::check_postgres::{Invocation, Outcome, install, names_server, run as run_line};
use crate::panics::{self, caught};
use crate::server::{Environment, farewell};

/// What the original calls itself.
const NAME: &str = "check_postgres.pl";

/// The arguments that are the original's, after the name it is called by: all but the first when that name is one of the
/// original's, or those after the subcommand.
pub(super) fn arguments(arguments: &[OsString]) -> Option<(&Path, &[OsString])> {
    let (program, rest) = arguments.split_first()?;
    let program = Path::new(program);
    let name = program.file_name()?.to_string_lossy();
    if name == NAME || name == "check_postgres" || name.starts_with("check_postgres_") {
        return Some((program, rest));
    }
    match rest.split_first() {
        Some((first, rest)) if first == "check-postgres" => Some((Path::new(NAME), rest)),
        _ => None,
    }
}

pub(super) fn run(program: &Path, arguments: &[OsString]) -> ExitCode {
    let outcome = answer(program, arguments).unwrap_or_else(|error| {
        let line = in_full(&error).replace('\n', " ");
        Outcome { stdout: format!("ERROR: {line}\n"), stderr: String::new(), code: EXIT_UNKNOWN }
    });
    print(&outcome.stdout);
    let _ = std::io::stderr().write_all(outcome.stderr.as_bytes());
    ExitCode::from(outcome.code)
}

fn answer(program: &Path, arguments: &[OsString]) -> anyhow::Result<Outcome> {
    let name = program.file_name().unwrap_or(program.as_os_str());
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let (agent, arguments) = served::take(arguments)?;
    let runtime = sources::runtime()?;
    if let Some(outcome) = runtime.block_on(served_answer(&agent, &name.to_string_lossy(), &arguments))? {
        return Ok(outcome);
    }
    let invocation = Invocation {
        program: name.to_string_lossy().into_owned(),
        path: binary()?,
        arguments,
        folder: std::env::current_dir().unwrap_or_default(),
        environment: Environment::of_process(),
        catalog: Arc::new(sources::load_rows()?),
        served: None,
    };
    let outcome = runtime.block_on(caught(run_line(invocation)));
    runtime.block_on(farewell(sources::FAREWELL));
    outcome.ok_or_else(|| anyhow::anyhow!(panics::REASON))
}

/// What an agent answers, if one is to be asked.
async fn served_answer(agent: &AgentArgs, program: &str, arguments: &[String]) -> anyhow::Result<Option<Outcome>> {
    let (folder, environment) = (std::env::current_dir().unwrap_or_default(), Environment::of_process());
    let action = program.strip_prefix("check_postgres_").map(|action| format!("--action={action}"));
    let sent: Vec<String> = action.into_iter().chain(arguments.iter().cloned()).collect();
    let answer = served::ask(agent, "check_postgres", &sent, names_server(arguments, &folder, &environment)).await?;
    Ok(answer.map(|Answer { text: stdout, stderr, exit_code: code, .. }| Outcome { stdout, stderr, code }))
}

/// Makes the links of both plugins, and says what was done.
pub(super) fn install_links(folder: &Path) -> anyhow::Result<()> {
    let said = install(&binary()?, folder).with_context(|| format!("make links in {}", folder.display()))?;
    print(&said);
    Ok(())
}

fn binary() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find the binary of pgvitals")
}
