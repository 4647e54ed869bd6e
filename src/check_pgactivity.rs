//! The command line of `check_pgactivity` 2.10: its options, services, words, formats and exit codes.
//!
//! A service translates: options into the rows of listings (`checks/listings/*.toml`), rows against thresholds into the
//! original's words. It has no SQL of its own and knows nothing of formats.
//!
//! # Writing a service
//!
//! A service is an async function from a [`Call`] to an [`Answer`], and a line in the table `SERVICES` of its file in
//! `check_pgactivity/services/`; the file is named in `services`.
//!
//! ```text
//! pub(super) const SERVICES: &[Service] =
//!     &[Service { name: "backends", help: "Number of …", run: |call| Box::pin(backends(call)) }];
//!
//! async fn backends(mut call: Call) -> Result<Answer, Stop> {
//!     // The command line first, in the original's order and words: `Stop::usage` is exit code 127.
//!     let (warning, critical) = call.needed_limits(threshold::seconds, "critical and warning thresholds only accept interval.")?;
//!     let mut host = call.one_host()?; // or call.hosts.take() for each of several
//!     host.suits("backends", 10..=u32::MAX).await?; // exit code 1, as the original
//!     let rows = host.rows("processes").await?; // rows_in(database, listing) for another database, sql() for the user's own
//!     for row in Row::of(&rows) {
//!         let _ = (row.text("datname"), row.get("maybe_null"), row.number("seconds"), row.integer("n"), row.is("flag"));
//!     }
//!     let _ = (call.filters.wants_database("app"), call.filters.excludes("query or name"));
//!     let before: Option<f64> = call.kept.load(&host, "backends")?; // anything that serde knows
//!     call.kept.save(&host, "backends", &1.0)?;
//!     let perfdata = vec![Perf::new("app", 2).unit("s").limits(Some(warning), Some(critical)).least(0).most(47)];
//!     Ok(Answer::judged("POSTGRES_BACKENDS", critical_messages, warning_messages, "2 connections").with_perfdata(perfdata))
//! }
//! ```
//!
//! [`threshold`] has the original's sizes, intervals, `label=value` lists and its ways to write numbers; [`growth`] is for
//! counters that may have been reset. What the server refuses becomes UNKNOWN by itself (`?`).

mod call;
mod filter;
mod glob;
mod host;
mod options;
mod report;
mod served;
mod services;
mod status_file;
pub mod threshold;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

pub use call::{Call, Kept, Stop};
pub use filter::Filters;
pub use host::{Host, Hosts};
pub use options::Options;
pub use report::{Answer, Format, Perf, Status};
pub use status_file::{StatusFile, StatusFileError, growth};

use crate::catalog::Catalog;
use crate::plugin::Served;
use crate::server::Environment;
use host::Access;

/// The version of the original whose words these are.
const VERSION: &str = "2.10";
/// Where the format `binary` writes to if nothing else is said.
const OUTPUT: &str = "check_pgactivity.out";
/// The exit code of a command line that is not understood.
const USAGE: u8 = 127;
/// The exit code when the server's version does not suit the service: the original's, although Nagios takes it for WARNING.
const INCOMPATIBLE: u8 = 1;

/// One line of the table of services.
pub struct Service {
    /// Its name after `-s`.
    pub name: &'static str,
    /// What it is for, in one sentence, for `--list`.
    pub help: &'static str,
    /// Runs it.
    pub run: fn(Call) -> Answering,
}

/// A service at work.
pub type Answering = Pin<Box<dyn Future<Output = Result<Answer, Stop>> + Send>>;

/// What the program prints, and how it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// For stdout.
    pub stdout: String,
    /// For stderr.
    pub stderr: String,
    /// The exit code.
    pub code: u8,
}

/// Where a command line is run.
#[derive(Debug)]
pub struct Surroundings {
    /// What the listings are taken from.
    pub catalog: Arc<Catalog>,
    /// The variables.
    pub environment: Environment,
    /// The path under which the program was called, if it was by the original's name: its files are kept beside it.
    pub program: Option<PathBuf>,
    /// The agent that answers; without it every server is asked in a session of its own.
    pub served: Option<Served>,
}

/// Runs a command line, without the program's name.
pub async fn run(arguments: &[String], surroundings: Surroundings) -> Ended {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(mistakes) => {
            let stderr = format!("{}\n{}", mistakes.join("\n"), options::USAGE);
            return Ended { stderr, code: USAGE, ..Ended::default() };
        }
    };
    let Surroundings { catalog, environment, program, served } = surroundings;
    let served = match served.map(|served| served::permitted(served, &options)).transpose() {
        Ok(served) => served,
        Err(reason) => return unknown(&reason),
    };
    let environment = Arc::new(environment);
    let named = options.status_file.as_ref().map(PathBuf::from);
    let kept = Kept { named, program, environment: Arc::clone(&environment), served: served.clone() };
    if let Some(ended) = say(&options, &kept) {
        return ended;
    }
    let (service, format, limit) = match checked(&options) {
        Ok(checked) => checked,
        Err(text) => return mistaken(&text),
    };
    let debug = (options.debug == Some(true)).then(|| Mutex::new(String::new()));
    let access = Arc::new(Access { catalog, environment, limit, debug, served });
    let answered = answer(service, options.clone(), kept.clone(), &access).await;
    let mut ended = match answered {
        Ok(answer) => written(answer, format, &options, &kept),
        Err(Stop::Usage(text)) => mistaken(&text),
        Err(Stop::Incompatible(text)) => Ended { stderr: text + "\n", code: INCOMPATIBLE, ..Ended::default() },
        Err(Stop::Answer(answer)) => written(*answer, format, &options, &kept),
    };
    if let Some(Ok(debug)) = access.debug.as_ref().map(Mutex::lock) {
        ended.stdout.insert_str(0, &debug);
    }
    ended
}

async fn answer(service: &'static Service, options: Options, kept: Kept, access: &Arc<Access>) -> Result<Answer, Stop> {
    // Of these two it is an age and a list of names.
    let with_exclude = !matches!(service.name, "pg_dump_backup" | "oldest_idlexact");
    let filters = Filters::parse(&options, with_exclude)?;
    let hosts = Hosts::parse(&options, access);
    (service.run)(Call { service: service.name, options, hosts, filters, kept, limit: access.limit }).await
}

/// What is said without running a service: the list, the version, the help, the files.
fn say(options: &Options, kept: &Kept) -> Option<Ended> {
    let said = |stdout| Some(Ended { stdout, ..Ended::default() });
    if options.list == Some(true) {
        let mut all: Vec<&Service> = services::all().collect();
        all.sort_unstable_by_key(|service| service.name);
        let lines: Vec<String> =
            all.into_iter().map(|service| format!("\t{:<17}\t{}\n", service.name, service.help)).collect();
        return said(format!("List of available services:\n\n{}", lines.concat()));
    }
    if options.version == Some(true) {
        return said(format!("check_pgactivity version {VERSION}, {}\n", own_version()));
    }
    if options.help == Some(true) {
        return said(options::help());
    }
    let file = match &options.dump_bin_file {
        Some(path) if !path.is_empty() => Ok(StatusFile::at(path)),
        Some(_) => output(options, kept),
        None if options.dump_status_file == Some(true) => kept.file(),
        None => return None,
    };
    match file.and_then(|file| file.load_all()) {
        Ok(all) => said(format!("{:#}\n", serde_json::Value::from(all))),
        Err(error) => Some(Ended { stderr: format!("{error}\n"), code: USAGE, ..Ended::default() }),
    }
}

/// What the original checks before it runs a service, in its order.
fn checked(options: &Options) -> Result<(&'static Service, Format, Duration), String> {
    let Some(name) = &options.service else {
        return Err("you must specify one service.\n    See -s or --service command line option.".to_owned());
    };
    let Some(service) = services::all().find(|service| service.name == name) else {
        return Err(format!("service {name} does not exist.\n    Use --list to show the available services."));
    };
    if options.status_file.as_ref().is_some_and(|path| std::path::Path::new(path).is_dir()) {
        return Err("--status-file must be a path to a file not a directory.".to_owned());
    }
    let one_will_do = matches!(service.name, "pga_version" | "minor_version" | "uptime" | "settings");
    if !one_will_do && options.critical.is_some() != options.warning.is_some() {
        return Err("you must provide both warning and critical thresholds.".to_owned());
    }
    for (is_given, only, text) in own_options(options) {
        if is_given && service.name != only {
            return Err(text.to_owned());
        }
    }
    let format = options.format.as_deref().unwrap_or("nagios");
    let format =
        Format::named(format).ok_or_else(|| format!("unrecognized output format \"{format}\" (see \"--format\")"))?;
    let timeout = options.timeout.as_deref().unwrap_or("30s");
    let limit = threshold::seconds(timeout).and_then(|seconds| u64::try_from(seconds).ok());
    let limit =
        limit.ok_or_else(|| format!("Malformed interval: «{timeout}»!\nAuthorized unit are: dD, hH, mM, sS"))?;
    // 0 is no limit to the original; a check that waits for ever is killed by its caller without a word.
    let limit = if limit == 0 { 86_400 } else { limit };
    Ok((service, format, Duration::from_secs(limit)))
}

/// Options of one service: whether they are given, whose they are, and what is said in any other.
fn own_options(options: &Options) -> [(bool, &'static str, &'static str); 5] {
    let on = |flag: Option<bool>| flag == Some(true);
    let settings = [
        options.work_mem,
        options.maintenance_work_mem,
        options.shared_buffers,
        options.wal_buffers,
        options.checkpoint_segments,
        options.effective_cache_size,
    ];
    let unchecked =
        [options.no_check_autovacuum, options.no_check_fsync, options.no_check_enable, options.no_check_track_counts];
    [
        (
            options.query.is_some() || options.r#type.is_some() || on(options.reverse),
            "custom_query",
            "query, type and reverse are only allowed with \"custom_query\" service.",
        ),
        (
            settings.iter().any(Option::is_some) || unchecked.into_iter().any(on),
            "configuration",
            "work_mem, maintenance_work_mem, shared_buffers, wal_buffers, checkpoint_segments, effective_cache_size, \
             no_check_autovacuum, no_check_fsync, no_check_enable, no_check_track_counts are only allowed with \
             \"configuration\" service.",
        ),
        (
            on(options.ignore_wal_size) || options.suffix.is_some(),
            "archive_folder",
            "\"ignore-wal-size\" and \"suffix\" are only allowed with \"archive_folder\" service.",
        ),
        (!options.slave.is_empty(), "streaming_delta", "\"slave\" is only allowed with \"streaming_delta\" service."),
        (on(options.detailed), "oldest_xmin", "\"detailed\" argument is only allowed with \"oldest_xmin\" service."),
    ]
}

fn unknown(reason: &str) -> Ended {
    let answer = Answer::new(call::PROGRAM, Status::Unknown, reason);
    Ended { stdout: Format::Nagios.write(answer), code: Status::Unknown.code(), ..Ended::default() }
}

fn mistaken(text: &str) -> Ended {
    Ended { stderr: format!("FATAL: {text}\n{}", options::USAGE), code: USAGE, ..Ended::default() }
}

fn written(answer: Answer, format: Format, options: &Options, kept: &Kept) -> Ended {
    let code = answer.status.code();
    if format != Format::Binary {
        return Ended { stdout: format.write(answer), code, ..Ended::default() };
    }
    let taken = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut entry = report::object(&answer);
    if let Some(entry) = entry.as_object_mut() {
        entry.extend([("timestamp".to_owned(), json!(taken)), ("rc".to_owned(), json!(code))]);
    }
    let service = options.service.clone().unwrap_or_default();
    let kept = output(options, kept).and_then(|file| file.change(|all| drop(all.insert(service, entry))));
    match kept {
        Ok(()) => Ended { code, ..Ended::default() },
        Err(error) => Ended { stderr: format!("{error}\n"), code: Status::Unknown.code(), ..Ended::default() },
    }
}

/// The file of the format `binary`.
fn output(options: &Options, kept: &Kept) -> Result<StatusFile, StatusFileError> {
    match &options.output {
        Some(path) => Ok(StatusFile::at(path)),
        None => StatusFile::usual(OUTPUT, kept.program.as_deref(), &kept.environment),
    }
}

/// What stands where the original names its Perl.
fn own_version() -> String {
    format!("pgvitals {}", env!("CARGO_PKG_VERSION"))
}
