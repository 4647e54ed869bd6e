//! What a service found, and the forms in which it is printed.
//!
//! Names of databases, queries and errors are anyone's: what could end the line or begin the perfdata is replaced, as
//! everywhere in pgvitals (`|` by `¦`, control characters by blanks).

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::threshold::to_size;
use crate::sink::nagios::{plain, without};

/// The formats, as `--help` names them.
pub(super) const FORMATS: &str = "binary, debug, human, nagios, nagios_strict, json or json_strict [nagios]";

/// How it is; the exit code of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0
    Ok,
    /// 1
    Warning,
    /// 2
    Critical,
    /// 3
    Unknown,
}

impl Status {
    /// The exit code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// CRITICAL or WARNING from these thresholds on; OK where there are none.
    pub fn from(value: f64, limits: Option<(f64, f64)>) -> Self {
        match limits {
            Some((_, critical)) if value >= critical => Self::Critical,
            Some((warning, _)) if value >= warning => Self::Warning,
            _ => Self::Ok,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// One value for graphs. What is not set is left out, or empty between what is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Perf {
    label: String,
    value: String,
    unit: Option<String>,
    /// Warning, critical, least and largest value.
    limits: [Option<String>; 4],
}

#[expect(clippy::needless_pass_by_value, reason = "numbers and texts alike are given as they are")]
impl Perf {
    /// A value without a unit; of an `f64` give [`super::threshold::number`].
    pub fn new(label: impl Into<String>, value: impl ToString) -> Self {
        Self { label: label.into(), value: value.to_string(), ..Self::default() }
    }

    /// With this unit.
    #[must_use]
    pub fn unit(self, unit: impl Into<String>) -> Self {
        Self { unit: Some(unit.into()), ..self }
    }

    /// With these thresholds.
    #[must_use]
    pub fn limits(mut self, warning: Option<impl ToString>, critical: Option<impl ToString>) -> Self {
        self.limits[0] = warning.map(|limit| limit.to_string());
        self.limits[1] = critical.map(|limit| limit.to_string());
        self
    }

    /// With this least value.
    #[must_use]
    pub fn least(mut self, least: impl ToString) -> Self {
        self.limits[2] = Some(least.to_string());
        self
    }

    /// With this largest value.
    #[must_use]
    pub fn most(mut self, most: impl ToString) -> Self {
        self.limits[3] = Some(most.to_string());
        self
    }

    /// Only units that Nagios knows, and `U` for what is no number.
    fn strict(mut self) -> Self {
        let known = |unit: &String| matches!(unit.as_str(), "B" | "c" | "s" | "%");
        self.unit = self.unit.map(|unit| if known(&unit) { unit } else { String::new() });
        if !self.value.parse::<f64>().is_ok_and(f64::is_finite) {
            "U".clone_into(&mut self.value);
        }
        self
    }
}

/// What a service found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the line begins with, such as `POSTGRES_BACKENDS`.
    pub label: &'static str,
    /// How it is.
    pub status: Status,
    /// The parts of the message.
    pub messages: Vec<String>,
    /// Values for graphs.
    pub perfdata: Vec<Perf>,
    /// What comes on a line of its own.
    pub long: Vec<String>,
}

impl Answer {
    /// An answer with one message, or none when it is empty.
    pub fn new(label: &'static str, status: Status, message: impl Into<String>) -> Self {
        let messages = Some(message.into()).filter(|message| !message.is_empty()).into_iter().collect();
        Self { label, status, messages, perfdata: Vec::new(), long: Vec::new() }
    }

    /// CRITICAL if there is anything critical, which is said first; else WARNING if there are warnings; else OK with that
    /// message.
    pub fn judged(label: &'static str, critical: Vec<String>, warning: Vec<String>, ok: impl Into<String>) -> Self {
        if critical.is_empty() && warning.is_empty() {
            return Self::new(label, Status::Ok, ok);
        }
        let status = if critical.is_empty() { Status::Warning } else { Status::Critical };
        let messages = critical.into_iter().chain(warning).collect();
        Self { label, status, messages, perfdata: Vec::new(), long: Vec::new() }
    }

    /// With these values for graphs.
    #[must_use]
    pub fn with_perfdata(self, perfdata: Vec<Perf>) -> Self {
        Self { perfdata, ..self }
    }

    /// With this on a line of its own.
    #[must_use]
    pub fn with_long(self, long: Vec<String>) -> Self {
        Self { long, ..self }
    }
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Into a file, and nothing is printed.
    Binary,
    /// One line per part, values as they are.
    Debug,
    /// One line per part, sizes for people.
    Human,
    /// As Nagios reads it.
    Nagios,
    /// As Nagios reads it, units of its own only.
    NagiosStrict,
    /// One object.
    Json,
    /// One object, units of Nagios only.
    JsonStrict,
}

impl Format {
    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "binary" => Self::Binary,
            "debug" => Self::Debug,
            "human" => Self::Human,
            "nagios" => Self::Nagios,
            "nagios_strict" => Self::NagiosStrict,
            "json" => Self::Json,
            "json_strict" => Self::JsonStrict,
            _ => return None,
        })
    }

    /// The answer in this form, with no newline at the end where the original has none.
    pub fn write(self, answer: Answer) -> String {
        match self {
            Self::Binary => String::new(),
            Self::Debug => by_part(&answer, debug_perf),
            Self::Human => by_part(&answer, human_perf),
            Self::Nagios => nagios(&answer),
            Self::NagiosStrict => nagios(&strict(answer)),
            Self::Json => object(&answer).to_string(),
            Self::JsonStrict => object(&strict(answer)).to_string(),
        }
    }
}

fn strict(answer: Answer) -> Answer {
    let perfdata = answer.perfdata.into_iter().map(Perf::strict).collect();
    Answer { perfdata, ..answer }
}

fn nagios(answer: &Answer) -> String {
    let mut text = format!("{} {}", answer.label, answer.status.word());
    if !answer.messages.is_empty() {
        let messages: Vec<String> = answer.messages.iter().map(|message| plain(message)).collect();
        let _ = write!(text, ": {}", messages.join(", "));
    }
    if !answer.perfdata.is_empty() {
        text.push_str(" |");
    }
    for perf in &answer.perfdata {
        let limits = perf.limits.iter().map(|limit| limit.as_deref().unwrap_or_default());
        let parts: Vec<String> =
            std::iter::once(perf.unit.as_deref().unwrap_or_default()).chain(limits).map(clean).collect();
        let _ = write!(text, " {}={}{}", quote(&perf.label), clean(&perf.value), parts.join(";").trim_end_matches(';'));
    }
    if !answer.long.is_empty() {
        let long: Vec<String> = answer.long.iter().map(|part| plain(part)).collect();
        let _ = write!(text, "\n{}", long.join(" "));
    }
    text
}

/// In quotes if it must be. The original leaves a `=` without them.
fn quote(label: &str) -> String {
    let label = without(&label.replace('\'', "''"), &['|']);
    if label.contains(|c: char| c.is_whitespace() || c == '=') { format!("'{label}'") } else { label }
}

/// A value or a unit, which may come from a user's own query.
fn clean(text: &str) -> String {
    without(text, &['|', ';', '\''])
}

fn by_part(answer: &Answer, perf: fn(&Perf) -> String) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<15}: {value}");
    };
    line("Service", answer.label);
    line("Returns", &format!("{} ({})", answer.status.code(), answer.status.word()));
    for message in &answer.messages {
        line("Message", &plain(message));
    }
    for long in &answer.long {
        line("Long message", &plain(long));
    }
    for entry in &answer.perfdata {
        line("Perfdata", &plain(&perf(entry)));
    }
    text
}

fn human_perf(perf: &Perf) -> String {
    let unit = perf.unit.as_deref().unwrap_or_default();
    // The original means to show seconds likewise, and does not.
    let is_size = unit.ends_with('B');
    let shown = |value: &str| if is_size { to_size(value) } else { value.to_owned() };
    let mut text = format!("{}={}{}", perf.label, shown(&perf.value), if is_size { "" } else { unit });
    for (name, limit) in ["warn", "crit", "min", "max"].into_iter().zip(&perf.limits) {
        if let Some(limit) = limit {
            let _ = write!(text, " {name}={}", shown(limit));
        }
    }
    text
}

/// As Perl's `Data::Dumper` writes a list.
fn debug_perf(perf: &Perf) -> String {
    let unit = std::iter::once(perf.unit.as_deref());
    let limits = perf.limits.iter().map(Option::as_deref);
    let mut parts: Vec<Option<&str>> =
        [Some(perf.label.as_str()), Some(perf.value.as_str())].into_iter().chain(unit).chain(limits).collect();
    while parts.last() == Some(&None) {
        parts.pop();
    }
    let shown = parts.into_iter().map(|part| match part {
        None => "undef".to_owned(),
        Some(number) if number.parse::<i64>().is_ok() => number.to_owned(),
        Some(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
    });
    format!("[{}]", shown.collect::<Vec<_>>().join(","))
}

/// The answer as an object; of labels that are there twice the last counts.
pub(super) fn object(answer: &Answer) -> Value {
    // A number that is none in JSON, such as NaN, and a range are texts.
    let value = |text: &str| text.parse::<serde_json::Number>().map_or_else(|_| Value::from(text), Value::Number);
    let limit = |limit: &Option<String>| limit.as_deref().map_or(Value::Null, value);
    let entries = answer.perfdata.iter().map(|perf| {
        let [warn, crit, min, max] = perf.limits.each_ref().map(limit);
        let (val, unit) = (value(&perf.value), &perf.unit);
        let entry = json!({ "val": val, "unit": unit, "warn": warn, "crit": crit, "min": min, "max": max });
        (perf.label.clone(), entry)
    });
    let perfdata: Map<String, Value> = entries.collect();
    json!({
        "service": answer.label,
        "status": answer.status.word(),
        "msg": answer.messages,
        "longmsg": answer.long,
        "perfdata": perfdata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let perfdata = vec![
            Perf::new("app", 2).unit("").limits(Some(37), Some(42)).least(0).most(47),
            Perf::new("a b'c", "NaN").unit("s"),
            Perf::new("rate", "1.5").unit("tps").limits(None::<i64>, Some("-5:5")),
            Perf::new("size", 1_048_576).unit("B"),
        ];
        Answer::judged("POSTGRES_X", vec!["bad".to_owned()], vec!["poor".to_owned()], "fine")
            .with_perfdata(perfdata)
            .with_long(vec!["one".to_owned(), "two".to_owned()])
    }

    #[test]
    fn nagios_gets_one_line_perfdata_and_a_long_line() {
        let expected =
            "POSTGRES_X CRITICAL: bad, poor | app=2;37;42;0;47 'a b''c'=NaNs rate=1.5tps;;-5:5 size=1048576B\none two";
        assert_eq!(Format::Nagios.write(answer()), expected);
        let expected =
            "POSTGRES_X CRITICAL: bad, poor | app=2;37;42;0;47 'a b''c'=Us rate=1.5;;-5:5 size=1048576B\none two";
        assert_eq!(Format::NagiosStrict.write(answer()), expected);
        assert_eq!(Format::Nagios.write(Answer::judged("POSTGRES_X", vec![], vec![], "")), "POSTGRES_X OK");
    }

    #[test]
    fn people_get_a_line_for_each_part() {
        let expected = "Service        : POSTGRES_X\nReturns        : 2 (CRITICAL)\nMessage        : bad\n\
                        Message        : poor\nLong message   : one\nLong message   : two\n\
                        Perfdata       : app=2 warn=37 crit=42 min=0 max=47\nPerfdata       : a b'c=NaNs\n\
                        Perfdata       : rate=1.5tps crit=-5:5\nPerfdata       : size=1024.00kB\n";
        assert_eq!(Format::Human.write(answer()), expected);
        let debug = Format::Debug.write(answer());
        assert!(debug.contains("Perfdata       : ['app',2,'',37,42,0,47]\n"), "{debug}");
        assert!(debug.contains("Perfdata       : ['rate','1.5','tps',undef,'-5:5']\n"), "{debug}");
    }

    #[test]
    fn programs_get_an_object() {
        let object: Value = serde_json::from_str(&Format::Json.write(answer())).unwrap();
        assert_eq!(object["status"], "CRITICAL");
        assert_eq!(object["perfdata"]["app"]["max"], 47);
        assert_eq!(object["perfdata"]["a b'c"]["val"], "NaN");
        assert_eq!(object["perfdata"]["rate"]["warn"], Value::Null);
    }

    #[test]
    fn hostile_names_break_neither_line_nor_perfdata() {
        let answer = Answer::new("POSTGRES_X", Status::Ok, "a\nb|c=1")
            .with_perfdata(vec![Perf::new("x\n|y=z", "1|2;").unit("'\n")])
            .with_long(vec!["d\r\n|e".to_owned()]);
        assert_eq!(Format::Nagios.write(answer), "POSTGRES_X OK: a b¦c=1 | 'x__y=z'=1_2___\nd  ¦e");
    }
}
