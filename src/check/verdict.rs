//! What a check answers.

use std::fmt;

use serde::{Serialize, Serializer};

use super::threshold::Limits;
use crate::unit::Unit;

/// How bad it is, in the order of severity; the exit codes are in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well, or the check does not apply here.
    #[default]
    Ok,
    /// It cannot be told. Less than a warning: what is known to be bad is not hidden by what is not known.
    Unknown,
    /// Someone should look at it in time.
    Warning,
    /// Someone should look at it now.
    Critical,
}

impl Status {
    /// The exit code of a Nagios plugin: 0, 1, 2 or 3.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Ok => "OK",
            Self::Unknown => "UNKNOWN",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        })
    }
}

/// What a cluster manager is to make of a verdict: the answer to the action `status` of an init script (LSB 5.0, Core, 22.2
/// "Init Script Actions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// It runs, well or with a WARNING.
    Running,
    /// Nothing runs there.
    Stopped,
    /// It cannot be told, or something is CRITICAL.
    Unclear,
}

impl Service {
    /// The exit code: 0 running, 3 not running, 4 unknown.
    ///
    /// 1 and 2 (dead, with a file left behind) are never given: Pacemaker takes them for a service that was stopped in order,
    /// and may start it on another host.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Stopped => 3,
            Self::Unclear => 4,
        }
    }
}

impl From<Status> for Service {
    fn from(status: Status) -> Self {
        match status {
            Status::Ok | Status::Warning => Self::Running,
            Status::Unknown | Status::Critical => Self::Unclear,
        }
    }
}

/// The answer of one check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The check's name.
    pub check: String,
    /// The worst of its findings.
    pub status: Status,
    /// One line: the worst first.
    pub summary: String,
    /// Every value that was judged and everything that could not be, the worst first.
    pub findings: Vec<Finding>,
    /// Who or what is behind it, one line each, the worst first; none while all is well.
    pub explanation: Vec<String>,
    /// The values for graphs, in an order that does not change with how bad they are.
    #[serde(skip)]
    pub perfdata: Vec<Perfdata>,
    /// What a cluster manager is to make of it.
    #[serde(skip)]
    pub service: Service,
}

impl Verdict {
    /// The answer when nothing could be judged, and why.
    pub fn unknown(check: &str, reason: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            status: Status::Unknown,
            summary: reason.into(),
            findings: Vec::new(),
            explanation: Vec::new(),
            perfdata: Vec::new(),
            service: Service::Unclear,
        }
    }
}

/// One value that was judged, or one reason why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub status: Status,
    /// One line about it.
    pub text: String,
    /// The labels of the value.
    #[serde(serialize_with = "as_map")]
    pub labels: Vec<(String, String)>,
    /// In base units; none where nothing could be read.
    pub value: Option<f64>,
    /// The unit of the value.
    pub unit: Unit,
    /// Which of the check's rules it is of.
    #[serde(skip)]
    pub rule: usize,
}

/// One value for graphs.
#[derive(Clone, Debug, PartialEq)]
pub struct Perfdata {
    /// Unique within the verdict; not yet quoted.
    pub label: String,
    /// In base units.
    pub value: f64,
    /// The unit of the value.
    pub unit: Unit,
    /// The thresholds it was judged by.
    pub limits: Limits,
    /// What it was found to be.
    pub status: Status,
}

fn as_map<S: Serializer>(labels: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().map(|(name, value)| (name, value)))
}
