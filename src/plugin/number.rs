//! Numbers as Perl writes them.

/// Up to here every whole number has a value of its own.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// A number as Perl prints it: whole ones to the last digit, as it counts sizes and what a server counts; others with fifteen
/// significant digits and no zeros at the end.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    if value.fract() == 0.0 && (1e15..=WHOLE).contains(&value.abs()) {
        return format!("{value:.0}");
    }
    let scientific = format!("{value:.14e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..15).contains(&exponent) {
        let decimals = usize::try_from(14 - exponent).unwrap_or_default();
        let text = format!("{value:.decimals$}");
        return if text.contains('.') {
            let text = text.trim_end_matches('0').trim_end_matches('.');
            if text == "-0" { "0".to_owned() } else { text.to_owned() }
        } else {
            text
        };
    }
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_perl_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (10.5, "10.5"),
            (1_610_612_736.0, "1610612736"),
            (11_327_976_243.2, "11327976243.2"),
            (1e15, "1000000000000000"),
            (5_629_499_534_213_120.0, "5629499534213120"),
            (1e16, "1e+16"),
            (123_456_789_012_345.0, "123456789012345"),
            (0.1 + 0.2, "0.3"),
            (0.00001, "1e-05"),
            (0.0001, "0.0001"),
            (-5.0, "-5"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
