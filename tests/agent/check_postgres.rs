//! Beside Debian's `check_postgres`, on one server, in the same minute: the same command lines get the same answers.
//!
//! A case is one line: an action and its options, after a word for where it runs, if that is not the primary. What differs is
//! listed in `docs/check_postgres.md`, by the beginning of the command line, and nothing else may. `PGVITALS_CASES=backends` in
//! the environment runs only the cases that have this in them.

/// Databases, sessions, locks, vacuum, `PgBouncer`, and tables of other software.
mod activity;
/// Connections, versions, queries of the user's own, settings, triggers, sequences, and the command line itself.
mod core;
/// Which answers the cases have to bring out, and which no server can.
mod gaps;
/// What came after Debian's version.
mod newer;
/// The program itself: names that hurt, servers that hang, links, the file beside the command line.
mod program;
/// Sizes, bloat, files, replication and schemas.
mod storage;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use pgvitals::demo::cluster::{Binaries, Cluster, Settings};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::beside::{self, Difference};
use crate::client::psql;
use crate::matrix::{self, Matrix};
use crate::pair::until_true;
use crate::pooler::PgBouncer;
use crate::program::BINARY;

/// Debian's, which `tests/setup` installs; another one is tried by naming it in `PGVITALS_CHECK_POSTGRES`.
const ORIGINAL: &str = "/usr/bin/check_postgres";
/// psql itself: what Debian has in PATH is a script, which takes longer to start than all the rest of a case.
const PATH: &str = "/usr/lib/postgresql/15/bin:/usr/bin:/bin";
/// A role that may log in and nothing else.
const PLAIN: &str = "plain";

/// Command lines that are tried on one pair of servers.
struct Group {
    /// Lines for postgresql.conf.
    conf: &'static [&'static str],
    /// Statements to run before, each in its database.
    prepare: &'static [(&'static str, &'static str)],
    /// Statements to run before on the standby.
    standby: &'static [&'static str],
    /// Sessions to leave open on both servers after these statements, each in its database.
    hold: &'static [(&'static str, &'static str)],
    /// Programs that are found before all others, and the shell commands that they are.
    programs: &'static [(&'static str, &'static str)],
    /// `[WHERE: ]ACTION OPTIONS`, or options alone. WHERE is `standby`, `each` (there and on the primary), `plain` (a role
    /// without rights), `bare`, without host and port, or `variables`, where these are in the environment. In options `{pooler}`
    /// (all it takes to get to `PgBouncer`), `{pair}` (the primary and the standby), `{socket}`, `{port}`, `{data}`,
    /// `{standby_socket}`, `{standby_port}`, `{standby_data}`, `{folder}` (a folder of the test's own), `{checksum}` (a wrong one) and `{known}`
    /// (the right one) are replaced; a blank within quotes does not separate.
    cases: &'static [&'static str],
}

impl Group {
    /// The cases, one for each server.
    fn cases(&self) -> impl Iterator<Item = String> {
        let only = std::env::var("PGVITALS_CASES").unwrap_or_default();
        let of_line = |line: &&str| match line.strip_prefix("each: ") {
            Some(line) => vec![line.to_owned(), format!("standby: {line}")],
            None => vec![(*line).to_owned()],
        };
        self.cases.iter().flat_map(of_line).filter(move |case| case.contains(&only))
    }
}

/// Where a case runs, and what with.
fn place(case: &str) -> (&str, &str) {
    case.split_once(": ").filter(|(place, _)| !place.contains(' ')).unwrap_or(("primary", case))
}

/// Actions that Debian's version does not have.
const NEWER: [&str; 3] = ["lockwait", "partman_premake", "pgbouncer_maxwait"];

const GROUPS: &[&Group] = &[&activity::GROUP, &core::GROUP, &storage::GROUP];

/// The servers of a group and a folder to run in.
struct Stage {
    primary: Cluster,
    standby: Cluster,
    folder: TempDir,
    /// Where a case wants one, with a pool for the database `app`.
    pooler: Option<PgBouncer>,
    /// Each has one session on a server, also those at the pooler: it has one for each of its two databases.
    held: Vec<Client>,
}

impl Stage {
    async fn set(group: &Group) -> Self {
        let conf = group.conf.iter().map(|line| (*line).to_owned()).collect();
        let settings = Settings { conf, ..Settings::default() };
        let primary = Cluster::start(&Binaries::major(15).unwrap(), settings).await.unwrap();
        primary.sql("postgres", "CREATE DATABASE app").await.unwrap();
        primary.sql("postgres", &format!("CREATE ROLE {PLAIN} LOGIN")).await.unwrap();
        for (database, sql) in group.prepare {
            primary.sql(database, sql).await.unwrap();
        }
        let standby = primary.standby("standby").await.unwrap();
        for sql in group.standby {
            standby.sql("postgres", sql).await.unwrap();
        }
        primary.sql("postgres", "SELECT pg_create_restore_point('what slots keep')").await.unwrap();
        until_true(
            &standby,
            "SELECT bool_and(restart_lsn < pg_last_wal_receive_lsn()) IS NOT FALSE FROM pg_replication_slots",
        )
        .await;
        let mut held = Vec::new();
        for (server, (database, sql)) in
            [&primary, &standby].into_iter().flat_map(|server| group.hold.iter().map(move |hold| (server, hold)))
        {
            let client = server.client(database).await.unwrap();
            client.batch_execute(sql).await.unwrap();
            held.push(client);
        }
        let mut pooler = None;
        if group.cases.iter().any(|case| case.contains("{pooler}")) {
            let started = PgBouncer::start(&primary, "session");
            psql(&primary, &format!("{} dbname=postgres", started.dsn()), "SELECT 1").await.unwrap();
            for _ in 0..2 {
                let (client, connection) =
                    tokio_postgres::connect(&format!("{} dbname=app", started.dsn()), NoTls).await.unwrap();
                tokio::spawn(connection);
                // The pool has one connection, and who comes second waits for it.
                drop(tokio::time::timeout(Duration::from_millis(1_200), client.batch_execute("SELECT 1")).await);
                held.push(client);
            }
            pooler = Some(started);
        }
        let folder = TempDir::new().unwrap();
        std::os::unix::fs::symlink(BINARY, folder.path().join("check_postgres")).unwrap();
        for (program, script) in group.programs {
            let file = folder.path().join(program);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        }
        Self { primary, standby, folder, pooler, held }
    }

    /// The arguments of a case.
    fn arguments(&self, case: &str) -> Vec<String> {
        let (place, line) = place(case);
        let server = if place == "standby" { &self.standby } else { &self.primary };
        let pooler = self.pooler.as_ref().map(|pooler| format!("-H 127.0.0.1 -p {} -u postgres", pooler.port()));
        let replaced = [
            ("{pooler}", pooler.unwrap_or_default()),
            ("{pair}", "-H {socket},{standby_socket} -p {port},{standby_port}".to_owned()),
            ("{socket}", self.primary.socket_dir().display().to_string()),
            ("{port}", self.primary.port().to_string()),
            ("{standby_socket}", self.standby.socket_dir().display().to_string()),
            ("{standby_port}", self.standby.port().to_string()),
            ("{data}", self.primary.data().display().to_string()),
            ("{standby_data}", self.standby.data().display().to_string()),
            ("{folder}", self.folder.path().display().to_string()),
            ("{checksum}", "0123456789abcdef".repeat(2)),
        ];
        let line = if line.contains("{known}") { line.replace("{known}", &self.known(case)) } else { line.to_owned() };
        let line = replaced.iter().fold(line, |line, (name, value)| line.replace(name, value));
        let mut arguments = words(&line);
        if arguments.first().is_some_and(|word| !word.starts_with('-') && !word.contains('=')) {
            arguments[0] = format!("--action={}", arguments[0]);
        }
        if !matches!(place, "bare" | "variables") {
            arguments.extend(["-H".to_owned(), server.socket_dir().display().to_string()]);
            arguments.extend(["-p".to_owned(), server.port().to_string()]);
        }
        if place == "plain" {
            arguments.extend(["-u".to_owned(), PLAIN.to_owned()]);
        }
        arguments
    }

    /// What `{known}` stands for: what the action says to who does not know it.
    fn known(&self, case: &str) -> String {
        let said = Answer::of(&self.ours_to(&case.replace("{known}", "0"))).text;
        let (_, after) = said.split_once("checksum: ").or_else(|| said.split_once("cluster_id: ")).unwrap();
        after.split_whitespace().next().unwrap().to_owned()
    }

    fn run(&self, case: &str, program: &Path, arguments: &[String]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        let folder = self.folder.path().display();
        command.env("PATH", format!("{folder}:{PATH}")).env("HOME", self.folder.path()).env("LC_ALL", "C");
        if case.starts_with("variables: ") {
            command.env("PGHOST", self.primary.socket_dir()).env("PGPORT", self.primary.port().to_string());
            command.env("PGUSER", "postgres");
        }
        command.output().unwrap_or_else(|error| panic!("{}: {error}; it is Debian's check-postgres", program.display()))
    }

    fn ours(&self) -> PathBuf {
        self.folder.path().join("check_postgres")
    }

    /// Our answer to a case.
    fn ours_to(&self, case: &str) -> Output {
        self.run(case, &self.ours(), &self.arguments(case))
    }

    /// What the original says to a case, and what we do.
    async fn both_to(&self, case: &str) -> (Answer, Answer) {
        let arguments = self.arguments(case);
        let say = async |program: &Path| {
            beside::until_left(&[&self.primary, &self.standby], self.held.len()).await;
            Answer::of(&self.run(case, program, &arguments))
        };
        let named = std::env::var_os("PGVITALS_CHECK_POSTGRES");
        let original = named.map_or_else(|| PathBuf::from(ORIGINAL), PathBuf::from);
        let ours = self.ours();
        let are_alike = |one: &Answer, other: &Answer| one.difference(other).is_none();
        beside::between(async || say(&original).await, async || say(&ours).await, are_alike).await
    }
}

/// The words of a line; those in single quotes are one, without them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What a program said.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    text: String,
    perf: Vec<String>,
}

impl Answer {
    fn of(output: &Output) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let (text, perf) = stdout.split_once(" | ").unwrap_or((&stdout, ""));
        let (text, perf) = if stdout.starts_with("POSTGRES_") { (text, perf) } else { (stdout.as_str(), "") };
        // A line's end within quotes is part of a name; none of our cases has one.
        let perf = words(perf.trim_end()).into_iter().collect();
        Self { code: output.status.code(), text: text.to_owned(), perf }
    }

    /// The exit code, if there is a line of which it is the status.
    fn status(&self) -> Option<i32> {
        let begins = |text| self.text.starts_with(text);
        // Of these the second has none, and the third no other.
        self.code.filter(|code| begins("POSTGRES_") || begins("backends:") || *code == 3 && begins("ERROR: "))
    }

    /// What our answer differs in, if it does.
    fn difference(&self, ours: &Self) -> Option<String> {
        if self.code != ours.code {
            let said = |answer: &Self| format!("{:?} {}", answer.code, answer.text);
            return Some(beside::apart("exit code", &said(self), &said(ours)));
        }
        // The position in a statement and libpq's hint are told on lines of their own.
        let first_line = |text: &str| {
            let first = text.split("\nLINE ").next().and_then(|text| text.split("\n\tIs the server ").next());
            masked(&squeezed(first.unwrap_or_default()))
        };
        let (expected, actual) = (first_line(&self.text), first_line(&ours.text));
        if expected != actual {
            return Some(beside::apart("message", &expected, &actual));
        }
        let labels = |answer: &Self| answer.perf.iter().map(|entry| shape(entry)).collect::<Vec<_>>().join(" ");
        let (expected, actual) = (labels(self), labels(ours));
        if expected != actual {
            return Some(beside::apart("labels, units or thresholds of the perfdata", &expected, &actual));
        }
        let far = self.perf.iter().zip(&ours.perf).find(|(theirs, ours)| !are_near(theirs, ours));
        far.map(|(theirs, ours)| beside::apart("value", theirs, ours))
    }
}

/// Two blanks after `ERROR:` come from psql.
fn squeezed(text: &str) -> String {
    match text.strip_prefix("ERROR:") {
        Some(rest) => format!("ERROR: {}", rest.trim()),
        None => text.trim_end().to_owned(),
    }
}

/// A text with `#` for each number in it.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if masked.ends_with('#') => {}
            '0'..='9' => masked.push('#'),
            c => masked.push(c),
        }
    }
    masked.replace("#.#", "#")
}

/// The value of an entry of perfdata, and what stands around it.
fn parts(entry: &str) -> (&str, &str, &str) {
    let (label, rest) = entry.rsplit_once('=').unwrap_or(("", entry));
    let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-')).unwrap_or(rest.len());
    (label, &rest[..end], &rest[end..])
}

fn shape(entry: &str) -> String {
    let (label, _, rest) = parts(entry);
    format!("{label}={rest}")
}

/// Whether two values are the same, or are of something that goes on between two readings.
fn are_near(theirs: &str, ours: &str) -> bool {
    let value = |entry: &str| parts(entry).1.parse::<f64>().unwrap_or_default();
    let (label, theirs, ours) = (parts(ours).0, value(theirs), value(ours));
    label == "time" || (theirs - ours).abs() <= 20.0_f64.max(theirs.abs() / 10.0)
}

/// The beginnings of the command lines that are documented to be answered in another way.
fn documented() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check_postgres.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(beginning, _)| beginning.to_owned()).collect()
}

/// Whether a documented beginning is one of this case's, which may be asked of the standby too.
fn covers(beginning: &str, case: &str) -> bool {
    let case = if beginning.starts_with("standby: ") { case } else { case.strip_prefix("standby: ").unwrap_or(case) };
    case.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '=']))
}

/// Tries the cases of a group.
async fn conform(group: &Group) {
    let stage = Stage::set(group).await;
    let (documented, mut tried, mut seen) = (documented(), BTreeSet::new(), BTreeSet::new());
    let (mut matrix, mut wrong) = (gaps::matrix(group), Vec::new());
    for case in group.cases() {
        let known: Vec<&String> = documented.iter().filter(|beginning| covers(beginning, &case)).collect();
        tried.extend(known.iter().copied());
        let (theirs, ours) = stage.both_to(&case).await;
        let difference = theirs.difference(&ours);
        if let Some(code) = ours.status() {
            let (action, role, filters) = gaps::cell(&case);
            matrix.see((action, role), code, theirs.status() == Some(code));
            matrix.see_filtered((action, role), &filters, code, difference.is_none());
        }
        match (difference, known.as_slice()) {
            (Some(what), []) => wrong.push(Difference {
                short: format!("{case}\n{what}"),
                full: format!("{case}\n  theirs: {theirs:?}\n  ours:   {ours:?}"),
            }),
            (Some(_), known) => seen.extend(known.iter().copied()),
            (None, _) => {}
        }
    }
    beside::are_none(&wrong);
    let alike: Vec<&&String> = tried.difference(&seen).collect();
    assert!(alike.is_empty(), "documented to differ, and do not: {alike:?}");
    if std::env::var_os("PGVITALS_CASES").is_none() {
        matrix.judge(gaps::GAPS);
    }
}

#[tokio::test]
async fn sessions_databases_and_vacuum_are_answered_as_the_original_does() {
    conform(&activity::GROUP).await;
}

#[tokio::test]
async fn the_core_answers_as_the_original_does() {
    conform(&core::GROUP).await;
}

#[tokio::test]
async fn sizes_files_replication_and_schemas_are_answered_as_the_original_does() {
    conform(&storage::GROUP).await;
}

#[test]
fn every_action_is_wanted_once_and_every_gap_is_one() {
    let matrices: Vec<Matrix> = GROUPS.iter().map(|group| gaps::matrix(group)).collect();
    matrix::all_are_wanted(gaps::GAPS, &matrices);
    let mut wanted: Vec<&str> = matrices.iter().flat_map(Matrix::subjects).collect();
    wanted.extend(NEWER);
    wanted.sort_unstable();
    let help = Command::new(BINARY).args(["check-postgres", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let lines = help.lines().filter_map(|line| line.strip_prefix(' ')?.split_once(" - "));
    let all: Vec<&str> = lines.map(|(name, _)| name.trim_end()).filter(|name| !name.contains([' ', ','])).collect();
    assert_eq!(wanted, all);
}

#[test]
fn every_documented_difference_is_tried() {
    let cases: Vec<_> = GROUPS.iter().flat_map(|group| group.cases()).collect();
    let untried: Vec<String> =
        documented().into_iter().filter(|beginning| !cases.iter().any(|case| covers(beginning, case))).collect();
    assert!(untried.is_empty(), "{untried:?}");
}
