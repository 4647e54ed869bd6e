//! The written form of a definition: what may stand in a `checks/*.toml`, and nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::check::RuleSpec;
use crate::unit::Span;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSpec {
    pub(super) help: String,
    #[serde(default)]
    pub(super) labels: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) scope: Scope,
    #[serde(default)]
    pub(super) role: Role,
    #[serde(default)]
    pub(super) needs: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) optional: bool,
    pub(super) extension: Option<Spanned<String>>,
    pub(super) preload: Option<Spanned<bool>>,
    pub(super) sampled: Option<Spanned<bool>>,
    pub(super) fresh_for: Option<Span>,
    pub(super) timeout: Option<Spanned<Span>>,
    pub(super) max_series: Option<Spanned<usize>>,
    pub(super) rank_by: Option<Spanned<String>>,
    pub(super) databases: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub(super) search_path: Vec<Spanned<String>>,
    pub(super) texts: Option<Spanned<TextsSpec>>,
    #[serde(default)]
    pub(super) query: Vec<Spanned<QuerySpec>>,
    #[serde(default)]
    pub(super) fragment: FragmentSpecs,
    #[serde(default)]
    pub(super) metric: Vec<Spanned<MetricSpec>>,
    #[serde(default)]
    pub(super) rule: Vec<Spanned<RuleSpec>>,
}

/// The parts of queries that differ by version: name, version, text.
pub(super) type FragmentSpecs = BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<String>>>;

/// That the definition asks for texts of what another one shows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TextsSpec {
    pub(super) of: Spanned<String>,
    pub(super) key: Spanned<String>,
    pub(super) text: Spanned<String>,
    pub(super) at_most_every: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuerySpec {
    pub(super) since: Spanned<Version>,
    pub(super) sql: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricSpec {
    pub(super) name: Spanned<String>,
    pub(super) help: String,
    pub(super) r#type: Spanned<TypeSpec>,
    pub(super) column: Spanned<String>,
    pub(super) labels: Option<Vec<Spanned<String>>>,
    pub(super) merge: Option<Spanned<MergeSpec>>,
    #[serde(default)]
    pub(super) remember: bool,
    pub(super) buckets: Option<Spanned<Vec<f64>>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TypeSpec {
    Counter,
    Gauge,
    Histogram,
    Unknown,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MergeSpec {
    Sum,
    Max,
    Min,
}

/// Where a definition's query runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Once per server, in the database that the server's DSN names.
    #[default]
    Server,
    /// In every database of the server that may be entered; each sample gets the label `datname`.
    Database,
}

/// In which role of the server a definition's query runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// In both.
    #[default]
    Any,
    /// Only where `pg_is_in_recovery()` is false.
    Primary,
    /// Only where `pg_is_in_recovery()` is true.
    Standby,
}

/// A version in the form that is compared: `17` of a server, `1.11` of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "VersionSpec")]
pub struct Version {
    /// What stands before the first dot.
    pub major: u32,
    /// What stands after it; 0 for a server.
    pub minor: u32,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a major version such as 17, or an extension's such as \"1.8\"")]
enum VersionSpec {
    Server(u32),
    Extension(String),
}

impl Version {
    /// The major version of a `server_version_num`, such as 170010.
    pub fn of_server(number: u32) -> Self {
        Self { major: number / 10_000, minor: 0 }
    }
}

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("expected a version such as \"1.8\", got \"{text}\"");
        let mut parts = text.split('.').map(|part| part.parse::<u32>().map_err(|_| wrong()));
        let major = parts.next().ok_or_else(wrong)??;
        let minor = parts.next().transpose()?.unwrap_or_default();
        Ok(Self { major, minor })
    }
}

impl TryFrom<VersionSpec> for Version {
    type Error = String;

    fn try_from(spec: VersionSpec) -> Result<Self, Self::Error> {
        match spec {
            VersionSpec::Server(major) => Ok(Self { major, minor: 0 }),
            VersionSpec::Extension(text) => text.parse(),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            0 => write!(f, "{}", self.major),
            minor => write!(f, "{}.{minor}", self.major),
        }
    }
}
