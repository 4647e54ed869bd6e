//! The sections of the configuration, with what holds where they say nothing.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::check::{Hysteresis, Importance, Terms};
use crate::collect::host::Roots;
use crate::server::{Databases, DiscoveryRoots};
use crate::unit::Span;

/// Who may read the web server, and over which TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebSection {
    /// A web configuration file of exporter-toolkit; without it everybody may read, without TLS.
    pub config_file: Option<PathBuf>,
}

/// A server to watch.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The value of its `server` label; made from the DSN if left out.
    pub name: Option<String>,
    /// URL or keyword/value connection string.
    pub dsn: Spanned<String>,
    /// A file with the password, read at every connection.
    pub password_file: Option<PathBuf>,
    /// A command whose first line of output is the password, run at every connection.
    pub password_command: Option<Vec<String>>,
    /// Patterns in place of those in `[databases]`: which databases of this server are entered,
    pub include_databases: Option<Vec<String>>,
    /// and which of them are not.
    pub exclude_databases: Option<Vec<String>>,
}

impl ServerConfig {
    /// Which databases of this server are wanted, where `others` holds for all servers; none where nothing else does.
    pub fn databases(&self, others: &Databases) -> Option<Databases> {
        let wanted = Databases {
            include: self.include_databases.clone().unwrap_or_else(|| others.include.clone()),
            exclude: self.exclude_databases.clone().unwrap_or_else(|| others.exclude.clone()),
            max: others.max,
        };
        (wanted != *others).then_some(wanted)
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The DSN may hold a password, and the arguments of the command a token.
        let Self { name, password_file, .. } = self;
        f.debug_struct("ServerConfig").field("name", name).field("password_file", password_file).finish_non_exhaustive()
    }
}

/// How local clusters are found.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Discovery {
    /// Whether to look at all.
    pub enabled: bool,
    /// How often to look while running.
    pub interval: Span,
    /// The role to connect as; the agent's own operating-system user if left out.
    pub user: Option<String>,
    /// The database to connect to.
    pub database: String,
    /// Where Debian keeps the configuration of clusters; what else listens is found in `host.proc`.
    pub folder: PathBuf,
}

/// What is shown of statements beside their numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatementsSection {
    /// Whether their texts are shown.
    pub texts: bool,
    /// So many characters of each.
    pub text_length: usize,
}

/// Where the host's facts are read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// Whether to read them.
    pub enabled: HostEnabled,
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
}

/// Whether the host's facts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "HostSwitch")]
pub enum HostEnabled {
    /// Unless every watched server is on another host: they would pass for that one's.
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected true, false or \"auto\"")]
enum HostSwitch {
    Switch(bool),
    Word(HostWord),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum HostWord {
    Auto,
}

impl From<HostSwitch> for HostEnabled {
    fn from(written: HostSwitch) -> Self {
        match written {
            HostSwitch::Word(HostWord::Auto) => Self::Auto,
            HostSwitch::Switch(true) => Self::Yes,
            HostSwitch::Switch(false) => Self::No,
        }
    }
}

/// Where points are pushed to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphiteSection {
    /// Host and port of carbon's plaintext receiver.
    pub address: String,
    /// The first parts of every path.
    #[serde(default = "graphite_prefix")]
    pub prefix: String,
    /// Time between two points of a series.
    #[serde(default = "graphite_interval")]
    pub interval: Span,
    /// How many points are kept while carbon is away.
    #[serde(default = "graphite_queue")]
    pub queue: usize,
}

/// What rules over rates look back on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// Time between two readings of the counters that rules need.
    pub interval: Span,
}

/// How often samples are taken between readings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Time between two samples.
    pub interval: Span,
}

/// What holds for a check in place of what its rules say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSection {
    /// Where WARNING begins; `N/A` for nowhere.
    pub warning: Option<Spanned<String>>,
    /// Where CRITICAL begins; `N/A` for nowhere.
    pub critical: Option<Spanned<String>>,
    /// Why.
    pub reason: Option<Spanned<String>>,
    /// How much it matters.
    pub importance: Option<Importance>,
    /// How often it is to be looked at.
    pub every: Option<Spanned<Span>>,
    /// What is done about it; with `ignore` it raises no alert.
    pub action: Option<Spanned<String>>,
    /// Who does it.
    pub owner: Option<Spanned<String>>,
    /// The checks it is asked for with.
    pub group: Option<Spanned<String>>,
    /// How many readings make a problem of it.
    pub hysteresis: Option<Hysteresis>,
}

impl CheckSection {
    /// What people have agreed on here.
    pub fn terms(&self) -> Terms {
        let text = |written: &Option<Spanned<String>>| written.as_ref().map(|text| text.get_ref().clone());
        Terms {
            importance: self.importance,
            every: self.every.as_ref().map(|every| every.get_ref().0),
            action: text(&self.action),
            owner: text(&self.owner),
            group: text(&self.group),
            hysteresis: self.hysteresis,
        }
    }

    /// Where the value of a key stands in the file.
    pub(crate) fn place_of(&self, key: &str) -> Option<usize> {
        let texts = [
            ("warning", &self.warning),
            ("critical", &self.critical),
            ("reason", &self.reason),
            ("action", &self.action),
            ("owner", &self.owner),
            ("group", &self.group),
        ];
        let text = texts.into_iter().find(|(name, _)| *name == key).and_then(|(_, text)| text.as_ref());
        let every = self.every.as_ref().filter(|_| key == "every").map(|every| every.span().start);
        text.map(|text| text.span().start).or(every)
    }
}

impl Default for Discovery {
    fn default() -> Self {
        let interval = Span(Duration::from_secs(30));
        let DiscoveryRoots { etc_postgresql: folder, .. } = DiscoveryRoots::default();
        Self { enabled: true, interval, user: None, database: "postgres".to_owned(), folder }
    }
}

impl Default for StatementsSection {
    fn default() -> Self {
        Self { texts: false, text_length: 120 }
    }
}

impl Default for HostConfig {
    fn default() -> Self {
        let Roots { proc, sys } = Roots::default();
        Self { enabled: HostEnabled::Auto, proc, sys }
    }
}

impl Default for History {
    fn default() -> Self {
        Self { interval: Span(Duration::from_secs(10)) }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { interval: Span(Duration::from_secs(1)) }
    }
}

/// Reads a list, of which one item may stand by itself.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMore;
    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let first = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &"at least one address"))?;
            let mut all = vec![first];
            while let Some(next) = seq.next_element()? {
                all.push(next);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(OneOrMore)
}

fn graphite_prefix() -> String {
    "pgvitals".to_owned()
}

fn graphite_interval() -> Span {
    Span(Duration::from_secs(10))
}

fn graphite_queue() -> usize {
    100_000
}
