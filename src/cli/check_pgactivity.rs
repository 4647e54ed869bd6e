//! `pgvitals check-pgactivity`, and pgvitals called as `check_pgactivity`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::ask::Answer;
use super::{EXIT_UNKNOWN, in_full, print, served, sources};
use crate::check_pgactivity::{Ended, Options, Surroundings, run as run_line};
use crate::panics::{self, caught};
use crate::server::{Environment, farewell};

/// The original's name.
const NAME: &str = "check_pgactivity";

/// The arguments that are the original's: all but the program's name if that is the original's, or those after the subcommand.
pub(super) fn arguments(arguments: &[OsString]) -> Option<(Option<PathBuf>, &[OsString])> {
    let (program, rest) = arguments.split_first()?;
    let program = Path::new(program);
    if program.file_name().is_some_and(|name| name == NAME || name == "check_pgactivity.pl") {
        return Some((Some(program.to_owned()), rest));
    }
    match rest.split_first() {
        Some((first, rest)) if first == "check-pgactivity" => Some((None, rest)),
        _ => None,
    }
}

pub(super) fn run(program: Option<PathBuf>, arguments: &[OsString]) -> ExitCode {
    let arguments: Vec<String> = arguments.iter().map(|text| text.to_string_lossy().into_owned()).collect();
    let ended = answer(program, arguments).unwrap_or_else(|error| unknown(&in_full(&error)));
    print(&ended.stdout);
    let _ = std::io::stderr().write_all(ended.stderr.as_bytes());
    ExitCode::from(ended.code)
}

fn answer(program: Option<PathBuf>, arguments: Vec<String>) -> anyhow::Result<Ended> {
    let (agent, arguments) = served::take(arguments)?;
    let runtime = sources::runtime()?;
    let names_server = Options::parse(&arguments).map_or(true, |options| options.names_server());
    let served = runtime.block_on(served::ask(&agent, NAME, &arguments, names_server))?;
    if let Some(Answer { text: stdout, stderr, exit_code: code, .. }) = served {
        return Ok(Ended { stdout, stderr, code });
    }
    let catalog = Arc::new(sources::load_rows()?);
    let surroundings = Surroundings { catalog, environment: Environment::of_process(), program, served: None };
    let ended = runtime.block_on(caught(run_line(&arguments, surroundings)));
    runtime.block_on(farewell(sources::FAREWELL));
    Ok(ended.unwrap_or_else(|| unknown(panics::REASON)))
}

fn unknown(reason: &str) -> Ended {
    let reason = reason.replace('\n', " ").replace('|', "¦");
    Ended { stdout: format!("CHECK_PGACTIVITY UNKNOWN: {reason}"), code: EXIT_UNKNOWN, ..Ended::default() }
}
