//! Showing: a snapshot, a verdict or the checks as the texts that others read. Nothing here connects to anything.

pub mod graphite;
pub mod json;
pub mod nagios;
pub mod objects;
pub mod openmetrics;
pub mod policy;
pub mod prometheus;

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Up to here every whole number has an exact `f64`, so it is shown digit by digit.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Seconds since 1970; 0 for a clock that is set before.
fn epoch(moment: SystemTime) -> f64 {
    moment.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The value as an integer, when it is one and nothing is lost.
fn whole(value: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "within 2^53 and without a fraction")]
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

/// Appends a finite value in the shortest form that reads back as the same number.
fn push_number(out: &mut String, value: f64) {
    let size = value.abs();
    // Writing to a String cannot fail.
    let _ = match whole(value) {
        Some(whole) => write!(out, "{whole}"),
        None if (1e-5..1e21).contains(&size) => write!(out, "{value}"),
        None => write!(out, "{value:e}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

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
