//! The reason with the alert: who or what is behind a problem, asked only when there is one.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Judge;
use crate::agent::ListError;
use crate::catalog::{DATNAME, Scope};
use crate::check::{Check, Explain, Finding, Status, Verdict};
use crate::collect::redact::redacted;
use crate::server::RowSet;

/// So many lines for each rule and server.
const MOST_LINES: usize = 10;
/// Of several checks so many are explained, the worst first,
const MOST_CHECKS: usize = 3;
/// each by so many lines.
const MOST_LINES_OF_EACH: usize = 3;
/// What has less than this part of the worst is not what is behind it.
const LEAST_SHARE: f64 = 0.1;
/// What is shown of a statement, unless the configuration says otherwise.
const LONGEST_STATEMENT: usize = 120;

impl Judge {
    /// Adds who or what is behind the problems of a verdict, as far as that can be read in this time. Of statements their words
    /// are shown and none of the values in them, whatever the configuration says: a verdict goes to mail and to pages.
    pub async fn explain(&self, verdict: &mut Verdict, time: Duration) {
        let began = Instant::now();
        if !matches!(verdict.status, Status::Warning | Status::Critical) {
            return;
        }
        let Some(check) = self.checks.iter().find(|check| check.name() == verdict.check) else { return };
        let names_servers = self.agent.servers().len() > 1;
        let mut said = BTreeSet::new();
        for (rule, server) in self.to_be_explained(check, verdict) {
            let Some(explain) = check.rules().get(rule).and_then(|rule| rule.explain()) else { continue };
            let lines = match self.agent.list(&server, &explain.listing, time.saturating_sub(began.elapsed())).await {
                Ok(rows) => {
                    let catalog = self.agent.catalog();
                    let is_of_one = catalog.listing(&explain.listing).is_some_and(|it| it.scope == Scope::Database);
                    let datname = self.agent.database_of(&server).filter(|_| is_of_one);
                    let most = catalog.text_length().unwrap_or(LONGEST_STATEMENT);
                    lines_of(explain, &rows, datname.as_deref(), most)
                }
                // The findings say it already.
                Err(ListError::Down { .. } | ListError::NoSuchServer(_)) => continue,
                Err(error) => vec![format!("not explained: {error}")],
            };
            for line in lines {
                let line = if names_servers { format!("{server}: {line}") } else { line };
                // Two rules may have the same reason.
                if said.insert(line.clone()) {
                    verdict.explanation.push(line);
                }
            }
        }
    }

    /// Who or what is behind the worst problems of several checks, each line with the name of its check.
    pub(super) async fn explain_worst(&self, verdicts: &[(&Check, Verdict)], time: Duration) -> Vec<String> {
        let began = Instant::now();
        let has_reason = |check: &Check| check.rules().iter().any(|rule| rule.explain().is_some());
        let is_problem = |status| matches!(status, Status::Warning | Status::Critical);
        let mut worst: Vec<_> =
            verdicts.iter().filter(|(check, verdict)| is_problem(verdict.status) && has_reason(check)).collect();
        // Stable: of equals, in the order of the checks, as their findings are.
        worst.sort_by_key(|(check, verdict)| Reverse((verdict.status, check.importance())));
        let mut said = Vec::new();
        for (check, verdict) in worst.into_iter().take(MOST_CHECKS) {
            let name = check.name();
            let mut verdict = verdict.clone();
            self.explain(&mut verdict, time.saturating_sub(began.elapsed())).await;
            let lines = verdict.explanation.iter().take(MOST_LINES_OF_EACH);
            said.extend(lines.map(|line| format!("{name}: {line}")));
            if verdict.explanation.len() > MOST_LINES_OF_EACH {
                said.push(format!("{name}: the check itself names more"));
            }
        }
        said
    }

    /// Rules with a problem and servers that have it, in the order of the findings; what is of the host is of every server on it.
    fn to_be_explained(&self, check: &Check, verdict: &Verdict) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for finding in verdict.findings.iter().filter(|finding| finding.status >= Status::Warning) {
            let label = |name: &str| finding.labels.iter().find(|(own, _)| own == name).map(|(_, value)| value);
            let servers = match label("server") {
                Some(server) => vec![server.clone()],
                None => self.agent.servers().iter().map(ToString::to_string).collect(),
            };
            for server in servers.into_iter().filter(|server| self.can_be_asked(check, finding, server)) {
                if !found.contains(&(finding.rule, server.clone())) {
                    found.push((finding.rule, server));
                }
            }
        }
        found
    }

    /// Rows of a database are those of the one that we are connected to; they explain nothing that is found in another.
    fn can_be_asked(&self, check: &Check, finding: &Finding, server: &str) -> bool {
        let listing = check.rules().get(finding.rule).and_then(|rule| rule.explain()).map(|it| it.listing.as_str());
        let listing = listing.and_then(|name| self.agent.catalog().listing(name));
        let datname = finding.labels.iter().find(|(name, _)| name == DATNAME).map(|(_, value)| value.as_str());
        match (listing.map(|listing| listing.scope), datname) {
            (Some(Scope::Database), Some(datname)) => self.agent.database_of(server).as_deref() == Some(datname),
            (listing, _) => listing.is_some(),
        }
    }
}

/// The worst rows as lines, and how many were left out. Rows that do not say of which database they are, are of this one.
fn lines_of(explain: &Explain, rows: &RowSet, datname: Option<&str>, longest_statement: usize) -> Vec<String> {
    let value = |row: usize| {
        move |column: &str| match rows.column(column) {
            None => datname.filter(|_| column == DATNAME),
            Some(at) => rows.value(row, at),
        }
    };
    let mut ranked: Vec<(f64, usize)> =
        (0..rows.len()).filter_map(|row| Some((explain.rank(value(row))?, row))).collect();
    // Stable: of equals, the listing's own order.
    ranked.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    let worst = ranked.first().map_or(0.0, |(rank, _)| *rank);
    ranked.retain(|(rank, _)| *rank >= worst * LEAST_SHARE);
    let said = |(_, row): &(f64, usize)| explain.render(value(*row), |text| redacted(text, longest_statement));
    let mut lines: Vec<String> = ranked.iter().take(MOST_LINES).map(said).collect();
    if let Some(more) = ranked.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines
}
