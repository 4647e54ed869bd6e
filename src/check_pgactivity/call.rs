//! One call of a service: the command line, the servers it points to, and what is kept from the last call.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::filter::Filters;
use super::host::{Host, Hosts};
use super::options::Options;
use super::report::{Answer, Status};
use super::status_file::{StatusFile, StatusFileError};
use crate::plugin::{AskError, PatternError, Served};
use crate::server::Environment;

/// What an answer begins with that is not a service's own.
pub(super) const PROGRAM: &str = "CHECK_PGACTIVITY";
/// The status file's name where none is given.
const STATUS_FILE: &str = "check_pgactivity.data";

/// Everything that a service is given.
#[derive(Debug)]
pub struct Call {
    /// The service's name.
    pub service: &'static str,
    /// The command line.
    pub options: Options,
    /// The servers that it names.
    pub hosts: Hosts,
    /// What it leaves out.
    pub filters: Filters,
    /// What was kept from the last call.
    pub kept: Kept,
    /// The limit of time, which sessions keep to by themselves.
    pub limit: Duration,
}

impl Call {
    /// The one server of a service that asks one.
    ///
    /// # Errors
    ///
    /// The command line names several.
    pub fn one_host(&mut self) -> Result<Host, Stop> {
        match self.hosts.take() {
            Some(host) if self.hosts.is_empty() => Ok(host),
            _ => Err(Stop::usage(format!("you must give only one host with service \"{}\".", self.service))),
        }
    }

    /// Both thresholds as `read` understands them; none when none is given.
    ///
    /// # Errors
    ///
    /// A mistake on the command line, said as `otherwise`, when one is not understood.
    pub fn limits<T>(&self, read: impl Fn(&str) -> Option<T>, otherwise: &str) -> Result<Option<(T, T)>, Stop> {
        let Some((warning, critical)) = self.options.thresholds() else { return Ok(None) };
        let read = |text| read(text).ok_or_else(|| Stop::usage(otherwise));
        Ok(Some((read(warning)?, read(critical)?)))
    }

    /// The same where a service cannot do without them.
    ///
    /// # Errors
    ///
    /// As before, or when there are none.
    pub fn needed_limits<T>(&self, read: impl Fn(&str) -> Option<T>, otherwise: &str) -> Result<(T, T), Stop> {
        let limits = self.limits(read, otherwise)?;
        limits.ok_or_else(|| Stop::usage("you must specify critical and warning thresholds."))
    }
}

impl Options {
    /// Warning and critical; none unless both are given.
    pub fn thresholds(&self) -> Option<(&str, &str)> {
        self.warning.as_deref().zip(self.critical.as_deref())
    }
}

/// Why a service ends without an answer of its own.
#[derive(Debug)]
pub enum Stop {
    /// The command line is wrong: said on stderr with the usage, exit code 127. The text is what follows `FATAL: `.
    Usage(String),
    /// The server's version does not suit the service: said on stderr, exit code 1.
    Incompatible(String),
    /// An answer that is the program's, such as UNKNOWN because the server cannot be reached.
    Answer(Box<Answer>),
}

impl Stop {
    /// A mistake on the command line.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// UNKNOWN, because of this.
    pub fn unknown(text: impl Into<String>) -> Self {
        Self::Answer(Box::new(Answer::new(PROGRAM, Status::Unknown, text)))
    }

    /// What is said when a server gives no rows.
    pub fn refused(status: Status, database: Option<&str>, error: &AskError) -> Self {
        let place = database.map(|database| format!(" on {database}")).unwrap_or_default();
        let answer = Answer::new(PROGRAM, status, format!("Query failed{place} !"));
        Self::Answer(Box::new(answer.with_long(vec![error.to_string()])))
    }
}

impl From<StatusFileError> for Stop {
    fn from(error: StatusFileError) -> Self {
        Self::unknown(error.to_string())
    }
}

impl From<PatternError> for Stop {
    fn from(error: PatternError) -> Self {
        Self::unknown(error.to_string())
    }
}

/// What services keep between two calls, each under a name of its own.
#[derive(Clone, Debug)]
pub struct Kept {
    pub(super) named: Option<PathBuf>,
    pub(super) program: Option<PathBuf>,
    pub(super) environment: Arc<Environment>,
    /// The agent that remembers in place of the file.
    pub(super) served: Option<Served>,
}

impl Kept {
    /// What was kept of a server under this name; none on the first call.
    ///
    /// # Errors
    ///
    /// The status file cannot be read, or is another program's.
    pub fn load<T: DeserializeOwned>(&self, host: &Host, name: &str) -> Result<Option<T>, Stop> {
        if let Some(served) = &self.served {
            return Ok(served.load(&host.key, name).and_then(|kept| serde_json::from_value(kept).ok()));
        }
        Ok(self.file()?.load(&host.key, name)?)
    }

    /// Keeps this for the next call.
    ///
    /// # Errors
    ///
    /// The status file cannot be written, or is another program's.
    pub fn save<T: Serialize>(&self, host: &Host, name: &str, value: &T) -> Result<(), Stop> {
        if let Some(served) = &self.served {
            served.save(&host.key, name, serde_json::to_value(value).unwrap_or_default());
            return Ok(());
        }
        Ok(self.file()?.save(&host.key, name, value)?)
    }

    /// The status file.
    ///
    /// # Errors
    ///
    /// None is named, and there is no folder where one could be.
    pub(super) fn file(&self) -> Result<StatusFile, StatusFileError> {
        match &self.named {
            Some(path) => Ok(StatusFile::at(path)),
            None => StatusFile::usual(STATUS_FILE, self.program.as_deref(), &self.environment),
        }
    }
}
