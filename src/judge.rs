//! Judging: brings a check's rules, the facts they need and what is remembered for rates together.

mod explain;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::agent::{Agent, CONNECT_FAILURE, DEADLINE, Gap, Outcome, Reading, Report, Skip, Want};
use crate::catalog::{Catalog, Provider};
use crate::check::{
    self, ALL, Answer, Check, Facts, GROUP, Held, History, Hysteresis, Limits, ONLINE, Rule, Service, Status,
    Threshold, ThresholdError, Verdict,
};
use crate::server::FailureClass;

/// An agent, the checks in force, the history behind rates, and the readings behind what has a hysteresis.
#[derive(Debug)]
pub struct Judge {
    agent: Arc<Agent>,
    checks: Vec<Check>,
    history: Mutex<History>,
    held: Mutex<Held>,
}

/// Thresholds as they are written: `-w` and `-c`, `w=` and `c=`, `warning` and `critical` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Where WARNING begins.
    pub warning: Option<String>,
    /// Where CRITICAL begins.
    pub critical: Option<String>,
}

/// Why a check gives no verdict.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// There is no such check.
    #[error("no check {0:?}, `pgvitals list` shows those there are")]
    NoSuchCheck(String),
    /// No check is in such a group.
    #[error("no group {0:?}, expected one of: {1}")]
    NoSuchGroup(String, String),
    /// A threshold is no range, or does not fit the check.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// A threshold for several checks.
    #[error("several checks have no threshold in common: expected none, but [check.NAME] in the configuration")]
    Several,
}

impl Overrides {
    /// The limits for a check.
    ///
    /// # Errors
    ///
    /// A threshold is no range, or none of the check's rules has its unit.
    pub fn limits_of(&self, check: &Check) -> Result<Limits, ThresholdError> {
        let parse = |text: &Option<String>| text.as_deref().map(str::parse::<Threshold>).transpose();
        let limits = Limits { warning: parse(&self.warning)?, critical: parse(&self.critical)? };
        check.limits(&limits).map(|_| limits)
    }
}

impl Judge {
    /// A judge over an agent's facts by these checks, which are those of its catalog, or what the configuration makes of
    /// them. It remembers what `previous` does of counters that are still asked in the same way, of the same server.
    pub fn new(agent: Arc<Agent>, checks: Vec<Check>, previous: Option<&Self>) -> Self {
        let (history, held) = match previous {
            None => (History::new(windows(&checks)), Held::default()),
            Some(previous) => previous.past_for(&agent, &checks),
        };
        Self { agent, checks, history: Mutex::new(history), held: Mutex::new(held) }
    }

    /// The agent whose facts it judges.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    fn past_for(&self, agent: &Agent, checks: &[Check]) -> (History, Held) {
        let (old, new) = (self.agent.catalog(), agent.catalog());
        let text = |catalog: &Catalog, name: &str| catalog.definition(name).map(|definition| definition.text.clone());
        let is_provided_alike = |provider: &Provider<'_>| match provider {
            Provider::Definition(name) => text(old, name) == text(new, name),
            Provider::Host(_) => agent.has_host_of(&self.agent),
            Provider::Agent => false,
        };
        let is_asked_alike = |metric: &str| {
            let providers = new.providers(metric);
            !providers.is_empty() && providers.iter().all(is_provided_alike)
        };
        let is_of_same = |server: Option<&str>| server.is_none_or(|name| agent.has_server_of(&self.agent, name));
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let history = history.continued(windows(checks), is_asked_alike, is_of_same);
        let is_same = |name: &str, rule: usize| {
            let of = |checks: &[Check]| checks.iter().find(|check| check.name() == name)?.rules().get(rule).cloned();
            of(checks).is_some_and(|now| {
                now.expression().metrics().into_iter().all(is_asked_alike) && of(&self.checks) == Some(now)
            })
        };
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (history, held.continued(is_same, is_of_same))
    }

    /// Reads what some rule needs the past of, and gives the reading: counters, and what has a hysteresis and is due.
    pub async fn remember(&self) -> Reading {
        self.remember_within(DEADLINE, self.due()).await
    }

    async fn remember_within(&self, deadline: Duration, due: Vec<Due<'_>>) -> Reading {
        let catalog = self.agent.catalog();
        let counters = windows(&self.checks).map(|(metric, _)| metric);
        let metrics = due.iter().flat_map(|(.., rule, _)| rule.expression().metrics());
        let reading = self.agent.read(&Want { deadline, ..want(catalog, counters.chain(metrics)) }).await;
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.record(&reading.snapshot);
        let facts = Facts { snapshot: &reading.snapshot, history: Some(&history) };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (check, index, _, hysteresis) in due {
            let answers = |metric: &str| answers(catalog, &reading, metric, true);
            let seen = check::observe(check, index, facts, &answers);
            held.record(check.name(), index, hysteresis, seen, reading.snapshot.taken);
        }
        drop((history, held));
        reading
    }

    /// The rules of which another reading counts now.
    fn due(&self) -> Vec<Due<'_>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        let rules = self.checks.iter().flat_map(|check| check.rules().iter().enumerate().map(move |it| (check, it)));
        let rules = rules.filter_map(|(check, (at, rule))| Some((check, at, rule, rule.terms().hysteresis?)));
        rules.filter(|(check, at, rule, _)| held.is_due(check.name(), *at, self.pace(rule), now)).collect()
    }

    /// The time between two readings that count: as was agreed, and no result counts twice.
    fn pace(&self, rule: &Rule) -> Duration {
        let catalog = self.agent.catalog();
        let fresh_for = |provider| match provider {
            Provider::Definition(name) => Some(catalog.definition(name)?.fresh_for),
            Provider::Host(_) | Provider::Agent => None,
        };
        let metrics = rule.expression().metrics().into_iter();
        let fresh_for = metrics.flat_map(|metric| catalog.providers(metric)).filter_map(fresh_for).max();
        rule.terms().every.unwrap_or_default().max(fresh_for.unwrap_or_default())
    }

    /// The verdict of a check, of [`ALL`] of them, or of a [`GROUP`] such as `group:capacity`, from fresh facts and the history
    /// there is. Among several a check is OK that wants what is not here: another host's facts, or an extension. The problems of one are explained,
    /// of several the worst ones briefly.
    ///
    /// # Errors
    ///
    /// There is no such check or group, or a threshold does not fit it.
    pub async fn check(&self, name: &str, overrides: &Overrides, deadline: Duration) -> Result<Verdict, JudgeError> {
        let asked = self.find(name, overrides)?;
        Ok(self.answer(&asked, deadline, true).await)
    }

    /// As [`Judge::check`] without a history: a check of rates reads twice, a second apart, and one that remembers who was
    /// there before is not called well, because nobody was looking then; among several it is left out.
    ///
    /// # Errors
    ///
    /// There is no such check or group, or a threshold does not fit it.
    pub async fn check_now(
        &self,
        name: &str,
        overrides: &Overrides,
        deadline: Duration,
    ) -> Result<Verdict, JudgeError> {
        let begin = Instant::now();
        let asked = self.find(name, overrides)?;
        if asked.checks().any(|check| check.windows().next().is_some()) {
            // A server that hangs is not to use up the time that the answer needs.
            self.remember_within(deadline / 3, Vec::new()).await;
            // Longer than `fresh_for`, or the second reading would be the first one again.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            self.remember_within(deadline / 3, Vec::new()).await;
        }
        Ok(self.answer(&asked, deadline.saturating_sub(begin.elapsed()), false).await)
    }

    async fn answer(&self, asked: &Asked<'_>, deadline: Duration, remembers: bool) -> Verdict {
        let began = Instant::now();
        let want = Want { deadline, ..want(self.agent.catalog(), asked.checks().flat_map(Check::metrics)) };
        let reading = self.agent.read(&want).await;
        let needs_agent = |check: &Check| !remembers && self.needs_memory(check);
        match asked {
            Asked::One(check, given) => match self.judge(check, &reading, given, (true, remembers)) {
                verdict if verdict.status == Status::Ok && needs_agent(check) => {
                    let reason = "only an agent that was there before can tell who is missing or what has changed: ask it with --agent";
                    Verdict::unknown(check.name(), reason)
                }
                mut verdict => {
                    self.explain(&mut verdict, deadline.saturating_sub(began.elapsed())).await;
                    verdict
                }
            },
            Asked::Several(name, checks) => {
                let (left_out, judged): (Vec<&Check>, Vec<&Check>) =
                    checks.iter().partition(|check| needs_agent(check));
                let judge = |check| (check, self.judge(check, &reading, &Limits::default(), (false, remembers)));
                let verdicts: Vec<_> = judged.into_iter().map(judge).collect();
                let names: Vec<&str> = left_out.iter().map(|check| check.name()).collect();
                let left_out = format!("{} left out: only an agent can tell", names.join(", "));
                let explanation = self.explain_worst(&verdicts, deadline.saturating_sub(began.elapsed())).await;
                let together = check::together(name, &verdicts, Some(left_out.as_str()).filter(|_| !names.is_empty()));
                Verdict { explanation, ..together }
            }
        }
    }

    /// Whether a rule of it is about a metric with `remember`, or asks what has changed.
    fn needs_memory(&self, check: &Check) -> bool {
        if check.rules().iter().any(|rule| rule.expression().asks_for_changes()) {
            return true;
        }
        let remembered = self.agent.catalog().asking().flat_map(|definition| &definition.metrics);
        let mut remembered = remembered.filter(|metric| metric.remember).map(|metric| metric.metric.name.as_str());
        remembered.any(|name| check.metrics().any(|metric| metric == name))
    }

    /// Every check's verdict, not explained, and the reading they were made from. As among several, one that wants what is not
    /// here is OK and says so.
    pub async fn check_all(&self) -> (Reading, Vec<Verdict>) {
        let reading = self.agent.read(&Want::default()).await;
        let verdicts =
            self.checks.iter().map(|check| self.judge(check, &reading, &Limits::default(), (false, true))).collect();
        (reading, verdicts)
    }

    fn find<'a>(&'a self, name: &'a str, overrides: &Overrides) -> Result<Asked<'a>, JudgeError> {
        let group = name.strip_prefix(GROUP);
        if name != ALL && group.is_none() {
            let check = self.checks.iter().find(|check| check.name() == name);
            let check = check.ok_or_else(|| JudgeError::NoSuchCheck(name.to_owned()))?;
            return Ok(Asked::One(check, overrides.limits_of(check)?));
        }
        let is_asked = |check: &&Check| group.is_none_or(|group| check.groups().contains(group));
        let checks: Vec<&Check> = self.checks.iter().filter(is_asked).collect();
        if let (Some(group), []) = (group, checks.as_slice()) {
            let known: BTreeSet<&str> = self.checks.iter().flat_map(Check::groups).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(JudgeError::NoSuchGroup(group.to_owned(), known));
        }
        if *overrides != Overrides::default() {
            return Err(JudgeError::Several);
        }
        Ok(Asked::Several(group.unwrap_or(name), checks))
    }

    /// `is_named`: who asked for this very check wants to know what is not here. `remembers`: there are readings before this
    /// one.
    fn judge(&self, check: &Check, reading: &Reading, given: &Limits, (is_named, remembers): (bool, bool)) -> Verdict {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = Facts { snapshot: &reading.snapshot, history: Some(&history) };
        let catalog = self.agent.catalog();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = Some(&*held).filter(|_| remembers);
        let answers = |metric: &str| answers(catalog, reading, metric, is_named);
        let mut verdict = check::judge(check, facts, &answers, given, held);
        if verdict.status == Status::Critical && check.name() == ONLINE {
            verdict.service = service(reading);
        }
        verdict
    }
}

/// A rule with a hysteresis, and its place in its check.
type Due<'a> = (&'a Check, usize, &'a Rule, Hysteresis);

/// What somebody asked for.
enum Asked<'a> {
    /// A check, with the thresholds that came along.
    One(&'a Check, Limits),
    /// All of them or a group, by its name.
    Several(&'a str, Vec<&'a Check>),
}

impl<'a> Asked<'a> {
    fn checks(&self) -> impl Iterator<Item = &'a Check> {
        let (one, several) = match self {
            Self::One(check, _) => (Some(*check), [].as_slice()),
            Self::Several(_, checks) => (None, checks.as_slice()),
        };
        one.into_iter().chain(several.iter().copied())
    }
}

/// The counters whose past some rule needs, each with its window.
fn windows(checks: &[Check]) -> impl Iterator<Item = (&str, Duration)> {
    checks.iter().flat_map(Check::windows)
}

/// The collectors that provide these metrics.
fn want<'a>(catalog: &Catalog, metrics: impl Iterator<Item = &'a str>) -> Want {
    Want::only(metrics.flat_map(|metric| catalog.providers(metric)).filter_map(|provider| match provider {
        Provider::Definition(name) | Provider::Host(name) => Some(name.to_owned()),
        Provider::Agent => None,
    }))
}

/// Why a metric may have no sample, on each server.
fn answers(catalog: &Catalog, reading: &Reading, metric: &str, is_named: bool) -> Vec<Answer> {
    let nobody = |provider: &Provider<'_>| {
        let outcome = match provider {
            Provider::Host(_) => absent("the host's facts are not read: host.enabled is false", is_named),
            _ => check::Outcome::Failed("no server is watched: none is configured and none was found".to_owned()),
        };
        Answer { server: None, outcome }
    };
    let providers = catalog.providers(metric);
    let answers: Vec<Answer> = match providers.as_slice() {
        [] => return Vec::new(),
        [Provider::Definition(one), Provider::Definition(other), ..] => {
            // Each is asked in a role of its own; the one that is not says only so.
            let skips = |report: &&Report| matches!(report.outcome, Outcome::Skipped { why: Skip::Nothing, .. });
            let chosen = reading.reports_of(one).map(|report| {
                let of_same = |other: &&Report| other.server == report.server;
                Some(report).filter(skips).and_then(|_| reading.reports_of(other).find(of_same)).unwrap_or(report)
            });
            chosen.map(|report| answer(report, is_named)).collect()
        }
        [Provider::Host(name) | Provider::Definition(name), ..] => {
            reading.reports_of(name).map(|report| answer(report, is_named)).collect()
        }
        // Only `pg_up` is judged of these, and it is there for every server; what it lacks when 0 is the reason.
        [Provider::Agent, ..] => reading
            .servers
            .iter()
            .map(|server| Answer {
                server: Some(server.name.to_string()),
                outcome: match &server.state {
                    Ok(_) => match refusal(reading, &server.name) {
                        Some(class) => check::Outcome::Failed(format!("{class}: new connections are not taken")),
                        None => check::Outcome::Ran,
                    },
                    Err((class, reason)) => check::Outcome::Failed(format!("{class}: {reason}")),
                },
            })
            .collect(),
    };
    match providers.first().filter(|_| answers.is_empty()) {
        Some(provider) => vec![nobody(provider)],
        None => answers,
    }
}

fn answer(report: &Report, is_named: bool) -> Answer {
    let server = report.server.as_deref().map(str::to_owned);
    Answer { server, outcome: outcome(&report.outcome, &report.gaps, is_named) }
}

/// What is not here is unknown to who asked for it, and nothing to one who asked for whatever there is.
fn absent(reason: &str, is_named: bool) -> check::Outcome {
    if is_named { check::Outcome::Failed(reason.to_owned()) } else { check::Outcome::Skipped(reason.to_owned()) }
}

/// Why a server that answers lets nobody else in: to its users it is as good as down.
fn refusal<'a>(reading: &'a Reading, server: &str) -> Option<&'a str> {
    let mut samples = reading.snapshot.find(CONNECT_FAILURE)?.samples();
    samples.find(|sample| sample.label("server") == Some(server))?.label("class")
}

/// Whether the servers run, of which one or more are not online: one that has no connection for us may well run, and one that
/// does not answer may too. Several that differ are no one service.
fn service(reading: &Reading) -> Service {
    let of_class = |class: &str| match FailureClass::ALL.into_iter().find(|known| known.as_str() == class) {
        Some(FailureClass::Refused) => Service::Stopped,
        Some(class) if class.is_answer() => Service::Running,
        _ => Service::Unclear,
    };
    let mut services = reading.servers.iter().map(|server| match &server.state {
        Err((class, _)) => of_class(class),
        // We have a session there, so somebody runs.
        Ok(_) => match refusal(reading, &server.name).map(of_class) {
            None | Some(Service::Running) => Service::Running,
            Some(_) => Service::Unclear,
        },
    });
    let first = services.next().unwrap_or(Service::Unclear);
    if services.all(|other| other == first) { first } else { Service::Unclear }
}

fn outcome(outcome: &Outcome, gaps: &[Gap], is_named: bool) -> check::Outcome {
    match outcome {
        // What was found in the others is judged, and this beside it.
        Outcome::Ok if let [Gap { datname, reason, .. }, more @ ..] = gaps => {
            let more = if more.is_empty() { String::new() } else { format!(" (and {} more databases)", more.len()) };
            check::Outcome::Failed(format!("{datname}: {reason}{more}"))
        }
        Outcome::Ok => check::Outcome::Ran,
        Outcome::Skipped { why: Skip::Nothing, reason } => check::Outcome::Skipped(reason.clone()),
        Outcome::Skipped { why: Skip::Elsewhere | Skip::Extension, reason } => absent(reason, is_named),
        // What we cannot look at is not known to be well.
        Outcome::Skipped { reason, .. } | Outcome::Failed { reason, .. } => check::Outcome::Failed(reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_may_not_look_at_is_not_taken_for_well() {
        let skipped = |why| outcome(&Outcome::Skipped { why, reason: String::new() }, &[], true);
        assert_eq!(skipped(Skip::Privilege), check::Outcome::Failed(String::new()));
        assert_eq!(skipped(Skip::Elsewhere), check::Outcome::Failed(String::new()));
        assert_eq!(skipped(Skip::Extension), check::Outcome::Failed(String::new()));
        assert_eq!(skipped(Skip::Nothing), check::Outcome::Skipped(String::new()));
        let among = |why| outcome(&Outcome::Skipped { why, reason: String::new() }, &[], false);
        assert_eq!(among(Skip::Privilege), check::Outcome::Failed(String::new()));
        assert_eq!(among(Skip::Elsewhere), check::Outcome::Skipped(String::new()));
        assert_eq!(among(Skip::Extension), check::Outcome::Skipped(String::new()));
    }
}
