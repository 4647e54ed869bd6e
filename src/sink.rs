//! Showing: a snapshot, a verdict or the checks as the texts that others read. Nothing here connects to anything.

pub mod graphite;
pub mod json;
pub mod nagios;
pub mod objects;
pub mod openmetrics;
pub mod policy;
pub mod prometheus;
mod series;

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Up to here every whole number has an exact `f64`, so it is shown digit by digit.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A text that is taken piece by piece is taken when it has so many bytes, or a few more.
pub const PIECE: usize = 64 << 10;

/// Who takes a text piece by piece, so that it is nowhere as a whole: is given what is written since the last time, and clears it.
pub type Take<'a> = &'a mut dyn FnMut(&mut String);

/// Seconds since 1970; 0 for a clock that is set before.
fn epoch(moment: SystemTime) -> f64 {
    moment.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The value as an integer, when it is one and nothing is lost.
fn whole(value: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "what is cut off is seen when it is compared")]
    let whole = value as i64;
    #[expect(clippy::float_cmp, reason = "a whole number is the same to the bit, but for the sign of 0")]
    (whole as f64 == value && value.abs() <= EXACT).then_some(whole)
}

/// Appends a finite value in the shortest form that reads back as the same number.
fn push_number(out: &mut String, value: f64) {
    let size = value.abs();
    if let Some(whole) = whole(value) {
        return out.push_str(itoa::Buffer::new().format(whole));
    }
    if (1e-5..EXACT).contains(&size) {
        return out.push_str(zmij::Buffer::new().format_finite(value));
    }
    // Writing to a String cannot fail.
    let _ = if (1e-5..1e21).contains(&size) { write!(out, "{value}") } else { write!(out, "{value:e}") };
}

/// Appends a value as the text formats of Prometheus have it.
fn push_value(out: &mut String, value: f64) {
    if value.is_finite() {
        push_number(out, value);
    } else if value.is_nan() {
        out.push_str("NaN");
    } else {
        // Writing to a String cannot fail.
        let _ = write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the standard library writes it, which takes longer.
    fn plain(value: f64) -> String {
        match value.abs() {
            0.0 => "0".to_owned(),
            size if (1e-5..1e21).contains(&size) => value.to_string(),
            _ => format!("{value:e}"),
        }
    }

    proptest! {
        #[test]
        fn numbers_are_as_short_as_the_standard_library_writes_them(
            value in prop_oneof![any::<f64>(), -1e6..1e6, 0.0..1e-4, -1e17..1e17, (-1i64 << 54..1i64 << 54).prop_map(|v| v as f64)]
        ) {
            prop_assume!(value.is_finite());
            let mut out = String::new();
            push_number(&mut out, value);
            // Of two that are as short and as near, each has its own.
            prop_assert_eq!((out.len(), out.parse::<f64>().unwrap()), (plain(value).len(), value));
        }
    }

    #[test]
    fn numbers_read_back_as_they_were() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (42.0, "42"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (EXACT, "9007199254740992"),
            (EXACT * 4.0, "36028797018963970"),
            (1e21, "1e21"),
            (f64::MAX, "1.7976931348623157e308"),
            (1.5e-7, "1.5e-7"),
            (5e-324, "5e-324"),
        ];
        for (value, expected) in cases {
            let mut out = String::new();
            push_number(&mut out, value);
            assert_eq!(out, expected);
            assert!((out.parse::<f64>().unwrap() - value).abs() < f64::MIN_POSITIVE, "{out}");
        }
    }
}
