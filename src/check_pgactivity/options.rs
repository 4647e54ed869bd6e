//! The options of `check_pgactivity`, read as Perl's `Getopt::Long` reads them with bundling: `-w80%`, `--warn=80%`,
//! `--nodebug`, unique abbreviations of long names, and words that are no options passed over.

use std::fmt::Write as _;

/// What the command line says. What it does not say is `None`, because the original tells "absent" from "empty".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The service to run.
    pub service: Option<String>,
    /// Hosts, separated by commas.
    pub host: Option<String>,
    /// Ports, likewise.
    pub port: Option<String>,
    /// Roles, likewise.
    pub username: Option<String>,
    /// Databases to connect to, likewise.
    pub dbname: Option<String>,
    /// Sections of the connection service file, likewise.
    pub dbservice: Option<String>,
    /// The warning threshold.
    pub warning: Option<String>,
    /// The critical threshold.
    pub critical: Option<String>,
    /// What the service leaves out; most take regular expressions.
    pub exclude: Vec<String>,
    /// Regular expressions of databases to leave out.
    pub dbexclude: Vec<String>,
    /// Regular expressions of the only databases to look at.
    pub dbinclude: Vec<String>,
    /// Standbys that must be there.
    pub slave: Vec<String>,
    /// The output format.
    pub format: Option<String>,
    /// The file of the format `binary`.
    pub output: Option<String>,
    /// The limit of time, as an interval.
    pub timeout: Option<String>,
    /// The file that keeps what the next call needs.
    pub status_file: Option<String>,
    /// A folder, pattern or program, as the service says.
    pub path: Option<String>,
    /// What the names of archived files end with.
    pub suffix: Option<String>,
    /// The command that writes an archived file to its output.
    pub unarchiver: Option<String>,
    /// The user's own statement.
    pub query: Option<String>,
    /// What the thresholds of that statement are: `integer`, `size` or `time`.
    pub r#type: Option<String>,
    /// Which names are backups, and of which database.
    pub pattern: Option<String>,
    /// Which names are backups of global objects.
    pub global_pattern: Option<String>,
    /// The user who should own the data folder.
    pub uid: Option<String>,
    /// In kB.
    pub work_mem: Option<i64>,
    /// In kB.
    pub maintenance_work_mem: Option<i64>,
    /// In blocks.
    pub shared_buffers: Option<i64>,
    /// In blocks.
    pub wal_buffers: Option<i64>,
    /// Of servers before 9.5.
    pub checkpoint_segments: Option<i64>,
    /// In blocks.
    pub effective_cache_size: Option<i64>,
    /// Alert below the thresholds.
    pub reverse: Option<bool>,
    /// Remember the settings as they are now.
    pub save: Option<bool>,
    /// Say each source of an xmin.
    pub detailed: Option<bool>,
    /// Archived files may have any size.
    pub ignore_wal_size: Option<bool>,
    /// Huge pages should be in use.
    pub with_hugepages: Option<bool>,
    /// Do not look at `autovacuum`.
    pub no_check_autovacuum: Option<bool>,
    /// Do not look at `fsync`.
    pub no_check_fsync: Option<bool>,
    /// Do not look at `enable_…`.
    pub no_check_enable: Option<bool>,
    /// Do not look at `track_counts`.
    pub no_check_track_counts: Option<bool>,
    /// Say what is asked and answered.
    pub debug: Option<bool>,
    /// List the services.
    pub list: Option<bool>,
    /// Explain the options.
    pub help: Option<bool>,
    /// Say the version.
    pub version: Option<bool>,
    /// Print the status file.
    pub dump_status_file: Option<bool>,
    /// Print the file of the format `binary`.
    pub dump_bin_file: Option<String>,
    /// Accepted; there is no file and no psql that it could be about.
    pub unused: Option<String>,
    /// Likewise.
    pub unused_flag: Option<bool>,
}

/// What follows an option, and where it goes.
#[derive(Clone, Copy)]
enum Takes {
    Text(fn(&mut Options) -> &mut Option<String>),
    /// Nothing may follow, too.
    Perhaps(fn(&mut Options) -> &mut Option<String>),
    List(fn(&mut Options) -> &mut Vec<String>),
    Number(fn(&mut Options) -> &mut Option<i64>),
    Nothing(fn(&mut Options) -> &mut Option<bool>),
}

struct Known {
    long: &'static str,
    short: Option<char>,
    takes: Takes,
    /// For `--help`: what follows, and what it is for.
    help: (&'static str, &'static str),
}

const fn known(long: &'static str, short: Option<char>, takes: Takes, help: (&'static str, &'static str)) -> Known {
    Known { long, short, takes, help }
}

use Takes::{List, Nothing, Number, Perhaps, Text};

const KNOWN: &[Known] = &[
    known("service", Some('s'), Text(|o| &mut o.service), ("SERVICE", "the service to run, see --list")),
    known("host", Some('h'), Text(|o| &mut o.host), ("HOST", "host or socket folder; several with commas between")),
    known("port", Some('p'), Text(|o| &mut o.port), ("PORT", "port")),
    known("username", Some('U'), Text(|o| &mut o.username), ("ROLE", "role to connect as")),
    known("dbname", Some('d'), Text(|o| &mut o.dbname), ("DATABASE", "database to connect to")),
    known("dbservice", Some('S'), Text(|o| &mut o.dbservice), ("NAME", "section of the connection service file")),
    known("warning", Some('w'), Text(|o| &mut o.warning), ("THRESHOLD", "warning from here on")),
    known("critical", Some('c'), Text(|o| &mut o.critical), ("THRESHOLD", "critical from here on")),
    known("dbinclude", None, List(|o| &mut o.dbinclude), ("REGEX", "only databases with such a name")),
    known("dbexclude", None, List(|o| &mut o.dbexclude), ("REGEX", "no database with such a name")),
    known("exclude", None, List(|o| &mut o.exclude), ("REGEX", "leave out what matches, as the service says")),
    known("format", Some('F'), Text(|o| &mut o.format), ("FORMAT", super::report::FORMATS)),
    known("output", Some('o'), Text(|o| &mut o.output), ("FILE", "where the format binary writes")),
    known("timeout", Some('t'), Text(|o| &mut o.timeout), ("TIME", "for each session, from connecting on [30s]")),
    known("status-file", None, Text(|o| &mut o.status_file), ("FILE", "what is kept between two calls")),
    known("dump-status-file", None, Nothing(|o| &mut o.dump_status_file), ("", "print that file")),
    known("dump-bin-file", None, Perhaps(|o| &mut o.dump_bin_file), ("[FILE]", "print what the format binary wrote")),
    known("path", None, Text(|o| &mut o.path), ("PATH", "archive_folder, pg_dump_backup: where the files are")),
    known("suffix", None, Text(|o| &mut o.suffix), ("TEXT", "archive_folder: what the names end with")),
    known("unarchiver", None, Text(|o| &mut o.unarchiver), ("COMMAND", "archive_folder: what reads an archived file")),
    known("ignore-wal-size", None, Nothing(|o| &mut o.ignore_wal_size), ("", "archive_folder: of any size")),
    known("pattern", None, Text(|o| &mut o.pattern), ("REGEX", "pg_dump_backup: the names, with the database in ()")),
    known("global-pattern", None, Text(|o| &mut o.global_pattern), ("REGEX", "pg_dump_backup: the global objects'")),
    known("query", None, Text(|o| &mut o.query), ("SQL", "custom_query: what to ask")),
    known("type", None, Text(|o| &mut o.r#type), ("TYPE", "custom_query: integer, size or time")),
    known("reverse", None, Nothing(|o| &mut o.reverse), ("", "custom_query: alert below the thresholds")),
    known("save", None, Nothing(|o| &mut o.save), ("", "settings: remember them as they are now")),
    known("slave", None, List(|o| &mut o.slave), ("NAME IP", "streaming_delta: who must be there")),
    known("detailed", None, Nothing(|o| &mut o.detailed), ("", "oldest_xmin: tell the sources apart")),
    known("uid", None, Text(|o| &mut o.uid), ("USER", "pgdata_permission: who should own the folder")),
    known("with-hugepages", None, Nothing(|o| &mut o.with_hugepages), ("", "hugepages: they should be in use")),
    known("work_mem", None, Number(|o| &mut o.work_mem), ("KB", "configuration: the least there should be")),
    known("maintenance_work_mem", None, Number(|o| &mut o.maintenance_work_mem), ("KB", "configuration")),
    known("shared_buffers", None, Number(|o| &mut o.shared_buffers), ("BLOCKS", "configuration")),
    known("wal_buffers", None, Number(|o| &mut o.wal_buffers), ("BLOCKS", "configuration")),
    known(
        "checkpoint_segments",
        None,
        Number(|o| &mut o.checkpoint_segments),
        ("N", "configuration; there are none now"),
    ),
    known("effective_cache_size", None, Number(|o| &mut o.effective_cache_size), ("BLOCKS", "configuration")),
    known("no_check_autovacuum", None, Nothing(|o| &mut o.no_check_autovacuum), ("", "configuration: may be off")),
    known("no_check_fsync", None, Nothing(|o| &mut o.no_check_fsync), ("", "configuration: may be off")),
    known("no_check_enable", None, Nothing(|o| &mut o.no_check_enable), ("", "configuration: enable_… may be off")),
    known("no_check_track_counts", None, Nothing(|o| &mut o.no_check_track_counts), ("", "configuration: may be off")),
    known("tmpdir", None, Text(|o| &mut o.unused), ("FOLDER", "accepted: no temporary file is made")),
    known("psql", Some('P'), Text(|o| &mut o.unused), ("FILE", "accepted: psql is not used")),
    known("old-psql", None, Nothing(|o| &mut o.unused_flag), ("", "accepted: psql is not used")),
    known("debug", None, Nothing(|o| &mut o.debug), ("", "say what is asked and answered")),
    known("list", Some('l'), Nothing(|o| &mut o.list), ("", "list the services")),
    known("version", Some('V'), Nothing(|o| &mut o.version), ("", "print the version")),
    known("help", Some('?'), Nothing(|o| &mut o.help), ("", "print this")),
];

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    ///
    /// What is not understood, one sentence each.
    pub fn parse(arguments: &[String]) -> Result<Self, Vec<String>> {
        let mut options = Self::default();
        let mut mistakes = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let read = if argument == "--" {
                break;
            } else if let Some(long) = argument.strip_prefix("--") {
                options.take_long(long, &mut rest)
            } else if let Some(bundle) = argument.strip_prefix('-').filter(|bundle| !bundle.is_empty()) {
                options.take_bundle(bundle, &mut rest)
            } else {
                Ok(())
            };
            mistakes.extend(read.err());
        }
        if mistakes.is_empty() { Ok(options) } else { Err(mistakes) }
    }

    fn take_long<'a>(
        &mut self,
        text: &str,
        rest: &mut (impl Iterator<Item = &'a String> + Clone),
    ) -> Result<(), String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let (known, on) = find(name)?;
        self.take(known, name, on, value.map(ToOwned::to_owned), rest)
    }

    fn take_bundle<'a>(
        &mut self,
        bundle: &str,
        rest: &mut (impl Iterator<Item = &'a String> + Clone),
    ) -> Result<(), String> {
        let mut letters = bundle.chars();
        while let Some(letter) = letters.next() {
            let known = KNOWN.iter().find(|known| known.short == Some(letter));
            let known = known.ok_or_else(|| format!("Unknown option: {letter}"))?;
            if let Nothing(_) = known.takes {
                self.take(known, known.long, true, None, rest)?;
                continue;
            }
            // The original takes `=` for a part of the value, which is never meant.
            let value = letters.as_str();
            let value = value.strip_prefix('=').unwrap_or(value);
            let value = (!value.is_empty()).then(|| value.to_owned());
            return self.take(known, &letter.to_string(), true, value, rest);
        }
        Ok(())
    }

    fn take<'a>(
        &mut self,
        known: &Known,
        name: &str,
        on: bool,
        value: Option<String>,
        rest: &mut (impl Iterator<Item = &'a String> + Clone),
    ) -> Result<(), String> {
        let mut needed = |value: Option<String>| {
            let value = match value {
                Some(value) => Some(value).filter(|value| !value.is_empty()),
                None => rest.next().cloned(),
            };
            value.ok_or_else(|| format!("Option {name} requires an argument"))
        };
        match known.takes {
            Text(field) => *field(self) = Some(needed(value)?),
            List(field) => field(self).push(needed(value)?),
            Number(field) => {
                let value = needed(value)?;
                let number = value
                    .parse()
                    .map_err(|_| format!("Value \"{value}\" invalid for option {name} (number expected)"))?;
                *field(self) = Some(number);
            }
            Nothing(_) if value.is_some() => return Err(format!("Option {name} does not take an argument")),
            Nothing(field) => *field(self) = Some(on),
            Perhaps(field) => {
                let next = rest.clone().next().filter(|next| value.is_none() && !next.starts_with('-'));
                if next.is_some() {
                    rest.next();
                }
                *field(self) = Some(value.or(next.cloned()).unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// The option of this long name or the only one that begins so, and whether it is switched on.
fn find(name: &str) -> Result<(&'static Known, bool), String> {
    let mut names: Vec<(String, &'static Known, bool)> = Vec::new();
    for known in KNOWN {
        names.push((known.long.to_owned(), known, true));
        names.extend(known.short.map(|short| (short.to_string(), known, true)));
        if let Nothing(_) = known.takes {
            names.extend(["no", "no-"].map(|no| (format!("{no}{}", known.long), known, false)));
        }
    }
    if let Some((_, known, on)) = names.iter().find(|(own, ..)| own == name) {
        return Ok((known, *on));
    }
    names.retain(|(own, ..)| !name.is_empty() && own.starts_with(name));
    match names.as_slice() {
        [] => Err(format!("Unknown option: {name}")),
        [(_, known, on), others @ ..] if others.iter().all(|(_, own, _)| own.long == known.long) => Ok((known, *on)),
        _ => {
            let mut all: Vec<&str> = names.iter().map(|(own, ..)| own.as_str()).collect();
            all.sort_unstable();
            Err(format!("Option {name} is ambiguous ({})", all.join(", ")))
        }
    }
}

/// What `--help` prints.
pub(super) fn help() -> String {
    let mut text = USAGE.to_owned();
    text.push_str("\nOptions:\n");
    for Known { long, short, help: (value, purpose), .. } in KNOWN {
        let short = short.map(|short| format!("-{short}, ")).unwrap_or_default();
        let _ = writeln!(text, "  {:<34} {purpose}", format!("{short}--{long} {value}"));
    }
    text.push_str(
        "\nIntervals: 1h30m25s, 1d 2h, 90. Sizes: 512MB, 1.5g, powers of 1024. What each service does, and what differs from\n\
         the original: docs/check_pgactivity.md\n",
    );
    text
}

/// What follows a mistake on the command line.
pub(super) const USAGE: &str = "Usage:
  check_pgactivity {-w|--warning THRESHOLD} {-c|--critical THRESHOLD} [-s|--service SERVICE]
    [-h|--host HOST] [-U|--username ROLE] [-p|--port PORT] [-d|--dbname DATABASE]
    [-S|--dbservice SERVICE_NAME] [--status-file FILE] [--path PATH] [-t|--timeout TIMEOUT] [--debug]
  check_pgactivity [-l|--list]
  check_pgactivity [--help]
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Vec<String>> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn short_options_are_bundled_and_long_ones_abbreviated() {
        let options = parse("-ldw5 bar -w80% --crit=90% -h db1 --exclude a --ex -b --nodebug --no-sa").unwrap();
        assert_eq!((options.list, options.dbname.as_deref()), (Some(true), Some("w5")));
        assert_eq!((options.warning.as_deref(), options.critical.as_deref()), (Some("80%"), Some("90%")));
        assert_eq!((options.exclude, options.debug), (vec!["a".to_owned(), "-b".to_owned()], Some(false)));
        assert_eq!((options.host.as_deref(), options.save), (Some("db1"), Some(false)));
        assert_eq!(parse("-w=80%").unwrap().warning.as_deref(), Some("80%"));
        assert_eq!(parse("-h a -- -l").unwrap().list, None);
        assert_eq!(parse("--work_mem -4").unwrap().work_mem, Some(-4));
    }

    #[test]
    fn a_file_may_or_may_not_follow() {
        assert_eq!(parse("--dump-bin-file -l").unwrap().dump_bin_file.as_deref(), Some(""));
        assert_eq!(parse("--dump-bin-file x -l").unwrap().dump_bin_file.as_deref(), Some("x"));
    }

    #[test]
    fn what_is_not_understood_is_said_as_perl_says_it() {
        for (line, mistake) in [
            ("--db x", "Option db is ambiguous (dbexclude, dbinclude, dbname, dbservice)"),
            ("--WARN 5", "Unknown option: WARN"),
            ("-x", "Unknown option: x"),
            ("--host=", "Option host requires an argument"),
            ("-h", "Option h requires an argument"),
            ("--work_mem=4k", "Value \"4k\" invalid for option work_mem (number expected)"),
            ("--debug=1", "Option debug does not take an argument"),
            ("--no_debug", "Unknown option: no_debug"),
        ] {
            assert_eq!(parse(line), Err(vec![mistake.to_owned()]), "{line}");
        }
    }

    #[test]
    fn each_option_has_names_of_its_own() {
        let mut longs: Vec<_> = KNOWN.iter().map(|known| known.long).collect();
        let mut shorts: Vec<_> = KNOWN.iter().filter_map(|known| known.short).collect();
        let counts = (longs.len(), shorts.len());
        longs.sort_unstable();
        longs.dedup();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!((longs.len(), shorts.len()), counts);
    }

    proptest::proptest! {
        #[test]
        fn no_command_line_makes_it_panic(words in proptest::collection::vec("-{0,2}[a-z?=%é]{0,6}", 0..6)) {
            let _ = Options::parse(&words);
        }
    }
}
