//! What the latest readings said of rules with a [`Hysteresis`], so that what comes and goes rings no bell each time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use super::hysteresis::Hysteresis;
use super::judge::{Found, Observation};
use super::verdict::Status;

/// The latest readings of rules, as far as they were not well.
///
/// It keeps no time of its own: whoever owns it records readings, regularly. What could not be read does not count, neither as
/// well nor as a problem. The first reading of all is believed as it is: a full disk is no news to wait for after a restart.
#[derive(Debug, Default)]
pub struct Held {
    /// By check and the place of the rule in it.
    rules: HashMap<(String, usize), Readings>,
}

/// What is known of one rule.
#[derive(Clone, Debug)]
struct Readings {
    latest: SystemTime,
    /// How often each server was read, the host without a name.
    counts: HashMap<Option<String>, usize>,
    /// By labels. What was well in all of its last readings is not in here.
    series: HashMap<Labels, Series>,
    /// There was no room for all that is not well.
    is_full: bool,
}

type Labels = Vec<(String, String)>;

#[derive(Clone, Debug)]
struct Series {
    server: Option<String>,
    /// What it is held to be.
    status: Status,
    /// The latest readings since that became better: they make it worse. Oldest first.
    rising: VecDeque<Status>,
    /// The latest readings since that became worse: they make it better.
    falling: VecDeque<Status>,
    /// What was said of it when it was there last, and whether that names the server.
    text: String,
    names_server: bool,
}

/// Of one rule. What does not fit in is judged by the reading at hand.
const MOST_SERIES: usize = 10_000;
/// Beats of a clock are never exactly as far apart as they should be.
const EARLY: Duration = Duration::from_millis(500);

impl Held {
    /// Whether the latest reading of a rule is as old as this, or there is none.
    pub fn is_due(&self, check: &str, rule: usize, every: Duration, now: SystemTime) -> bool {
        let latest = self.rules.get(&(check.to_owned(), rule)).map(|readings| readings.latest);
        // A clock that was set back makes it due too.
        latest.and_then(|latest| now.duration_since(latest).ok()).is_none_or(|age| age + EARLY >= every)
    }

    /// Counts one reading of a rule.
    pub fn record(&mut self, check: &str, rule: usize, of: Hysteresis, reading: Observation, now: SystemTime) {
        let readings = self.rules.entry((check.to_owned(), rule)).or_insert_with(|| Readings {
            latest: now,
            counts: HashMap::new(),
            series: HashMap::new(),
            is_full: false,
        });
        readings.latest = now;
        readings.record(of, reading);
    }

    /// What is known of the rules and servers that are still the same after a reload.
    #[must_use]
    pub fn continued(&self, is_same: impl Fn(&str, usize) -> bool, is_of_same: impl Fn(Option<&str>) -> bool) -> Self {
        let kept = self.rules.iter().filter(|((check, rule), _)| is_same(check, *rule)).map(|(key, readings)| {
            let mut readings = readings.clone();
            readings.counts.retain(|server, _| is_of_same(server.as_deref()));
            readings.series.retain(|_, series| is_of_same(series.server.as_deref()));
            (key.clone(), readings)
        });
        Self { rules: kept.collect() }
    }

    /// Makes of what a reading found of a rule what it is held to be, and says so where that differs. What is gone and still
    /// held to be a problem is added.
    pub(super) fn settle(
        &self,
        check: &str,
        rule: usize,
        of: Hysteresis,
        found: &mut Vec<Found>,
        ran: &HashSet<Option<String>>,
    ) {
        let Some(readings) = self.rules.get(&(check.to_owned(), rule)) else { return };
        for found in found.iter_mut().filter(|found| found.finding.status != Status::Unknown) {
            let count = readings.counts.get(&found.server).copied().unwrap_or_default().min(of.of());
            let series = readings.series.get(&found.finding.labels);
            let (held, seen) = match series {
                Some(series) => (series.status, found.finding.status),
                None if count == 0 || readings.is_full => continue,
                None => (Status::Ok, found.finding.status),
            };
            if held == seen {
                continue;
            }
            let why = match series {
                Some(series) if held > seen => series.why_still(of, "better"),
                Some(series) => why_not_yet(of, at_least(&series.rising, seen), series.rising.len()),
                None => why_not_yet(of, 0, count),
            };
            found.finding.text = format!("{} ({why})", found.finding.text);
            found.finding.status = held;
        }
        let present: HashSet<_> = found.iter().map(|found| found.finding.labels.clone()).collect();
        for (labels, series) in &readings.series {
            if series.status != Status::Ok && !present.contains(labels) && ran.contains(&series.server) {
                let text = format!("{} ({})", series.text, series.why_still(of, "gone"));
                let server = series.server.clone();
                found.push(Found::without_value(
                    rule,
                    server,
                    series.names_server,
                    series.status,
                    text,
                    labels.clone(),
                ));
            }
        }
    }
}

impl Readings {
    fn record(&mut self, of: Hysteresis, Observation { found, ran }: Observation) {
        let unknown: HashSet<_> =
            found.iter().filter(|it| it.finding.status == Status::Unknown).map(|it| it.server.clone()).collect();
        // It is not even known of whom.
        if unknown.contains(&None) {
            return;
        }
        let mut present = HashSet::new();
        let mut read = ran.clone();
        self.is_full = false;
        for Found { server, names_server, finding, .. } in found {
            if finding.status == Status::Unknown {
                continue;
            }
            read.insert(server.clone());
            present.insert(finding.labels.clone());
            let count = self.counts.get(&server).copied().unwrap_or_default();
            let is_full = self.series.len() >= MOST_SERIES;
            match self.series.get_mut(&finding.labels) {
                Some(series) => {
                    series.push(of, finding.status);
                    if finding.status != Status::Ok {
                        (series.text, series.names_server) = (finding.text, names_server);
                    }
                }
                None if finding.status == Status::Ok => {}
                None if is_full => self.is_full = true,
                None => {
                    let before = count.min(of.of().saturating_sub(1));
                    let mut series = Series {
                        server,
                        status: Status::Ok,
                        rising: std::iter::repeat_n(Status::Ok, before).collect(),
                        falling: VecDeque::new(),
                        text: finding.text,
                        names_server,
                    };
                    series.push(of, finding.status);
                    if count == 0 {
                        series.status = finding.status;
                        series.falling.clear();
                    }
                    self.series.insert(finding.labels, series);
                }
            }
        }
        self.series.retain(|labels, series| {
            if !present.contains(labels) {
                if read.contains(&series.server) && !unknown.contains(&series.server) {
                    series.push(of, Status::Ok);
                } else if !unknown.contains(&series.server) {
                    // The rule does not apply there any longer, or nobody watches the server.
                    return false;
                }
            }
            series.status != Status::Ok || series.rising.iter().any(|status| *status != Status::Ok)
        });
        self.counts.retain(|server, _| read.contains(server) || unknown.contains(server));
        for server in read {
            *self.counts.entry(server).or_default() += 1;
        }
    }
}

impl Series {
    fn push(&mut self, of: Hysteresis, status: Status) {
        for readings in [&mut self.rising, &mut self.falling] {
            readings.push_back(status);
            while readings.len() > of.of() {
                readings.pop_front();
            }
        }
        let holds = |level: Status| {
            if self.status < level {
                at_least(&self.rising, level) >= of.needed()
            } else {
                self.falling.len() - at_least(&self.falling, level) < of.needed()
            }
        };
        let held = [Status::Critical, Status::Warning].into_iter().find(|level| holds(*level)).unwrap_or_default();
        // What led to the one does not count for the way back, or a single reading could turn it round again.
        if held > self.status {
            self.falling.clear();
        }
        if held < self.status {
            self.rising.clear();
        }
        self.status = held;
    }

    fn why_still(&self, of: Hysteresis, word: &str) -> String {
        let better = self.falling.len() - at_least(&self.falling, self.status);
        format!("{word} in {better} of the latest {}, over at {}", self.falling.len(), of.needed())
    }
}

fn why_not_yet(of: Hysteresis, had: usize, count: usize) -> String {
    format!("in {had} of the latest {count} readings, a problem at {}", of.needed())
}

/// In how many readings it was this bad, or worse.
fn at_least(readings: &VecDeque<Status>, level: Status) -> usize {
    readings.iter().filter(|status| **status >= level).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::tests::{check, snapshot};
    use crate::check::{Answer, Check, Facts, Limits, Outcome, judge, observe};

    const SLOTS: &str = r#"
        [[rule]]
        name = "slots"
        value = "kept"
        warning = "10"
        critical = "20"
        hysteresis = "3 of 5"
        summary = "{slot} keeps {value}"
        none = "no slot"
    "#;

    /// A reading per item: the samples, `?` for a server that does not answer, `-` for one where the rule does not apply.
    struct Watch {
        check: Check,
        held: Held,
        now: SystemTime,
    }

    impl Watch {
        fn new() -> Self {
            Self { check: check(SLOTS), held: Held::default(), now: SystemTime::UNIX_EPOCH }
        }

        /// Counts a reading, and says what is held then.
        fn read(&mut self, text: &str) -> String {
            let samples = if ["?", "-"].contains(&text) { "" } else { text };
            let lines: Vec<_> = samples.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
            let lines: Vec<_> =
                lines.iter().map(|(slot, kept)| format!("kept{{server=\"a\",slot=\"{slot}\"}} {kept}")).collect();
            self.now += Duration::from_secs(10);
            let snapshot = snapshot(self.now, &lines.join("\n"));
            let facts = Facts { snapshot: &snapshot, history: None };
            let outcome = match text {
                "?" => Outcome::Failed("refused".to_owned()),
                "-" => Outcome::Skipped("a standby".to_owned()),
                _ => Outcome::Ran,
            };
            let answers = |_: &str| vec![Answer { server: Some("a".to_owned()), outcome: outcome.clone() }];
            let of = self.check.rules()[0].terms().hysteresis.unwrap();
            let reading = observe(&self.check, 0, facts, &answers);
            self.held.record("slots", 0, of, reading, self.now);
            let verdict = judge(&self.check, facts, &answers, &Limits::default(), Some(&self.held));
            format!("{}: {}", verdict.status, verdict.summary)
        }
    }

    #[test]
    fn a_problem_begins_and_ends_when_enough_readings_have_it() {
        let mut watch = Watch::new();
        for (reading, expected) in [
            ("x=5", "OK: x keeps 5"),
            ("x=15", "OK: x keeps 15 (in 1 of the latest 2 readings, a problem at 3)"),
            ("x=5", "OK: x keeps 5"),
            ("x=15", "OK: x keeps 15 (in 2 of the latest 4 readings, a problem at 3)"),
            ("x=15", "WARNING: x keeps 15"),
            ("x=25", "WARNING: x keeps 25 (in 1 of the latest 5 readings, a problem at 3)"),
            ("x=5", "WARNING: x keeps 5 (better in 1 of the latest 2, over at 3)"),
            ("x=25", "WARNING: x keeps 25 (in 2 of the latest 5 readings, a problem at 3)"),
            // What is not known is neither well nor bad.
            ("?", "UNKNOWN: refused"),
            ("x=25", "CRITICAL: x keeps 25"),
            ("x=15", "CRITICAL: x keeps 15 (better in 1 of the latest 1, over at 3)"),
            // What is gone is well, once that has lasted.
            ("", "CRITICAL: x keeps 15 (gone in 2 of the latest 2, over at 3)"),
            ("x=15", "WARNING: x keeps 15"),
            ("x=5", "WARNING: x keeps 5 (better in 2 of the latest 4, over at 3)"),
            ("x=5", "OK: x keeps 5"),
            ("", "OK: no slot"),
        ] {
            assert_eq!(watch.read(reading), expected, "{reading}");
        }
    }

    #[test]
    fn the_first_reading_is_believed_and_what_appears_later_is_not() {
        let mut watch = Watch::new();
        assert_eq!(watch.read("x=25"), "CRITICAL: x keeps 25");
        let both = "CRITICAL: x keeps 25";
        assert_eq!(watch.read("x=25 y=25"), both);
        assert_eq!(watch.read("x=25 y=25"), both);
        assert_eq!(watch.read("x=25 y=25"), "CRITICAL: x keeps 25; y keeps 25");
    }

    #[test]
    fn where_a_rule_does_not_apply_nothing_is_held() {
        let mut watch = Watch::new();
        assert_eq!(watch.read("x=25"), "CRITICAL: x keeps 25");
        assert_eq!(watch.read("-"), "OK: nothing to check: a standby");
        assert_eq!(watch.read("x=5"), "OK: x keeps 5");
    }

    #[test]
    fn one_reading_is_judged_as_it_is_and_says_so() {
        let snapshot = snapshot(SystemTime::UNIX_EPOCH, "kept{server=\"a\",slot=\"x\"} 25");
        let facts = Facts { snapshot: &snapshot, history: None };
        let answers = |_: &str| vec![Answer { server: Some("a".to_owned()), outcome: Outcome::Ran }];
        let check = check(SLOTS);
        let verdict = judge(&check, facts, &answers, &Limits::default(), None);
        assert_eq!(verdict.summary, "x keeps 25 (one reading: 3 of 5 would count where an agent remembers them)");
        let mut held = Held::default();
        let of = "3 of 5".parse().unwrap();
        held.record("slots", 0, of, observe(&check, 0, facts, &answers), SystemTime::UNIX_EPOCH);
        let given = Limits { critical: "30".parse().ok(), ..Limits::default() };
        let verdict = judge(&check, facts, &answers, &given, Some(&held));
        assert_eq!(verdict.status, Status::Warning);
        assert_eq!(verdict.summary, "x keeps 25 (one reading: 3 of 5 is not for other thresholds)");
    }

    #[test]
    fn readings_are_counted_as_often_as_was_agreed() {
        let mut watch = Watch::new();
        let every = Duration::from_secs(60);
        assert!(watch.held.is_due("slots", 0, every, watch.now));
        watch.read("x=5");
        for (seconds, is_due) in [(0, false), (59, false), (60, true), (61, true)] {
            let later = watch.now + Duration::from_secs(seconds);
            assert_eq!(watch.held.is_due("slots", 0, every, later), is_due, "{seconds}");
        }
        assert!(watch.held.is_due("slots", 0, every, SystemTime::UNIX_EPOCH), "the clock was set back");
    }

    #[test]
    fn what_is_still_the_same_after_a_reload_is_still_held() {
        let mut watch = Watch::new();
        watch.read("x=25");
        for (is_same, is_of_same, held) in [(true, true, 1), (true, false, 0), (false, true, 0)] {
            let kept = watch.held.continued(|_, _| is_same, |_| is_of_same);
            assert_eq!(kept.rules.values().map(|readings| readings.series.len()).sum::<usize>(), held);
        }
    }

    proptest! {
        #[test]
        fn nothing_rings_more_often_than_readings_are_needed(readings in prop::collection::vec(0_u8..3, 1..60)) {
            let mut watch = Watch::new();
            watch.read("x=5");
            let mut changes = Vec::new();
            let mut status = "OK".to_owned();
            for (at, reading) in readings.iter().enumerate() {
                let said = watch.read(["x=5", "x=15", ""][usize::from(*reading)]);
                let now = said.split(':').next().unwrap().to_owned();
                if now != status {
                    changes.push(at);
                    status = now;
                }
                prop_assert!(watch.held.rules.values().all(|readings| readings.series.len() <= 1));
            }
            prop_assert!(changes.windows(2).all(|pair| pair[1] - pair[0] >= 3), "{changes:?} of {readings:?}");
        }
    }
}
