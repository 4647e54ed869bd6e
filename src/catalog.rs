//! The catalog: every definition, from the copies in the binary and from a folder that may replace them.
//!
//! Built-in definitions are embedded copies of the files users write. A file of the same name in the `checks.d` folder
//! replaces the built-in one; any other file there is one more definition. The folder `listings` in either holds row sets
//! without metrics, which nobody reads but who asks for one by name.

mod column;
mod consistent;
mod definition;
mod few;
mod files;
mod format;
mod fragment;
mod need;
mod statement;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use column::MetricColumn;
pub(crate) use column::wrong_bounds;
pub use definition::{DATNAME, Definition, Mistake, Query, Texts, Top, WANTED};
pub use format::{Role, Scope, Version};
pub use need::{Grantee, Lack, Need, Schema};

use crate::check::{self, Check, Rule};
use crate::collect::host;
use crate::source::SourceError;
use files::{Files, Unread, parse_all};

/// Every definition and the checks that their rules make.
#[derive(Debug)]
pub struct Catalog {
    definitions: Vec<Arc<Definition>>,
    listings: Vec<Arc<Definition>>,
    checks: Vec<Check>,
    /// The file of each definition, in their order.
    files: Vec<PathBuf>,
    /// How many characters of each text are shown; none: no definition of texts is asked.
    text_length: Option<usize>,
    /// Built-in listings and definitions that nobody has asked for yet.
    unread: [BTreeMap<String, Unread>; 2],
}

/// What provides a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider<'a> {
    /// A definition, asked on every server.
    Definition(&'a str),
    /// A host collector.
    Host(&'a str),
    /// The agent itself, always: `pg_up` and `pgvitals_*`.
    Agent,
}

impl Catalog {
    /// The built-in definitions alone.
    ///
    /// # Errors
    ///
    /// A built-in definition is wrong, which the tests exclude.
    pub fn built_in() -> Result<Self, SourceError> {
        Self::from_files(&Files::built_in())
    }

    /// The built-in definitions with those of a folder in their place or beside them.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or a definition is wrong: the first mistake found.
    pub fn load(folder: &Path) -> Result<Self, SourceError> {
        Self::from_files(&Files::built_in().with(folder)?)
    }

    /// A catalog that is only asked for row sets by their names. The built-in ones are parsed when they are: a command that
    /// has one question need not read all.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or a definition in it is wrong.
    pub fn of_rows(folder: Option<&Path>) -> Result<Self, SourceError> {
        let own = folder.map_or_else(|| Ok(Files::default()), |folder| Files::default().with(folder))?;
        let built_in = Files::built_in();
        Ok(Self {
            definitions: parse_all(&own.definitions, Definition::parse)?,
            listings: parse_all(&own.listings, Definition::parse_listing)?,
            checks: Vec::new(),
            files: own.definitions.into_values().map(|source| source.file).collect(),
            text_length: None,
            unread: [built_in.listings, built_in.definitions].map(Unread::all),
        })
    }

    fn from_files(files: &Files) -> Result<Self, SourceError> {
        let definitions = parse_all(&files.definitions, Definition::parse)?;
        let listings = parse_all(&files.listings, Definition::parse_listing)?;
        consistent::check(&definitions, &listings, &files.definitions)?;
        let rules = definitions.iter().flat_map(|definition| definition.rules.iter().cloned());
        Ok(Self {
            checks: check::group(rules),
            files: files.definitions.values().map(|source| source.file.clone()).collect(),
            definitions,
            listings,
            text_length: None,
            unread: Default::default(),
        })
    }

    /// The same, in which the definitions of texts are asked and show so many characters of each; none: they are not asked.
    #[must_use]
    pub fn with_texts(self, text_length: Option<usize>) -> Self {
        Self { text_length, ..self }
    }

    /// How many characters of each text are shown.
    pub fn text_length(&self) -> Option<usize> {
        self.text_length
    }

    /// The definitions, by name. Some hold rules only.
    pub fn definitions(&self) -> &[Arc<Definition>] {
        &self.definitions
    }

    /// The definitions that ask something, by name.
    pub fn asking(&self) -> impl Iterator<Item = &Arc<Definition>> {
        let is_wanted = |definition: &&Arc<Definition>| definition.texts.is_none() || self.text_length.is_some();
        self.definitions.iter().filter(|definition| !definition.queries.is_empty()).filter(is_wanted)
    }

    /// Everything that definitions and listings need, once each and always in the same order.
    pub fn needs(&self) -> Vec<Need> {
        let asked = self.asking().chain(&self.listings);
        let needs: BTreeSet<&Need> = asked.flat_map(|definition| &definition.needs).collect();
        needs.into_iter().cloned().collect()
    }

    /// The definition of this name.
    pub fn definition(&self, name: &str) -> Option<&Arc<Definition>> {
        self.definitions.iter().find(|definition| definition.name == name)
    }

    /// The row sets that are asked for by name, by name.
    pub fn listings(&self) -> &[Arc<Definition>] {
        &self.listings
    }

    /// The row set of this name: a listing, else what a definition asks.
    pub fn listing(&self, name: &str) -> Option<&Arc<Definition>> {
        let [listings, definitions] = &self.unread;
        let listing = self.listings.iter().find(|listing| listing.name == name);
        let listing = listing.or_else(|| listings.get(name)?.read(name, Definition::parse_listing));
        let asks = |definition: &&Arc<Definition>| !definition.queries.is_empty();
        let definition = || self.definition(name).or_else(|| definitions.get(name)?.read(name, Definition::parse));
        listing.or_else(|| definition().filter(asks))
    }

    /// Whether another catalog asks by the same definitions.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        fn texts(catalog: &Catalog) -> impl Iterator<Item = (&str, &str)> {
            catalog
                .asking()
                .chain(&catalog.listings)
                .map(|definition| (definition.name.as_str(), definition.text.as_ref()))
        }
        self.text_length == other.text_length && texts(self).eq(texts(other))
    }

    /// The checks, by name.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name() == name)
    }

    /// Every rule as it is written, with its file and line there; of built-in ones `checks/NAME.toml`.
    pub fn rules(&self) -> impl Iterator<Item = (&Path, usize, &Rule)> {
        self.definitions.iter().zip(&self.files).flat_map(|(definition, file)| {
            let lines = definition.rule_lines.iter();
            definition.rules.iter().zip(lines).map(|(rule, line)| (file.as_path(), *line, rule))
        })
    }

    /// The names of everything that is asked: definitions with a query, then host collectors.
    pub fn collectors(&self) -> impl Iterator<Item = &str> {
        self.asking()
            .map(|definition| definition.name.as_str())
            .chain(host::COLLECTORS.iter().map(|collector| collector.name))
    }

    /// What provides the family of this name: one, or two definitions of which each is asked in another role.
    pub fn providers(&self, family: &str) -> Vec<Provider<'_>> {
        providers(&self.definitions, family)
    }
}

fn row_set<'a>(
    definitions: &'a [Arc<Definition>],
    listings: &'a [Arc<Definition>],
    name: &str,
) -> Option<&'a Arc<Definition>> {
    let definitions = definitions.iter().filter(|definition| !definition.queries.is_empty());
    listings.iter().chain(definitions).find(|definition| definition.name == name)
}

fn providers<'a>(definitions: &'a [Arc<Definition>], family: &str) -> Vec<Provider<'a>> {
    if let Some(collector) = host::COLLECTORS.iter().find(|collector| collector.gives(family)) {
        return vec![Provider::Host(collector.name)];
    }
    if family == "pg_up" || family.starts_with("pgvitals_") {
        return vec![Provider::Agent];
    }
    let makes = |definition: &&Arc<Definition>| definition.metrics.iter().any(|metric| metric.makes(family));
    let mut making = definitions.iter().filter(makes);
    let Some(first) = making.next() else { return Vec::new() };
    let other = making.find(|other| !consistent::meet(first, other));
    [Some(first), other].into_iter().flatten().map(|definition| Provider::Definition(&definition.name)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::metric::Merge;

    pub(super) fn load(files: &[(&str, &str)]) -> Result<Catalog, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Catalog::load(folder.path())
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), ""))
    }

    pub(super) const MINE: &str = r#"
help = "Mine"
[[query]]
since = 10
sql = "SELECT 1 AS one"
[[metric]]
name = "pg_mine"
type = "gauge"
column = "one"
help = "One"
"#;

    #[test]
    fn every_built_in_definition_is_right() {
        let catalog = Catalog::built_in().unwrap_or_else(|error| panic!("{error}"));
        assert!(catalog.definitions().len() > 10);
    }

    #[test]
    fn every_built_in_query_names_the_schema_of_what_it_reads() {
        let catalog = Catalog::built_in().unwrap();
        for definition in catalog.definitions().iter().chain(catalog.listings()) {
            for query in &definition.queries {
                let sql: Vec<&str> = query.sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
                // Between quotes stand values.
                let sql = sql.join(" ").split('\'').step_by(2).collect::<Vec<_>>().join("''");
                let words: Vec<&str> = sql.split_whitespace().collect();
                for triple in words.windows(3).filter(|triple| ["FROM", "JOIN"].contains(&triple[1])) {
                    let read = triple[2].trim_matches(|c| ",;)".contains(c));
                    // The last two put their tables in schemas of these names.
                    let named = ["pg_catalog.", "{schema}.", "(", "LATERAL", "partman.", "pgagent."];
                    let named = named.iter().any(|start| read.starts_with(start));
                    // EXTRACT(EPOCH FROM value), IS DISTINCT FROM value and the names of the query's own WITH.
                    let value = triple[0].contains("EXTRACT(") || triple[0] == "DISTINCT";
                    let own = sql.contains(&format!("{read} AS (")) || sql.contains(&format!("{read}("));
                    assert!(named || own || value, "{} since {}: {read}", definition.name, query.since);
                }
            }
        }
    }

    #[test]
    fn no_built_in_query_looks_for_names_outside_of_pg_catalog() {
        for definition in Catalog::built_in().unwrap().definitions() {
            assert!(definition.search_path.is_empty(), "{}", definition.name);
        }
    }

    /// What the grammar itself makes of these is `pg_catalog`'s, whatever the search path; none of them is a name.
    const GRAMMAR: &str = "AND ANY ARRAY AS ASC BY CASE COALESCE DISTINCT ELSE EXISTS EXTRACT FILTER FROM GREATEST IN JOIN LATERAL LEAST \
                           NOT NULLIF ON OR OVER SELECT THEN UNION ALL VALUES WHEN WHERE XMLTABLE";
    const GRAMMAR_TYPES: &str = "bigint boolean integer interval numeric smallint";

    /// The functions and types that a statement finds by its search path.
    fn found_by_path(sql: &str) -> Vec<String> {
        let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
        let code = lines.collect::<Vec<_>>().join("\n");
        // Between quotes stand values.
        let code = code.split('\'').step_by(2).collect::<Vec<_>>().join("''");
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.{}".contains(c);
        let word_before = |end: usize| {
            let start = code[..end].rfind(|c| !is_name(c)).map_or(0, |at| at + 1);
            (start, &code[start..end])
        };
        let mut found = Vec::new();
        for (at, _) in code.match_indices('(') {
            let (start, word) = word_before(code[..at].trim_end().len());
            // `AS name(column)` names the columns of what stands before it, `WITH RECURSIVE name(column)` its own.
            let before = word_before(code[..start].trim_end().len()).1;
            let names_columns = before.ends_with("AS") || before == "RECURSIVE";
            let is_grammar = word.is_empty() || GRAMMAR.split(' ').any(|known| known == word);
            if !(is_grammar || names_columns || ["pg_catalog.", "{schema}."].iter().any(|it| word.starts_with(it))) {
                found.push(word.to_owned());
            }
        }
        for (at, _) in code.match_indices("::") {
            let word = code[at + 2..].split(|c| !is_name(c)).next().unwrap_or_default();
            if !word.starts_with("pg_catalog.") && !GRAMMAR_TYPES.split(' ').any(|known| known == word) {
                found.push(word.to_owned());
            }
        }
        found
    }

    #[test]
    fn every_built_in_query_names_the_schema_of_functions_and_types() {
        let sql = "SELECT count(*), a.b (1), pg_catalog.now() -- x(1)\n, 'y(1)', 1::text, EXTRACT(EPOCH FROM z) FROM f() AS g(h)";
        assert_eq!(found_by_path(sql), ["count", "a.b", "f", "text"]);
        let catalog = Catalog::built_in().unwrap();
        for definition in catalog.definitions().iter().chain(catalog.listings()) {
            for query in &definition.queries {
                let found = found_by_path(&query.sql);
                assert!(found.is_empty(), "{} since {}: {found:?}", definition.name, query.since);
            }
        }
    }

    #[test]
    fn no_moment_and_no_age_is_added_up() {
        for definition in Catalog::built_in().unwrap().definitions() {
            for column in definition.metrics.iter().filter(|column| column.merge == Merge::Sum) {
                let help = column.metric.help.to_lowercase();
                let is_age = help.split(' ').any(|word| ["age", "oldest", "lag"].contains(&word));
                assert!(!is_age && !help.contains("since the epoch"), "{}: {help}", column.metric.name);
            }
        }
    }

    #[test]
    fn a_file_of_the_folder_replaces_the_built_in_one_of_its_name() {
        let catalog =
            load(&[("archiver.toml", MINE), ("archiver.toml.bak", "junk"), ("mine.toml", "help = \"x\"")]).unwrap();
        assert_eq!(catalog.definition("archiver").unwrap().help, "Mine");
        assert!(catalog.definition("mine").is_some());
        assert_eq!(catalog.providers("pg_mine"), [Provider::Definition("archiver")]);
    }

    #[test]
    fn a_listing_gives_rows_and_no_metric() {
        let listing = "help = \"Mine\"\n[[query]]\nsince = 10\nsql = \"SELECT 1 AS one\"\n";
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("listings")).unwrap();
        let file = folder.path().join("listings/mine.toml");
        fs::write(&file, listing).unwrap();
        let catalog = Catalog::load(folder.path()).unwrap();
        assert_eq!(catalog.listing("mine").unwrap().help, "Mine");
        assert!(catalog.definition("mine").is_none() && !catalog.collectors().any(|name| name == "mine"));
        assert!(catalog.listing("archiver").is_some(), "what a definition asks is a row set too");
        for (text, line, reason) in [
            (MINE, 6, "a listing has no metrics"),
            ("help = \"Mine\"", 1, "expected at least one [[query]]"),
            (&listing.replace("[[", "labels = [\"a\"]\n[["), 2, "a listing has no labels"),
        ] {
            fs::write(&file, text).unwrap();
            let error = Catalog::load(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("mine.toml:{line}: ")) && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn row_sets_asked_for_by_name_are_those_of_the_whole_catalog() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("archiver.toml"), MINE).unwrap();
        let (whole, rows) = (Catalog::load(folder.path()).unwrap(), Catalog::of_rows(Some(folder.path())).unwrap());
        let names = |of: &[Arc<Definition>]| of.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        for name in names(whole.listings()).into_iter().chain(names(whole.definitions())) {
            let text = |of: &Catalog| of.listing(&name).map(|it| it.text.clone());
            assert_eq!(text(&rows), text(&whole), "{name}");
        }
        assert!(rows.listing("none").is_none());
    }

    const TEXTS: &str = r#"
help = "Texts"
labels = ["id", "words"]
[texts]
of = "mine"
key = "id"
text = "words"
at_most_every = "5min"
[[query]]
since = 10
sql = "SELECT 1 AS one, id, words FROM pg_catalog.texts WHERE id = {wanted}"
[[metric]]
name = "pg_texts"
type = "gauge"
column = "one"
help = "One"
"#;

    #[test]
    fn texts_are_asked_where_they_are_wanted_and_of_something_that_is_shown() {
        let mine =
            MINE.replace("help = \"Mine\"", "help = \"Mine\"\nlabels = [\"id\"]").replace("AS one", "AS one, 2 AS id");
        let catalog = load(&[("mine.toml", &mine), ("texts.toml", TEXTS)]).unwrap();
        let is_asked = |catalog: &Catalog| catalog.collectors().any(|name| name == "texts");
        assert!(!is_asked(&catalog));
        let (without, with) = (load(&[]).unwrap(), catalog.with_texts(Some(10)));
        assert!(is_asked(&with) && !with.asks_the_same(&without));
        for (from, to, line, reason) in [
            ("of = \"mine\"", "of = \"archiver\"", 4, "no definition `archiver` shows a label `id`"),
            ("text = \"words\"", "text = \"word\"", 7, "expected one of the labels, got \"word\""),
            ("{wanted}", "1", 11, "expected {wanted}: the keys that are asked for"),
        ] {
            let error = load(&[("mine.toml", &mine), ("texts.toml", &TEXTS.replace(from, to))]).unwrap_err();
            assert_eq!(error, format!("/texts.toml:{line}: {reason}"));
        }
    }
}
