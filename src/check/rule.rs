//! One rule: what is computed, from where on it is a problem, and how it is said.

use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;

use super::explain::{Explain, Wanted};
use super::expression::{Expression, Value};
use super::hysteresis::Hysteresis;
use super::terms::{ALL, Importance, NAME, Terms, is_line, is_name};
use super::threshold::{Level, Limits};
use super::verdict::Status;
use crate::unit::{Span, Unit, format_value};

/// A `[[rule]]` as it is written in a definition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// The check it belongs to; several rules may share it.
    pub name: String,
    /// The expression to judge.
    pub value: String,
    /// The unit of its values.
    #[serde(default)]
    pub unit: Unit,
    /// The range outside of which a value is a warning, or another [`Level`].
    pub warning: Option<String>,
    /// The range outside of which a value is critical, or another [`Level`].
    pub critical: Option<String>,
    /// One line for a value, with `{value}`, `{label}`, and `{label?}` for a label that is left out where it is empty.
    pub summary: String,
    /// The line for a value that is OK, where the summary would tell of a problem that is not there.
    pub ok: Option<String>,
    /// What is said, with OK, when all was read and there is no sample. Without it that is UNKNOWN. With a level `missing` it is
    /// what is said with that level.
    pub none: Option<String>,
    /// What its values are called in perfdata, when its check has several rules.
    pub perfdata: Option<String>,
    /// Why the thresholds are what they are.
    pub reason: String,
    /// The listing, or the definition, whose rows explain a problem.
    pub explain: Option<String>,
    /// The line for one of its rows, as [`Explain`] reads it.
    pub explain_line: Option<String>,
    /// The column whose largest values come first.
    pub explain_by: Option<String>,
    /// What columns must say for a row to be shown.
    pub explain_where: Option<Wanted>,
    /// What a policy calls it; the check's name if left out.
    pub monitor: Option<String>,
    /// [`Terms::importance`].
    pub importance: Option<Importance>,
    /// [`Terms::every`].
    pub every: Option<Span>,
    /// [`Terms::action`].
    pub action: Option<String>,
    /// [`Terms::owner`].
    pub owner: Option<String>,
    /// [`Terms::group`].
    pub group: Option<String>,
    /// [`Terms::hysteresis`].
    pub hysteresis: Option<Hysteresis>,
}

/// What is wrong with a rule; whoever read the file adds its name and the line of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}`: `{key}`: {reason}")]
pub struct RuleError {
    /// The rule's name.
    pub rule: String,
    /// The key that is wrong.
    pub key: &'static str,
    /// What is wrong with it, and what was expected.
    pub reason: String,
}

/// A rule that is known to be sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    name: String,
    expression: Expression,
    unit: Unit,
    limits: Limits,
    summary: Template,
    ok: Option<Template>,
    none: Option<String>,
    perfdata: Option<String>,
    reason: String,
    explain: Option<Explain>,
    missing: Option<Status>,
    monitor: Option<String>,
    terms: Terms,
}

impl TryFrom<RuleSpec> for Rule {
    type Error = RuleError;

    fn try_from(spec: RuleSpec) -> Result<Self, RuleError> {
        let explanation = spec.explanation();
        let RuleSpec { name, value, unit, summary, ok, none, perfdata, reason, monitor, .. } = spec;
        let error = |key, reason: String| RuleError { rule: name.clone(), key, reason };
        if !is_name(&name) {
            return Err(error("name", format!("`{name}`: expected {NAME}")));
        }
        if name == ALL {
            return Err(error("name", format!("`{name}`: expected another name, this one stands for every check")));
        }
        let expression: Expression = value.parse().map_err(|wrong| error("value", format!("{wrong}")))?;
        if expression.metrics().is_empty() {
            return Err(error("value", format!("`{value}` is always the same: expected at least one metric")));
        }
        let level = |key, text: Option<String>| {
            let level = text.as_deref().map_or(Ok(Level::Never), str::parse);
            let level = level.map_err(|wrong| error(key, format!("{wrong}")))?;
            if let Level::Range(threshold) = &level {
                threshold.check_unit(unit).map_err(|wrong| error(key, wrong.to_string()))?;
            }
            if level == Level::Missing && none.is_none() {
                return Err(error(key, "`missing`: expected `none` too, which says what is missing".to_owned()));
            }
            Ok(level)
        };
        let (warning, critical) = (level("warning", spec.warning)?, level("critical", spec.critical)?);
        let missing = match (warning, critical) {
            (_, Level::Missing) => Some(Status::Critical),
            (Level::Missing, _) => Some(Status::Warning),
            _ => None,
        };
        let limits = Limits { warning: warning.threshold(), critical: critical.threshold() };
        if let Limits { warning: Some(warning), critical: Some(critical) } = &limits
            && !warning.is_within(critical)
        {
            let wrong = format!("`{warning}` is never reached before critical `{critical}`: expected a narrower range");
            return Err(error("warning", wrong));
        }
        let texts =
            [("summary", Some(&summary)), ("reason", Some(&reason)), ("ok", ok.as_ref()), ("none", none.as_ref())];
        for (key, text) in texts.into_iter().chain([("perfdata", perfdata.as_ref()), ("monitor", monitor.as_ref())]) {
            if text.is_some_and(|text| !is_line(text)) {
                return Err(error(key, "expected one line of text".to_owned()));
            }
        }
        let explain = explanation.map_err(|(key, reason)| error(key, reason))?;
        let terms = Terms {
            importance: spec.importance,
            every: spec.every.map(|Span(every)| every),
            action: spec.action,
            owner: spec.owner,
            group: spec.group,
            hysteresis: spec.hysteresis,
        };
        terms.check().map_err(|(key, reason)| error(key, reason))?;
        let summary = Template::parse(&summary).map_err(|reason| error("summary", reason))?;
        let ok = ok.map(|ok| Template::parse(&ok)).transpose().map_err(|reason| error("ok", reason))?;
        Ok(Self {
            name,
            expression,
            unit,
            limits,
            summary,
            ok,
            none,
            perfdata,
            reason,
            explain,
            missing,
            monitor,
            terms,
        })
    }
}

impl Rule {
    /// The check it belongs to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it computes.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// The unit of its values.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Its own thresholds.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What is said, with OK, when there is no sample.
    pub fn none(&self) -> Option<&str> {
        self.none.as_deref()
    }

    /// What its values are called in perfdata, when its check has several rules.
    pub fn perfdata(&self) -> Option<&str> {
        self.perfdata.as_deref()
    }

    /// Why its thresholds are what they are.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whose rows explain a problem that it finds.
    pub fn explain(&self) -> Option<&Explain> {
        self.explain.as_ref()
    }

    /// How bad it is that there is no sample where all was read; none where it is not.
    pub fn missing(&self) -> Option<Status> {
        self.missing
    }

    /// What a policy calls it.
    pub fn monitor(&self) -> &str {
        self.monitor.as_deref().unwrap_or(&self.name)
    }

    /// What people have agreed on about it.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// How much it matters, where that was agreed on.
    pub fn importance(&self) -> Option<Importance> {
        self.terms.importance
    }

    /// The same with these limits.
    #[must_use]
    pub(super) fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The same with what these terms say before its own, and with this reason if one is given.
    #[must_use]
    pub(super) fn agreed(self, terms: &Terms, reason: Option<&str>) -> Self {
        let reason = reason.map_or(self.reason, str::to_owned);
        Self { terms: terms.clone().or(&self.terms), reason, ..self }
    }

    /// The counters whose past it needs, each with a window.
    pub fn windows(&self) -> Vec<(&str, Duration)> {
        self.expression.windows()
    }

    /// The line for one value that was found to be of this status.
    pub fn render(&self, value: &Value<'_>, status: Status) -> String {
        self.template(status).render(value, self.unit)
    }

    /// Whether the line for this status names the server.
    pub(crate) fn names_server(&self, status: Status) -> bool {
        self.template(status).labels().any(|name| name == "server")
    }

    /// The labels that the summary names: those that tell its values apart. With each, whether it may be left out.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, bool)> {
        self.summary.0.iter().filter_map(|part| match part {
            Part::Label { name, is_optional } => Some((name.as_str(), *is_optional)),
            Part::Text(_) | Part::Value => None,
        })
    }

    fn template(&self, status: Status) -> &Template {
        self.ok.as_ref().filter(|_| status == Status::Ok).unwrap_or(&self.summary)
    }
}

/// A text with places for the value and for labels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value,
    Label { name: String, is_optional: bool },
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let wrong =
                || format!("`{text}`: expected `{{value}}` or a label such as `{{datname}}` in each pair of braces");
            let (before, after) = rest.split_at_checked(at).unwrap_or_default();
            let (name, after) = after.strip_prefix('{').and_then(|after| after.split_once('}')).ok_or_else(wrong)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (name, is_optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
            let is_label = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            match name {
                "value" if is_optional => return Err(wrong()),
                "value" => parts.push(Part::Value),
                _ if is_label => parts.push(Part::Label { name: name.to_owned(), is_optional }),
                _ => return Err(wrong()),
            }
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Label { name, .. } => Some(name.as_str()),
            Part::Text(_) | Part::Value => None,
        })
    }

    fn render(&self, value: &Value<'_>, unit: Unit) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value => out.push_str(&format_value(unit, value.value)),
                Part::Label { name, is_optional } => match value.label(name) {
                    Some(text) if !text.is_empty() => out.push_str(text),
                    // Its blank goes too, or two would stand side by side.
                    Some(_) if *is_optional => out.truncate(out.trim_end().len()),
                    // Said as a gap: the sentence stays readable and shows which label the sample lacks.
                    _ => {
                        let _ = write!(out, "(no {name})");
                    }
                },
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: &str = r#"
        name = "memory"
        value = "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"
        unit = "ratio"
        warning = "80%"
        critical = "90%"
        summary = "{value} of memory is used"
        reason = "below a tenth the kernel starts to reclaim the page cache"
    "#;

    fn rule(text: &str) -> Result<Rule, String> {
        let spec: RuleSpec = toml::from_str(text).map_err(|error| error.to_string())?;
        Rule::try_from(spec).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_says_what_is_judged_and_how() {
        let rule = rule(MEMORY).unwrap();
        assert_eq!(rule.name(), "memory");
        assert_eq!(rule.unit(), Unit::Ratio);
        assert_eq!(rule.limits().warning.unwrap().to_string(), "80%");
        assert_eq!(rule.expression().metrics().len(), 2);
        assert!(rule.windows().is_empty());
        assert_eq!(rule.render(&Value { labels: Vec::new(), value: 0.853 }, Status::Ok), "85.3 % of memory is used");
    }

    #[test]
    fn a_wrong_rule_is_refused_with_the_key_and_what_was_expected() {
        for (from, to, part) in [
            ("\"memory\"", "\"Memory\"", "`name`: `Memory`: expected small letters"),
            ("\"1 - node", "\"1 - > node", "`value`: expression"),
            ("\"1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes\"", "\"1\"", "at least one metric"),
            ("\"80%\"", "\"80\"", "`warning`: `80` is a ratio above 1: write per cent, such as `80%`"),
            ("\"80%\"", "\"95%\"", "never reached before critical"),
            ("\"90%\"", "\"90MB\"", "`critical`: `94371840B` is in bytes: expected a ratio, such as `80%`"),
            ("\"90%\"", "\"a lot\"", "expected a number"),
            ("{value}", "{value", "expected `{value}` or a label"),
            ("{value}", "value}", "expected `{value}` or a label"),
            ("{value}", "{value?}", "expected `{value}` or a label"),
            ("reason = ", "ok = \"{\"\nreason = ", "`ok`: `{`: expected"),
            ("reason = ", "explain = \"slots\"\nreason = ", "`explain`: expected `explain_line` too"),
            ("reason = ", "explain_by = \"a\"\nreason = ", "`explain_by`: expected `explain` too"),
            ("reason = ", "explain = \"x\"\nexplain_line = \"x\"\nreason = ", "`explain_line`: `x`: expected at least"),
            ("reason = ", "explain_where = { a = 1 }\nreason = ", "expected a text or a list of texts"),
            ("{value}", "{Some Label}", "expected `{value}` or a label"),
            ("{value} of memory is used", " ", "`summary`: expected one line"),
            ("\"ratio\"", "\"percent\"", "unknown variant `percent`"),
            ("reason = ", "why = ", "unknown field `why`"),
            ("reason = \"below", "none = \"below", "missing field `reason`"),
            ("\"80%\"", "80", "expected a string"),
        ] {
            let error = rule(&MEMORY.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(part), "{to}: {error}");
        }
    }

    #[test]
    fn only_limits_on_the_same_side_are_compared() {
        for (warning, critical, is_fine) in [
            ("80%", "90%", true),
            ("90%", "90%", true),
            ("90%", "80%", false),
            ("20%:", "10%:", true),
            ("10%:", "20%:", false),
            ("80%", "~:90%", true),
            ("20%:", "90%", true),
            ("@10%:20%", "5%", true),
        ] {
            let limits = format!("warning = \"{warning}\"\ncritical = \"{critical}\"");
            let text = MEMORY.replace("warning = \"80%\"", &limits).replace("        critical = \"90%\"", "");
            assert_eq!(rule(&text).is_ok(), is_fine, "{warning} {critical}");
        }
    }

    #[test]
    fn a_label_the_sample_lacks_is_shown_as_lacking() {
        let rule = rule(&MEMORY.replace("of memory", "of {datname} by {usename}")).unwrap();
        let labels = vec![("datname", "app"), ("usename", "")];
        let value = Value { labels, value: 0.5 };
        assert_eq!(rule.render(&value, Status::Warning), "50 % of app by (no usename) is used");
    }

    #[test]
    fn a_label_that_may_be_empty_is_left_out_with_its_blank() {
        let rule = rule(&MEMORY.replace("of memory", "of {datname} {usename?}")).unwrap();
        for (usename, expected) in [("", "50 % of app is used"), ("joe", "50 % of app joe is used")] {
            let value = Value { labels: vec![("datname", "app"), ("usename", usename)], value: 0.5 };
            assert_eq!(rule.render(&value, Status::Warning), expected);
        }
    }

    #[test]
    fn a_value_that_is_well_may_have_a_line_of_its_own() {
        let rule = rule(&MEMORY.replace("reason =", "ok = \"{value} is little\"\nreason =")).unwrap();
        let value = Value { labels: Vec::new(), value: 0.5 };
        assert_eq!(rule.render(&value, Status::Ok), "50 % is little");
        assert_eq!(rule.render(&value, Status::Critical), "50 % of memory is used");
    }
}
