//! What differs, line by line, as the original tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::catalog::Kind;
use super::compare::{Difference, Found, ListDifference, Presence, Values};
use crate::sink::nagios::is_hostile;

/// What is not told.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(super) struct Rules {
    /// In which order a table has its columns.
    pub(super) without_position: bool,
    /// What functions do.
    pub(super) without_body: bool,
    /// Who may do what.
    pub(super) without_permissions: bool,
    /// How far sequences are.
    pub(super) without_sequence_values: bool,
}

/// Everything that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// So many objects.
    pub(super) count: usize,
    /// The lines.
    pub(super) text: String,
}

/// Tells of all kinds, in their order.
pub(super) fn tell(found: &[(&Kind, Found)], rules: Rules) -> Told {
    let mut told = Told::default();
    let schemas = found.iter().find(|(kind, _)| kind.name == "schema").map(|(_, found)| &found.presence);
    for (kind, found) in found {
        told.count += found.presence.len();
        for (name, (presence, table)) in &found.presence {
            if kind.name != "schema" && is_without_schema(name, presence, schemas) {
                continue;
            }
            let table = table.as_ref().filter(|table| table.chars().count() > 1);
            let table = table.map(|table| format!(" ({table})")).unwrap_or_default();
            let _ = writeln!(told.text, "{} \"{name}{table}\" does not exist on all databases:", kind.title);
            write_presence(&mut told.text, "  ", presence);
        }
        for (name, difference) in &found.differences {
            let columns = columns(kind, difference, rules);
            let lists = lists(difference, rules);
            told.count += usize::from(!columns.is_empty() || !lists.is_empty());
            for lines in [columns, lists].iter().filter(|lines| !lines.is_empty()) {
                let _ = write!(told.text, "{} \"{name}\":\n{lines}", kind.title);
            }
        }
    }
    told.text = cleaned(&told.text);
    told
}

type Present = BTreeMap<String, (Presence, Option<String>)>;

/// Whether every database that lacks the object lacks its schema too.
fn is_without_schema(name: &str, presence: &Presence, schemas: Option<&Present>) -> bool {
    let Some((schema, _)) = name.split_once('.').filter(|(schema, _)| !schema.is_empty()) else { return false };
    let Some((lacking, _)) = schemas.and_then(|schemas| schemas.get(schema)) else { return false };
    presence.missing.is_subset(&lacking.missing)
}

fn write_presence(text: &mut String, before: &str, presence: &Presence) {
    let list = |places: &BTreeSet<usize>| places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "{before}{:11} {}", "Exists on:", list(&presence.there));
    let _ = writeln!(text, "{before}{:11} {}", "Missing on:", list(&presence.missing));
}

fn write_values(text: &mut String, before: &str, values: &Values) {
    for (place, value) in values {
        let _ = writeln!(text, "{before}Database {place}: {value}");
    }
}

fn columns(kind: &Kind, difference: &Difference, rules: Rules) -> String {
    let mut text = String::new();
    for (column, values) in &difference.columns {
        let is_hidden = match (kind.name, column.as_str()) {
            // The table's owner says it.
            ("index", "owner") => true,
            ("column", "column_number") => rules.without_position,
            ("function", "prosrc") => rules.without_body || values.values().all(|value| matches!(&**value, "" | "-")),
            ("function", "prosqlbody") => rules.without_body,
            ("sequence", "last_value") => rules.without_sequence_values,
            _ => false,
        };
        if !is_hidden {
            let _ = writeln!(text, " \"{column}\" is different:");
            write_values(&mut text, "    ", values);
        }
    }
    text
}

fn lists(difference: &Difference, rules: Rules) -> String {
    let mut text = String::new();
    for (column, ListDifference { presence, values }) in &difference.lists {
        if rules.without_permissions && column.ends_with("acl") {
            continue;
        }
        for (name, presence) in presence {
            let _ = writeln!(text, "  \"{column}\":\n    \"{name}\" is not set on all databases:");
            write_presence(&mut text, "      ", presence);
        }
        for (name, values) in values {
            let _ = writeln!(text, "  \"{column}\":\n    \"{name}\" is different:");
            write_values(&mut text, "      ", values);
        }
    }
    text
}

/// A `|` in a later line would begin perfdata.
fn cleaned(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' => clean.push_str("<PIPE>"),
            '\n' => clean.push(letter),
            letter if is_hostile(letter) => clean.push(' '),
            letter => clean.push(letter),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::super::catalog::KINDS;
    use super::*;

    fn kind(name: &str) -> &'static Kind {
        KINDS.iter().find(|kind| kind.name == name).unwrap()
    }

    #[test]
    fn what_is_missing_and_what_differs_is_told_in_the_original_s_lines() {
        let presence = Presence { there: [1].into(), missing: [2, 3].into() };
        let index = Found {
            presence: [("public.t_v".to_owned(), (presence.clone(), Some("public.t".to_owned())))].into(),
            ..Found::default()
        };
        let mut difference = Difference::default();
        difference.columns.insert("relkind".to_owned(), [(1, "r".to_owned()), (2, "a|b".to_owned())].into());
        difference.lists.insert(
            "relacl".to_owned(),
            ListDifference {
                presence: [("alice".to_owned(), presence)].into(),
                values: [("bob".to_owned(), [(1, "r/x".to_owned()), (2, "w/x".to_owned())].into())].into(),
            },
        );
        let table = Found { differences: [("public.t".to_owned(), difference)].into(), ..Found::default() };
        let told = tell(&[(kind("table"), table), (kind("index"), index)], Rules::default());
        assert_eq!(told.count, 2);
        assert_eq!(
            told.text,
            "Table \"public.t\":\n \"relkind\" is different:\n    Database 1: r\n    Database 2: a<PIPE>b\n\
             Table \"public.t\":\n  \"relacl\":\n    \"alice\" is not set on all databases:\n      \
             Exists on:  1\n      Missing on: 2, 3\n  \"relacl\":\n    \"bob\" is different:\n      Database 1: r/x\n      \
             Database 2: w/x\nIndex \"public.t_v (public.t)\" does not exist on all databases:\n  Exists on:  1\n  \
             Missing on: 2, 3\n"
        );
    }

    #[test]
    fn what_is_not_to_be_told_is_not_counted() {
        let mut difference = Difference::default();
        difference.columns.insert("last_value".to_owned(), [(1, "1".to_owned()), (2, "2".to_owned())].into());
        let sequence = Found { differences: [("public.s".to_owned(), difference)].into(), ..Found::default() };
        let rules = Rules { without_sequence_values: true, ..Rules::default() };
        assert_eq!(tell(&[(kind("sequence"), sequence)], rules), Told::default());
    }
}
