//! What every format comes to: subjects, each asked in one or several ways.

use crate::catalog::{Role, Scope};
use crate::metric::Kind;
use crate::source::Source;

/// The oldest major version that pgvitals asks.
pub(super) const OLDEST: u32 = 10;
/// No server is newer than this.
const NEWEST: u32 = 63;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `queries.yaml:12`.
    pub(super) at: String,
    /// The line as it is written; empty where it may hold a secret.
    pub(super) text: String,
}

impl Place {
    /// A line of a file, from 1.
    pub(super) fn new(source: &Source, line: usize) -> Self {
        let file = source.file.file_name().unwrap_or_default().to_string_lossy();
        let text = source.text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
        Self { at: format!("{file}:{line}"), text: if may_be_secret(text) { String::new() } else { text.to_owned() } }
    }
}

fn may_be_secret(line: &str) -> bool {
    let line = line.to_lowercase();
    line.contains("pass") || line.contains("secret") || line.contains("token") || line.contains("://")
}

/// What is not carried over as it was, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) place: Place,
    pub(super) reason: String,
}

/// What becomes one definition, or one for each role.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) help: String,
    pub(super) scope: Scope,
    /// Patterns of the databases that are asked; none for all of them.
    pub(super) databases: Option<Vec<String>>,
    pub(super) extension: Option<String>,
    /// In seconds.
    pub(super) fresh_for: Option<f64>,
    /// In seconds.
    pub(super) timeout: Option<f64>,
    pub(super) branches: Vec<Branch>,
    pub(super) notes: Vec<Note>,
}

impl Subject {
    /// A subject that nothing is known of but its name.
    pub(super) fn new(name: &str, place: Place) -> Self {
        Self {
            name: name.to_owned(),
            place,
            help: format!("{name}, a query of one's own"),
            scope: Scope::Server,
            databases: None,
            extension: None,
            fresh_for: None,
            timeout: None,
            branches: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// One way to ask.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) place: Place,
    pub(super) majors: Majors,
    pub(super) role: Role,
    pub(super) sql: String,
    /// What stands behind its rows `q` in FROM, in which its columns are looked up; empty for nothing.
    pub(super) joined: String,
    pub(super) columns: Vec<Column>,
}

impl Branch {
    /// One of all majors and roles that asks nothing yet.
    pub(super) fn new(place: Place) -> Self {
        let (majors, role, columns) = (Majors::ALL, Role::Any, Vec::new());
        Self { place, majors, role, sql: String::new(), joined: String::new(), columns }
    }
}

/// A column of an answer.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) place: Place,
    /// What the query calls it.
    pub(super) name: String,
    /// How its value is made, of the rows `q`; none if it is the column itself.
    pub(super) expression: Option<String>,
    pub(super) usage: Usage,
}

/// What a column is for.
#[derive(Clone, Debug)]
pub(super) enum Usage {
    /// A label of this name.
    Label(String),
    /// A metric.
    Value {
        /// Its full name.
        metric: String,
        kind: Kind,
        help: String,
        /// Its labels, where they are not all that there are.
        labels: Option<Vec<String>>,
        /// The upper bounds of a histogram; empty for what is none.
        buckets: Vec<f64>,
    },
}

/// A set of major versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Majors(u64);

impl Majors {
    /// All of them.
    pub(super) const ALL: Self = Self(u64::MAX);

    /// Those for which it is so.
    pub(super) fn where_true(is_in: impl Fn(u32) -> bool) -> Self {
        Self(Self::each().filter(|major| is_in(*major)).fold(0, |set, major| set | 1 << major))
    }

    /// Those from the one on, up to but without the other, by `server_version_num`; 0 is no limit.
    pub(super) fn between(from: u32, until: u32) -> Self {
        // Within a major nothing that a query sees changes: its first release stands for it.
        Self::where_true(|major| major * 10_000 + 9_999 >= from && (until == 0 || major * 10_000 < until))
    }

    /// Whether this one is in it.
    pub(super) fn contains(self, major: u32) -> bool {
        major <= NEWEST && self.0 & 1 << major != 0
    }

    /// Whether none is in it.
    pub(super) fn is_empty(self) -> bool {
        Self::each().all(|major| !self.contains(major))
    }

    /// Those that pgvitals may meet.
    pub(super) fn each() -> impl Iterator<Item = u32> {
        OLDEST..=NEWEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors_are_chosen_by_version_numbers() {
        let majors = |set: Majors| (9..19).filter(|major| set.contains(*major)).collect::<Vec<_>>();
        assert_eq!(majors(Majors::between(90_600, 130_000)), [10, 11, 12]);
        assert_eq!(majors(Majors::between(170_000, 0)), [17, 18]);
        assert!(Majors::between(0, 90_600).is_empty() && !Majors::ALL.is_empty());
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_not_repeated() {
        let source = Source { file: "/x/a.yml".into(), text: "a: 1\nconnections: ['postgres://u:canary@h']".into() };
        assert_eq!(Place::new(&source, 1), Place { at: "a.yml:1".to_owned(), text: "a: 1".to_owned() });
        assert_eq!(Place::new(&source, 2).text, "");
    }
}
