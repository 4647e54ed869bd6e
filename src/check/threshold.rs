//! Nagios ranges, with units.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::unit::{Quantity, Unit, UnitError, format_value, percent};

/// A range, and whether a value outside of it or inside of it is a problem.
///
/// The grammar is that of the Monitoring Plugins guidelines, section "Threshold and Ranges":
///
/// | text | a problem is |
/// |---|---|
/// | `10` | below 0 or above 10 |
/// | `10:` | below 10 |
/// | `~:10` | above 10 |
/// | `10:20` | below 10 or above 20 |
/// | `@10:20` | from 10 to 20, both included |
///
/// | `no` | 0, of what is 0 or 1: `@0` |
/// | `yes` | 1, of what is 0 or 1: `@1:1` |
///
/// Each end may have a unit ([`Quantity`]): `100MB`, `80%`, `5min:10min`. Both ends are in the same unit; only a 0 needs
/// none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    low: f64,
    high: f64,
    inside: bool,
    unit: Option<Unit>,
}

/// What stands in the column of a level: the words of a monitoring policy, or a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// `N/A`: it never comes to this.
    Never,
    /// `missing`: it is a problem that nothing is there.
    Missing,
    /// A value is a problem.
    Range(Threshold),
}

/// A text that is no threshold, or a threshold that is of no use here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// The text is not of the form of a range.
    #[error("`{0}` is not a range: expected `10`, `10:`, `~:10`, `10:20` or `@10:20`")]
    Form(String),
    /// An end is no quantity.
    #[error("range `{text}`: {source}")]
    End {
        /// The whole range.
        text: String,
        /// What is wrong with the end.
        source: UnitError,
    },
    /// It starts after its end.
    #[error("range `{0}` starts above its end: expected the smaller value first (`~:10` is anything up to 10)")]
    Order(String),
    /// Its ends are in different units.
    #[error("the ends of range `{0}` are in different units: expected the same for both, such as `5min:10min`")]
    Mixed(String),
    /// It is in another unit than the values.
    #[error("`{threshold}` is in {found}: expected {expected}")]
    Unit {
        /// The threshold.
        threshold: String,
        /// Its unit.
        found: Unit,
        /// What is expected, with examples.
        expected: String,
    },
    /// `missing`, where only a range makes sense.
    #[error("`missing` is said by a rule: expected a range, such as `10`, or `N/A`")]
    Missing,
    /// A bare number above 1 for a ratio: nearly always meant in per cent.
    #[error("`{0}` is a ratio above 1: write per cent, such as `80%`")]
    Percent(String),
}

/// From where on a value is a problem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Limits {
    /// Alerts with WARNING.
    pub warning: Option<Threshold>,
    /// Alerts with CRITICAL.
    pub critical: Option<Threshold>,
}

impl Level {
    /// The range, where it is one.
    pub fn threshold(self) -> Option<Threshold> {
        match self {
            Self::Range(threshold) => Some(threshold),
            Self::Never | Self::Missing => None,
        }
    }
}

impl FromStr for Level {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        match text.trim() {
            "N/A" => Ok(Self::Never),
            "missing" => Ok(Self::Missing),
            range => range.parse().map(Self::Range),
        }
    }
}

impl Threshold {
    /// Whether this value is a problem. A value that is not a number never is.
    pub fn alerts(&self, value: f64) -> bool {
        if self.inside { self.low <= value && value <= self.high } else { value < self.low || self.high < value }
    }

    /// The unit that was written, if one was.
    pub fn unit(&self) -> Option<Unit> {
        self.unit
    }

    /// Says whether it can judge values of this unit.
    pub fn check_unit(&self, unit: Unit) -> Result<(), ThresholdError> {
        match self.unit {
            Some(own) if own != unit => Err(ThresholdError::unit(self, &[unit])),
            None if unit == Unit::Ratio && self.ends().any(|end| end.abs() > 1.0) => {
                Err(ThresholdError::Percent(self.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// The range as bare numbers of base units, or of per cent for a ratio: what perfdata carries.
    pub fn to_perfdata(&self, unit: Unit) -> String {
        self.write(|end| (if unit == Unit::Ratio { percent(end) } else { end }).to_string())
    }

    /// The range with units, for people.
    pub fn to_text(&self, unit: Unit) -> String {
        self.write(|end| format_value(unit, end))
    }

    /// How far a value is towards the problem: the larger, the worse. Comparable only under the same threshold.
    pub(crate) fn badness(&self, value: f64) -> f64 {
        let (above, below) = (value - self.high, self.low - value);
        match (self.inside, self.high.is_finite(), self.low.is_finite() && self.low != 0.0) {
            (false, true, true) => above.max(below),
            (false, true, false) => above,
            (false, false, true) => below,
            (true, true, true) => -above.max(below).max(0.0),
            (true, true, false) => -above,
            (true, false, true) => -below,
            _ => value,
        }
    }

    /// Whether whatever this one lets pass also passes the other, as far as both are limits on the same side.
    pub(crate) fn is_within(&self, outer: &Self) -> bool {
        let limits = |low: f64| low.is_finite() && low != 0.0;
        self.inside
            || outer.inside
            || ((!outer.high.is_finite() || !self.high.is_finite() || self.high <= outer.high)
                && (!limits(outer.low) || !limits(self.low) || self.low >= outer.low))
    }

    fn ends(&self) -> impl Iterator<Item = f64> {
        [self.low, self.high].into_iter().filter(|end| end.is_finite())
    }

    fn write(&self, end: impl Fn(f64) -> String) -> String {
        let at = if self.inside { "@" } else { "" };
        match (self.low, self.high) {
            (0.0, high) if high.is_finite() => format!("{at}{}", end(high)),
            (low, high) => {
                let low = if low.is_finite() { end(low) } else { "~".to_owned() };
                let high = if high.is_finite() { end(high) } else { String::new() };
                format!("{at}{low}:{high}")
            }
        }
    }
}

impl ThresholdError {
    /// A threshold in a unit other than these.
    pub(crate) fn unit(threshold: &Threshold, units: &[Unit]) -> Self {
        let expected: Vec<_> = units.iter().map(|unit| example(*unit)).collect();
        Self::Unit {
            threshold: threshold.to_string(),
            found: threshold.unit.unwrap_or_default(),
            expected: expected.join(", or "),
        }
    }
}

/// A unit by an example of a threshold in it.
fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "a plain number, such as `10`",
        Unit::Bytes => "bytes, such as `100MB`",
        Unit::Seconds => "seconds, such as `5min`",
        Unit::Ratio => "a ratio, such as `80%`",
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let text = text.trim();
        let exactly = |value| Self { low: value, high: value, inside: true, unit: None };
        match text {
            "no" => return Ok(exactly(0.0)),
            "yes" => return Ok(exactly(1.0)),
            _ => {}
        }
        let (inside, range) = text.strip_prefix('@').map_or((false, text), |range| (true, range));
        let zero = Quantity { value: 0.0, unit: None };
        let (low, high) = match range.split_once(':') {
            None => (zero, parse_end(text, range)?),
            Some((low, high)) => {
                let low = match low.trim() {
                    "~" => Quantity { value: f64::NEG_INFINITY, unit: None },
                    low => parse_end(text, low)?,
                };
                let high = match high.trim() {
                    "" => Quantity { value: f64::INFINITY, unit: None },
                    high => parse_end(text, high)?,
                };
                (low, high)
            }
        };
        let needs_none = |end: Quantity| end.value == 0.0 || end.value.is_infinite();
        let unit = match (low.unit, high.unit) {
            (Some(low), Some(high)) if low != high => return Err(ThresholdError::Mixed(text.to_owned())),
            (Some(_), None) if !needs_none(high) => return Err(ThresholdError::Mixed(text.to_owned())),
            (None, Some(_)) if !needs_none(low) => return Err(ThresholdError::Mixed(text.to_owned())),
            (low, high) => low.or(high),
        };
        if low.value > high.value {
            return Err(ThresholdError::Order(text.to_owned()));
        }
        Ok(Self { low: low.value, high: high.value, inside, unit })
    }
}

fn parse_end(text: &str, end: &str) -> Result<Quantity, ThresholdError> {
    if end.trim().is_empty() || end.contains(':') {
        return Err(ThresholdError::Form(text.to_owned()));
    }
    end.parse().map_err(|source| ThresholdError::End { text: text.to_owned(), source })
}

/// The range in base units, with the unit if one was written: reading it gives the same threshold.
impl fmt::Display for Threshold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.write(|end| match self.unit {
            None | Some(Unit::Count) => end.to_string(),
            Some(Unit::Bytes) => format!("{end}B"),
            Some(Unit::Seconds) => format!("{end}s"),
            Some(Unit::Ratio) => write_percent(end),
        }))
    }
}

fn write_percent(ratio: f64) -> String {
    let text = format!("{}%", percent(ratio));
    if text.parse().is_ok_and(|read: Quantity| read.value.to_bits() == ratio.to_bits()) {
        return text;
    }
    // Some numbers of 17 digits are no multiple of a hundredth: the decimal text is shifted instead.
    let shortest = format!("{ratio:e}");
    match shortest.split_once('e').map(|(mantissa, exponent)| (mantissa, exponent.parse::<i32>())) {
        Some((mantissa, Ok(exponent))) => format!("{mantissa}e{}%", exponent + 2),
        _ => text,
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn threshold(text: &str) -> Threshold {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_range_alerts_as_the_plugin_guidelines_say() {
        for (text, problems, fine) in [
            ("10", &[-0.1, 10.1][..], &[0.0, 5.0, 10.0][..]),
            ("10:", &[9.9, -1.0], &[10.0, 1e9]),
            ("~:10", &[10.1], &[-1e9, 10.0]),
            ("10:20", &[9.9, 20.1], &[10.0, 20.0]),
            ("@10:20", &[10.0, 15.0, 20.0], &[9.9, 20.1]),
            ("@10", &[0.0, 10.0], &[-0.1, 10.1]),
            ("@10:", &[10.0, 1e9], &[9.9]),
            ("0", &[-1.0, 1.0], &[0.0]),
            ("~:", &[], &[-1e9, 1e9]),
            ("@~:", &[-1e9, 1e9], &[]),
            ("-5:-1", &[-6.0, 0.0], &[-5.0, -1.0]),
            ("80%", &[0.81], &[0.8]),
            ("80:90", &[79.0], &[85.0]),
            ("1kB:1MB", &[1023.0, 1_048_577.0], &[1024.0]),
            ("5 min : 10 min", &[299.0, 601.0], &[300.0]),
            ("0:1h", &[3601.0], &[3600.0]),
            ("no", &[0.0], &[1.0]),
            ("yes", &[1.0], &[0.0]),
        ] {
            for &value in problems {
                assert!(threshold(text).alerts(value), "{text} {value}");
            }
            for &value in fine {
                assert!(!threshold(text).alerts(value), "{text} {value}");
            }
            assert!(!threshold(text).alerts(f64::NAN), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_what_was_expected() {
        for (text, part) in [
            ("", "expected `10`"),
            (":10", "expected `10`"),
            (":", "expected `10`"),
            ("@", "expected `10`"),
            ("1:2:3", "expected `10`"),
            ("~", "expected a number"),
            ("10:~", "expected a number"),
            ("20:10", "smaller value first"),
            ("-5", "smaller value first"),
            ("nan", "expected a number"),
            ("inf:", "expected a number"),
            ("1 month", "unknown unit"),
            ("5:10min", "different units"),
            ("1MB:10min", "different units"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_range_is_shown_in_base_units() {
        for (text, shown, unit, perfdata) in [
            ("10", "10", Unit::Count, "10"),
            ("0:10", "10", Unit::Count, "10"),
            ("10:", "10:", Unit::Count, "10:"),
            ("~:10", "~:10", Unit::Count, "~:10"),
            ("@0:10", "@10", Unit::Count, "@10"),
            ("@ 10 : 20", "@10:20", Unit::Count, "@10:20"),
            ("1kB:", "1024B:", Unit::Bytes, "1024:"),
            ("0:5min", "300s", Unit::Seconds, "300"),
            ("7%", "7%", Unit::Ratio, "7"),
            ("0.07", "0.07", Unit::Ratio, "7"),
            ("0%:", "0%:", Unit::Ratio, "0:"),
        ] {
            assert_eq!(threshold(text).to_string(), shown);
            assert_eq!(threshold(text).to_perfdata(unit), perfdata, "{text}");
        }
    }

    #[test]
    fn a_level_is_a_range_or_a_word_of_a_policy() {
        for (text, level) in [
            ("N/A", Some(Level::Never)),
            ("missing", Some(Level::Missing)),
            (" 1.5TB ", Some(Level::Range(threshold("1.5TB")))),
            ("no", Some(Level::Range(threshold("@0")))),
            ("never", None),
        ] {
            assert_eq!(text.parse().ok(), level, "{text}");
        }
    }

    #[test]
    fn a_threshold_of_another_unit_is_of_no_use() {
        for (text, unit, part) in [
            ("80%", Unit::Bytes, "`80%` is in ratio: expected bytes, such as `100MB`"),
            ("10", Unit::Seconds, ""),
            ("80", Unit::Ratio, "write per cent, such as `80%`"),
            ("80:", Unit::Ratio, "write per cent"),
            ("0.8", Unit::Ratio, ""),
            ("150%", Unit::Ratio, ""),
        ] {
            let answer = threshold(text).check_unit(unit);
            match answer {
                Ok(()) => assert_eq!(part, "", "{text}"),
                Err(error) => assert!(!part.is_empty() && error.to_string().contains(part), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn a_value_is_worse_the_further_it_goes_towards_the_problem() {
        for (text, better, worse) in
            [("10", 3.0, 4.0), ("10:", 30.0, 20.0), ("@10:20", 30.0, 25.0), ("@5", 9.0, 8.0), ("@10:", 11.0, 12.0)]
        {
            let threshold = threshold(text);
            assert!(threshold.badness(better) < threshold.badness(worse), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[@~:.0-9eE+a-zA-Z% -]{0,20}|.*") {
            if let Ok(threshold) = text.parse::<Threshold>() {
                prop_assert_eq!(threshold.to_string().parse(), Ok(threshold), "{}", threshold);
            }
        }

        #[test]
        fn whatever_is_read_can_judge_and_be_shown(
            text in "@?(~|-?[0-9]{1,3})?:?[0-9.]{0,3}( ?[kMGTPE]?B| ?min| hours?|%|s)?|[@~:.0-9eE+a-zA-Z% -]{0,20}",
            value: f64,
        ) {
            const UNITS: [Unit; 4] = [Unit::Count, Unit::Bytes, Unit::Seconds, Unit::Ratio];
            match text.parse::<Level>() {
                Ok(Level::Range(threshold)) => {
                    let _ = (threshold.alerts(value), threshold.badness(value));
                    prop_assert!(threshold.is_within(&threshold));
                    for unit in UNITS {
                        let shown = [threshold.to_perfdata(unit), threshold.to_text(unit)];
                        prop_assert!(shown.iter().all(|text| !text.is_empty() && !text.contains("NaN")), "{shown:?}");
                    }
                    let fits = UNITS.iter().filter(|unit| threshold.check_unit(**unit).is_ok()).count();
                    prop_assert!(fits >= 1, "{}", threshold);
                }
                Ok(Level::Never | Level::Missing) => {}
                Err(error) => prop_assert!(error.to_string().contains("expected"), "{error}"),
            }
        }

        #[test]
        fn a_threshold_survives_being_shown(
            low in prop_oneof![Just(f64::NEG_INFINITY), Just(0.0), -1e30..1e30, 0.0..1.0],
            high in prop_oneof![Just(f64::INFINITY), Just(0.0), -1e30..1e30, 0.0..1.0],
            inside: bool,
            unit in prop_oneof![Just(None), Just(Some(Unit::Bytes)), Just(Some(Unit::Seconds)), Just(Some(Unit::Ratio))],
        ) {
            // Without a finite end there is nothing that a unit could be written at.
            let unit = unit.filter(|_| low.is_finite() || high.is_finite());
            let (low, high) = if low <= high { (low, high) } else { (high, low) };
            let threshold = Threshold { low, high, inside, unit };
            prop_assert_eq!(threshold.to_string().parse(), Ok(threshold), "{}", threshold);
        }
    }
}
