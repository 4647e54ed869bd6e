//! A verdict as the output of a Nagios plugin (Monitoring Plugins guidelines, "Plugin Output" and "Performance data").
//!
//! Names of databases, slots or mount points are anyone's: what could end the line, begin the perfdata or move a
//! terminal's cursor is replaced. In texts `|` becomes `¦` and control characters become blanks; in labels of perfdata
//! `|`, `=` and control characters become `_`.

use std::cmp::Reverse;
use std::fmt::Write;

use crate::check::{Perfdata, Threshold, Verdict};
use crate::unit::{Unit, decimals, percent};

/// NRPE 2 passes on 1023 bytes: the first line stays below that, so that it is never cut within the perfdata.
const LONGEST_LINE: usize = 1_000;
/// What the text of the first line may take of it.
const LONGEST_TEXT: usize = 600;
/// Nagios keeps 8 KB of a plugin's output.
const LONGEST_OUTPUT: usize = 8_000;
const MOST_PERFDATA: usize = 20;
const MOST_FINDINGS: usize = 40;
/// What is kept of the output for who or what is behind it, however much was found.
const LEAST_EXPLANATION: usize = 3_000;

/// The status line with perfdata, then one line per finding and those that explain them, the worst first; ends with a newline.
///
/// Where there is more perfdata than fits, what is worst stays; its order is always that of the verdict. `min` and `max`
/// are left out: a plugin need not give them, and for per cent they are understood.
pub fn write(verdict: &Verdict) -> String {
    let name = verdict.check.to_uppercase();
    let mut out = shorten(&plain(&format!("PGVITALS {name} {}: {}", verdict.status, verdict.summary)), LONGEST_TEXT);
    let perfdata = select(&verdict.perfdata, LONGEST_LINE.saturating_sub(out.len() + " |".len()));
    if !perfdata.is_empty() {
        out.push_str(" |");
        for entry in perfdata {
            out.push(' ');
            out.push_str(&entry);
        }
    }
    out.push('\n');
    let explanation: Vec<String> = verdict.explanation.iter().map(|line| shorten(&plain(line), LONGEST_TEXT)).collect();
    let kept = explanation.iter().map(|line| line.len() + 1).sum::<usize>().min(LEAST_EXPLANATION);
    if verdict.findings.len() > 1 {
        let lines = verdict
            .findings
            .iter()
            .map(|finding| shorten(&plain(&format!("{}: {}", finding.status, finding.text)), LONGEST_TEXT));
        add_lines(&mut out, lines, MOST_FINDINGS, LONGEST_OUTPUT - kept);
    }
    add_lines(&mut out, explanation.into_iter(), usize::MAX, LONGEST_OUTPUT);
    out
}

/// Adds so many lines at most, and no more than make so many bytes; says how many were left out.
fn add_lines(out: &mut String, lines: impl ExactSizeIterator<Item = String>, most: usize, longest: usize) {
    let count = lines.len();
    for (n, line) in lines.enumerate() {
        if n == most || out.len() + line.len() > longest {
            let _ = writeln!(out, "and {} more", count - n);
            break;
        }
        let _ = writeln!(out, "{line}");
    }
}

/// The entries that fit into so many bytes.
fn select(perfdata: &[Perfdata], mut room: usize) -> Vec<String> {
    let mut order: Vec<_> = perfdata.iter().enumerate().collect();
    order.sort_by_key(|(_, entry)| Reverse(entry.status));
    let mut entries: Vec<_> = order
        .into_iter()
        .take(MOST_PERFDATA)
        .map(|(n, entry)| (n, write_entry(entry)))
        .take_while(|(_, text)| {
            let fits = room > text.len();
            room = room.saturating_sub(text.len() + 1);
            fits
        })
        .collect();
    entries.sort_by_key(|(n, _)| *n);
    entries.into_iter().map(|(_, text)| text).collect()
}

/// `'label'=value[UOM];warning;critical`, what is empty at the end left out.
fn write_entry(entry: &Perfdata) -> String {
    let Perfdata { label, value, unit, limits, .. } = entry;
    let (value, uom) = match unit {
        Unit::Count => (*value, ""),
        Unit::Bytes => (*value, "B"),
        Unit::Seconds => (*value, "s"),
        Unit::Ratio => (percent(*value), "%"),
    };
    let limit = |limit: Option<Threshold>| limit.map(|limit| limit.to_perfdata(*unit)).unwrap_or_default();
    let text = format!("{}={}{uom};{};{}", quote(label), number(value), limit(limits.warning), limit(limits.critical));
    text.trim_end_matches(';').to_owned()
}

fn number(value: f64) -> String {
    // Beyond this a plain number is hundreds of digits long, and no graph shows it.
    if value.is_nan() || value.abs() > 1e30 {
        return "U".to_owned();
    }
    let text = decimals(value, 6);
    if text == "-0" { "0".to_owned() } else { text }
}

fn quote(label: &str) -> String {
    let label = without(label, &['|', '=']);
    if label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')) && !label.is_empty() {
        return label;
    }
    format!("'{}'", label.replace('\'', "''"))
}

/// A text that neither ends the line nor begins the perfdata.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '|' => '¦',
            c if is_hostile(c) => ' ',
            c => c,
        })
        .collect()
}

/// A part of perfdata with `_` for these characters and for all that is hostile.
pub(crate) fn without(text: &str, unwanted: &[char]) -> String {
    text.chars().map(|c| if is_hostile(c) || unwanted.contains(&c) { '_' } else { c }).collect()
}

/// Control characters, and what Unicode has for line ends and for changing the direction of writing.
pub(crate) fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most so many bytes.
fn shorten(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub("…".len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::{Finding, Limits, Status};

    fn perfdata(label: &str, value: f64, unit: Unit, warning: &str, critical: &str) -> Perfdata {
        let limits = Limits { warning: warning.parse().ok(), critical: critical.parse().ok() };
        Perfdata { label: label.to_owned(), value, unit, limits, status: Status::Ok }
    }

    fn verdict(summary: &str, findings: &[(Status, &str)], perfdata: Vec<Perfdata>) -> Verdict {
        let findings = findings.iter().map(|&(status, text)| Finding {
            status,
            text: text.to_owned(),
            labels: Vec::new(),
            value: None,
            unit: Unit::Count,
            rule: 0,
        });
        Verdict {
            check: "memory".to_owned(),
            status: Status::Warning,
            summary: summary.to_owned(),
            findings: findings.collect(),
            explanation: Vec::new(),
            perfdata,
            service: Status::Warning.into(),
        }
    }

    #[test]
    fn a_verdict_is_one_line_and_what_explains_it() {
        let perfdata = vec![perfdata("memory", 0.853, Unit::Ratio, "80%", "90%")];
        assert_eq!(
            write(&verdict("85.3 % of memory is used", &[(Status::Warning, "as above")], perfdata)),
            "PGVITALS MEMORY WARNING: 85.3 % of memory is used | memory=85.3%;80;90\n"
        );
        assert_eq!(
            write(&verdict("x", &[(Status::Warning, "x"), (Status::Ok, "y | z")], Vec::new())),
            "PGVITALS MEMORY WARNING: x\nWARNING: x\nOK: y ¦ z\n"
        );
        assert_eq!(write(&Verdict::unknown("repl-lag", "no agent")), "PGVITALS REPL-LAG UNKNOWN: no agent\n");
    }

    #[test]
    fn perfdata_follows_the_guidelines() {
        for (entry, text) in [
            (perfdata("a", 12.0, Unit::Count, "", ""), "a=12"),
            (perfdata("a", 12.0, Unit::Count, "10", ""), "a=12;10"),
            (perfdata("a", 12.0, Unit::Count, "", "~:10"), "a=12;;~:10"),
            (perfdata("a", 0.333_333_333, Unit::Count, "@1:2", "10:"), "a=0.333333;@1:2;10:"),
            (perfdata("a", 1_048_576.0, Unit::Bytes, "1MB", "1GB"), "a=1048576B;1048576;1073741824"),
            (perfdata("a", -1.5, Unit::Seconds, "5min:10min", ""), "a=-1.5s;300:600"),
            (perfdata("a", -0.000_000_1, Unit::Seconds, "", ""), "a=0s"),
            (perfdata("a", 0.07, Unit::Ratio, "7%:", "0.05"), "a=7%;7:;5"),
            (perfdata("a", 1e300, Unit::Count, "", ""), "a=U"),
            (perfdata("lag 15/main", 1.0, Unit::Count, "", ""), "'lag 15/main'=1"),
            (perfdata("it's", 1.0, Unit::Count, "", ""), "'it''s'=1"),
            (perfdata("a=b|c\nd", 1.0, Unit::Count, "", ""), "a_b_c_d=1"),
            (perfdata("größe", 1.0, Unit::Count, "", ""), "'größe'=1"),
            (perfdata("", 1.0, Unit::Count, "", ""), "''=1"),
        ] {
            assert_eq!(write_entry(&entry), text);
        }
    }

    #[test]
    fn the_worst_of_too_much_perfdata_is_kept_in_its_order() {
        let mut entries: Vec<_> = (0..100).map(|n| perfdata(&format!("d{n}"), 1.0, Unit::Count, "", "")).collect();
        entries[50].status = Status::Critical;
        entries[99].status = Status::Warning;
        let text = write(&verdict("x", &[], entries));
        let shown: Vec<_> = text.trim_end().split_once("| ").unwrap().1.split(' ').collect();
        assert_eq!(shown.len(), MOST_PERFDATA);
        assert_eq!(shown[..2], ["d0=1", "d1=1"]);
        assert_eq!(shown[18..], ["d50=1", "d99=1"]);
    }

    #[test]
    fn the_first_line_passes_through_nrpe_uncut() {
        let long = "ä".repeat(500);
        let entries =
            (0..20).map(|n| perfdata(&format!("{n} {}", "x".repeat(100)), 1.0, Unit::Count, "1", "")).collect();
        let findings = vec![(Status::Warning, long.as_str()); 200];
        let text = write(&verdict(&long, &findings, entries));
        let line = text.lines().next().unwrap();
        assert!(line.len() <= LONGEST_LINE, "{}", line.len());
        assert!(line.contains("… | ") && line.ends_with("=1;1"), "{line}");
        assert!(text.len() < 8_192 && text.contains("more\n"), "{}", text.len());
        let mut explained = verdict(&long, &findings, Vec::new());
        explained.explanation = vec![format!("pid 7 | of {long}\n"); 30];
        let text = write(&explained);
        assert!(text.contains("more\npid 7 ¦ of ") && text.ends_with(" more\n"), "{text}");
        assert!(text.len() < 8_192 && text.lines().count() < 20, "{}", text.len());
    }

    proptest! {
        #[test]
        fn no_name_breaks_the_line(summary in ".*", label in ".*", other in "[|'=;\n\r\t\u{1b} a]{0,40}", value: f64) {
            let entries = vec![perfdata(&label, value, Unit::Ratio, "", ""), perfdata(&other, value, Unit::Count, "", "")];
            let text = write(&verdict(&format!("{summary}{other}"), &[], entries));
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert!(text.matches('|').count() <= 1);
            prop_assert!(!text.trim_end_matches('\n').contains(|c: char| c.is_control()));
            if let Some((_, entries)) = text.split_once(" | ") {
                prop_assert!(entries.matches('\'').count() % 2 == 0);
                prop_assert!(entries.matches('=').count() <= 2);
            }
        }
    }
}
