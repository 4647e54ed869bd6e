//! What explains a problem: the rows of a listing, the worst first, each as one line.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::rule::RuleSpec;
use crate::unit::{Unit, format_value};

/// The values that columns must have.
pub type Wanted = BTreeMap<String, OneOrMore>;

/// One text, or several of which one has to be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub enum OneOrMore {
    /// This text.
    One(String),
    /// One of these.
    Several(Vec<String>),
}

impl OneOrMore {
    fn has(&self, text: &str) -> bool {
        match self {
            Self::One(one) => one == text,
            Self::Several(several) => several.iter().any(|one| one == text),
        }
    }
}

/// Which rows explain a problem, and how they are said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explain {
    /// The listing, or the definition, that gives the rows.
    pub listing: String,
    /// The column whose largest values come first; rows without a value are left out. None: as the listing has them.
    pub by: Option<String>,
    /// What columns must say for a row to be of interest.
    pub wanted: Wanted,
    line: Vec<Part>,
}

/// A piece of a line; a group is left out when one of its columns is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Column { name: String, form: Form },
    Group(Vec<Part>),
}

/// How a column's value is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Of(Unit),
    Statement,
}

impl RuleSpec {
    /// What explains a problem that the rule finds, if anything does.
    ///
    /// # Errors
    ///
    /// The key that is wrong, and what was expected.
    pub(super) fn explanation(&self) -> Result<Option<Explain>, (&'static str, String)> {
        let missing = |key: &str| format!("expected `{key}` too");
        match (&self.explain, &self.explain_line) {
            (Some(listing), Some(line)) => {
                let (by, wanted) = (self.explain_by.clone(), self.explain_where.clone().unwrap_or_default());
                Explain::parse(listing, by, wanted, line).map(Some).map_err(|reason| ("explain_line", reason))
            }
            (Some(_), None) => Err(("explain", missing("explain_line"))),
            (None, Some(_)) => Err(("explain_line", missing("explain"))),
            (None, None) if self.explain_by.is_some() => Err(("explain_by", missing("explain"))),
            (None, None) if self.explain_where.is_some() => Err(("explain_where", missing("explain"))),
            (None, None) => Ok(None),
        }
    }
}

impl Explain {
    /// Parses a line: texts, columns such as `{pid}`, `{size:bytes}`, `{age:seconds}`, `{used:ratio}`, `{xids:count}` and
    /// `{query:statement}`, and `[groups]` that are left out when a column in them is empty.
    ///
    /// # Errors
    ///
    /// What was expected.
    fn parse(listing: &str, by: Option<String>, wanted: Wanted, line: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = line;
        while let Some(at) = rest.find(['[', ']']) {
            let (before, bracket) = rest.split_at_checked(at).unwrap_or_default();
            let group = bracket.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            let (group, after) =
                group.filter(|(group, _)| group.contains('{') && !group.contains('[')).ok_or_else(|| {
                    format!("`{line}`: expected a column in each pair of brackets, and none within another")
                })?;
            parts.extend(columns_in(before)?);
            parts.push(Part::Group(columns_in(group)?));
            rest = after;
        }
        parts.extend(columns_in(rest)?);
        let explain = Self { listing: listing.to_owned(), by, wanted, line: parts };
        if explain.columns_of_line().next().is_none() {
            return Err(format!("`{line}`: expected at least one column such as `{{pid}}`"));
        }
        Ok(explain)
    }

    /// Every column that the listing must have.
    pub fn columns(&self) -> BTreeSet<&str> {
        let named = self.by.iter().chain(self.wanted.keys()).map(String::as_str);
        named.chain(self.columns_of_line()).collect()
    }

    fn columns_of_line(&self) -> impl Iterator<Item = &str> {
        let parts = self.line.iter().flat_map(|part| match part {
            Part::Group(parts) => parts.as_slice(),
            one => std::slice::from_ref(one),
        });
        parts.filter_map(|part| match part {
            Part::Column { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// How much a row has of what puts the worst first; none if it is not of interest.
    pub fn rank<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Option<f64> {
        if !self.wanted.iter().all(|(column, wanted)| value(column).is_some_and(|text| wanted.has(text))) {
            return None;
        }
        match &self.by {
            Some(column) => value(column)?.parse().ok().filter(|rank: &f64| !rank.is_nan()),
            None => Some(0.0),
        }
    }

    /// A row as a line; `statement` says what may be shown of a statement's text.
    pub fn render<'v>(&self, value: impl Fn(&str) -> Option<&'v str>, statement: impl Fn(&str) -> String) -> String {
        let said = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Column { name, form } => {
                let text = value(name).filter(|text| !text.is_empty())?;
                Some(match form {
                    Form::Plain => text.to_owned(),
                    Form::Statement => statement(text),
                    Form::Of(unit) => {
                        text.parse().map_or_else(|_| text.to_owned(), |number| format_value(*unit, number))
                    }
                })
                .filter(|said| !said.is_empty())
            }
            Part::Group(_) => None,
        };
        let mut out = String::new();
        for part in &self.line {
            match part {
                Part::Group(parts) => {
                    let group: Option<String> = parts.iter().map(said).collect();
                    out.push_str(&group.unwrap_or_default());
                }
                // Said as a gap, as in a rule's own line.
                Part::Column { name, .. } => out.push_str(&said(part).unwrap_or_else(|| format!("(no {name})"))),
                Part::Text(text) => out.push_str(text),
            }
        }
        out
    }
}

/// The texts and columns of a piece without groups.
fn columns_in(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let wrong =
            || format!("`{text}`: expected a column such as `{{pid}}` or `{{size:bytes}}` in each pair of braces");
        let (before, after) = rest.split_at_checked(at).unwrap_or_default();
        let (inner, after) = after.strip_prefix('{').and_then(|after| after.split_once('}')).ok_or_else(wrong)?;
        let (name, form) = match inner.split_once(':') {
            None => (inner, Form::Plain),
            Some((name, "statement")) => (name, Form::Statement),
            Some((name, "bytes")) => (name, Form::Of(Unit::Bytes)),
            Some((name, "seconds")) => (name, Form::Of(Unit::Seconds)),
            Some((name, "ratio")) => (name, Form::Of(Unit::Ratio)),
            Some((name, "count")) => (name, Form::Of(Unit::Count)),
            Some(_) => return Err(wrong()),
        };
        let is_name = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_name {
            return Err(wrong());
        }
        // Texts of statements hold people's values: how they are shown is not left to who writes the line.
        if (name == "query" || name.ends_with("_query")) && form != Form::Statement {
            return Err(format!("`{text}`: expected `{{{name}:statement}}`, which hides the values in it"));
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Column { name: name.to_owned(), form });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(line: &str) -> Result<Explain, String> {
        Explain::parse("blocking_pairs", Some("seconds".to_owned()), Wanted::new(), line)
    }

    #[test]
    fn a_row_is_one_line_without_what_is_empty() {
        let explain =
            explain("pid {pid}[ of {usename}][, {state} for {seconds:seconds}][: {query:statement}]").unwrap();
        let said = |row: &[(&str, &'static str)]| {
            let value = |column: &str| row.iter().find(|(name, _)| *name == column).map(|(_, value)| *value);
            explain.render(value, |text| text.replace('1', "?"))
        };
        let full =
            said(&[("pid", "7"), ("usename", "joe"), ("state", "idle"), ("seconds", "90"), ("query", "SELECT 1")]);
        assert_eq!(full, "pid 7 of joe, idle for 1 min 30 s: SELECT ?");
        assert_eq!(said(&[("usename", ""), ("state", "idle"), ("query", "SELECT 1")]), "pid (no pid): SELECT ?");
        assert_eq!(said(&[("pid", "7"), ("seconds", "soon"), ("state", "idle")]), "pid 7, idle for soon");
        assert_eq!(explain.columns().into_iter().collect::<Vec<_>>(), ["pid", "query", "seconds", "state", "usename"]);
    }

    #[test]
    fn rows_of_no_interest_have_no_rank() {
        let states = OneOrMore::Several(vec!["idle".to_owned(), "active".to_owned()]);
        let wanted = Wanted::from([("state".to_owned(), states)]);
        let explain = Explain::parse("backends", Some("age".to_owned()), wanted, "{pid}").unwrap();
        let rank = |state: Option<&'static str>, age: Option<&'static str>| {
            explain.rank(|column| if column == "state" { state } else { age }).map(f64::to_bits)
        };
        assert_eq!(rank(Some("active"), Some("2.5")), Some(2.5_f64.to_bits()));
        for (state, age) in
            [(None, Some("1")), (Some("x"), Some("1")), (Some("idle"), None), (Some("idle"), Some("NaN"))]
        {
            assert_eq!(rank(state, age), None, "{state:?} {age:?}");
        }
    }

    #[test]
    fn a_line_that_is_wrong_is_refused_with_what_was_expected() {
        for (line, part) in [
            ("", "at least one column"),
            ("pid", "at least one column"),
            ("{pid", "in each pair of braces"),
            ("pid}", "in each pair of braces"),
            ("{Pid}", "in each pair of braces"),
            ("{pid:metres}", "in each pair of braces"),
            ("{pid} [x", "in each pair of brackets"),
            ("{pid} [x]", "in each pair of brackets"),
            ("{pid} [{a} [{b}]]", "none within another"),
            ("{query}", "expected `{query:statement}`"),
            ("[{blocker_query:bytes}]", "expected `{blocker_query:statement}`"),
        ] {
            let error = explain(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
