//! Of the definitions in the binary those that a few checks need: who asks for one verdict need not read all files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::definition::{Definition, Mistake};
use super::files::{Files, parsed};
use super::{Catalog, providers, row_set};
use crate::check::{self, Rule};
use crate::metric::SUFFIXES;

impl Catalog {
    /// The built-in checks of these names with what their rules read and are explained by; none where one of them is no
    /// built-in check, so that only the whole catalog can say what there is.
    ///
    /// A file is read when a name that is looked for stands between quotes in it. Whether it is there for what was sought, the
    /// reader of definitions says as of every file.
    pub fn built_in_of(checks: &BTreeSet<&str>) -> Option<Self> {
        let mut few = Few { files: Files::built_in(), read: BTreeMap::new() };
        let is_asked = |rule: &&Rule| checks.contains(rule.name());
        let with_rules = few.mentioning(checks, |definition| definition.rules.iter().any(|rule| is_asked(&rule)))?;
        let rules: Vec<Rule> = with_rules.iter().flat_map(|it| it.rules.iter().filter(is_asked).cloned()).collect();
        let metrics: BTreeSet<&str> = rules.iter().flat_map(|rule| rule.expression().metrics()).collect();
        let makes = |definition: &Definition| {
            definition.metrics.iter().any(|column| metrics.iter().any(|metric| column.makes(metric)))
        };
        let sought = metrics.iter().flat_map(|metric| {
            let stems = SUFFIXES.iter().filter_map(|suffix| metric.strip_suffix(suffix));
            stems.chain([*metric])
        });
        let making = few.mentioning(&sought.collect(), makes)?;
        let explaining: BTreeSet<&str> =
            rules.iter().filter_map(|rule| Some(rule.explain()?.listing.as_str())).collect();
        let shown: BTreeSet<&str> = making.iter().filter_map(|it| Some(it.texts.as_ref()?.of.as_str())).collect();
        for name in explaining.iter().chain(&shown) {
            few.read(name).ok()?;
        }
        let listings = few.files.listings.iter().filter(|(name, _)| explaining.contains(name.as_str()));
        let listings = listings.map(|(name, source)| parsed(Definition::parse_listing, name, source));
        let listings: Vec<_> = listings.collect::<Result<_, _>>().ok()?;
        let files = few.read.keys().filter_map(|name| Some(few.files.definitions.get(name)?.file.clone())).collect();
        let definitions: Vec<_> = few.read.into_values().collect();
        let is_whole = checks.iter().all(|name| rules.iter().any(|rule| rule.name() == *name))
            && metrics.iter().all(|metric| !providers(&definitions, metric).is_empty())
            && explaining.iter().all(|name| row_set(&definitions, &listings, name).is_some());
        let few = Self {
            checks: check::group(rules),
            files,
            definitions,
            listings,
            text_length: None,
            unread: Default::default(),
        };
        is_whole.then_some(few)
    }
}

/// Files, and what was read of them.
struct Few {
    files: Files,
    read: BTreeMap<String, Arc<Definition>>,
}

impl Few {
    /// Reads the files that mention one of these names, and keeps those that are wanted.
    fn mentioning(
        &mut self,
        names: &BTreeSet<&str>,
        is_wanted: impl Fn(&Definition) -> bool,
    ) -> Option<Vec<Arc<Definition>>> {
        let mut wanted = Vec::new();
        for (name, source) in &self.files.definitions {
            if !quoted(&source.text).any(|quoted| is_one_of(quoted, names)) {
                continue;
            }
            let definition = match self.read.get(name) {
                Some(definition) => Arc::clone(definition),
                None => parsed(Definition::parse, name, source).ok()?,
            };
            if is_wanted(&definition) {
                self.read.insert(name.clone(), Arc::clone(&definition));
                wanted.push(definition);
            }
        }
        Some(wanted)
    }

    fn read(&mut self, name: &str) -> Result<(), Mistake> {
        if let (Some(source), false) = (self.files.definitions.get(name), self.read.contains_key(name)) {
            self.read.insert(name.to_owned(), parsed(Definition::parse, name, source)?);
        }
        Ok(())
    }
}

/// Whether what is quoted is one of these names, or a template of one.
fn is_one_of(quoted: &str, names: &BTreeSet<&str>) -> bool {
    let is_made = |(stem, _): (&str, &str)| !stem.is_empty() && names.iter().any(|name| name.starts_with(stem));
    names.contains(quoted) || quoted.split_once('{').is_some_and(is_made)
}

/// What stands after ` = "` at the end of a line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (key, quoted) = line.strip_suffix('"')?.split_once('"')?;
        key.ends_with(" = ").then_some(quoted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Provider;

    #[test]
    fn a_few_checks_are_those_of_the_whole_catalog() {
        let whole = Catalog::built_in().unwrap();
        for check in whole.checks() {
            let few = Catalog::built_in_of(&BTreeSet::from([check.name()])).unwrap();
            assert_eq!(few.checks(), std::slice::from_ref(check));
            for metric in check.metrics() {
                assert_eq!(few.providers(metric), whole.providers(metric), "{}: {metric}", check.name());
                for provider in whole.providers(metric) {
                    let Provider::Definition(name) = provider else { continue };
                    assert_eq!(few.definition(name).unwrap().text, whole.definition(name).unwrap().text);
                }
            }
            for explain in check.rules().iter().filter_map(Rule::explain) {
                let text = |of: &Catalog| of.listing(&explain.listing).unwrap().text.clone();
                assert_eq!(text(&few), text(&whole));
            }
            assert!(few.definitions().len() < whole.definitions().len() / 2, "{}", check.name());
        }
        let two = Catalog::built_in_of(&BTreeSet::from(["connections", "archiver"])).unwrap();
        let names: Vec<&str> = two.checks().iter().map(check::Check::name).collect();
        assert_eq!(names, ["archiver", "connections"]);
    }

    #[test]
    fn what_is_no_built_in_check_is_left_to_the_whole_catalog() {
        assert!(Catalog::built_in_of(&BTreeSet::from(["connections", "none"])).is_none());
    }
}
