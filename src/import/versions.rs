//! Versions and times in the words of Go's programs.

use super::branch::Majors;
use crate::unit::split_number;

/// A time such as `1h30m` or `1.5s`, in seconds (Go's `time.ParseDuration`).
pub(super) fn seconds(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    if text == "0" {
        return Some(0.0);
    }
    let (mut rest, mut sum) = (text, None);
    while !rest.is_empty() {
        let (number, behind) = split_number(rest).filter(|(number, _)| !number.contains(['e', 'E', '-', '+']))?;
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(end)?;
        let (_, factor) = UNITS.iter().find(|(known, _)| *known == unit)?;
        sum = Some(sum.unwrap_or(0.0) + number.parse::<f64>().ok()? * factor);
        rest = behind;
    }
    sum.filter(|sum: &f64| sum.is_finite())
}

/// The majors in a range such as `>=9.6.0 <13.0.0 || 14.x` (blang/semver, which `postgres_exporter` uses); of a major that is in it partly, all of it.
///
/// # Errors
///
/// What was expected.
pub(super) fn majors_in(range: &str) -> Result<Majors, String> {
    let mut choices = Vec::new();
    for choice in range.split("||") {
        // An operator may stand apart from its version.
        let mut spaced = String::new();
        for c in choice.chars() {
            let follows = spaced.trim_end().ends_with(['<', '>', '=', '!']) && c.is_whitespace();
            if !follows {
                spaced.push(c);
            }
        }
        let conditions: Vec<_> = spaced.split_whitespace().map(condition).collect::<Result<_, _>>()?;
        if conditions.is_empty() {
            return Err(format!("expected a range of versions such as \">=10.0.0 <17.0.0\", got \"{range}\""));
        }
        choices.push(conditions);
    }
    Ok(Majors::where_true(|major| {
        choices.iter().any(|conditions| {
            let hold =
                |minor: u64| conditions.iter().all(|(is, version)| is.holds((u64::from(major), minor), *version));
            hold(0) || hold(999)
        })
    }))
}

#[derive(Clone, Copy)]
enum Is {
    Below,
    NotAbove,
    Above,
    NotBelow,
    Equal,
    Other,
}

impl Is {
    fn holds(self, version: (u64, u64), limit: (u64, Option<u64>)) -> bool {
        let (major, minor) = limit;
        // `10` and `10.x` are the whole of 10.
        let order = match minor {
            Some(minor) => version.cmp(&(major, minor)),
            None => version.0.cmp(&major),
        };
        match self {
            Self::Below => order.is_lt(),
            Self::NotAbove => order.is_le(),
            Self::Above => order.is_gt(),
            Self::NotBelow => order.is_ge(),
            Self::Equal => order.is_eq(),
            Self::Other => order.is_ne(),
        }
    }
}

fn condition(text: &str) -> Result<(Is, (u64, Option<u64>)), String> {
    let operators = [
        (">=", Is::NotBelow),
        ("<=", Is::NotAbove),
        ("!=", Is::Other),
        ("==", Is::Equal),
        (">", Is::Above),
        ("<", Is::Below),
        ("=", Is::Equal),
        ("!", Is::Other),
    ];
    let found = operators.iter().find_map(|(sign, is)| Some((*is, text.strip_prefix(sign)?)));
    let (is, version) = found.unwrap_or((Is::Equal, text));
    let wrong = || format!("expected a version such as \"13.0.0\", got \"{version}\"");
    let mut parts = version.split('.');
    let major = parts.next().and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
    let minor = match parts.next() {
        None | Some("x" | "X" | "*") => None,
        Some(part) => Some(part.parse().map_err(|_| wrong())?),
    };
    Ok((is, (major, minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_gos_is_seconds() {
        for (text, expected) in [
            ("5m", Some(300.0)),
            ("1h30m", Some(5400.0)),
            ("1.5s", Some(1.5)),
            ("250ms", Some(0.25)),
            ("0", Some(0.0)),
            ("", None),
            ("5", None),
            ("1d", None),
            ("-1s", None),
            ("1e9s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_range_is_the_majors_in_it() {
        for (range, expected) in [
            (">=9.6.0", vec![10, 11, 12, 13, 14]),
            (">= 11.0.0 < 13.0.0", vec![11, 12]),
            ("<11.0.0 || >=13.0.0", vec![10, 13, 14]),
            (">10.2.0 <=12.1.0", vec![10, 11, 12]),
            ("12.x", vec![12]),
            ("!12.x >11", vec![13, 14]),
        ] {
            let majors = majors_in(range).unwrap();
            assert_eq!((9..15).filter(|it| majors.contains(*it)).collect::<Vec<_>>(), expected, "{range}");
        }
        for range in ["", "new", ">=", ">=1.x.y ||", "1.b"] {
            assert!(majors_in(range).is_err(), "{range}");
        }
    }
}
