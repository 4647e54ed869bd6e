//! Warning and critical values in each of the forms that actions take them in.

mod forms;

use super::End;
use super::options::Options;
use super::text::number;
use crate::check::Status;

pub use forms::{
    Bare, Connections, Counted, PerName, Space, Texts, connections, count_or_time, per_name, sizes_or_shares, texts,
};

/// A form of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes: `10 GB`, `1.5m`, powers of 1024.
    Size,
    /// Seconds: `10 minutes`, `1.5h`, `90`.
    Time,
    /// Whole seconds: `5`, `5s`.
    Seconds,
    /// `80%`.
    Percent,
    /// A whole number, with `_` where one likes.
    Integer,
    /// A whole number above 0.
    PositiveInteger,
}

/// How many of the two thresholds there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Any,
    AtLeastOne,
    Both,
}

/// What thresholds an action takes.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    kind: Kind,
    default: Option<(&'static str, &'static str)>,
    number: Number,
    any_warning: bool,
    in_mrtg: bool,
}

impl Wanted {
    /// Values of this form, either of which may be absent.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, default: None, number: Number::Any, any_warning: false, in_mrtg: false }
    }

    /// Warning and critical when neither is given. Where one is given, the other is none.
    #[must_use]
    pub const fn or(self, warning: &'static str, critical: &'static str) -> Self {
        Self { default: Some((warning, critical)), ..self }
    }

    /// One must be given.
    #[must_use]
    pub const fn at_least_one(self) -> Self {
        Self { number: Number::AtLeastOne, ..self }
    }

    /// Both must be given.
    #[must_use]
    pub const fn both(self) -> Self {
        Self { number: Number::Both, ..self }
    }

    /// Warning may be more than critical.
    #[must_use]
    pub const fn any_warning(self) -> Self {
        Self { any_warning: true, ..self }
    }

    /// Thresholds count for MRTG too, where they are not even looked at otherwise.
    #[must_use]
    pub const fn in_mrtg(self) -> Self {
        Self { in_mrtg: true, ..self }
    }

    /// What the options say.
    ///
    /// # Errors
    ///
    /// A value that is not of the form, one that is missing, or a warning beyond the critical value.
    pub fn read(&self, options: &Options, is_mrtg: bool) -> Result<Limits, End> {
        if is_mrtg && !self.in_mrtg {
            return Ok(Limits::default());
        }
        let (warning, critical) = given(options, self.default);
        // Of a span of time the original looks at the critical value first.
        let critical_first = matches!(self.kind, Kind::Time | Kind::Size | Kind::Percent);
        let read = |name: &str, text: &str| -> Result<Option<f64>, End> {
            if text.is_empty() { Ok(None) } else { self.kind.read(name, text).map(Some) }
        };
        let limits = if critical_first {
            let critical = read("critical", &critical)?;
            Limits { warning: read("warning", &warning)?, critical }
        } else {
            Limits { warning: read("warning", &warning)?, critical: read("critical", &critical)? }
        };
        self.judge_order(&limits, options.is_on("reverse"))?;
        let given = [limits.warning, limits.critical].iter().flatten().count();
        match (self.kind, self.number) {
            (Kind::Time, _) if given == 0 => Err(End::refused("Must provide a warning and/or critical time")),
            (Kind::Size, _) if given == 0 => Err(End::refused("Must provide a warning and/or critical size")),
            (_, Number::AtLeastOne) if given == 0 => Err(End::refused("Must provide a 'warning' or 'critical' option")),
            (_, Number::Both) if given < 2 => Err(End::refused("Must provide both 'warning' and 'critical' options")),
            _ => Ok(limits),
        }
    }

    fn judge_order(&self, limits: &Limits, reverse: bool) -> Result<(), End> {
        let (Some(warning), Some(critical)) = (limits.warning, limits.critical) else { return Ok(()) };
        let is_integer = matches!(self.kind, Kind::Integer | Kind::PositiveInteger);
        let is_wrong = if is_integer && reverse { warning < critical } else { warning > critical };
        if !is_wrong || self.kind == Kind::Percent || (self.any_warning && !is_integer) {
            return Ok(());
        }
        let (warning, critical) = (number(warning), number(critical));
        Err(End::refused(match self.kind {
            Kind::Size => format!(
                "The 'warning' option ({warning} bytes) cannot be larger than the 'critical' option ({critical} bytes)"
            ),
            Kind::Time | Kind::Seconds => {
                format!("The 'warning' option ({warning} s) cannot be larger than the 'critical' option ({critical} s)")
            }
            _ => "The 'warning' option cannot be greater than the 'critical' option".to_owned(),
        }))
    }
}

/// Warning and critical as they are given, or both by default; empty where there is none.
fn given(options: &Options, default: Option<(&str, &str)>) -> (String, String) {
    let text = |name| options.text(name).unwrap_or_default().to_owned();
    match default {
        Some((warning, critical)) if !options.has("warning") && !options.has("critical") => {
            (warning.to_owned(), critical.to_owned())
        }
        _ => (text("warning"), text("critical")),
    }
}

impl Kind {
    /// A value of this form; `name` is the option's, for what is said of a wrong one.
    ///
    /// # Errors
    ///
    /// The text is not of the form.
    pub fn read(self, name: &str, text: &str) -> Result<f64, End> {
        let value = match self {
            Self::Size => size(text),
            Self::Time => time(text),
            Self::Seconds => seconds(text),
            Self::Percent => percent(text),
            Self::Integer => integer(text),
            Self::PositiveInteger => integer(text).filter(|value| *value > 0.0),
        };
        value.filter(|value| value.is_finite()).ok_or_else(|| {
            let letter: String = name.chars().take(1).collect();
            End::refused(match self {
                Self::Size => format!("Invalid size for '{name}' option"),
                Self::Time => {
                    format!(
                        r#"Value for '{name}' must be a valid time. Examples: -{letter} 1s  -{letter} "10 minutes""#
                    )
                }
                Self::Seconds => format!("Invalid argument to '{name}' option: must be number of seconds"),
                Self::Percent => format!("Invalid '{name}' option: must be a percentage"),
                Self::Integer => format!("Invalid argument for '{name}' option: must be an integer"),
                Self::PositiveInteger => {
                    format!("Invalid argument for '{name}' option: must be a positive integer")
                }
            })
        })
    }
}

/// Thresholds as numbers: bytes, seconds, per cent or a count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// From here on WARNING.
    pub warning: Option<f64>,
    /// From here on CRITICAL.
    pub critical: Option<f64>,
}

impl Limits {
    /// The status of a value that alerts when it reaches a threshold from below.
    pub fn at_least(&self, value: f64) -> Status {
        self.judge(|limit| value >= limit)
    }

    /// The status of a value that alerts when it goes beyond a threshold.
    pub fn above(&self, value: f64) -> Status {
        self.judge(|limit| value > limit)
    }

    /// The status of a value that alerts when it reaches a threshold from above.
    pub fn at_most(&self, value: f64) -> Status {
        self.judge(|limit| value <= limit)
    }

    fn judge(&self, alerts: impl Fn(f64) -> bool) -> Status {
        if self.critical.is_some_and(&alerts) {
            Status::Critical
        } else if self.warning.is_some_and(&alerts) {
            Status::Warning
        } else {
            Status::Ok
        }
    }

    /// Both as in perfdata, `10;20`, empty where there is none.
    pub fn perf(&self) -> String {
        format!("{};{}", written(self.warning), written(self.critical))
    }
}

/// A threshold as in perfdata; empty when there is none.
pub fn written(limit: Option<f64>) -> String {
    limit.map(number).unwrap_or_default()
}

/// A number at the beginning of a text, and what follows it and blanks.
fn quantity(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rest = rest.trim_start();
    rest.chars().all(|c| c.is_alphanumeric() || c == '_').then_some(())?;
    Some((digits.parse().ok()?, rest))
}

/// Bytes. The first letter of the unit counts, as in the original.
fn size(text: &str) -> Option<f64> {
    let (value, unit) = quantity(text)?;
    let power = match unit.chars().next().map(|letter| letter.to_ascii_lowercase()) {
        None | Some('b') => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some('e') => 6,
        Some('z') => 7,
        Some(_) => return None,
    };
    Some(value * 1024_f64.powi(power))
}

/// Seconds. The first letter of the unit counts, but that a month and a millisecond are no minutes.
fn time(text: &str) -> Option<f64> {
    let (value, unit) = quantity(text)?;
    let unit = unit.to_ascii_lowercase();
    let seconds = match unit.chars().next() {
        None | Some('s') => 1.0,
        Some('m') if unit.starts_with("mon") => 30.0 * 86_400.0,
        Some('m') if unit == "ms" || unit.starts_with("mil") => 0.001,
        Some('m') => 60.0,
        Some('h') => 3_600.0,
        Some('d') => 86_400.0,
        Some('w') => 604_800.0,
        Some('y') => 31_536_000.0,
        Some(_) => return None,
    };
    // Nine decimals, as the original rounds.
    Some((value * seconds * 1e9).round() / 1e9)
}

fn seconds(text: &str) -> Option<f64> {
    let (value, unit) = quantity(text)?;
    let is_whole = !text.contains('.');
    (is_whole && matches!(unit, "" | "s" | "ss" | "sec" | "secs" | "second" | "seconds")).then_some(value)
}

fn percent(text: &str) -> Option<f64> {
    let digits = text.strip_suffix('%')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn integer(text: &str) -> Option<f64> {
    let text = text.replace('_', "");
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn options(warning: Option<&str>, critical: Option<&str>) -> Options {
        let mut options = Options::default();
        for (name, value) in [("warning", warning), ("critical", critical)] {
            if let Some(value) = value {
                options.set(name, value);
            }
        }
        options
    }

    fn read(wanted: Wanted, warning: &str, critical: &str) -> Result<Limits, String> {
        let given = |text: &'static str| (text != "-").then_some(text);
        let (warning, critical) = (warning.to_owned().leak(), critical.to_owned().leak());
        wanted.read(&options(given(warning), given(critical)), false).map_err(|end| end.to_string())
    }

    #[test]
    fn each_form_takes_what_the_original_takes() {
        for (kind, text, value) in [
            (Kind::Size, "10", 10.0),
            (Kind::Size, " 1.5 GB", 1_610_612_736.0),
            (Kind::Size, "100 megafoo", 104_857_600.0),
            (Kind::Size, "10.55GB", 11_327_976_243.2),
            (Kind::Time, "1 month", 2_592_000.0),
            (Kind::Time, "1 min", 60.0),
            (Kind::Time, "1.5h", 5_400.0),
            (Kind::Time, "500ms", 0.5),
            (Kind::Time, "2y", 63_072_000.0),
            (Kind::Seconds, "5 seconds", 5.0),
            (Kind::Percent, "80%", 80.0),
            (Kind::Integer, "-1_000", -1_000.0),
            (Kind::PositiveInteger, "1_700_000_000", 1.7e9),
        ] {
            assert_eq!(kind.read("warning", text).ok(), Some(value), "{kind:?} {text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_the_original_s_words() {
        for (kind, text, words) in [
            (Kind::Size, "10 x", "Invalid size for 'warning' option"),
            (Kind::Size, "-1", "Invalid size for 'warning' option"),
            (Kind::Time, "5 q", r#"Value for 'warning' must be a valid time. Examples: -w 1s  -w "10 minutes""#),
            (Kind::Seconds, "1m", "Invalid argument to 'warning' option: must be number of seconds"),
            (Kind::Percent, "80", "Invalid 'warning' option: must be a percentage"),
            (Kind::Percent, "%", "Invalid 'warning' option: must be a percentage"),
            (Kind::Integer, "1.5", "Invalid argument for 'warning' option: must be an integer"),
            (Kind::PositiveInteger, "0", "Invalid argument for 'warning' option: must be a positive integer"),
        ] {
            assert_eq!(read(Wanted::new(kind), text, "-").unwrap_err(), words, "{kind:?} {text}");
        }
        let none = read(Wanted::new(Kind::Integer).at_least_one(), "-", "-").unwrap_err();
        assert_eq!(none, "Must provide a 'warning' or 'critical' option");
        let larger = read(Wanted::new(Kind::Size), "1MB", "1kB").unwrap_err();
        assert_eq!(
            larger,
            "The 'warning' option (1048576 bytes) cannot be larger than the 'critical' option (1024 bytes)"
        );
        assert!(read(Wanted::new(Kind::Percent), "90%", "80%").is_ok(), "ratios alert downwards");
    }

    #[test]
    fn defaults_count_only_when_neither_is_given() {
        let wanted = Wanted::new(Kind::Seconds).or("2", "5");
        assert_eq!(read(wanted, "-", "-").unwrap().perf(), "2;5");
        assert_eq!(read(wanted, "3", "-").unwrap().perf(), "3;");
        assert_eq!(read(wanted, "-", "9").unwrap().perf(), ";9");
    }

    proptest::proptest! {
        #[test]
        fn no_threshold_makes_it_panic_and_none_becomes_something_else(text in "[-+0-9 ._%a-zA-Z:@~\u{e9}\u{130}]{0,12}") {
            for kind in [Kind::Size, Kind::Time, Kind::Seconds, Kind::Percent, Kind::Integer, Kind::PositiveInteger] {
                if let Ok(value) = kind.read("warning", &text) {
                    proptest::prop_assert!(value.is_finite() && text.bytes().any(|byte| byte.is_ascii_digit()));
                }
            }
        }
    }
}
