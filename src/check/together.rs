//! Several checks as one: how many of each status, and what is wrong, the worst first.

use std::cmp::Reverse;

use super::threshold::Limits;
use super::verdict::{Finding, Perfdata, Status, Verdict};
use super::{Check, Importance};
use crate::unit::Unit;

/// How many findings the summary names.
const MOST_NAMED: usize = 3;
/// How many checks are named that say the same.
const MOST_CHECKS: usize = 8;

/// The verdict on several checks, each with its own; what `left_out` says was not judged, and why.
///
/// The findings are those that are not OK, the worst first, of equally bad ones those of the more important check. Checks that
/// say the same, as all do of a server that is down, have one finding. The perfdata are the four counts, so that a graph has the
/// same lines whatever is wrong; the values are the perfdata of the checks themselves.
pub fn together(name: &str, verdicts: &[(&Check, Verdict)], left_out: Option<&str>) -> Verdict {
    let mut bad: Vec<(Status, Option<Importance>, &str, Vec<&str>)> = Vec::new();
    for (check, verdict) in verdicts.iter().filter(|(_, verdict)| verdict.status != Status::Ok) {
        let importance = check.importance();
        let own = [(verdict.status, verdict.summary.as_str())];
        let found = verdict.findings.iter().map(|finding| (finding.status, finding.text.as_str()));
        let found: Vec<_> = if verdict.findings.is_empty() { own.to_vec() } else { found.collect() };
        for (status, text) in found.into_iter().filter(|(status, _)| *status != Status::Ok) {
            match bad.iter_mut().find(|(other, _, said, _)| *other == status && *said == text) {
                Some((_, most, _, names)) => {
                    *most = importance.max(*most);
                    if !names.contains(&check.name()) {
                        names.push(check.name());
                    }
                }
                None => bad.push((status, importance, text, vec![check.name()])),
            }
        }
    }
    // Stable: otherwise in the order of the checks.
    bad.sort_by_key(|(status, importance, ..)| Reverse((*status, *importance)));
    let findings: Vec<Finding> = bad
        .into_iter()
        .map(|(status, _, text, names)| Finding {
            status,
            text: format!("{}: {text}", name_all(&names)),
            labels: Vec::new(),
            value: None,
            unit: Unit::default(),
            rule: 0,
        })
        .collect();
    let count = |status| verdicts.iter().filter(|(_, verdict)| verdict.status == status).count();
    let counts = [Status::Critical, Status::Warning, Status::Unknown, Status::Ok].map(|it| (it, count(it)));
    let status = verdicts.iter().map(|(_, verdict)| verdict.status).max().unwrap_or_default();
    Verdict {
        check: name.to_owned(),
        status,
        service: status.into(),
        summary: summarise(&counts, &findings, left_out),
        findings,
        explanation: Vec::new(),
        perfdata: counts.iter().rev().map(|(status, count)| perfdata(*status, *count)).collect(),
    }
}

fn name_all(names: &[&str]) -> String {
    let first = names.iter().take(MOST_CHECKS).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_CHECKS) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn summarise(counts: &[(Status, usize)], findings: &[Finding], left_out: Option<&str>) -> String {
    let is_said = |(status, count): &&(Status, usize)| *count > 0 || *status == Status::Ok;
    let counts = counts.iter().filter(is_said).map(|(status, count)| format!("{count} {}", word(*status)));
    let mut summary = counts.collect::<Vec<_>>().join(", ");
    if let Some(left_out) = left_out {
        summary = format!("{summary} ({left_out})");
    }
    for (n, finding) in findings.iter().take(MOST_NAMED).enumerate() {
        summary = format!("{summary}{} {}", if n == 0 { ":" } else { ";" }, finding.text);
    }
    match findings.len().saturating_sub(MOST_NAMED) {
        0 => summary,
        more => format!("{summary}; and {more} more"),
    }
}

fn word(status: Status) -> String {
    status.to_string().to_lowercase()
}

fn perfdata(status: Status, count: usize) -> Perfdata {
    // There are never so many checks that the number would lose a digit.
    let value = u32::try_from(count).map_or(f64::MAX, f64::from);
    Perfdata { label: word(status), value, unit: Unit::Count, limits: Limits::default(), status }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::check;
    use crate::sink::nagios;

    fn named(name: &str, importance: &str) -> Check {
        check(&format!(
            "[[rule]]\nname = \"{name}\"\nvalue = \"x\"\nsummary = \"s\"\nimportance = \"{importance}\"\ncritical = \"1\""
        ))
    }

    fn verdict(check: &Check, findings: &[(Status, &str)]) -> Verdict {
        let finding = |&(status, text): &(Status, &str)| Finding {
            status,
            text: text.to_owned(),
            labels: Vec::new(),
            value: None,
            unit: Unit::Count,
            rule: 0,
        };
        let status = findings.iter().map(|(status, _)| *status).max().unwrap();
        let findings = findings.iter().map(finding).collect();
        Verdict { status, findings, ..Verdict::unknown(check.name(), "a summary") }
    }

    #[test]
    fn what_is_worst_and_matters_most_comes_first_and_what_is_well_is_counted() {
        let checks = [named("a", "minor"), named("b", "critical"), named("c", "major"), named("d", "minor")];
        let [a, b, c, d] = &checks;
        let verdicts = [
            (a, verdict(a, &[(Status::Warning, "a1"), (Status::Ok, "a2")])),
            (b, verdict(b, &[(Status::Warning, "b1")])),
            (c, verdict(c, &[(Status::Critical, "c1"), (Status::Warning, "c2")])),
            (d, verdict(d, &[(Status::Ok, "d1")])),
        ];
        assert_eq!(
            nagios::write(&together("all", &verdicts, None)),
            "PGVITALS ALL CRITICAL: 1 critical, 2 warning, 1 ok: c: c1; b: b1; c: c2; and 1 more | ok=1 unknown=0 warning=2 critical=1\n\
             CRITICAL: c: c1\nWARNING: b: b1\nWARNING: c: c2\nWARNING: a: a1\n"
        );
        let verdicts = [(d, verdict(d, &[(Status::Ok, "d1")]))];
        let text = nagios::write(&together("mine", &verdicts, Some("e was left out")));
        assert_eq!(text, "PGVITALS MINE OK: 1 ok (e was left out) | ok=1 unknown=0 warning=0 critical=0\n");
    }

    #[test]
    fn what_all_checks_say_is_said_once() {
        let checks: Vec<_> = (0..30).map(|n| named(&format!("c{n}"), "minor")).collect();
        let verdicts: Vec<_> = checks.iter().map(|check| (check, Verdict::unknown(check.name(), "refused"))).collect();
        assert_eq!(
            nagios::write(&together("all", &verdicts, None)),
            "PGVITALS ALL UNKNOWN: 30 unknown, 0 ok: c0, c1, c2, c3, c4, c5, c6, c7 and 22 more: refused \
             | ok=0 unknown=30 warning=0 critical=0\n"
        );
    }

    #[test]
    fn much_that_is_wrong_is_cut_where_nagios_would_cut_it() {
        let check = named("many", "minor");
        let long: Vec<String> = (0..500).map(|n| format!("{n} | {}\n", "ä".repeat(150))).collect();
        let findings: Vec<_> = long.iter().map(|text| (Status::Critical, text.as_str())).collect();
        let text = nagios::write(&together("all", &[(&check, verdict(&check, &findings))], None));
        let line = text.lines().next().unwrap();
        assert!(line.len() <= 1_000 && line.ends_with("… | ok=0 unknown=0 warning=0 critical=1"), "{line}");
        assert!(text.len() < 8_192 && text.ends_with(" more\n") && text.matches('|').count() == 1, "{}", text.len());
    }
}
