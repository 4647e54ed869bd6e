//! The command line: what to run, how it ended. The only place that prints, and that knows exit codes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod ask;
mod check;
mod check_pgactivity;
mod check_postgres;
mod conceal;
mod doctor;
mod generate;
mod heap;
mod import;
mod once;
mod policy;
mod serve;
mod served;
mod show;
mod sources;

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use conceal::Secrets;

/// What is wrong with the configuration or the command line.
const EXIT_MISTAKE: u8 = 2;
/// Nagios' UNKNOWN.
const EXIT_UNKNOWN: u8 = 3;

/// One agent per PostgreSQL host: Prometheus metrics, Graphite paths and Nagios checks from one set of facts
#[derive(Debug, Parser)]
#[command(name = "pgvitals", version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent (the default)
    Serve(ServeArgs),
    /// Print one reading and exit
    Once(OnceArgs),
    /// Judge a check, a group or all of them as a Nagios plugin does: one line, perfdata, exit code 0, 1, 2 or 3
    Check(Box<CheckArgs>),
    /// The command line of `check_pgactivity`, whose own `--help` says more
    #[command(disable_help_flag = true)]
    CheckPgactivity,
    /// The command line of `check_postgres.pl`, whose own `--help` says more
    #[command(disable_help_flag = true)]
    CheckPostgres,
    /// Make symbolic links by which pgvitals stands in for `check_postgres` and `check_pgactivity`
    InstallLinks(InstallLinksArgs),
    /// List definitions, host collectors and checks
    List(CatalogArgs),
    /// Print a definition or a check
    Show(ShowArgs),
    /// Print the rules in force as a monitoring policy, or what nobody has agreed on yet
    Policy(PolicyArgs),
    /// Print configuration for other programs, or the reference of metrics, made from the definitions in force
    Generate(GenerateArgs),
    /// Make definitions of files that were written for other exporters
    Import(ImportArgs),
    /// Check the configuration and every definition, and exit
    Validate(CatalogArgs),
    /// Say what keeps facts of a server from us, and the statements that mend it; exit code 1 if anything is missing
    Doctor(DoctorArgs),
    /// Start a throw-away primary and standby with load, and an agent that watches them
    Demo(DemoArgs),
}

#[derive(Clone, Default, Args)]
struct SourceArgs {
    /// Configuration file [default: /etc/pgvitals/pgvitals.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Server to read, as URL or keyword=value string; may be repeated. A password here shows in the process list:
    /// use a password file, .pgpass or the configuration instead
    #[arg(long, value_name = "DSN")]
    dsn: Vec<String>,
}

impl fmt::Debug for SourceArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A DSN may hold a password.
        f.debug_struct("SourceArgs").field("config", &self.config).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, Args)]
struct ServeArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Address and port of the web server, :9187 for all addresses; may be repeated [default: 127.0.0.1:9187]
    #[arg(long, value_name = "ADDRESS", visible_alias = "web.listen-address")]
    listen: Vec<String>,
    /// Web configuration file of Prometheus' exporters: TLS, passwords
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
struct OnceArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The form to print
    #[arg(long, value_enum, default_value = "prometheus")]
    format: Format,
    /// Only these collectors
    #[arg(value_name = "COLLECTOR")]
    collectors: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Prometheus,
    Openmetrics,
    Graphite,
    Json,
}

#[derive(Clone, Debug, Args)]
#[command(disable_help_flag = true)]
struct CheckArgs {
    /// The check, see `pgvitals list`; `all` for every one
    #[arg(required_unless_present = "group", conflicts_with = "group")]
    name: Option<String>,
    /// The checks of this group, as `pgvitals policy` has them
    #[arg(short, long, value_name = "NAME")]
    group: Option<String>,
    /// WARNING outside this range, with a unit if it has one: 80%, 100MB, 5min, 10:, @1:5
    #[arg(short, long, value_name = "RANGE", allow_hyphen_values = true)]
    warning: Option<String>,
    /// CRITICAL outside this range
    #[arg(short, long, value_name = "RANGE", allow_hyphen_values = true)]
    critical: Option<String>,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// Host name, address or socket folder
    #[arg(short = 'H', long, value_name = "HOST")]
    host: Option<String>,
    /// Port
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
    /// Role to connect as
    #[arg(short = 'U', long, value_name = "USER")]
    user: Option<String>,
    /// Database to connect to
    #[arg(short, long, value_name = "DB")]
    dbname: Option<String>,
    /// Exit as the status of a service, for cluster managers: 0 OK or WARNING, 3 nothing listens (of `online`), else 4. A
    /// server that answers, if only to refuse us, runs
    #[arg(long)]
    lsb: bool,
    /// Give up after this many seconds, with UNKNOWN
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Debug, Default, Args)]
struct AgentArgs {
    /// Ask this agent [default: the one on 127.0.0.1:9187 if there is one and no server is named]
    #[arg(long, value_name = "URL")]
    agent: Option<String>,
    /// Certificates to trust when the agent's URL begins with https [default: the system's]
    #[arg(long, value_name = "FILE", requires = "agent")]
    agent_ca: Option<PathBuf>,
    /// Certificate to show to the agent
    #[arg(long, value_name = "FILE", requires = "agent", requires = "agent_key")]
    agent_cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "agent_cert")]
    agent_key: Option<PathBuf>,
    /// User to name to the agent
    #[arg(long, value_name = "USER", requires = "agent")]
    agent_user: Option<String>,
    /// File with that user's password [default: the variable `PGVITALS_AGENT_PASSWORD`]
    #[arg(long, value_name = "FILE", requires = "agent_user")]
    agent_password_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Args)]
struct CatalogArgs {
    /// Configuration file [default: /etc/pgvitals/pgvitals.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
    /// A definition, host collector or check
    name: String,
    /// Print only the statement
    #[arg(long)]
    sql: bool,
    /// The statement for this major version of PostgreSQL (or version of the extension) [default: the newest]
    #[arg(long, value_name = "VERSION", requires = "sql")]
    pg: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct PolicyArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
    /// csv for a spreadsheet, md for a page
    #[arg(long, value_enum, default_value = "md")]
    format: PolicyFormat,
    /// Print the rules that lack one of these, with file and line, and exit with 1 if there are any
    #[arg(
        long,
        value_enum,
        value_name = "KEY,...",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = "importance,action,reason",
        conflicts_with = "format"
    )]
    lint: Option<Vec<Agreed>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PolicyFormat {
    Csv,
    Md,
}

/// What a policy says of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Agreed {
    Importance,
    Every,
    Action,
    Owner,
    Reason,
}

#[derive(Clone, Debug, Args)]
struct GenerateArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
    /// What to print
    #[arg(value_enum)]
    objects: Objects,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Objects {
    /// Commands, a hostgroup and one service per check for Nagios, Icinga 1 and Naemon
    Nagios,
    /// One command per check for NRPE
    Nrpe,
    /// A command, a template and one service per check for Icinga 2
    Icinga2,
    /// A local check of Checkmk's agent
    CheckmkLocal,
    /// The reference of all metrics, as Markdown
    Metrics,
    /// One line per metric: name, type, labels, unit, the majors that know it
    Schema,
}

#[derive(Clone, Debug, Args)]
struct InstallLinksArgs {
    /// Where to; nothing is replaced there but links to pgvitals
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Clone, Debug, Args)]
struct ImportArgs {
    /// Who the files were written for
    #[arg(value_enum)]
    format: ImportFormat,
    /// Files; of a folder its *.yaml, *.yml and *.conf
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write one file per definition into this folder, over none that is there [default: print them]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// The queries were asked in every database, as by `postgres_exporter` with --auto-discover-databases
    #[arg(long)]
    every_database: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ImportFormat {
    /// `postgres_exporter`'s --extend.query-path
    PostgresExporter,
    /// Collectors of `pg_exporter` (pgsty)
    PgExporter,
    /// Jobs of `sql_exporter` (justwatch), or the queries of Elephant Shed's
    SqlExporter,
    /// The configuration of collectd's postgresql plugin
    Collectd,
}

#[derive(Clone, Debug, Args)]
struct DoctorArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// text for people, or sql: the statements that are missing, for psql
    #[arg(long, value_enum, default_value = "text")]
    format: DoctorFormat,
    /// Only these servers
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DoctorFormat {
    Text,
    Sql,
}

#[derive(Clone, Debug, Args)]
struct DemoArgs {
    /// End by itself after this time, such as 60s
    #[arg(long = "for", value_name = "TIME")]
    time: Option<crate::unit::Span>,
    /// Address and port of the agent [default: a free port on 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

/// Runs the command and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some((program, rest)) = check_pgactivity::arguments(&arguments) {
        return check_pgactivity::run(program, rest);
    }
    if let Some((program, rest)) = check_postgres::arguments(&arguments) {
        return check_postgres::run(program, rest);
    }
    let as_plugin = arguments.get(1).is_some_and(|first| first == "check");
    let secrets = Secrets::among(&arguments);
    let command = match CommandLine::try_parse_from(&arguments) {
        Ok(line) => line.command.unwrap_or(Command::Serve(line.serve)),
        Err(error) if as_plugin && error.use_stderr() => return check::refuse(&error, &arguments, &secrets),
        Err(error) if error.use_stderr() && !secrets.is_empty() => {
            eprint!("{}", secrets.conceal(&error.render().to_string()));
            return ExitCode::from(EXIT_MISTAKE);
        }
        Err(error) => error.exit(),
    };
    let ended = match command {
        Command::Serve(args) => serve::run(&args),
        Command::Once(args) => once::run(&args),
        Command::Check(args) => return check::run(&args, &secrets),
        // Taken before: its options are its own.
        Command::CheckPgactivity | Command::CheckPostgres => Ok(()),
        Command::InstallLinks(args) => check_postgres::install_links(&args.folder),
        Command::List(args) => show::list(&args),
        Command::Show(args) => show::show(&args),
        Command::Policy(args) => match policy::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Generate(args) => generate::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Validate(args) => show::validate(&args),
        Command::Doctor(args) => return doctor::run(&args, &secrets),
        Command::Demo(args) => crate::demo::run(args.time.map(|crate::unit::Span(time)| time), args.listen.as_deref()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error, &secrets),
    }
}

/// Tells a mistake of the user's.
fn refuse(error: &anyhow::Error, secrets: &Secrets) -> ExitCode {
    eprintln!("pgvitals: {}", secrets.conceal(&in_full(error)));
    ExitCode::from(EXIT_MISTAKE)
}

/// Prints to stdout. A reader such as `head` that closes early has what it wanted.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The error and its causes in one line, without those that the error has said itself.
fn in_full(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("read x: {source}")]
        struct Unreadable {
            source: std::io::Error,
        }
        let error = anyhow::Error::from(Unreadable { source: std::io::Error::other("gone") });
        assert_eq!(in_full(&error), "read x: gone");
        let error = Err::<(), _>(std::io::Error::other("gone")).context("read y").unwrap_err();
        assert_eq!(in_full(&error), "read y: gone");
    }
}
