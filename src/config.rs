//! The configuration file: one TOML file, refused with file and line where it is wrong.

mod sections;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use sections::{
    CheckSection, Discovery, GraphiteSection, History, HostConfig, HostEnabled, Sampling, ServerConfig,
    StatementsSection, WebSection,
};

use crate::server::Databases;
use crate::source::{Source, SourceError};
use crate::unit::Span;

/// Where the configuration is looked for when nobody says where.
pub const USUAL_FILE: &str = "/etc/pgvitals/pgvitals.toml";
/// Where the web server listens when nobody says where, and where a check looks for an agent.
pub const USUAL_ADDRESS: &str = "127.0.0.1:9187";
/// Where definitions are looked for when the configuration does not say where.
pub const USUAL_CHECKS: &str = "/etc/pgvitals/checks.d";

/// The most characters of a statement's text that may be shown. Texts are labels, and whoever reads `/metrics` reads them.
const LONGEST_TEXT: usize = 2_000;

/// What comes and goes is missed by a longer interval, and a shorter one is felt by the server.
const SAMPLING: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// The configuration. All of it has defaults; an empty file is a good one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses and ports of the web server; one may stand without a list.
    #[serde(deserialize_with = "sections::one_or_more")]
    pub listen: Vec<String>,
    /// Who may read the web server, and over which TLS.
    pub web: WebSection,
    /// The folder with definitions that replace built-in ones or stand beside them.
    pub checks: Option<PathBuf>,
    /// The servers to watch; without any, the environment or discovery decides.
    pub server: Vec<ServerConfig>,
    /// How local clusters are found.
    pub discovery: Discovery,
    /// Which databases of each server are entered by definitions that ask in every database.
    pub databases: Databases,
    /// What is shown of statements beside their numbers.
    pub statements: StatementsSection,
    /// Where the host's facts are read.
    pub host: HostConfig,
    /// Where points are pushed to; nowhere without it.
    pub graphite: Option<GraphiteSection>,
    /// What rules over rates look back on.
    pub history: History,
    /// How often samples are taken between readings; none are without it.
    pub sampling: Option<Sampling>,
    /// Other thresholds for checks, and what was agreed on about them, by name.
    pub check: BTreeMap<String, CheckSection>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![USUAL_ADDRESS.to_owned()],
            web: WebSection::default(),
            checks: None,
            server: Vec::new(),
            discovery: Discovery::default(),
            databases: Databases::default(),
            statements: StatementsSection::default(),
            host: HostConfig::default(),
            graphite: None,
            history: History::default(),
            sampling: None,
            check: BTreeMap::new(),
        }
    }
}

/// A configuration and the text it was read from, for messages that name a line.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    source: Source,
}

impl Loaded {
    /// Reads a file; without one the usual file, and the defaults if there is no such file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the first mistake in it.
    pub fn read(file: Option<&Path>) -> Result<Self, SourceError> {
        match Source::read(file.unwrap_or(Path::new(USUAL_FILE))) {
            Ok(source) => Self::parse(source),
            Err(SourceError::Read { source, .. }) if file.is_none() && source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }

    fn parse(source: Source) -> Result<Self, SourceError> {
        let config = toml::from_str(&source.text).map_err(|error| source.toml_mistake(&error))?;
        let loaded = Self { config, source };
        loaded.check()?;
        Ok(loaded)
    }

    /// An error about a place in the file.
    pub fn mistake(&self, at: usize, reason: impl Into<String>) -> SourceError {
        self.source.mistake(at, reason)
    }

    /// Where a text stands in the file for the first time, for what the parser gives no place of.
    pub fn place_of(&self, text: &str) -> usize {
        self.source.text.find(text).unwrap_or_default()
    }

    fn check(&self) -> Result<(), SourceError> {
        let config = &self.config;
        let second = Duration::from_secs(1);
        for (key, Span(span)) in [
            ("[discovery]", config.discovery.interval),
            ("[history]", config.history.interval),
            ("[graphite]", config.graphite.as_ref().map_or(Span(second), |graphite| graphite.interval)),
        ] {
            if span < second {
                return Err(self.mistake(self.place_of(key), format!("expected an interval of 1s or more in {key}")));
            }
        }
        if !(1..=LONGEST_TEXT).contains(&config.statements.text_length) {
            let reason = format!("expected a text_length of 1 to {LONGEST_TEXT}");
            return Err(self.mistake(self.place_of("text_length"), reason));
        }
        let sampling = config.sampling.as_ref().map(|sampling| sampling.interval.0);
        if sampling.is_some_and(|every| !SAMPLING.contains(&every)) {
            let reason = "expected an interval from 100ms to 1min in [sampling]";
            return Err(self.mistake(self.place_of("[sampling]"), reason.to_owned()));
        }
        for server in &config.server {
            if server.password_command.as_ref().is_some_and(Vec::is_empty) {
                let reason = "expected a program in password_command";
                return Err(self.mistake(server.dsn.span().start, reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mutation::mutated;

    fn parse(text: &str) -> Result<Config, String> {
        let loaded = Loaded::parse(Source { file: "pgvitals.toml".into(), text: text.to_owned().into() });
        loaded.map(|loaded| loaded.config).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_listens_on_loopback_and_discovers() {
        let config = parse("").unwrap();
        assert_eq!(config.listen, ["127.0.0.1:9187"]);
        assert!(config.discovery.enabled && config.graphite.is_none());
    }

    #[test]
    fn a_mistake_names_file_and_line_and_no_password() {
        for (text, expected) in [
            ("\nlisten = 1", "pgvitals.toml:2: invalid type: integer, expected a string or a list of strings"),
            ("listen = []", "pgvitals.toml:1: invalid length 0, expected at least one address"),
            (
                "[host]\nprocs = \"/\"",
                "pgvitals.toml:2: unknown field `procs`, expected one of `enabled`, `proc`, `sys`",
            ),
            ("[host]\nenabled = \"maybe\"", "pgvitals.toml:2: expected true, false or \"auto\""),
            ("[history]\ninterval = \"0s\"", "pgvitals.toml:1: expected an interval of 1s or more in [history]"),
            (
                "[sampling]\ninterval = \"1ms\"",
                "pgvitals.toml:1: expected an interval from 100ms to 1min in [sampling]",
            ),
            ("[[server]]\nname = \"a\"", "pgvitals.toml:1: missing field `dsn`"),
            ("[statements]\ntext_length = 0", "pgvitals.toml:2: expected a text_length of 1 to 2000"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
        for text in [
            "[[server]]\ndsn = \"password=canary\"\nx=1",
            "server = \"postgresql://u:canary@h\"",
            "[[server]]\ndsn = \"host=h\"\npassword_command = \"cat canary\"",
            "[[server]]\n\"postgresql://u:canary@h\" = 1",
            "[graphite]\naddress = \"x\"\ninterval = \"postgresql://u:canary@h\"",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("pgvitals.toml:") && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn patterns_of_a_server_take_the_place_of_those_for_all() {
        let text = "[databases]\nexclude = [\"x\"]\nmax = 7\n[[server]]\ndsn = \"\"\n\
                    [[server]]\ndsn = \"\"\ninclude_databases = [\"app_*\"]";
        let config = parse(text).unwrap();
        let own: Vec<_> = config.server.iter().map(|server| server.databases(&config.databases)).collect();
        let expected = Databases { include: vec!["app_*".to_owned()], exclude: vec!["x".to_owned()], max: 7 };
        assert_eq!(own, [None, Some(expected)]);
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = "[[server]]\nname = \"a\"\ndsn = \"password=canary\"\npassword_command = [\"cat\", \"canary\"]";
        let loaded = Loaded::parse(Source { file: "pgvitals.toml".into(), text: text.to_owned().into() }).unwrap();
        assert!(!format!("{loaded:?} {loaded:#?}").contains("canary"), "{loaded:?}");
    }

    fn opened_example() -> String {
        let is_key = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let is_setting =
            |text: &&str| text.starts_with('[') || text.split_once(" = ").is_some_and(|(key, _)| is_key(key));
        let open = |line| str::strip_prefix(line, "# ").filter(is_setting).unwrap_or(line);
        include_str!("../docs/pgvitals.toml").lines().map(open).collect::<Vec<_>>().join("\n")
    }

    proptest::proptest! {
        #[test]
        fn no_change_of_the_file_makes_the_reader_panic(text in mutated(opened_example())) {
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines = text.matches('\n').count() + 1;
            if let Err(SourceError::Mistake { line, .. }) = Loaded::parse(Source { file: "x".into(), text: text.into() }) {
                proptest::prop_assert!((1..=lines).contains(&line));
            }
        }
    }

    #[test]
    fn the_example_file_is_valid_as_it_is_and_with_all_that_is_commented_out() {
        let example = include_str!("../docs/pgvitals.toml");
        let as_it_is = parse(example).unwrap();
        assert_eq!(format!("{as_it_is:?}"), format!("{:?}", Config::default()));
        let config = parse(&opened_example()).unwrap();
        assert!(config.web.config_file.is_some());
        assert!(config.sampling.is_some());
        assert!(config.checks.is_some() && config.graphite.is_some() && config.discovery.user.is_some());
        assert_eq!((config.server.len(), config.check.len()), (1, 2));
        assert!(config.server.iter().all(|server| server.password_command.is_some()));
    }
}
