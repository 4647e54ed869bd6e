//! Numbers, sizes, times and names as the original writes them.

pub use crate::plugin::number;
use crate::sink::nagios::{is_hostile, without};

/// A number of bytes for people: `9000 bytes`, `1.50 MB`; powers of 1024.
pub fn pretty_size(bytes: f64) -> String {
    scaled(bytes, |value, unit| format!("{value:.2} {unit}"))
}

/// The same in whole units, cut off.
pub fn pretty_size_whole(bytes: f64) -> String {
    scaled(bytes, |value, unit| format!("{:.0} {unit}", value.trunc()))
}

fn scaled(bytes: f64, write: impl Fn(f64, &str) -> String) -> String {
    if bytes < 10_240.0 {
        return format!("{} bytes", number(bytes));
    }
    let mut value = bytes / 1024.0;
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    for unit in units {
        if value <= 1024.0 {
            return write(value, unit);
        }
        value /= 1024.0;
    }
    write(value, "ZB")
}

/// What of a span of time is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Nothing.
    Full,
    /// Seconds, where there are minutes.
    NoSeconds,
}

/// A span of time for people: `38 seconds`, `2 hours 5 minutes`. `seconds` is cut off to whole ones above two minutes.
pub fn pretty_time(seconds: f64, precision: Precision) -> String {
    if seconds < 120.0 {
        return counted(&number(seconds), "second");
    }
    let mut rest = seconds.trunc();
    let day = 86_400.0;
    let units: &[(&str, f64)] = match rest {
        rest if rest < 3_600.0 => &[("minute", 60.0)],
        rest if rest < 2.0 * day => &[("hour", 3_600.0), ("minute", 60.0)],
        rest if rest < 28.0 * day => &[("day", 86_400.0), ("hour", 3_600.0), ("minute", 60.0)],
        _ => &[("week", 604_800.0), ("day", 86_400.0), ("hour", 3_600.0), ("minute", 60.0)],
    };
    let mut parts = Vec::new();
    for (unit, length) in units {
        let many = (rest / length).trunc();
        rest -= many * length;
        if many > 0.0 {
            parts.push(counted(&number(many), unit));
        }
    }
    if rest > 0.0 && precision == Precision::Full {
        parts.push(counted(&number(rest), "second"));
    }
    parts.join(" ")
}

fn counted(many: &str, unit: &str) -> String {
    let plural = if many == "1" { "" } else { "s" };
    format!("{many} {unit}{plural}")
}

/// A moment as `2026-11-22 04:46:19`, so many seconds east of Greenwich; `epoch` is in seconds.
pub fn moment(epoch: f64, utc_offset: f64) -> String {
    let seconds = epoch + utc_offset;
    let (day, of_day) = ((seconds / 86_400.0).floor(), seconds.rem_euclid(86_400.0));
    // Days from the first of March of the year 0, as Howard Hinnant counts them: a leap day is the last one of its year.
    let days = day + 719_468.0;
    let era = (days / 146_097.0).floor();
    let of_era = days - era * 146_097.0;
    let year = ((of_era - (of_era / 1_460.0).floor() + (of_era / 36_524.0).floor() - (of_era / 146_096.0).floor())
        / 365.0)
        .floor();
    let of_year = of_era - (365.0 * year + (year / 4.0).floor() - (year / 100.0).floor());
    let month = ((5.0 * of_year + 2.0) / 153.0).floor();
    let day = of_year - ((153.0 * month + 2.0) / 5.0).floor() + 1.0;
    let month = if month < 10.0 { month + 3.0 } else { month - 9.0 };
    let year = year + era * 400.0 + if month <= 2.0 { 1.0 } else { 0.0 };
    let (hours, minutes) = ((of_day / 3_600.0).floor(), (of_day % 3_600.0 / 60.0).floor());
    format!("{year:.0}-{month:02.0}-{day:02.0} {hours:02.0}:{minutes:02.0}:{:02.0}", (of_day % 60.0).floor())
}

/// A name as label of perfdata: quoted when it has a blank or a quote. What would end the line or the perfdata becomes `_`.
pub fn perfname(name: &str) -> String {
    let name = without(name, &['|']);
    if name.contains([' ', '\'']) { format!("'{}'", name.replace('\'', "''")) } else { name }
}

/// A message on one line: a line's end becomes `\n `, which is how the original writes it where it does, other control
/// characters blanks, and `|` becomes `<PIPE>` where perfdata follow.
pub fn one_line(message: &str, has_perf: bool) -> String {
    let mut line = String::with_capacity(message.len());
    let mut after_end = false;
    for c in message.chars() {
        match c {
            '\n' | '\r' if !after_end => {
                line.push_str("\\n ");
                after_end = true;
                continue;
            }
            c if after_end && c.is_whitespace() => continue,
            '|' if has_perf => line.push_str("<PIPE>"),
            c if is_hostile(c) => line.push(' '),
            c => line.push(c),
        }
        after_end = false;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_for_people() {
        assert_eq!(pretty_size(10_239.0), "10239 bytes");
        assert_eq!(pretty_size(458_752.0), "448.00 kB");
        assert_eq!(pretty_size_whole(458_752.0), "448 kB");
        assert_eq!(pretty_size(17_483_890_688.0), "16.28 GB");
        for (seconds, text) in [
            (1.0, "1 second"),
            (119.0, "119 seconds"),
            (120.0, "2 minutes"),
            (843.0, "14 minutes 3 seconds"),
            (7_500.0, "2 hours 5 minutes"),
            (172_800.0, "2 days"),
            (2_419_261.0, "4 weeks 1 minute 1 second"),
        ] {
            assert_eq!(pretty_time(seconds, Precision::Full), text);
        }
        assert_eq!(pretty_time(843.0, Precision::NoSeconds), "14 minutes");
    }

    #[test]
    fn a_moment_is_told_by_the_wall_clock() {
        assert_eq!(moment(0.0, 0.0), "1970-01-01 00:00:00");
        assert_eq!(moment(1_709_164_799.9, 3_600.0), "2024-02-29 00:59:59");
        assert_eq!(moment(1_795_322_779.0, 0.0), "2026-11-22 04:46:19");
        assert_eq!(moment(1_704_067_199.0, 0.0), "2023-12-31 23:59:59");
    }

    #[test]
    fn nothing_in_a_name_ends_the_line_or_the_perfdata() {
        assert_eq!((perfname("app"), perfname("my app")), ("app".to_owned(), "'my app'".to_owned()));
        assert_eq!((perfname("a'b"), perfname("a|b\nc")), ("'a''b'".to_owned(), "a_b_c".to_owned()));
        assert_eq!(one_line("a|b\r\n\n  c\td", true), "a<PIPE>b\\n c d");
        assert_eq!(one_line("a|b", false), "a|b");
    }
}
