//! A definition: one subject, how to ask for it, and what the answer is called.

pub(super) mod parts;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::column::{MetricColumn, metric_column};
use super::format::{FileSpec, Role, Scope, Version};
use super::need::Need;
use crate::check::Rule;
use crate::source::line_of;
use crate::unit::Span;
use parts::label_names;

const FRESH_FOR: Duration = Duration::from_secs(1);
/// In database scope each answer costs a session per database.
const FRESH_FOR_IN_DATABASES: Duration = Duration::from_secs(60);
/// The label of every sample in database scope.
pub const DATNAME: &str = "datname";

/// One subject of a server: a parsed and checked `checks/*.toml`.
#[derive(Debug)]
pub struct Definition {
    /// The file's name without its extension.
    pub name: String,
    /// What the subject is and why one looks at it.
    pub help: String,
    /// Where the query runs.
    pub scope: Scope,
    /// What our role must be allowed: without it the server refuses, or blanks what belongs to others, as
    /// `pg_stat_activity` does.
    pub needs: Vec<Need>,
    /// The role in which the query runs.
    pub role: Role,
    /// Whether what `needs` says is more than a monitoring role usually has, so that who has it not misses nothing.
    pub optional: bool,
    /// The extension that the query needs; `since` then counts its versions.
    pub extension: Option<String>,
    /// Whether the extension answers only where `shared_preload_libraries` has it.
    pub preload: bool,
    /// Whether it is asked between readings, where `[sampling]` says so, and all its answers are added up.
    pub sampled: bool,
    /// How long a result may be used again.
    pub fresh_for: Duration,
    /// After this time the query is cancelled.
    pub timeout: Duration,
    /// The bound on label rows.
    pub top: Option<Top>,
    /// In database scope, patterns of which a database's name must match one; none for all databases.
    pub databases: Option<Vec<String>>,
    /// Schemas in which names without one are looked up, after `pg_catalog`; none for the built-in definitions.
    pub search_path: Vec<String>,
    /// Of which other definition it has the texts; then it is asked only where the configuration wants texts.
    pub texts: Option<Texts>,
    /// Oldest first.
    pub queries: Vec<Query>,
    /// What the columns are called.
    pub metrics: Vec<MetricColumn>,
    /// When its families are a problem.
    pub rules: Vec<Rule>,
    /// The line of the file at which each of them begins.
    pub rule_lines: Vec<usize>,
    /// The file as it was written.
    pub text: Cow<'static, str>,
}

/// The bound on label rows: the `keep` largest by `rank_by` are shown, all others become one row `other`, or the remainder
/// of counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// How many rows stay.
    pub keep: usize,
    /// The column that decides.
    pub rank_by: String,
}

/// Texts are asked for once: only for the keys that another definition shows and that are not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The definition that shows the keys.
    pub of: String,
    /// The label, of both definitions, with the key.
    pub key: String,
    /// The label with the text, of which only the words are shown.
    pub text: String,
    /// They are asked for again after this time at the earliest, however many new keys there are.
    pub at_most_every: Duration,
}

/// What stands in the SQL for a literal with the keys that are asked for, separated by commas.
pub const WANTED: &str = "{wanted}";

/// How to ask, from one version on.
#[derive(Debug)]
pub struct Query {
    /// The oldest version of the server or the extension that knows this query.
    pub since: Version,
    /// The statement; `{schema}` stands for the schema of the extension.
    pub sql: String,
}

impl Definition {
    /// The newest query that this version is new enough for.
    pub fn query_for(&self, version: Version) -> Option<&Query> {
        self.queries.iter().rev().find(|query| query.since <= version)
    }

    /// Every column that a query must return.
    pub fn columns(&self) -> BTreeSet<&str> {
        let mut columns: BTreeSet<&str> = self.top.iter().map(|top| top.rank_by.as_str()).collect();
        for metric in &self.metrics {
            columns.insert(&metric.column);
            columns.extend(metric.labels.iter().map(String::as_str));
            columns.extend(metric.template_columns());
        }
        columns
    }

    /// Whether every query mentions a column of this name.
    pub(super) fn names_column(&self, name: &str) -> bool {
        let words = |sql: &str| sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| word == name);
        self.queries.iter().all(|query| words(&query.sql))
    }

    /// Parses and checks a file.
    ///
    /// # Errors
    ///
    /// The first mistake found: where it is in `text`, and what was expected there.
    pub fn parse(name: &str, text: &str) -> Result<Self, Mistake> {
        let (definition, spec) = Self::read(name, text)?;
        definition.check(&spec)?;
        Ok(definition)
    }

    /// Parses and checks a file without metrics: a row set that is asked for by name.
    ///
    /// # Errors
    ///
    /// As [`Definition::parse`].
    pub fn parse_listing(name: &str, text: &str) -> Result<Self, Mistake> {
        let (definition, spec) = Self::read(name, text)?;
        let refuse = |at: Range<usize>, reason: &str| Err(Mistake { at, reason: reason.to_owned() });
        match &spec {
            FileSpec { query, .. } if query.is_empty() => refuse(0..0, "expected at least one [[query]]"),
            FileSpec { metric, .. } if let [first, ..] = metric.as_slice() => {
                refuse(first.span(), "a listing has no metrics: expected the file in the folder above")
            }
            FileSpec { rule, .. } if let [first, ..] = rule.as_slice() => {
                refuse(first.span(), "a listing has no rules")
            }
            FileSpec { labels, .. } if let [first, ..] = labels.as_slice() => {
                refuse(first.span(), "a listing has no labels: its rows are given as they are")
            }
            FileSpec { max_series: Some(bound), .. } => refuse(bound.span(), "a listing has no series"),
            FileSpec { sampled: Some(sampled), .. } => refuse(sampled.span(), "a listing is not sampled"),
            FileSpec { texts: Some(texts), .. } => refuse(texts.span(), "a listing has no [texts]"),
            _ => Ok(definition),
        }
    }

    fn read(name: &str, text: &str) -> Result<(Self, FileSpec), Mistake> {
        let spec: FileSpec = toml::from_str(text).map_err(|error| Mistake {
            at: error.span().unwrap_or_default(),
            reason: error.message().trim_end().replace('\n', ", "),
        })?;
        let labels = label_names(&spec.labels, spec.scope)?;
        let fresh_for = match spec.scope {
            Scope::Server => FRESH_FOR,
            Scope::Database => FRESH_FOR_IN_DATABASES,
        };
        let mut definition = Self {
            name: name.to_owned(),
            help: spec.help.clone(),
            scope: spec.scope,
            role: spec.role,
            needs: parts::needs(&spec)?,
            optional: spec.optional,
            extension: parts::extension(&spec)?,
            preload: parts::preload(&spec)?,
            sampled: parts::sampled(&spec)?,
            fresh_for: spec.fresh_for.map_or(fresh_for, |Span(span)| span),
            timeout: parts::timeout(&spec)?,
            top: parts::top(&spec)?,
            databases: parts::databases(&spec)?,
            search_path: parts::search_path(&spec)?,
            texts: parts::texts(&spec)?,
            queries: parts::queries(text, &spec)?,
            metrics: spec
                .metric
                .iter()
                .map(|metric| metric_column(metric, &labels, spec.scope))
                .collect::<Result<_, _>>()?,
            rules: parts::rules(&spec)?,
            rule_lines: spec.rule.iter().map(|rule| line_of(text, rule.span().start)).collect(),
            text: Cow::Owned(text.to_owned()),
        };
        definition.open_path();
        Ok((definition, spec))
    }

    /// Puts the schemas before each query. They last as long as the message that both are sent in: what runs next in the
    /// session, or behind a pooler, looks in `pg_catalog` alone again.
    fn open_path(&mut self) {
        if self.search_path.is_empty() {
            return;
        }
        let schemas = self.search_path.iter().map(|schema| format!("\"{}\"", schema.replace('"', "\"\"")));
        let schemas = schemas.collect::<Vec<_>>().join(", ");
        for query in &mut self.queries {
            query.sql = format!("SET LOCAL search_path = pg_catalog, {schemas}, pg_temp;\n{}", query.sql);
        }
    }

    fn check(&self, spec: &FileSpec) -> Result<(), Mistake> {
        if let (Some(query), true) = (spec.query.first(), self.metrics.is_empty()) {
            return Err(Mistake::at(query, "expected at least one [[metric]] for this query"));
        }
        if let (Some(metric), true) = (spec.metric.first(), self.queries.is_empty()) {
            return Err(Mistake::at(metric, "expected at least one [[query]] for this metric"));
        }
        let mut known: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        for metric in &spec.metric {
            let name = &metric.get_ref().name;
            if known.insert(name.get_ref(), name.span()).is_some() {
                return Err(Mistake::at(name, format!("metric `{}` stands twice in this file", name.get_ref())));
            }
        }
        let mut written =
            spec.labels.iter().chain(spec.metric.iter().flat_map(|it| it.get_ref().labels.iter().flatten()));
        if let (Scope::Database, None, Some(label)) = (self.scope, &self.top, written.next()) {
            let reason = "expected `max_series`: in database scope labels multiply by the number of databases";
            return Err(Mistake::at(label, reason));
        }
        self.check_columns(spec)
    }

    /// A column that a query never mentions is a typing mistake, seen here before any server is asked.
    fn check_columns(&self, spec: &FileSpec) -> Result<(), Mistake> {
        let own = spec.metric.iter().flat_map(|metric| {
            let metric = metric.get_ref();
            metric.labels.iter().flatten().chain([&metric.column])
        });
        let named: Vec<&Spanned<String>> = spec.labels.iter().chain(&spec.rank_by).chain(own).collect();
        for query in &self.queries {
            let words: HashSet<&str> = query.sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
            if let Some(column) = named.iter().find(|column| !words.contains(column.get_ref().as_str())) {
                let (name, since) = (column.get_ref(), query.since);
                return Err(Mistake::at(column, format!("no column `{name}` in the query since {since}")));
            }
            for (metric, spec) in self.metrics.iter().zip(&spec.metric) {
                if let Some(name) = metric.template_columns().find(|name| !words.contains(name)) {
                    let reason = format!("no column `{name}` in the query since {}", query.since);
                    return Err(Mistake::at(&spec.get_ref().name, reason));
                }
            }
        }
        Ok(())
    }
}

/// What is wrong in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The bytes of the file that it is about.
    pub at: Range<usize>,
    /// What was expected.
    pub reason: String,
}

impl Mistake {
    pub(super) fn at<T>(place: &Spanned<T>, reason: impl Into<String>) -> Self {
        Self { at: place.span(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mutation::mutated;

    /// With every kind of table that a definition has.
    const EVERYTHING: &str = include_str!("../../checks/replication.toml");
    const GOOD: &str = r#"
help = "Checkpoints"
labels = ["who"]

[[query]]
since = 10
sql = "SELECT 'x' AS who, checkpoints_timed AS timed FROM pg_catalog.pg_stat_bgwriter"

[[query]]
since = 17
sql = "SELECT 'x' AS who, num_timed AS timed FROM pg_catalog.pg_stat_checkpointer"

[[metric]]
name = "pg_checkpoints_timed_total"
type = "counter"
column = "timed"
help = "Checkpoints by time"
"#;

    fn mistake(from: &str, to: &str) -> (usize, String) {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "nothing replaced");
        let mistake = Definition::parse("checkpoints", &text).expect_err("a mistake");
        let before = text.get(..mistake.at.start).unwrap();
        (before.lines().count() + usize::from(before.ends_with('\n')), mistake.reason)
    }

    proptest::proptest! {
        #[test]
        fn no_change_of_a_definition_makes_the_reader_panic(text in mutated(EVERYTHING)) {
            let text = String::from_utf8_lossy(&text);
            if let Err(mistake) = Definition::parse("replication", &text) {
                proptest::prop_assert!(mistake.at.start <= text.len());
                proptest::prop_assert!(!mistake.reason.is_empty());
            }
        }
    }

    #[test]
    fn the_newest_query_that_a_server_is_new_enough_for_is_taken() {
        let definition = Definition::parse("checkpoints", GOOD).unwrap();
        let since = |number| definition.query_for(Version::of_server(number)).map(|query| query.since.major);
        assert_eq!(
            [since(90_624), since(100_023), since(160_014), since(170_000), since(190_001)],
            [None, Some(10), Some(10), Some(17), Some(17)]
        );
    }

    #[test]
    fn a_mistake_names_its_line_and_what_was_expected() {
        for (from, to, line, reason) in [
            ("help = \"Checkpoints\"", "help = \"Checkpoints\"\ncolour = 1", 3, "unknown field `colour`"),
            ("since = 17", "since = \"x\"", 10, "expected a version"),
            ("since = 17", "since = 10", 10, "above 10"),
            ("column = \"timed\"", "column = \"timd\"", 16, "no column `timd` in the query since 10"),
            ("column = \"timed\"", "column = \"Timed\"", 16, "expected an SQL identifier"),
            ("labels = [\"who\"]", "labels = [\"server\"]", 3, "every sample gets the label"),
            ("\"pg_checkpoints_timed_total\"", "\"pg checkpoints\"", 14, "expected a metric name"),
            ("\"pg_checkpoints_timed_total\"", "\"node_x\"", 14, "agent's own"),
            ("labels = [\"who\"]", "labels = [\"who\"]\nmax_series = 3", 4, "expected `rank_by`"),
            ("labels = [\"who\"]", "labels = [\"who\"]\ntimeout = \"0s\"", 4, "above 0"),
            ("labels = [\"who\"]", "labels = [\"who\"]\nsampled = true\nscope = \"database\"", 4, "once per server"),
            ("\"counter\"", "\"histogram\"", 15, "expected `buckets`"),
            ("\"counter\"", "\"gauge\"\nbuckets = [1]", 16, "only a histogram"),
            ("\"counter\"", "\"histogram\"\nbuckets = [5, 1]", 16, "expected up to 30 rising numbers"),
            ("\"counter\"", "\"histogram\"\nbuckets = [1]\nmerge = \"max\"", 17, "no `merge`"),
            ("\"counter\"", "\"histogram\"\nbuckets = [1]\nremember = true", 14, "no `remember`"),
            ("labels = [\"who\"]", "labels = [\"who\"]\nscope = \"galaxy\"", 4, "unknown variant `galaxy`"),
            ("labels = [\"who\"]", "labels = [\"who\"]\nneeds = [\n\"monitor\"]", 5, "expected a predefined role"),
            ("labels = [\"who\"]", "labels = [\"who\"]\npreload = true", 4, "expected `extension`"),
            ("labels = [\"who\"]", "labels = [\"who\"]\nscope = \"database\"", 3, "expected `max_series`"),
            ("labels = [\"who\"]", "labels = [\"who\"]\ndatabases = [\"app\"]", 4, "expected `scope = \"database\"`"),
            ("labels = [\"who\"]", "labels = [\"who\"]\nsearch_path = [\"\"]", 4, "the name of a schema"),
            ("labels = [\"who\"]", "labels = [\"datname\"]\nscope = \"database\"", 3, "`datname` already"),
        ] {
            let (found, text) = mistake(from, to);
            assert!(text.contains(reason), "{to}: {text}");
            assert_eq!(found, line, "{to}: {text}");
        }
    }

    #[test]
    fn a_search_path_holds_for_its_own_query_only() {
        let head = "labels = [\"who\"]\nsearch_path = [\"shop\", \"a\\\"b\"]";
        let definition = Definition::parse("checkpoints", &GOOD.replace("labels = [\"who\"]", head)).unwrap();
        let (path, rest) = definition.queries[1].sql.split_once('\n').unwrap();
        assert_eq!(path, r#"SET LOCAL search_path = pg_catalog, "shop", "a""b", pg_temp;"#);
        assert!(rest.starts_with("SELECT"), "{rest}");
    }

    #[test]
    fn what_is_sampled_is_a_counter() {
        let sampled = format!("sampled = true{GOOD}");
        assert!(Definition::parse("checkpoints", &sampled).unwrap().sampled);
        let mistake = Definition::parse("checkpoints", &sampled.replace("counter", "gauge")).unwrap_err();
        assert!(mistake.reason.contains("added up"), "{}", mistake.reason);
    }

    #[test]
    fn in_database_scope_every_metric_has_the_label_of_the_database_first() {
        let head = "labels = [\"who\"]\nscope = \"database\"\nmax_series = 3\nrank_by = \"timed\"";
        let definition = Definition::parse("checkpoints", &GOOD.replace("labels = [\"who\"]", head)).unwrap();
        assert_eq!(definition.metrics[0].labels, ["datname", "who"]);
        assert_eq!(definition.fresh_for, Duration::from_secs(60));
    }

    #[test]
    fn a_name_with_a_placeholder_makes_every_family_with_its_stem() {
        let text = GOOD.replace("\"pg_checkpoints_timed_total\"", "\"pg_settings_{who}\"");
        let definition = Definition::parse("settings", &text).unwrap();
        assert!(definition.metrics[0].makes("pg_settings_work_mem"));
        assert!(!definition.metrics[0].makes("pg_setting"));
        assert_eq!(definition.columns().into_iter().collect::<Vec<_>>(), ["timed", "who"]);
    }
}
