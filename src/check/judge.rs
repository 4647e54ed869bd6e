//! From the rules of a check and what was read to its verdict.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Check;
use super::expression::{Evaluation, Facts, Gap, Value};
use super::held::Held;
use super::hysteresis::Hysteresis;
use super::rule::Rule;
use super::threshold::Limits;
use super::verdict::{Finding, Perfdata, Status, Verdict};
use crate::unit::Unit;

/// How the collector that provides a metric fared, on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered; a metric without a sample has none there.
    Ran,
    /// It has no business there: another version or role, or nothing of its kind. The rule does not apply.
    ///
    /// An extension that is not installed is [`Failed`](Outcome::Failed) to a check that wants it: who asked for the
    /// check wants to know.
    Skipped(String),
    /// It could not answer: server down, time over, permission missing.
    Failed(String),
}

/// The outcome on one server, or on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The server's name; none for what belongs to the host.
    pub server: Option<String>,
    /// How it fared there.
    pub outcome: Outcome,
}

/// Tells why a metric may have no samples.
///
/// No answer at all means that nothing provides the metric; a check that needs it is UNKNOWN. Where no server is known,
/// answer `Failed` without a server.
pub trait Availability {
    /// One answer per server that is to be asked for the metric, or one for the host.
    fn answers(&self, metric: &str) -> Vec<Answer>;
}

impl<F: Fn(&str) -> Vec<Answer>> Availability for F {
    fn answers(&self, metric: &str) -> Vec<Answer> {
        self(metric)
    }
}

/// The check for which a server that cannot be asked is the very finding, and so critical.
pub(crate) const ONLINE: &str = "online";
/// How many findings the summary names.
const MOST_NAMED: usize = 3;

/// Judges one check.
///
/// For each rule and server: values are held against the limits; where the collector failed it is UNKNOWN with the
/// reason (CRITICAL for the check `online`), where it was skipped the rule does not apply, and where it ran without giving
/// a sample it is OK with the rule's `none` text (or what its level `missing` says), or UNKNOWN if the rule has none. A rule that
/// the policy ignores is left out. A check of which nothing applies is OK
/// and says why; a rate of a counter that was read only once is UNKNOWN. `overrides` are the thresholds of a command line
/// ([`Check::limits`]); one that fits no rule makes the verdict UNKNOWN. Where a rule has a hysteresis, a finding is what `held`
/// says; without that, or by other thresholds than those it is held by, it is what this one reading says.
pub fn judge<A: Availability + ?Sized>(
    check: &Check,
    facts: Facts<'_>,
    availability: &A,
    overrides: &Limits,
    held: Option<&Held>,
) -> Verdict {
    let limits = match check.limits(overrides) {
        Ok(limits) => limits,
        Err(error) => return Verdict::unknown(&check.name, error.to_string()),
    };
    let mut findings = Findings { is_online: check.name == ONLINE, ..Findings::default() };
    for (index, (rule, limits)) in check.rules.iter().zip(limits).enumerate() {
        let before = findings.found.len();
        let ran = findings.add(index, rule, limits, facts, availability);
        let Some(hysteresis) = rule.terms().hysteresis else { continue };
        let mut own = findings.found.split_off(before);
        match held {
            Some(held) if limits == rule.limits() => held.settle(&check.name, index, hysteresis, &mut own, &ran),
            Some(_) => say_of_one_reading(&mut own, hysteresis, "is not for other thresholds"),
            None => say_of_one_reading(&mut own, hysteresis, "would count where an agent remembers them"),
        }
        findings.found.append(&mut own);
    }
    findings.into_verdict(check)
}

/// What one reading says of a rule, by its own limits, for [`Held::record`].
///
/// Of a check that has no such rule there is nothing to say.
pub fn observe<A: Availability + ?Sized>(
    check: &Check,
    rule: usize,
    facts: Facts<'_>,
    availability: &A,
) -> Observation {
    let mut findings = Findings { is_online: check.name == ONLINE, ..Findings::default() };
    let ran = match check.rules.get(rule) {
        Some(own) => findings.add(rule, own, own.limits(), facts, availability),
        None => HashSet::new(),
    };
    Observation { found: findings.found, ran }
}

/// What one reading says of a rule.
#[derive(Debug)]
pub struct Observation {
    pub(super) found: Vec<Found>,
    /// The servers, or the host without a name, on which all was read that the rule needs.
    pub(super) ran: HashSet<Option<String>>,
}

fn say_of_one_reading(found: &mut [Found], hysteresis: Hysteresis, why: &str) {
    for Found { finding, .. } in found {
        if finding.status > Status::Unknown {
            finding.text = format!("{} (one reading: {hysteresis} {why})", finding.text);
        }
    }
}

/// What was found so far, in the order of rules and samples.
#[derive(Default)]
struct Findings {
    found: Vec<Found>,
    /// Why rules do not apply.
    skipped: Vec<(Option<String>, String)>,
    servers: BTreeSet<String>,
    is_online: bool,
}

#[derive(Debug)]
pub(super) struct Found {
    rule: usize,
    pub(super) server: Option<String>,
    pub(super) names_server: bool,
    limits: Limits,
    badness: f64,
    pub(super) finding: Finding,
}

impl Findings {
    /// Adds what a rule finds, and says where all was read that it needs.
    fn add<A: Availability + ?Sized>(
        &mut self,
        index: usize,
        rule: &Rule,
        limits: Limits,
        facts: Facts<'_>,
        availability: &A,
    ) -> HashSet<Option<String>> {
        if rule.terms().is_ignored() {
            self.skipped.push((None, "the policy says to ignore it".to_owned()));
            return HashSet::new();
        }
        let (outcomes, unprovided) = outcomes(rule, availability);
        let Evaluation { values, gaps } = rule.expression().evaluate(facts);
        let mut settled: HashSet<Option<String>> = HashSet::new();
        self.servers.extend(outcomes.keys().flatten().cloned());
        for value in &values {
            let server = value.label("server").map(str::to_owned);
            self.servers.extend(server.clone());
            settled.insert(server);
            self.found.push(Found::of_value(index, rule, limits, value));
        }
        for gap in &gaps {
            let server = match gap {
                Gap::Readings { server, .. } => server.clone(),
                Gap::Ambiguous { .. } => None,
            };
            // One gap of a server says it all: the next counter lacks the same reading.
            if settled.insert(server.clone()) {
                self.note(index, server, Status::Unknown, gap.to_string());
            }
        }
        if let Some(metric) = unprovided.filter(|_| settled.is_empty()) {
            self.note(index, None, Status::Unknown, format!("no collector provides `{metric}`"));
            return HashSet::new();
        }
        let is_ambiguous = gaps.iter().any(|gap| matches!(gap, Gap::Ambiguous { .. }));
        let mut ran = HashSet::new();
        for (server, outcome) in outcomes {
            if outcome == Outcome::Ran {
                ran.insert(server.clone());
            }
            let is_settled = is_ambiguous || settled.contains(&server);
            match outcome {
                Outcome::Failed(reason) => self.fail(index, server, reason),
                Outcome::Skipped(_) | Outcome::Ran if is_settled => {}
                Outcome::Skipped(reason) => self.skipped.push((server, reason)),
                Outcome::Ran => {
                    let (status, text) = match rule.none() {
                        Some(none) => (rule.missing().unwrap_or_default(), none.to_owned()),
                        None => (Status::Unknown, format!("no value for `{}`", rule.expression())),
                    };
                    self.note(index, server, status, text);
                }
            }
        }
        ran
    }

    fn fail(&mut self, index: usize, server: Option<String>, reason: String) {
        if !self.is_online {
            return self.note(index, server, Status::Unknown, reason);
        }
        let is_said = |found: &&mut Found| found.server == server && found.finding.status != Status::Ok;
        match self.found.iter_mut().find(is_said) {
            Some(found) => found.finding.text = format!("{}: {reason}", found.finding.text),
            None => self.note(index, server, Status::Critical, reason),
        }
    }

    /// Adds a finding without a value, unless another rule of the check has said the same.
    fn note(&mut self, rule: usize, server: Option<String>, status: Status, text: String) {
        let is_said =
            |found: &Found| found.server == server && found.finding.status == status && found.finding.text == text;
        if self.found.iter().any(is_said) {
            return;
        }
        let labels = server.iter().map(|server| ("server".to_owned(), server.clone())).collect();
        self.found.push(Found::without_value(rule, server, false, status, text, labels));
    }

    fn into_verdict(mut self, check: &Check) -> Verdict {
        let has_several_servers = self.servers.len() > 1;
        let say = |server: &Option<String>, text: &str| match server {
            Some(server) if has_several_servers => format!("{server}: {text}"),
            _ => text.to_owned(),
        };
        let perfdata = perfdata(check, &self.found, has_several_servers);
        self.found.sort_by(|left, right| {
            let status = right.finding.status.cmp(&left.finding.status);
            status.then(left.rule.cmp(&right.rule)).then(right.badness.total_cmp(&left.badness))
        });
        let same = self.said_by_all();
        for found in &mut self.found {
            if !found.names_server {
                found.finding.text = say(&found.server, &found.finding.text);
            }
        }
        let status = self.found.first().map_or(Status::Ok, |found| found.finding.status);
        let summary = if self.found.is_empty() {
            let reasons: BTreeSet<_> = self.skipped.iter().map(|(server, reason)| say(server, reason)).collect();
            let reasons: Vec<_> = reasons.into_iter().collect();
            format!("nothing to check: {}", reasons.join("; "))
        } else {
            same.unwrap_or_else(|| summarise(&self.found))
        };
        let findings = self.found.into_iter().map(|found| found.finding).collect();
        Verdict {
            check: check.name.clone(),
            status,
            summary,
            findings,
            explanation: Vec::new(),
            perfdata,
            service: status.into(),
        }
    }

    /// What the first rule says where no rule has a value, all is well, and every server says the same.
    fn said_by_all(&self) -> Option<String> {
        let is_plain = |found: &Found| found.finding.value.is_none() && found.finding.status == Status::Ok;
        let first = self.found.first().filter(|_| self.found.iter().all(is_plain))?;
        let mut others = self.found.iter().filter(|found| found.rule == first.rule);
        others.all(|other| other.finding.text == first.finding.text).then(|| first.finding.text.clone())
    }
}

impl Found {
    pub(super) fn without_value(
        rule: usize,
        server: Option<String>,
        names_server: bool,
        status: Status,
        text: String,
        labels: Vec<(String, String)>,
    ) -> Self {
        let finding = Finding { status, text, labels, value: None, unit: Unit::default(), rule };
        Self { rule, server, names_server, limits: Limits::default(), badness: f64::NEG_INFINITY, finding }
    }

    fn of_value(index: usize, rule: &Rule, limits: Limits, value: &Value<'_>) -> Self {
        let alerts = |threshold: Option<super::Threshold>| threshold.is_some_and(|it| it.alerts(value.value));
        let status = match limits {
            Limits { critical, .. } if alerts(critical) => Status::Critical,
            Limits { warning, .. } if alerts(warning) => Status::Warning,
            _ => Status::Ok,
        };
        let threshold = limits.critical.or(limits.warning);
        Self {
            rule: index,
            server: value.label("server").map(str::to_owned),
            names_server: rule.names_server(status),
            limits,
            badness: threshold.map_or(value.value, |threshold| threshold.badness(value.value)),
            finding: Finding {
                status,
                text: rule.render(value, status),
                labels: value.labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
                value: Some(value.value),
                unit: rule.unit(),
                rule: index,
            },
        }
    }
}

/// How the rule's collectors fared by server, the worst of each; and a metric that nothing provides.
fn outcomes<'r, A: Availability + ?Sized>(
    rule: &'r Rule,
    availability: &A,
) -> (BTreeMap<Option<String>, Outcome>, Option<&'r str>) {
    let mut outcomes: BTreeMap<Option<String>, Outcome> = BTreeMap::new();
    let mut unprovided = None;
    for metric in rule.expression().metrics() {
        let answers = availability.answers(metric);
        if answers.is_empty() {
            unprovided = unprovided.or(Some(metric));
        }
        for Answer { server, outcome } in answers {
            worsen(outcomes.entry(server).or_insert(Outcome::Ran), outcome);
        }
    }
    // A rule over both host and server is about the server.
    if outcomes.len() > 1
        && let Some(host) = outcomes.remove(&None)
    {
        for outcome in outcomes.values_mut() {
            worsen(outcome, host.clone());
        }
    }
    (outcomes, unprovided)
}

fn worsen(outcome: &mut Outcome, other: Outcome) {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Ran => 0,
        Outcome::Skipped(_) => 1,
        Outcome::Failed(_) => 2,
    };
    if rank(&other) > rank(outcome) {
        *outcome = other;
    }
}

/// The worst findings in one line: what is not OK, or else the worst value of each rule. That a rule found nothing is
/// said only where none found anything.
fn summarise(found: &[Found]) -> String {
    let bad: Vec<_> = found.iter().filter(|found| found.finding.status != Status::Ok).collect();
    let (named, more) = if bad.is_empty() {
        let has_values = found.iter().any(|found| found.finding.value.is_some());
        let mut rules = HashSet::new();
        let named = found.iter().filter(|found| !has_values || found.finding.value.is_some());
        (named.filter(|found| rules.insert(found.rule)).collect(), 0)
    } else {
        let more = bad.len().saturating_sub(MOST_NAMED);
        (bad, more)
    };
    let mut texts: Vec<_> = named.iter().take(MOST_NAMED).map(|found| found.finding.text.as_str()).collect();
    texts.dedup();
    let texts = texts.join("; ");
    if more == 0 { texts } else { format!("{texts}; and {more} more") }
}

/// The values for graphs: `check`, or for a check of several rules the rule's own word, its unit or the metric's name;
/// then the labels that tell the values apart, which are those that the rule's line mentions, if it mentions any.
fn perfdata(check: &Check, found: &[Found], has_several_servers: bool) -> Vec<Perfdata> {
    let mut taken = HashSet::new();
    let mut perfdata = Vec::new();
    for Found { rule, limits, finding, .. } in found {
        let (Some(value), Some(rule)) = (finding.value, check.rules.get(*rule)) else { continue };
        let mut label = match check.rules.iter().filter(|other| other.unit() == rule.unit()).count() {
            _ if check.rules.len() == 1 => check.name.clone(),
            _ if rule.perfdata().is_some() => format!("{}_{}", check.name, rule.perfdata().unwrap_or_default()),
            1 => format!("{}_{}", check.name, rule.unit()),
            _ => rule.expression().first_metric().unwrap_or(&check.name).to_owned(),
        };
        let names_labels = rule.labels().any(|(name, _)| name != "server");
        for (name, value) in &finding.labels {
            // On a host of one server its name would only make the graphs end with the next major version.
            let tells_apart = match name.as_str() {
                "server" => has_several_servers,
                name if names_labels => {
                    rule.labels().any(|(own, is_optional)| own == name && !(is_optional && value.is_empty()))
                }
                name => !rule.expression().fixes(name),
            };
            if tells_apart {
                label.push(' ');
                label.push_str(if value.is_empty() { "-" } else { value });
            }
        }
        let unique = (1..).map(|n| if n == 1 { label.clone() } else { format!("{label} {n}") });
        let Some(label) = unique.into_iter().find(|label| taken.insert(label.clone())) else { continue };
        perfdata.push(Perfdata { label, value, unit: rule.unit(), limits: *limits, status: finding.status });
    }
    perfdata
}

#[cfg(test)]
mod tests;
