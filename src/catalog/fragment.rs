//! Fragments: the parts in which the query of one version differs from that of the next.
//!
//! Columns appear, move and change their names from major to major, while most of a query stays. `{name}` in its SQL is
//! the text that `[fragment.name]` has for the server's version, so that what stays is written once.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::definition::{Mistake, Query};
use super::format::{FragmentSpecs, QuerySpec, Version};

/// The texts of one fragment, by the version from which on they hold.
type Texts<'a> = BTreeMap<Version, &'a Spanned<String>>;

/// Makes one query for each version at which a text changes.
///
/// `file` is the whole text, to tell where in it a mistake is; the names in `reserved` have a meaning of their own.
///
/// # Errors
///
/// A query names a fragment that is not there or begins too late, or nobody names a fragment.
pub(super) fn expand(
    file: &str,
    specs: &[Spanned<QuerySpec>],
    fragments: &FragmentSpecs,
    reserved: &[&str],
) -> Result<Vec<Query>, Mistake> {
    let known = read(fragments, reserved)?;
    let mut used = BTreeSet::new();
    let mut queries = Vec::new();
    for (at, spec) in specs.iter().enumerate() {
        let QuerySpec { since, sql } = spec.get_ref();
        let next = specs.get(at + 1).map(|next| *next.get_ref().since.get_ref());
        let names = placeholders(sql.get_ref()).filter(|name| !reserved.contains(name));
        let names: BTreeSet<&str> = names.collect();
        let mut versions = BTreeSet::from([*since.get_ref()]);
        for name in &names {
            let texts = known.get(name).ok_or_else(|| unknown(file, sql, name))?;
            let within = |version: &&Version| *version > since.get_ref() && next.is_none_or(|next| **version < next);
            versions.extend(texts.keys().filter(within));
        }
        for version in versions {
            let mut text = sql.get_ref().trim().to_owned();
            for name in &names {
                let texts = known.get(name).into_iter().flatten();
                let Some((_, part)) = texts.rev().find(|(since, _)| **since <= version) else {
                    let reason = format!("fragment `{name}` has no text for {version}");
                    return Err(Mistake::at(since, reason));
                };
                text = text.replace(&format!("{{{name}}}"), part.get_ref().trim());
            }
            // It stays as long as the agent runs; what it took to be made does not.
            text.shrink_to_fit();
            queries.push(Query { since: version, sql: text });
        }
        used.extend(names.into_iter().map(str::to_owned));
    }
    match fragments.keys().find(|name| !used.contains(name.get_ref())) {
        Some(name) => Err(Mistake::at(name, format!("no query uses the fragment `{}`", name.get_ref()))),
        None => Ok(queries),
    }
}

fn read<'a>(fragments: &'a FragmentSpecs, reserved: &[&str]) -> Result<BTreeMap<&'a str, Texts<'a>>, Mistake> {
    let mut known = BTreeMap::new();
    for (name, specs) in fragments {
        if !is_name(name.get_ref()) || ["schema", "wanted"].contains(&name.get_ref().as_str()) {
            let name_of = name.get_ref();
            let reason =
                format!("expected a name of a-z, 0-9 and _ that is not `schema` or `wanted`, got \"{name_of}\"");
            return Err(Mistake::at(name, reason));
        }
        let mut texts = Texts::new();
        for (since, text) in specs {
            let version = since.get_ref().parse().map_err(|reason: String| Mistake::at(since, reason))?;
            if let Some(inner) = placeholders(text.get_ref()).find(|inner| !reserved.contains(inner)) {
                return Err(Mistake::at(text, format!("`{{{inner}}}`: expected no fragment within a fragment")));
            }
            texts.insert(version, text);
        }
        known.insert(name.get_ref().as_str(), texts);
    }
    Ok(known)
}

fn unknown(file: &str, sql: &Spanned<String>, name: &str) -> Mistake {
    let span = sql.span();
    let offset = file.get(span.clone()).and_then(|written| written.find(&format!("{{{name}}}"))).unwrap_or_default();
    let start = span.start + offset;
    let reason = format!("`{{{name}}}`: expected a [fragment.{name}]; an array is written as ARRAY['{name}']");
    Mistake { at: start..span.end, reason }
}

/// The names in braces. What is no name, such as the `{24}` of a pattern, is left as it is.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let inner = text.split('{').skip(1).filter_map(|piece| piece.split_once('}').map(|(name, _)| name));
    inner.filter(|name| is_name(name))
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use crate::catalog::{Definition, Version};

    const GOOD: &str = r#"
help = "Receivers"

[[query]]
since = 10
sql = '''
SELECT {lsn} AS lsn, '{24}' AS pattern
  FROM pg_catalog.pg_stat_wal_receiver
'''

[[query]]
since = 17
sql = "SELECT {lsn} AS lsn"

[fragment.lsn]
10 = "received_lsn"
13 = "flushed_lsn"
18 = "written_lsn"

[[metric]]
name = "pg_lsn"
type = "gauge"
column = "lsn"
help = "Position"
"#;

    #[test]
    fn a_query_is_made_for_each_version_at_which_a_text_changes() {
        let definition = Definition::parse("receivers", GOOD).unwrap();
        let first_words = |major| {
            let query = definition.query_for(Version { major, minor: 0 }).unwrap();
            (query.since.major, query.sql.split(" AS").next().unwrap().to_owned(), query.sql.contains("{24}"))
        };
        assert_eq!(definition.queries.len(), 4);
        assert_eq!(first_words(12), (10, "SELECT received_lsn".to_owned(), true));
        assert_eq!(first_words(16), (13, "SELECT flushed_lsn".to_owned(), true));
        assert_eq!(first_words(17), (17, "SELECT flushed_lsn".to_owned(), false));
        assert_eq!(first_words(19), (18, "SELECT written_lsn".to_owned(), false));
    }

    #[test]
    fn a_mistake_about_a_fragment_names_its_line() {
        for (from, to, line, reason) in [
            ("SELECT {lsn} AS lsn, ", "SELECT {lsn} AS lsn,\n {lns}, ", 8, "expected a [fragment.lns]"),
            ("10 = \"received_lsn\"", "11 = \"received_lsn\"", 5, "fragment `lsn` has no text for 10"),
            ("10 = \"received_lsn\"", "ten = \"received_lsn\"", 16, "expected a version"),
            (
                "[fragment.lsn]",
                "[fragment.other]\n10 = \"x\"\n[fragment.lsn]",
                15,
                "no query uses the fragment `other`",
            ),
            ("\"flushed_lsn\"", "\"{flushed}\"", 17, "no fragment within a fragment"),
            ("[fragment.lsn]", "[fragment.schema]\n10 = \"x\"\n[fragment.lsn]", 15, "that is not `schema` or `wanted`"),
            ("{lsn} AS lsn, ", "{schema} AS s, {lsn} AS lsn, ", 7, "expected a [fragment.schema]"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "nothing replaced");
            let mistake = Definition::parse("receivers", &text).expect_err(to);
            assert!(mistake.reason.contains(reason), "{to}: {}", mistake.reason);
            let found = 1 + text[..mistake.at.start].matches('\n').count();
            assert_eq!(found, line, "{to}: {}", mistake.reason);
        }
    }
}
