//! The rules as a monitoring policy: the six columns of the sheet on which a team agrees what is watched.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::check::{Check, Limits, Rule, Status, Threshold};
use crate::unit::{Unit, span_in_words};

/// The columns, in their order.
pub const COLUMNS: [&str; 6] = ["Monitor", "Importance", "Frequency", "Warning Level", "Critical Level", "Action"];

/// What stands where a level is never reached.
const NEVER: &str = "N/A";

/// As CSV (RFC 4180): a line of headings, then one per rule, with lines that end in CR and LF.
pub fn csv(checks: &[Check]) -> String {
    let rows = checks.iter().flat_map(Check::rules).map(row);
    let lines = [COLUMNS.map(str::to_owned)].into_iter().chain(rows);
    lines.map(|cells| cells.map(|cell| quote(&cell)).join(",") + "\r\n").collect()
}

/// As a page: one table per group.
pub fn markdown(checks: &[Check]) -> String {
    let mut out = "# Monitoring policy\n\n\
         Written by `pgvitals policy --format md` from the rules in force; `make golden` writes it anew, and\n\
         `pgvitals policy --config FILE` has your own rules and thresholds.\n\n\
         A level is a Nagios range: a value is a problem above `10`, below `1:`, outside of `10:20`. The `reason` of a rule is what\n\
         `pgvitals show CHECK` says; `[check.NAME]` of the configuration changes a level or any other column.\n"
        .to_owned();
    let mut groups: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for rule in checks.iter().flat_map(Check::rules) {
        groups.entry(rule.terms().group.as_deref().unwrap_or("others")).or_default().push(rule);
    }
    for (group, rules) in groups {
        let _ = write!(out, "\n## {group}\n\n| {} |\n|{}\n", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
        for rule in rules {
            let [monitor, others @ ..] = row(rule).map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(out, "| {monitor} (`{}`) | {} |", rule.name(), others.join(" | "));
        }
    }
    out
}

fn row(rule: &Rule) -> [String; 6] {
    let terms = rule.terms();
    let Limits { warning, critical } = rule.limits();
    let level = |status, threshold: Option<Threshold>| match threshold {
        _ if rule.missing() == Some(status) => "missing".to_owned(),
        Some(threshold) => in_words(&threshold, rule.unit()),
        None => NEVER.to_owned(),
    };
    [
        rule.monitor().to_owned(),
        terms.importance.map(|importance| importance.to_string()).unwrap_or_default(),
        terms.every.map(span_in_words).unwrap_or_default(),
        level(Status::Warning, warning),
        level(Status::Critical, critical),
        terms.action.clone().unwrap_or_default(),
    ]
}

/// With the words for what is there or not.
fn in_words(threshold: &Threshold, unit: Unit) -> String {
    match threshold.to_text(unit).as_str() {
        "@0" => "no".to_owned(),
        "@1:1" => "yes".to_owned(),
        text => text.to_owned(),
    }
}

fn quote(cell: &str) -> String {
    if cell.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::check;

    const RULE: &str = r#"
        [[rule]]
        name = "lag"
        value = "lag_bytes"
        unit = "bytes"
        warning = "16MB"
        summary = "{value} behind"
        monitor = "Lag, in \"bytes\""
        importance = "major"
        every = "12 hours"
        action = "call | mail"
        [[rule]]
        name = "lag"
        value = "streams"
        warning = "no"
        critical = "missing"
        none = "no standby"
        summary = "{value}"
    "#;

    #[test]
    fn what_a_cell_holds_does_not_end_it() {
        let checks = [check(RULE)];
        assert_eq!(
            csv(&checks),
            "Monitor,Importance,Frequency,Warning Level,Critical Level,Action\r\n\
             \"Lag, in \"\"bytes\"\"\",major,12 hours,16 MB,N/A,call | mail\r\n\
             lag,,,no,missing,\r\n"
        );
        let page = markdown(&checks);
        assert!(page.ends_with(
            "## others\n\n| Monitor | Importance | Frequency | Warning Level | Critical Level | Action |\n\
             |---|---|---|---|---|---|\n\
             | Lag, in \"bytes\" (`lag`) | major | 12 hours | 16 MB | N/A | call \\| mail |\n\
             | lag (`lag`) |  |  | no | missing |  |\n"
        ));
    }
}
