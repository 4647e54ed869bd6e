//! What is said of the program itself, and to who calls it wrongly.

use super::options::Options;
use super::{Outcome, actions};

/// What the original calls itself, whatever it is called by.
const ORIGINAL: &str = "check_postgres.pl";
/// The version whose command lines are understood.
pub(super) const VERSION: &str = "2.26.0";

/// The answer to `--version`, `--help` and `--man`.
pub(super) fn answer(options: &Options, program: &str) -> Option<String> {
    let ours = env!("CARGO_PKG_VERSION");
    if options.is_on("version") {
        return Some(format!("{ORIGINAL} version {VERSION} (pgvitals {ours})\n"));
    }
    if !options.is_on("help") && !options.is_on("man") {
        return None;
    }
    let width = actions::all().map(|action| action.name.len()).max().unwrap_or_default() + 2;
    let mut names: Vec<_> = actions::all().collect();
    names.sort_by_key(|action| action.name);
    let lines: Vec<_> = names.iter().map(|action| format!(" {:<width$} - {}", action.name, action.help)).collect();
    let names = lines.join("\n");
    Some(format!(
        "Usage: {program} <options>
pgvitals {ours}, with the command lines of {ORIGINAL} {VERSION}
Ends with exit code 0 (OK), 1 (WARNING), 2 (CRITICAL) or 3 (UNKNOWN)

Where to ask; lists with commas and repeated options go together by position:
 -H,  --host=NAME       host, address or folder of the socket
 -p,  --port=NUM        port [5432]
 -db, --dbname=NAME     database [postgres]
 -u,  --dbuser=NAME     role [postgres]
      --dbpass=PASS     password; a .pgpass file is not seen by others
      --dbservice=NAME  section of pg_service.conf
      --role=NAME       role to become after connecting
      --alldb           every database; --includedb and --excludedb choose by a regular expression

When it is a problem, and of what:
 -w,  --warning=VALUE   and
 -c,  --critical=VALUE  in a form that depends on the action
      --include=NAMES   and
      --exclude=NAMES   names, ~expressions, or schemas with a dot at their end
      --includeuser=ROLES, --excludeuser=ROLES    by owner

How to say it:
      --output=FORM     nagios, mrtg, simple or cacti
      --showperf=0, --showtime=0, --perflimit=NUM, --quiet
 -t,  --timeout=NUM     give up after so many seconds [30]
      --symlinks        make a link for each action in the current folder
      --test            say which actions the servers are too old for

Actions, by --action=NAME or by the name of a link, check_postgres_NAME:
{names}

What differs from the original: docs/check_postgres.md
"
    ))
}

/// The answer to a command line that is not understood. The original says it on stderr alone, where Nagios does not look.
pub(super) fn refuse(program: &str, reason: &str, arguments: &[String]) -> Outcome {
    // A password that has lost its option is not repeated.
    let shown = |argument: &String| match argument.split_once('=') {
        Some((name, _)) if name.to_lowercase().contains("pass") => format!("{name}=…"),
        _ => argument.clone(),
    };
    let shown: Vec<String> = arguments.iter().map(shown).collect();
    let listed = shown.join("\n  ");
    let usage = format!(
        "\nUsage: {program} <options>\n Try \"{program} --help\" for a complete list of options\n \
         Try \"{program} --man\" for the full manual\n"
    );
    let stderr = if shown.is_empty() { usage } else { format!("{reason}:\n  {listed}\n{usage}") };
    let line = if shown.is_empty() { reason.to_owned() } else { format!("{reason}: {}", shown.join(" ")) };
    let line = super::text::one_line(&line, false);
    Outcome { stdout: format!("ERROR: {line}\n"), stderr, code: 3 }
}
