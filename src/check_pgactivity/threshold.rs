//! Thresholds as `check_pgactivity` writes them, and how it writes sizes, intervals and numbers in its messages.

use std::collections::BTreeMap;

use crate::plugin;

/// An interval in seconds: `1h30m25s`, `1d 2h`, a bare number is seconds; `None` for anything else.
///
/// The original stops at a 0, so that `0h30m` is nothing; here it is half an hour.
pub fn seconds(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut digits = String::new();
    let mut ended = true;
    let mut any = false;
    for letter in text.trim().chars() {
        let factor = match letter.to_ascii_lowercase() {
            digit if digit.is_ascii_digit() => {
                if ended && !digits.is_empty() {
                    return None;
                }
                ended = false;
                any = true;
                digits.push(digit);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            blank if blank.is_whitespace() => {
                ended = true;
                continue;
            }
            _ => return None,
        };
        total = total.checked_add(digits.parse::<i64>().ok()?.checked_mul(factor)?)?;
        digits.clear();
        ended = true;
    }
    let last = if digits.is_empty() { 0 } else { digits.parse::<i64>().ok()? };
    total.checked_add(last).filter(|_| any)
}

/// A size in bytes: `512MB`, `1.5g`, `100ko`, a bare number is bytes. With `whole`, `N%` is that part of it, rounded down.
///
/// The original takes only whole numbers.
pub fn bytes(text: &str, whole: Option<f64>) -> Option<i64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" | "b" => 1.0,
        // One part after the other: a hundredth first would not be all of it at 100 %.
        "%" => return whole_number(number * whole? / 100.0),
        _ => {
            let (first, rest) = unit.split_at_checked(1)?;
            let power = "kmgtpez".find(first).filter(|_| matches!(rest, "" | "b" | "o"))?;
            1024_f64.powi(i32::try_from(power).ok()? + 1)
        }
    };
    whole_number(number * factor)
}

/// A raw number, or with `%` that part of `whole`; rounded down when it is a part.
pub fn count(text: &str, whole: f64) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(percent) => Some((decimal(percent)? * whole / 100.0).floor()),
        None => decimal(text),
    }
}

/// A plain decimal number without a sign.
pub fn decimal(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

/// A list `label=value,label=value` with labels out of these, in any case and with blanks around; of a label named twice the
/// last value counts. `None` if it is empty or no such list.
pub fn labelled<'a>(text: &str, labels: &[&'a str]) -> Option<BTreeMap<&'a str, String>> {
    let mut values = BTreeMap::new();
    for part in text.split(',') {
        let (label, value) = part.split_once('=')?;
        let label = labels.iter().find(|own| own.eq_ignore_ascii_case(label.trim()))?;
        let value = value.trim();
        if value.is_empty() {
            return None;
        }
        values.insert(*label, value.to_owned());
    }
    Some(values)
}

/// `1w 2d 3h4m5s`; the original goes over to the next unit only above it, so a minute is `60s`.
pub fn to_interval(seconds: f64) -> String {
    if seconds.is_nan() {
        return "NaNs".to_owned();
    }
    let Some(mut rest) = whole_number(seconds) else { return number(seconds) };
    let mut text = String::new();
    for (unit, length) in [("w ", 604_800), ("d ", 86_400), ("h", 3_600), ("m", 60)] {
        if rest > length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if rest > 0 || text.is_empty() {
        text.push_str(&format!("{rest}s"));
    }
    text
}

/// `1.50GB`; what is no number stays.
pub fn to_size(text: &str) -> String {
    let Ok(mut value) = text.parse::<f64>() else { return text.to_owned() };
    if !value.is_finite() {
        return text.to_owned();
    }
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value.abs() > 1024.0 {
        let Some(next) = units.next() else { break };
        unit = next;
        value /= 1024.0;
    }
    format!("{value:.2}{unit}")
}

/// A number as Perl prints it; a whole one with all of its digits, as Perl has those that it read as such.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Inf" } else { "-Inf" }.to_owned();
    }
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return format!("{:.0}", value + 0.0);
    }
    plugin::number(value)
}

/// The number without its fraction, as Perl's `int`; `None` where it does not fit.
pub fn whole_number(value: f64) -> Option<i64> {
    const LARGEST: f64 = 9_007_199_254_740_992_000.0;
    #[allow(clippy::cast_possible_truncation, reason = "it is within the range")]
    (value.abs() <= LARGEST).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn intervals_are_read_as_the_original_reads_them() {
        for (text, expected) in [
            ("30s", Some(30)),
            ("1h30m25", Some(5_425)),
            ("1h 55m 6", Some(6_906)),
            ("1D 2H", Some(93_600)),
            ("90", Some(90)),
            ("0h30m", Some(1_800)),
            ("2 m", Some(120)),
            ("", None),
            ("m", None),
            ("1 0", None),
            ("1w", None),
            ("1.5h", None),
            ("-5", None),
            ("99999999999999999999", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, whole, expected) in [
            ("10", None, Some(10)),
            ("1kB", None, Some(1_024)),
            ("2mo", None, Some(2 << 20)),
            ("1.5GB", None, Some(1_610_612_736)),
            ("10.55GB", None, Some(11_327_976_243)),
            ("1 G", None, Some(1 << 30)),
            ("50%", Some(1_001.0), Some(500)),
            ("100%", Some(7_634_279.0), Some(7_634_279)),
            ("50%", None, None),
            ("1x", None, None),
            ("1kbb", None, None),
            ("k", None, None),
            ("", None, None),
            ("9z", None, None),
            ("1.2.3", None, None),
        ] {
            assert_eq!(bytes(text, whole), expected, "{text}");
        }
    }

    #[test]
    fn lists_have_known_labels_and_values() {
        let labels = ["waiting", "idle"];
        let list = labelled("waiting=5, IDLE = 10s", &labels).unwrap();
        assert_eq!(list.into_iter().collect::<Vec<_>>(), [("idle", "10s".to_owned()), ("waiting", "5".to_owned())]);
        for text in ["", "5", "waiting", "waiting=", "other=5", "waiting=5,"] {
            assert_eq!(labelled(text, &labels), None, "{text}");
        }
    }

    #[test]
    fn intervals_and_sizes_are_written_as_the_original_writes_them() {
        let intervals =
            [(0.0, "0s"), (60.0, "60s"), (61.0, "1m1s"), (120.0, "2m"), (3_600.0, "60m"), (93_784.0, "1d 2h3m4s")];
        for (seconds, text) in intervals {
            assert_eq!(to_interval(seconds), text);
        }
        assert_eq!((to_interval(f64::NAN), to_interval(1_209_600.0)), ("NaNs".to_owned(), "2w ".to_owned()));
        for (bytes, text) in
            [("0", "0.00B"), ("1024", "1024.00B"), ("1048576", "1024.00kB"), ("NaN", "NaN"), ("a:b", "a:b")]
        {
            assert_eq!(to_size(bytes), text);
        }
    }

    #[test]
    fn numbers_are_written_as_perl_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (42.0, "42"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333333333333"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1000000000000000"),
            (1e16 / 3.0, "3.33333333333333e+15"),
            (1e20, "1e+20"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (99.99, "99.99"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    proptest! {
        #[test]
        fn no_threshold_makes_it_panic(text in "[0-9a-z%=,. ]{0,12}|\\PC{0,8}", whole in any::<f64>()) {
            let _ = (seconds(&text), bytes(&text, Some(whole)), count(&text, whole), labelled(&text, &["a", "size"]));
            let _ = (to_interval(whole), to_size(&text), number(whole));
        }
    }
}
