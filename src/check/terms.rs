//! What people have agreed on about a rule: how much it matters, how often it is looked at, who does what.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hysteresis::Hysteresis;

/// The columns of a monitoring policy that are not thresholds, and what goes with them. What is not said is not agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How much it matters.
    pub importance: Option<Importance>,
    /// How often it is to be looked at; with [`Terms::hysteresis`] the time between two readings that count.
    pub every: Option<Duration>,
    /// What is done about it; [`IGNORE`] makes the rule raise no alert.
    pub action: Option<String>,
    /// Who does it.
    pub owner: Option<String>,
    /// The checks it is asked for with.
    pub group: Option<String>,
    /// How many readings make a problem of it.
    pub hysteresis: Option<Hysteresis>,
}

/// The action of a rule that is written down and raises no alert.
pub const IGNORE: &str = "ignore";
/// In place of a check's name: every check there is.
pub const ALL: &str = "all";
/// Before the name of a group, in place of a check's name.
pub const GROUP: &str = "group:";

/// How much a rule matters to whoever lives on the server: how soon somebody is to look, and not how bad it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Importance {
    /// Nobody would notice for long.
    Minor,
    /// It becomes an outage when nobody looks.
    Major,
    /// It is an outage, or data is at stake.
    Critical,
}

impl Importance {
    /// As it is written in a definition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}

impl Terms {
    /// These, and of `others` what these do not say.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self {
            importance: self.importance.or(others.importance),
            every: self.every.or(others.every),
            action: self.action.or_else(|| others.action.clone()),
            owner: self.owner.or_else(|| others.owner.clone()),
            group: self.group.or_else(|| others.group.clone()),
            hysteresis: self.hysteresis.or(others.hysteresis),
        }
    }

    /// Whether it was agreed that nobody is told.
    pub fn is_ignored(&self) -> bool {
        self.action.as_deref() == Some(IGNORE)
    }

    /// The key that is wrong, and what was expected.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        for (key, text) in [("action", &self.action), ("owner", &self.owner)] {
            if text.as_deref().is_some_and(|text| !is_line(text)) {
                return Err((key, "expected one line of text".to_owned()));
            }
        }
        match self.group.as_deref().filter(|group| !is_name(group)) {
            Some(group) => Err(("group", format!("`{group}`: expected {NAME}"))),
            None if self.every.is_some_and(|every| every.is_zero()) => {
                Err(("every", "expected more than nothing, such as `1min`".to_owned()))
            }
            None => Ok(()),
        }
    }
}

/// What [`is_name`] takes.
pub(super) const NAME: &str = "small letters, digits, `-` and `_`";

/// Whether it can be the name of a check or a group: it stands in URLs, host names' services and perfdata.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
}

/// Whether it is one line, and says something.
pub(crate) fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(['\n', '\r'])
}

impl fmt::Display for Importance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_taken_from_the_others() {
        let own = Terms { action: Some("call".to_owned()), ..Terms::default() };
        let others = Terms {
            importance: Some(Importance::Minor),
            every: Some(Duration::from_secs(60)),
            action: Some(IGNORE.to_owned()),
            ..Terms::default()
        };
        let both = own.or(&others);
        assert_eq!((both.importance, both.every), (others.importance, others.every));
        assert!(!both.is_ignored() && others.is_ignored());
    }

    #[test]
    fn what_is_no_line_and_no_name_is_refused() {
        for (terms, key) in [
            (Terms { action: Some(" ".to_owned()), ..Terms::default() }, "action"),
            (Terms { owner: Some("a\nb".to_owned()), ..Terms::default() }, "owner"),
            (Terms { group: Some("My group".to_owned()), ..Terms::default() }, "group"),
            (Terms { every: Some(Duration::ZERO), ..Terms::default() }, "every"),
        ] {
            assert_eq!(terms.check().unwrap_err().0, key);
        }
        assert_eq!(Terms::default().check(), Ok(()));
    }
}
