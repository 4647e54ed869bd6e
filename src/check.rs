//! Judging: from a snapshot and rules to verdicts.
//!
//! Nothing in here reads or asks anything. A [`Check`] is all rules of one name, a [`Verdict`] is its answer;
//! [`sink::nagios`](crate::sink::nagios) makes a line of it.

mod explain;
mod expression;
mod held;
mod history;
mod hysteresis;
mod judge;
mod rule;
mod terms;
mod threshold;
mod together;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use explain::{Explain, OneOrMore, Wanted};
pub use expression::{Evaluation, Expression, ExpressionError, Facts, Gap, Value};
pub use held::Held;
pub use history::{History, Increase};
pub use hysteresis::Hysteresis;
pub(crate) use judge::ONLINE;
pub use judge::{Answer, Availability, Observation, Outcome, judge, observe};
pub use rule::{Rule, RuleError, RuleSpec};
pub(crate) use terms::is_line;
pub use terms::{ALL, GROUP, IGNORE, Importance, Terms};
pub use threshold::{Level, Limits, Threshold, ThresholdError};
pub use together::together;
pub use verdict::{Finding, Perfdata, Service, Status, Verdict};

use crate::unit::Unit;

/// All rules of one name: what `pgvitals check NAME` judges.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    name: String,
    rules: Vec<Rule>,
}

/// Puts rules of equal names together, in the order of the names.
pub fn group(rules: impl IntoIterator<Item = Rule>) -> Vec<Check> {
    let mut checks: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for rule in rules {
        checks.entry(rule.name().to_owned()).or_default().push(rule);
    }
    checks.into_iter().map(|(name, rules)| Check { name, rules }).collect()
}

impl Check {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How much it matters: as much as the rule of it that matters most.
    pub fn importance(&self) -> Option<Importance> {
        self.rules.iter().filter_map(Rule::importance).max()
    }

    /// Its rules, at least one, in the order they were given.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The groups that its rules are in.
    pub fn groups(&self) -> BTreeSet<&str> {
        self.rules.iter().filter_map(|rule| rule.terms().group.as_deref()).collect()
    }

    /// The same with what these terms say before those of its rules, and with this reason if one is given.
    #[must_use]
    pub fn agreed(&self, terms: &Terms, reason: Option<&str>) -> Self {
        let rules = self.rules.iter().cloned().map(|rule| rule.agreed(terms, reason)).collect();
        Self { name: self.name.clone(), rules }
    }

    /// The same with these levels in place of its rules', by unit as [`Check::limits`] has it; [`Level::Never`] is for all.
    ///
    /// # Errors
    ///
    /// None of its rules has the unit, or the level is [`Level::Missing`], which only a rule can say.
    pub fn with_levels(&self, warning: Option<Level>, critical: Option<Level>) -> Result<Self, ThresholdError> {
        let range = |level: Option<Level>| match level {
            Some(Level::Missing) => Err(ThresholdError::Missing),
            level => Ok(level.and_then(Level::threshold)),
        };
        let limits = self.limits(&Limits { warning: range(warning)?, critical: range(critical)? })?;
        let rules = self.rules.iter().cloned().zip(limits).map(|(rule, limits)| {
            rule.with_limits(Limits {
                warning: limits.warning.filter(|_| warning != Some(Level::Never)),
                critical: limits.critical.filter(|_| critical != Some(Level::Never)),
            })
        });
        Ok(Self { name: self.name.clone(), rules: rules.collect() })
    }

    /// The counters whose past it needs, each with a window, for [`History::new`].
    pub fn windows(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.rules.iter().flat_map(Rule::windows)
    }

    /// The names of all metrics it uses, each once.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<_> = self.rules.iter().flat_map(|rule| rule.expression().metrics()).collect();
        names.into_iter()
    }

    /// The limits of each rule once those from a command line are put in their place.
    ///
    /// A threshold with a unit replaces that of every rule of this unit; one without counts as being in the unit of the
    /// first rule. What is not given stays as it is.
    pub fn limits(&self, overrides: &Limits) -> Result<Vec<Limits>, ThresholdError> {
        let mut limits: Vec<_> = self.rules.iter().map(Rule::limits).collect();
        let Limits { warning, critical } = overrides;
        self.replace(&mut limits, warning.as_ref(), |limits| &mut limits.warning)?;
        self.replace(&mut limits, critical.as_ref(), |limits| &mut limits.critical)?;
        Ok(limits)
    }

    fn replace(
        &self,
        limits: &mut [Limits],
        threshold: Option<&Threshold>,
        place: fn(&mut Limits) -> &mut Option<Threshold>,
    ) -> Result<(), ThresholdError> {
        let Some(threshold) = threshold else { return Ok(()) };
        let unit = threshold.unit().or(self.rules.first().map(Rule::unit)).unwrap_or_default();
        let units = self.units();
        if !units.contains(&unit) {
            return Err(ThresholdError::unit(threshold, &units));
        }
        threshold.check_unit(unit)?;
        for (limits, rule) in limits.iter_mut().zip(&self.rules) {
            if rule.unit() == unit {
                *place(limits) = Some(*threshold);
            }
        }
        Ok(())
    }

    fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        for rule in &self.rules {
            if !units.contains(&rule.unit()) {
                units.push(rule.unit());
            }
        }
        units
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::metric::{Kind, Snapshot, Table};

    /// A snapshot of lines such as `name{server="a",label="x"} 1.5`.
    pub(crate) fn snapshot(taken: SystemTime, text: &str) -> Snapshot {
        let mut snapshot = Snapshot::new(taken);
        let mut tables: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
            let mut server = None;
            let (mut names, mut values) = (Vec::new(), Vec::new());
            for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
                let value = value.trim_matches('"').to_owned();
                if label == "server" {
                    server = Some(value);
                } else {
                    names.push(label.to_owned());
                    values.push(value);
                }
            }
            let rows = tables.entry((name.to_owned(), server, names)).or_default();
            rows.push((values, value.parse::<f64>().unwrap()));
        }
        for ((name, server, names), rows) in tables {
            let mut table = Table::new(&names);
            let column = table.column(Kind::Unknown, &name, "");
            for (values, value) in rows {
                table.row(&values);
                table.set(column, value);
            }
            for family in table.into_families() {
                snapshot.add(server.as_deref().map(Arc::from).as_ref(), &Arc::new(family));
            }
        }
        snapshot
    }

    /// The one check that these rules make; `reason` is added.
    pub(crate) fn check(text: &str) -> Check {
        #[derive(serde::Deserialize)]
        struct File {
            rule: Vec<RuleSpec>,
        }
        let text = text.replace("[[rule]]", "[[rule]]\nreason = \"a test\"");
        let file: File = toml::from_str(&text).unwrap();
        let mut checks = group(file.rule.into_iter().map(|spec| Rule::try_from(spec).unwrap()));
        assert_eq!(checks.len(), 1);
        checks.remove(0)
    }

    const LAG: &str = r#"
        [[rule]]
        name = "lag"
        value = "lag_bytes"
        unit = "bytes"
        warning = "16MB"
        critical = "1GB"
        summary = "{value} behind"
        [[rule]]
        name = "lag"
        value = "rate(lag_seconds[5m])"
        unit = "seconds"
        critical = "5min"
        summary = "{value} behind"
    "#;

    #[test]
    fn a_check_tells_what_it_needs() {
        let check = check(LAG);
        assert_eq!(check.metrics().collect::<Vec<_>>(), ["lag_bytes", "lag_seconds"]);
        assert_eq!(check.windows().collect::<Vec<_>>(), [("lag_seconds", Duration::from_secs(300))]);
    }

    #[test]
    fn a_threshold_replaces_those_of_its_unit() {
        let check = check(LAG);
        for (warning, critical, expected) in [
            (None, None, "16777216B 1073741824B, - 300s"),
            (Some("1MB"), None, "1048576B 1073741824B, - 300s"),
            (None, Some("1min"), "16777216B 1073741824B, - 60s"),
            (Some("10s"), Some("2GB"), "16777216B 2147483648B, 10s 300s"),
            (Some("5"), None, "5 1073741824B, - 300s"),
            (Some("80%"), None, "`80%` is in ratio: expected bytes, such as `100MB`, or seconds, such as `5min`"),
        ] {
            let read = |text: Option<&str>| text.map(|text| text.parse::<Threshold>().unwrap());
            let limits = check.limits(&Limits { warning: read(warning), critical: read(critical) });
            let show = |limit: &Option<Threshold>| limit.map_or("-".to_owned(), |limit| limit.to_string());
            let shown = limits.map_or_else(
                |error| error.to_string(),
                |limits| {
                    let limits = limits.iter().map(|one| format!("{} {}", show(&one.warning), show(&one.critical)));
                    limits.collect::<Vec<_>>().join(", ")
                },
            );
            assert_eq!(shown, expected);
        }
    }
}
