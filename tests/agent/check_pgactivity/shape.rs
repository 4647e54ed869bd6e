//! What is compared of two answers.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::beside;
use crate::command::Ended;

/// What is compared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    code: i32,
    /// The status line without perfdata, with numbers, times and sizes masked, the parts of its message sorted.
    text: String,
    long: String,
    /// Label, unit or what is no number, thresholds; sorted, as the original's order is by chance.
    perfdata: Vec<String>,
    /// The first line on stderr.
    complaint: String,
}

impl Shape {
    pub(super) fn of(ended: &Ended) -> Self {
        if let Ok(object) = serde_json::from_str::<Value>(&ended.stdout) {
            let text = plain(object).to_string();
            return Self {
                code: ended.code,
                text,
                long: String::new(),
                perfdata: Vec::new(),
                complaint: String::new(),
            };
        }
        let (first, long) = ended.stdout.split_once('\n').unwrap_or((&ended.stdout, ""));
        let (text, perfdata) = first.split_once(" | ").unwrap_or((first, ""));
        let mut perfdata: Vec<String> = ENTRY
            .captures_iter(perfdata)
            .map(|entry| format!("{}{}{}", &entry[1], if entry.get(2).is_some() { "N" } else { "" }, &entry[3]))
            .collect();
        perfdata.sort();
        // Until 2.7 there was one more state of sessions.
        perfdata.retain(|entry| !entry.contains("other wait event"));
        // What libpq says of a server and what we say of it are two things.
        let long = if text.contains("Query failed") { String::new() } else { masked(long) };
        let complaint = ended.stderr.lines().next().unwrap_or_default();
        let text = masked(text);
        let (status, message) = text.split_once(": ").unwrap_or((&text, ""));
        let mut messages: Vec<&str> = message.split(", ").collect();
        messages.sort_unstable();
        let text = format!("{status}: {}", messages.join(", "));
        Self { code: ended.code, text, long, perfdata, complaint: masked(complaint) }
    }

    /// What the other one has in another way.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let only = |one: &Self, other: &Self| -> Vec<String> {
            one.perfdata.iter().filter(|entry| !other.perfdata.contains(entry)).cloned().collect()
        };
        let (mut expected, mut actual) = (only(self, other), only(other, self));
        if expected == actual {
            // An entry that one of them has twice.
            (expected, actual) = (self.perfdata.clone(), other.perfdata.clone());
        }
        let held = [
            ("exit code", self.code.to_string(), other.code.to_string()),
            ("text", self.text.clone(), other.text.clone()),
            ("long text", self.long.clone(), other.long.clone()),
            ("complaint", self.complaint.clone(), other.complaint.clone()),
            ("perfdata", expected.join(" "), actual.join(" ")),
        ];
        let parts: Vec<String> = held
            .iter()
            .filter(|(_, expected, actual)| expected != actual)
            .map(|(what, expected, actual)| beside::apart(what, expected, actual))
            .collect();
        (!parts.is_empty()).then(|| parts.join("\n"))
    }
}

/// An object in which numbers are `N`, whether they are written as numbers or as texts.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        Value::Array(values) => values.into_iter().map(plain).collect(),
        Value::Number(_) => Value::from("N"),
        Value::String(text) => Value::from(masked(&text)),
        other => other,
    }
}

/// Label, number and the rest of an entry of perfdata.
static ENTRY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"((?:'(?:[^']|'')*'|[^ '=]+)=)(-?[0-9.]+(?:e-?[0-9]+)?)?([^ ]*)").unwrap());

/// What is masked, and by what.
static MASKS: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
    [
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?[+-]\d\d", "T"),
        (r"\b\d+(\.\d+)?(kB|MB|GB|TB|B)\b", "S"),
        (r"\b(\d+[wd] )*\d+[hms](\d+[ms])*\b", "I"),
        (r"'?\b\d+(\.\d+)?\b'?", "N"),
        (r"\d+(\.\d+)?", "N"),
    ]
    .map(|(found, mask)| (Regex::new(found).unwrap(), mask))
});

/// A text in which numbers are `N`, sizes `S`, intervals `I` and moments `T`.
fn masked(text: &str) -> String {
    MASKS.iter().fold(text.trim_end().to_owned(), |text, (found, mask)| found.replace_all(&text, *mask).into_owned())
}
