//! The doctor: what keeps a server's facts from us, the statements that mend it, and what we may that we need not.
//!
//! It asks what the agent's probe asks and plans with the same definitions, so that it lists what the agent skips. It
//! changes nothing.

mod missing;
mod reach;
mod role;

use std::time::Duration;

use crate::agent::{Facts, LIBRARIES, Probe};
use crate::catalog::Catalog;
use crate::server::{ConnectOptions, QueryFailure, RowSet, Server, Session};

/// How long one server may take to answer all of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time that each question has.
const LIMIT: Duration = Duration::from_secs(5);

/// What was found out about one server.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Its name.
    pub server: String,
    /// What answered; nothing where no session could be opened.
    pub patient: Option<Patient>,
    /// What is to be told, the worst first.
    pub findings: Vec<Finding>,
    /// Definitions that do not apply here, and why.
    pub skipped: Vec<(String, String)>,
}

/// The server that answered.
#[derive(Clone, Debug)]
pub struct Patient {
    /// `server_version_num`.
    pub version: u32,
    /// Whether it is a standby: what is to be changed is changed on its primary.
    pub in_recovery: bool,
    /// Our role, quoted as in SQL.
    pub role: String,
    /// The database we are connected to.
    pub database: String,
}

/// Something to tell.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub remedies: Vec<Remedy>,
    /// What it costs: definitions, each with the families that are absent.
    pub absent: Vec<(String, Vec<String>)>,
    /// Checks that are UNKNOWN for it.
    pub checks: Vec<String>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Facts are absent for it.
    Missing,
    /// We may more than we need.
    Excess,
    /// Facts could say more, or something may go wrong later.
    Hint,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A statement for a superuser, in the database we connect to, without its semicolon.
    Sql(String),
    /// A line of a configuration file, and what makes the server read it.
    Line {
        /// The file's name.
        file: &'static str,
        /// The line.
        line: String,
        /// `reload` or `restart`.
        then: &'static str,
    },
    /// In words.
    Advice(String),
}

impl Examination {
    /// Whether facts are absent that could be there.
    pub fn misses_something(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Missing)
    }
}

impl Finding {
    fn new(severity: Severity, what: impl Into<String>, remedies: Vec<Remedy>) -> Self {
        Self { severity, what: what.into(), remedies, absent: Vec::new(), checks: Vec::new() }
    }
}

/// Examines one server over a session of its own.
pub async fn examine(name: &str, options: ConnectOptions, catalog: &Catalog) -> Examination {
    let mut examination =
        Examination { server: name.to_owned(), patient: None, findings: Vec::new(), skipped: Vec::new() };
    let server = Server::new(name, options);
    let failed = match server.open(PATIENCE).await {
        Err(failure) => Some(reach::explain(&failure, server.options())),
        Ok(mut session) => match ask_all(&mut session, server.options(), catalog, &mut examination).await {
            Ok(()) => None,
            Err(failure) => Some(Finding::new(Severity::Missing, format!("an answer: {failure}"), Vec::new())),
        },
    };
    examination.findings.extend(failed);
    examination.findings.sort_by_key(|finding| finding.severity);
    examination
}

async fn ask_all(
    session: &mut Session,
    options: &ConnectOptions,
    catalog: &Catalog,
    examination: &mut Examination,
) -> Result<(), QueryFailure> {
    let facts = facts(session, catalog).await?;
    examination.patient = Some(Patient {
        version: facts.version,
        in_recovery: facts.in_recovery,
        role: facts.role.name.clone(),
        database: options.database().to_owned(),
    });
    let plans = missing::Plans::new(catalog, &facts);
    examination.skipped = plans.skipped();
    examination.findings.extend(plans.findings());
    let unlisted = ask(session, &plans.refused_sql()).await?;
    examination.findings.extend(plans.refused(&unlisted));
    examination.findings.extend(plans.extensions(&ask(session, missing::PRELOADED).await?));
    examination.findings.extend(role::of_roles(&ask(session, role::ROLES).await?));
    examination.findings.extend(role::of_memberships(&ask(session, role::MEMBERSHIPS).await?));
    examination.findings.extend(role::of_databases(&ask(session, role::CLOSED_DATABASES).await?, &facts.role.name));
    examination.findings.extend(role::of_settings(&ask(session, role::SETTINGS).await?));
    Ok(())
}

async fn facts(session: &mut Session, catalog: &Catalog) -> Result<Facts, QueryFailure> {
    let probe = Probe::new(catalog);
    let rows = ask(session, probe.sql()).await?;
    let libraries = ask(session, LIBRARIES).await?;
    let no_row = || QueryFailure::Server { sqlstate: "02000".to_owned(), message: "no row".to_owned() };
    let mut facts = probe.read(session.version(), &rows).ok_or_else(no_row)?;
    facts.add_role(&ask(session, &facts.sql_of_role()).await?);
    facts.libraries = column(&libraries, 0).map(str::to_owned).collect();
    Ok(facts)
}

async fn ask(session: &mut Session, sql: &str) -> Result<RowSet, QueryFailure> {
    session.query(sql, LIMIT, LIMIT + Duration::from_secs(1)).await
}

fn column(rows: &RowSet, column: usize) -> impl Iterator<Item = &str> {
    (0..rows.len()).filter_map(move |row| rows.value(row, column))
}
