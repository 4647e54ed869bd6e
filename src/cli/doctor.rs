//! `pgvitals doctor`: what keeps facts from us, as text for people or as SQL for psql.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::bail;

use super::conceal::Secrets;
use super::{DoctorArgs, DoctorFormat, print, refuse, sources};
use crate::doctor::{Examination, Finding, Remedy, Severity, examine};

/// Something is missing.
const EXIT_MISSING: u8 = 1;
/// Where lists of names are broken.
const WIDTH: usize = 110;

pub(super) fn run(args: &DoctorArgs, secrets: &Secrets) -> ExitCode {
    match answer(args) {
        Ok((text, misses)) => {
            print(&text);
            if misses { ExitCode::from(EXIT_MISSING) } else { ExitCode::SUCCESS }
        }
        Err(error) => refuse(&error, secrets),
    }
}

fn answer(args: &DoctorArgs) -> anyhow::Result<(String, bool)> {
    let plan = sources::plan(&args.source)?;
    let mut servers = plan.find_servers();
    if let Some(unknown) = args.servers.iter().find(|name| servers.iter().all(|(known, _)| known != *name)) {
        let known: Vec<&str> = servers.iter().map(|(name, _)| name.as_str()).collect();
        bail!("no server {unknown:?}, expected one of: {}", known.join(", "));
    }
    servers.retain(|(name, _)| args.servers.is_empty() || args.servers.contains(name));
    let mut text = String::new();
    let mut misses = servers.is_empty();
    if servers.is_empty() {
        text += &comment_if(args.format, "no server is configured and none was found: name one with --dsn");
    }
    for (name, options) in servers {
        let examination = sources::ask(examine(&name, options, &plan.catalog))?;
        misses |= examination.misses_something();
        match args.format {
            DoctorFormat::Text => write_text(&examination, &mut text),
            DoctorFormat::Sql => write_sql(&examination, &mut text),
        }
    }
    Ok((text, misses))
}

fn comment_if(format: DoctorFormat, line: &str) -> String {
    match format {
        DoctorFormat::Text => format!("{line}\n"),
        DoctorFormat::Sql => comment(line),
    }
}

/// What answered, in one line.
fn head(examination: &Examination) -> String {
    let Some(patient) = &examination.patient else { return examination.server.clone() };
    let role = if patient.in_recovery { "standby (run the statements on its primary)" } else { "primary" };
    format!(
        "{}: PostgreSQL {}.{}, {role}, as {} in database {}",
        examination.server,
        patient.version / 10_000,
        patient.version % 10_000,
        patient.role,
        patient.database
    )
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Missing => "missing",
        Severity::Excess => "warning",
        Severity::Hint => "hint",
    }
}

fn write_text(examination: &Examination, text: &mut String) {
    let _ = writeln!(text, "{}", head(examination));
    for finding in &examination.findings {
        let _ = writeln!(text, "  {}: {}", word(finding.severity), finding.what);
        for remedy in &finding.remedies {
            let _ = match remedy {
                Remedy::Sql(statement) => writeln!(text, "      {statement};"),
                Remedy::Line { file, line, then } => writeln!(text, "      {line}    # in {file}, then {then}"),
                Remedy::Advice(advice) => writeln!(text, "      {advice}"),
            };
        }
        write_cost(finding, text);
    }
    if !examination.skipped.is_empty() {
        let skipped = examination.skipped.iter().map(|(name, reason)| format!("{name} ({reason})"));
        write_list("  not applicable: ", skipped, text);
    }
    if !examination.misses_something() {
        let _ = writeln!(text, "  nothing is missing");
    }
}

fn write_cost(finding: &Finding, text: &mut String) {
    for (definition, families) in &finding.absent {
        write_list(&format!("    absent: {definition}: "), families.iter().cloned(), text);
    }
    if !finding.checks.is_empty() {
        write_list("    UNKNOWN: check ", finding.checks.iter().cloned(), text);
    }
}

/// A list that is broken at the width, with the later lines indented.
fn write_list(head: &str, items: impl Iterator<Item = String>, text: &mut String) {
    let mut line = head.to_owned();
    let mut items = items.peekable();
    while let Some(item) = items.next() {
        let item = if items.peek().is_some() { item + ", " } else { item };
        if line.len() + item.len() > WIDTH && line.trim_end().len() > 10 {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(10);
        }
        line += &item;
    }
    let _ = writeln!(text, "{line}");
}

/// Only what is missing can be run as it is: whether something is taken away, or changed that nobody needs, is for people.
fn write_sql(examination: &Examination, text: &mut String) {
    *text += &comment(&head(examination));
    for finding in &examination.findings {
        *text += &comment(&format!("{}: {}", word(finding.severity), finding.what));
        for remedy in &finding.remedies {
            *text += &match remedy {
                Remedy::Sql(statement) if finding.severity == Severity::Missing => format!("{statement};\n"),
                Remedy::Sql(statement) => comment(&format!("{statement};")),
                Remedy::Line { file, line, then } => comment(&format!("in {file}, then {then}: {line}")),
                Remedy::Advice(advice) => comment(advice),
            };
        }
    }
}

/// A comment that no name in it can end.
fn comment(text: &str) -> String {
    text.split(['\n', '\r']).flat_map(|line| ["-- ", line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_comment() {
        assert_eq!(comment("a\nDROP TABLE t;\rx"), "-- a\n-- DROP TABLE t;\n-- x\n");
    }

    #[test]
    fn long_lists_are_broken() {
        let mut text = String::new();
        write_list("  head: ", (0..30).map(|n| format!("family_{n}")), &mut text);
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.ends_with("family_29\n"), "{text}");
    }
}
