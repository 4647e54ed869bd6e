//! The command lines of `check_postgres.pl`, version 2.26: its options, its words, its exit codes.
//!
//! It only translates: options become thresholds and places, an action asks for the rows of a listing and holds them
//! against the thresholds, and what it finds is told in the words of the original. There is no SQL here but the user's own.
//!
//! # Layout
//!
//! - `options` the command line, `rc` the file beside it, `targets` the places they point to
//! - `threshold` warning and critical in every form, `filter` what is looked at
//! - `call` one run of an action; `text` numbers, sizes, times and names as they are written
//! - `every_database` and `trial` what `--alldb` and `--test` do before or in place of an action
//! - `actions` what each action asks and says, a table in each file
//! - `report` the line for Nagios, `output` the other readers, `words` failures as psql tells them
//!
//! # An action
//!
//! is an async function over a [`Call`], and a line in the table `ACTIONS` of its file:
//!
//! ```text
//! const ACTIONS: &[Action] = &[
//!     Action { run: |call| Box::pin(prepared(call)), ..Action::clusterwide("prepared_txns", "Age of prepared transactions") },
//! ];
//!
//! async fn prepared(call: &mut Call) -> Ended {
//!     let limits = call.limits(Wanted::new(Kind::Seconds).or("1", "30"))?;   // or End: the line `ERROR: …`, exit code 3
//!     for (at, answer) in call.rows("prepared_transactions").await? {        // every place, or End
//!         let mut oldest: f64 = 0.0;
//!         for row in Row::of(&answer).filter(|row| call.filter.keeps(row.text("datname"))) {
//!             let age = row.number("age").unwrap_or_default();
//!             oldest = oldest.max(age);
//!             *call.perf(at) += &format!(" {}={}s;{}", perfname(row.text("datname")), number(age), limits.perf());
//!         }
//!         if call.is_mrtg() {
//!             return Err(call.mrtg(number(oldest), "", "DB: …"));             // ends the action at once, as the original
//!         }
//!         call.say(limits.at_least(oldest), at, "…");                         // or call.ok(at, …), call.unknown(at, …)
//!     }
//!     Ok(())                                                                  // the report is printed
//! }
//! ```
//!
//! What is said of no place (an empty header) goes through `say_of_none`. Values for MRTG of which the two highest count are
//! kept by `stat`; an action that kept some ends with `Err(call.mrtg_stats(…))`. `console_at` asks `PgBouncer`'s console,
//! `sql_at` the user's own statement.

mod actions;
mod call;
mod control;
mod every_database;
pub mod filter;
mod links;
pub mod options;
pub mod output;
mod rc;
pub mod report;
mod served;
pub mod targets;
pub mod text;
pub mod threshold;
mod trial;
mod usage;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

pub use call::{At, Call};
pub use links::install;

use crate::catalog::Catalog;
use crate::check::Status;
use crate::plugin::Served;
use crate::server::{Environment, FailureClass};
use options::Options;
use output::Output;

/// Seconds until an action gives up, unless `--timeout` says otherwise.
const USUAL_TIMEOUT: u64 = 30;

/// What is printed, and the exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For stdout.
    pub stdout: String,
    /// For stderr.
    pub stderr: String,
    /// 0, 1, 2 or 3.
    pub code: u8,
}

/// Why an action ends before its report is complete.
#[derive(Clone, Debug)]
pub enum End {
    /// The line `ERROR: text` and exit code 3.
    Refused {
        /// What is wrong.
        text: String,
        /// Why there is no session, if that is what is wrong.
        class: Option<FailureClass>,
    },
    /// Everything is printed that there is to print.
    Printed(Outcome),
}

impl End {
    /// `ERROR: text` and exit code 3.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::Refused { text: text.into(), class: None }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Refused { text, .. } => {
                Outcome { stdout: format!("ERROR: {}\n", text::one_line(&text, true)), stderr: String::new(), code: 3 }
            }
            Self::Printed(outcome) => outcome,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { text, .. } => f.write_str(text),
            Self::Printed(outcome) => f.write_str(&outcome.stdout),
        }
    }
}

/// How an action ends.
pub type Ended = Result<(), End>;

/// An action that runs.
pub type Running<'a> = Pin<Box<dyn Future<Output = Ended> + Send + 'a>>;

/// One thing to check.
pub struct Action {
    /// As `--action` has it.
    pub name: &'static str,
    /// What it looks at, for `--help`.
    pub help: &'static str,
    /// Whether it is about the server and not about the database: then a header names no service.
    pub is_clusterwide: bool,
    /// Whether the time that the last question took is among the perfdata.
    pub has_time: bool,
    /// What it does.
    pub run: for<'a> fn(&'a mut Call) -> Running<'a>,
}

impl Action {
    /// An action about a database; what it does is still to be said.
    pub const fn of_database(name: &'static str, help: &'static str) -> Self {
        Self { name, help, is_clusterwide: false, has_time: true, run: |_| Box::pin(async { Ok(()) }) }
    }

    /// An action about a server; what it does is still to be said.
    pub const fn clusterwide(name: &'static str, help: &'static str) -> Self {
        Self { is_clusterwide: true, ..Self::of_database(name, help) }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A command line and what surrounds it.
#[derive(Debug)]
pub struct Invocation {
    /// The name that the program is called by, without its folder.
    pub program: String,
    /// Where that name leads, for links to it.
    pub path: PathBuf,
    /// What follows it.
    pub arguments: Vec<String>,
    /// The current folder.
    pub folder: PathBuf,
    /// The variables.
    pub environment: Environment,
    /// Who knows how to ask.
    pub catalog: Arc<Catalog>,
    /// The agent that answers; without it every place is asked in a session of its own.
    pub served: Option<Served>,
}

/// Runs a command line to its end.
pub async fn run(invocation: Invocation) -> Outcome {
    match attempt(invocation).await {
        Ok(outcome) => outcome,
        Err(end) => end.outcome(),
    }
}

async fn attempt(invocation: Invocation) -> Result<Outcome, End> {
    let Invocation { program, path, arguments, folder, environment, catalog, served } = invocation;
    if arguments.is_empty() {
        return Ok(usage::refuse(&program, "No arguments are given", &[]));
    }
    let settings = if served.is_some() || arguments.iter().any(|argument| argument == "--no-check_postgresrc") {
        Vec::new()
    } else {
        rc::load(&folder, &environment)
            .map_err(|(file, error)| End::refused(format!("Could not open \"{}\": {error}", file.display())))?
    };
    let options = match Options::read(&arguments, &settings) {
        Ok(options) => options,
        Err(leftovers) => return Ok(usage::refuse(&program, "Invalid arguments", &leftovers)),
    };
    let served = served.map(|served| served::permitted(served, &options)).transpose()?;
    let output = Output::read(&options, &folder)?;
    if let Some(text) = usage::answer(&options, &program) {
        return Ok(Outcome { stdout: text, ..Outcome::default() });
    }
    let named = options.text("action").map(ToOwned::to_owned).or_else(|| named_by(&program)).unwrap_or_default();
    let named = named.replace('-', "_").to_lowercase();
    if options.is_on("symlinks") || named.contains("build_symlinks") {
        return Ok(links::build(&program, &path, &folder, named.contains("force")));
    }
    if options.is_on("PGBINDIR") || options.is_on("PSQL") {
        return Err(End::refused("Cannot use the --PGBINDIR or --PSQL option when NO_PSQL_OPTION is on"));
    }
    let tried = options.is_on("test") && !named.is_empty();
    let Some(action) = actions::find(&named).or(tried.then_some(&trial::TRIAL)) else {
        let reason =
            if named.is_empty() { "No action is given".to_owned() } else { format!("No such action: {named}") };
        return Ok(usage::refuse(&program, &reason, &[]));
    };
    if let Some(served) = &served {
        served::permit(served, action.name)?;
    }
    let database = if action.name.starts_with("pgb") { "pgbouncer" } else { "postgres" };
    let places = targets::places(&options, &environment, database);
    let mut call = Call::new(action, options, output, Arc::new(environment), catalog, places, served)?;
    if control::spares_questions(&call)? {
        if call.is_mrtg() {
            return Err(call.mrtg(1, "", ""));
        }
        call.say_alone(Status::Ok, "Server in standby mode", "time=0.00s");
        return Err(call.finish());
    }
    if call.options.is_on("alldb") {
        every_database::spread(&mut call).await?;
    }
    let action = if tried { &trial::TRIAL } else { action };
    (action.run)(&mut call).await?;
    Err(call.finish())
}

/// Whether a command line, or the file that completes it, says which server is meant, or cannot be read.
pub fn names_server(arguments: &[String], folder: &Path, environment: &Environment) -> bool {
    let named = ["host", "port", "dbname", "dbuser", "dbpass", "dbservice", "role"];
    let Ok(settings) = rc::load(folder, environment) else { return true };
    Options::read(arguments, &settings).map_or(true, |options| named.iter().any(|name| options.has(name)))
}

/// The action in a name such as `check_postgres_backends`.
fn named_by(program: &str) -> Option<String> {
    let (_, rest) = program.split_once("check_postgres_")?;
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}
