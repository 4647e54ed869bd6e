//! Quantities as people write and read them: `100MB`, `15min`, `80%`, and back.
//!
//! Inside, everything is a plain number of base units: bytes, seconds, a ratio where 1 is the whole.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};

/// What a value counts, and so how it is written for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Things, or things per second.
    #[default]
    Count,
    /// Bytes; their multiples are powers of 1024, as `PostgreSQL` and `check_postgres` have them.
    Bytes,
    /// Seconds.
    Seconds,
    /// A share of a whole that is 1; written in per cent.
    Ratio,
}

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// It does not begin with a number.
    #[error("`{0}` is not a quantity: expected a number, such as `10`, `100MB`, `15min` or `80%`")]
    Number(String),
    /// What follows the number is no unit.
    #[error(
        "unknown unit `{unit}` in `{text}`: expected B, kB, MB, GB, TB or PB (powers of 1024), us, ms, s, min, h, d or w, or %"
    )]
    Unit {
        /// The whole text.
        text: String,
        /// The part that is not understood.
        unit: String,
    },
    /// It is more than a number can hold.
    #[error("`{0}` is too large: expected a number below 1e308")]
    Large(String),
    /// A quantity, but not a span of time.
    #[error("`{0}` is not a duration: expected a number with us, ms, s, min, h, d or w, such as `15min`")]
    Duration(String),
    /// A span of time longer than [`LONGEST_SPAN`].
    #[error("`{0}` is too long: expected 3650d at most")]
    Long(String),
}

/// The longest span of time that can be written. A moment in the future is the present plus a span, and adding panics
/// where the sum does not fit.
pub const LONGEST_SPAN: Duration = Duration::from_secs(3_650 * 86_400);

/// A number in base units, with the unit if one was written.
///
/// Bytes: `B`, and `kB` to `EB` or `KiB` to `EiB`, all powers of 1024, in any case. Time: `us`, `ms`, `s` or `sec`, `m`
/// or `min`, `h`, `d`, `w`, and the words from `second` to `weeks`; there are no months and no years, and `m` is a minute as in `PromQL`, never a megabyte.
/// Ratio: `%`. Blanks may stand before the unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantity {
    /// In base units: bytes, seconds, 1 for the whole.
    pub value: f64,
    /// The unit that was written, if one was.
    pub unit: Option<Unit>,
}

/// How a unit scales the number before it: a power of ten, which keeps `0.1ms` exact, and a factor.
struct Suffix(&'static str, Unit, i32, f64);

const KIB: f64 = 1024.0;
const SUFFIXES: &[Suffix] = &[
    Suffix("B", Unit::Bytes, 0, 1.0),
    Suffix("kB", Unit::Bytes, 0, KIB),
    Suffix("MB", Unit::Bytes, 0, KIB * KIB),
    Suffix("GB", Unit::Bytes, 0, KIB * KIB * KIB),
    Suffix("TB", Unit::Bytes, 0, KIB * KIB * KIB * KIB),
    Suffix("PB", Unit::Bytes, 0, KIB * KIB * KIB * KIB * KIB),
    Suffix("EB", Unit::Bytes, 0, KIB * KIB * KIB * KIB * KIB * KIB),
    Suffix("KiB", Unit::Bytes, 0, KIB),
    Suffix("MiB", Unit::Bytes, 0, KIB * KIB),
    Suffix("GiB", Unit::Bytes, 0, KIB * KIB * KIB),
    Suffix("TiB", Unit::Bytes, 0, KIB * KIB * KIB * KIB),
    Suffix("PiB", Unit::Bytes, 0, KIB * KIB * KIB * KIB * KIB),
    Suffix("EiB", Unit::Bytes, 0, KIB * KIB * KIB * KIB * KIB * KIB),
    Suffix("us", Unit::Seconds, -6, 1.0),
    Suffix("ms", Unit::Seconds, -3, 1.0),
    Suffix("s", Unit::Seconds, 0, 1.0),
    Suffix("sec", Unit::Seconds, 0, 1.0),
    Suffix("second", Unit::Seconds, 0, 1.0),
    Suffix("seconds", Unit::Seconds, 0, 1.0),
    Suffix("m", Unit::Seconds, 0, 60.0),
    Suffix("min", Unit::Seconds, 0, 60.0),
    Suffix("minute", Unit::Seconds, 0, 60.0),
    Suffix("minutes", Unit::Seconds, 0, 60.0),
    Suffix("h", Unit::Seconds, 0, 3_600.0),
    Suffix("hour", Unit::Seconds, 0, 3_600.0),
    Suffix("hours", Unit::Seconds, 0, 3_600.0),
    Suffix("d", Unit::Seconds, 0, 86_400.0),
    Suffix("day", Unit::Seconds, 0, 86_400.0),
    Suffix("days", Unit::Seconds, 0, 86_400.0),
    Suffix("w", Unit::Seconds, 0, 604_800.0),
    Suffix("week", Unit::Seconds, 0, 604_800.0),
    Suffix("weeks", Unit::Seconds, 0, 604_800.0),
    Suffix("%", Unit::Ratio, -2, 1.0),
];

impl FromStr for Quantity {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let (number, rest) = split_number(text).ok_or_else(|| UnitError::Number(text.to_owned()))?;
        let written = rest.trim_start();
        let (unit, exponent, factor) = if written.is_empty() {
            (None, 0, 1.0)
        } else {
            let Suffix(_, unit, exponent, factor) = SUFFIXES
                .iter()
                .find(|Suffix(name, unit, ..)| {
                    written == *name || (*unit == Unit::Bytes && written.eq_ignore_ascii_case(name))
                })
                .ok_or_else(|| UnitError::Unit { text: text.to_owned(), unit: written.to_owned() })?;
            (Some(*unit), *exponent, *factor)
        };
        let value = shift(number, exponent).unwrap_or(f64::NAN) * factor;
        if !value.is_finite() {
            return Err(UnitError::Large(text.to_owned()));
        }
        Ok(Self { value, unit })
    }
}

/// Splits a decimal number off the beginning of a text; knows no `nan` and no `inf`, which `f64` would read.
pub(crate) fn split_number(text: &str) -> Option<(&str, &str)> {
    let digits = |at: usize| text.get(at..).map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let is = |at: usize, wanted: &[u8]| text.as_bytes().get(at).is_some_and(|byte| wanted.contains(byte));
    let mut end = usize::from(is(0, b"+-"));
    let whole = digits(end);
    end += whole;
    let fraction = if is(end, b".") { digits(end + 1) } else { 0 };
    if whole + fraction == 0 {
        return None;
    }
    if is(end, b".") {
        end += 1 + fraction;
    }
    // An `e` without digits belongs to the unit: `1EB`.
    if is(end, b"eE") {
        let sign = usize::from(is(end + 1, b"+-"));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    text.split_at_checked(end)
}

/// Reads a decimal number times a power of ten, rounded once only.
fn shift(number: &str, exponent: i32) -> Option<f64> {
    if exponent == 0 {
        return number.parse().ok();
    }
    let (mantissa, own) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent = own.parse::<i32>().ok()?.checked_add(exponent)?;
    format!("{mantissa}e{exponent}").parse().ok()
}

/// A ratio in per cent, without the noise of binary fractions: 0.07 is 7, not 7.000000000000001.
pub fn percent(ratio: f64) -> f64 {
    shift(&format!("{ratio:e}"), 2).unwrap_or(ratio * 100.0)
}

/// Reads a span of time that has a unit, such as `15min` or `500ms`, and is no longer than [`LONGEST_SPAN`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::Duration(text.trim().to_owned());
    // What a quantity may be beside a time is of no use here.
    let quantity: Quantity = text.parse().map_err(|_| wrong())?;
    if quantity.unit != Some(Unit::Seconds) {
        return Err(wrong());
    }
    if quantity.value > LONGEST_SPAN.as_secs_f64() {
        return Err(UnitError::Long(text.trim().to_owned()));
    }
    Duration::try_from_secs_f64(quantity.value).map_err(|_| wrong())
}

/// A span of time in the words of a policy: `10 seconds`, `1 hour`, `90 minutes`; what is no whole second, in its short form.
pub fn span_in_words(span: Duration) -> String {
    const WORDS: [(u64, &str); 5] =
        [(604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let seconds = span.as_secs();
    match WORDS.iter().find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size)) {
        Some((size, word)) if span.subsec_nanos() == 0 => {
            let count = seconds / size;
            format!("{count} {word}{}", if count == 1 { "" } else { "s" })
        }
        _ => format_value(Unit::Seconds, span.as_secs_f64()),
    }
}

/// A span of time in a configuration: a string such as `"15min"`, never a bare number, which would not say its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_duration(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a duration in quotes, such as \"15min\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Ratio => "ratio",
        })
    }
}

/// A value for people: `1.5 GB`, `2 h 5 min`, `45.3 %`, `12`.
pub fn format_value(unit: Unit, value: f64) -> String {
    if value.is_nan() {
        return "unknown".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "infinite" } else { "-infinite" }.to_owned();
    }
    let size = value.abs();
    let text = match unit {
        Unit::Count => decimals(size, if size < 0.1 { 4 } else { 2 }),
        Unit::Bytes => format_bytes(size),
        Unit::Seconds => format_seconds(size),
        Unit::Ratio => {
            let size = percent(size);
            format!("{} %", decimals(size, if size < 1.0 { 2 } else { 1 }))
        }
    };
    let is_zero = !text.contains(|c: char| c.is_ascii_digit() && c != '0');
    if value < 0.0 && !is_zero { format!("-{text}") } else { text }
}

fn format_bytes(mut size: f64) -> String {
    // What would be rounded to 1024 is shown in the next unit.
    const NEXT: f64 = KIB - 0.05;
    if size < KIB - 0.5 {
        return format!("{} B", decimals(size, 0));
    }
    size /= KIB;
    for unit in ["kB", "MB", "GB", "TB"] {
        if size < NEXT {
            return format!("{} {unit}", decimals(size, 1));
        }
        size /= KIB;
    }
    format!("{} PB", decimals(size, 1))
}

fn format_seconds(size: f64) -> String {
    /// Units in turn: the size in seconds of the larger and the smaller one shown, and from where on.
    const PAIRS: &[(f64, &str, f64, &str)] =
        &[(86_400.0, "d", 3_600.0, "h"), (3_600.0, "h", 60.0, "min"), (60.0, "min", 1.0, "s")];
    if size == 0.0 {
        return "0 s".to_owned();
    }
    if size < 0.000_999_5 {
        return format!("{} us", decimals(size * 1e6, 0));
    }
    if size < 0.999_5 {
        return format!("{} ms", decimals(size * 1e3, usize::from(size < 0.01)));
    }
    if size < 59.95 {
        return format!("{} s", decimals(size, 1));
    }
    for &(large, large_name, small, small_name) in PAIRS {
        let rounded = (size / small).round() * small;
        if rounded >= large {
            let whole = (rounded / large).floor();
            let rest = ((rounded - whole * large) / small).round();
            let rest = if rest > 0.0 { format!(" {rest} {small_name}") } else { String::new() };
            return format!("{whole} {large_name}{rest}");
        }
    }
    format!("{} s", decimals(size, 0))
}

/// At most so many decimals, without trailing zeros.
pub(crate) fn decimals(value: f64, most: usize) -> String {
    let text = format!("{value:.most$}");
    if most == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_span_in_words_is_read_again() {
        for (span, words) in [("1h", "1 hour"), ("10s", "10 seconds"), ("90min", "90 minutes"), ("1d", "1 day")] {
            let Span(read) = span.parse().unwrap();
            assert_eq!(span_in_words(read), words);
            assert_eq!(words.parse(), Ok(Span(read)));
        }
        assert_eq!(span_in_words(Duration::from_millis(500)), "500 ms");
    }

    #[test]
    fn quantities_are_read_in_base_units() {
        for (text, value, unit) in [
            ("10", 10.0, None),
            (" -1.5 ", -1.5, None),
            ("1e9", 1e9, None),
            (".5", 0.5, None),
            ("100B", 100.0, Some(Unit::Bytes)),
            ("1kB", 1024.0, Some(Unit::Bytes)),
            ("1 KB", 1024.0, Some(Unit::Bytes)),
            ("10.55GB", 10.55 * 1_073_741_824.0, Some(Unit::Bytes)),
            ("1mb", 1_048_576.0, Some(Unit::Bytes)),
            ("2TiB", 2.0 * 1_099_511_627_776.0, Some(Unit::Bytes)),
            ("1EB", 1_152_921_504_606_846_976.0, Some(Unit::Bytes)),
            ("1e3EB", 1e3 * 1_152_921_504_606_846_976.0, Some(Unit::Bytes)),
            ("0.1ms", 0.0001, Some(Unit::Seconds)),
            ("5us", 0.000_005, Some(Unit::Seconds)),
            ("30 sec", 30.0, Some(Unit::Seconds)),
            ("5m", 300.0, Some(Unit::Seconds)),
            ("15min", 900.0, Some(Unit::Seconds)),
            ("2h", 7_200.0, Some(Unit::Seconds)),
            ("1w", 604_800.0, Some(Unit::Seconds)),
            ("1 hour", 3_600.0, Some(Unit::Seconds)),
            ("10 seconds", 10.0, Some(Unit::Seconds)),
            ("7%", 0.07, Some(Unit::Ratio)),
            ("99.9 %", 0.999, Some(Unit::Ratio)),
        ] {
            assert_eq!(text.parse(), Ok(Quantity { value, unit }), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_what_was_expected() {
        for (text, part) in [
            ("", "expected a number"),
            ("MB", "expected a number"),
            ("nan", "expected a number"),
            ("inf", "expected a number"),
            ("-", "expected a number"),
            ("1 month", "unknown unit `month`"),
            ("5M", "unknown unit `M`"),
            ("100 megafoo", "expected B, kB"),
            ("1_000", "unknown unit `_000`"),
            ("1e999", "too large"),
            ("1e99999999999%", "too large"),
        ] {
            let error = text.parse::<Quantity>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_duration_has_a_unit_of_time() {
        assert_eq!(parse_duration("15min"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["15", "15MB", "-1s", "80%"] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains("such as `15min`"), "{text}: {error}");
        }
    }

    #[test]
    fn a_span_fits_into_any_moment() {
        let longest = parse_duration("3650d").unwrap();
        assert_eq!(longest, LONGEST_SPAN);
        assert!(std::time::Instant::now().checked_add(longest).is_some());
        for text in ["3651d", "1e15h", "18446744073709551615s", "1e30s"] {
            assert_eq!(parse_duration(text), Err(UnitError::Long(text.to_owned())));
        }
    }

    #[test]
    fn a_span_in_a_configuration_is_a_string() {
        #[derive(Debug, Deserialize)]
        struct Settings {
            every: Span,
        }
        let settings: Settings = toml::from_str("every = \"15min\"").unwrap();
        assert_eq!(settings.every, Span(Duration::from_secs(900)));
        for text in ["every = 15", "every = \"15\"", "every = \"soon\""] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains("expected a"), "{text}: {error}");
        }
    }

    #[test]
    fn values_are_shown_as_people_write_them() {
        for (unit, value, text) in [
            (Unit::Count, 12.0, "12"),
            (Unit::Count, 0.333, "0.33"),
            (Unit::Count, 0.0123, "0.0123"),
            (Unit::Count, -3.0, "-3"),
            (Unit::Count, -0.000_001, "0"),
            (Unit::Bytes, 0.0, "0 B"),
            (Unit::Bytes, 1023.0, "1023 B"),
            (Unit::Bytes, 1024.0, "1 kB"),
            (Unit::Bytes, 1_048_575.0, "1 MB"),
            (Unit::Bytes, 1_610_612_736.0, "1.5 GB"),
            (Unit::Bytes, -2048.0, "-2 kB"),
            (Unit::Bytes, 1e18, "888.2 PB"),
            (Unit::Seconds, 0.0, "0 s"),
            (Unit::Seconds, 0.000_012, "12 us"),
            (Unit::Seconds, 0.000_01, "10 us"),
            (Unit::Seconds, 0.0025, "2.5 ms"),
            (Unit::Seconds, 0.25, "250 ms"),
            (Unit::Seconds, 0.9999, "1 s"),
            (Unit::Seconds, 12.5, "12.5 s"),
            (Unit::Seconds, 59.97, "1 min"),
            (Unit::Seconds, 303.2, "5 min 3 s"),
            (Unit::Seconds, 3_599.8, "1 h"),
            (Unit::Seconds, 7_500.0, "2 h 5 min"),
            (Unit::Seconds, 86_399.0, "1 d"),
            (Unit::Seconds, 273_600.0, "3 d 4 h"),
            (Unit::Ratio, 0.453, "45.3 %"),
            (Unit::Ratio, 0.07, "7 %"),
            (Unit::Ratio, 0.0004, "0.04 %"),
            (Unit::Ratio, 1.5, "150 %"),
            (Unit::Count, f64::NAN, "unknown"),
        ] {
            assert_eq!(format_value(unit, value), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", number in any::<f64>()) {
            let _ = text.parse::<Quantity>();
            let _ = parse_duration(&text);
            for unit in [Unit::Count, Unit::Bytes, Unit::Seconds, Unit::Ratio] {
                prop_assert!(!format_value(unit, number).is_empty());
            }
        }
    }
}
