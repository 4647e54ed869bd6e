//! The past of the counters that rules compute rates of. It is bounded: a few kilobytes per series at most.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use crate::metric::{Sample, Snapshot};

/// Readings of some counters over the last minutes or hours.
///
/// It keeps no time of its own: whoever owns it records snapshots, regularly or as they come. Readings that are closer
/// than 1/120 of the window are thinned, those before the window are dropped, and a counter that stands still takes two
/// points whatever the window.
#[derive(Debug, Default)]
pub struct History {
    counters: BTreeMap<String, Counter>,
    /// The run of each server that the latest readings are of.
    runs: HashMap<String, String>,
    /// What the offsets count from.
    origin: Option<SystemTime>,
    latest: u64,
}

#[derive(Debug)]
struct Counter {
    /// In milliseconds, as all times in here.
    window: u64,
    series: HashMap<Box<str>, Points>,
}

/// Milliseconds since the origin, and the value; no number where what follows is of another run of the server.
type Points = VecDeque<(u32, f64)>;

/// How much a counter grew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Increase {
    /// By how much; never negative.
    pub amount: f64,
    /// In what time: the window, or as much of it as there are readings of, without the steps in which it was reset. Never
    /// zero.
    pub covered: Duration,
}

impl Increase {
    /// The mean growth per second.
    pub fn per_second(self) -> f64 {
        self.amount / self.covered.as_secs_f64()
    }
}

/// Into how many steps a window is divided: what comes more often is thinned.
const STEPS: u64 = 120;
/// How much older than the latest a snapshot may be without the clock having been set back.
const SIDE_BY_SIDE: Duration = Duration::from_secs(60);
/// Of one counter. Databases and tables may come and go faster than a window passes: then the newest have no rate.
const MOST_SERIES: usize = 10_000;
/// Resets are never thinned, so a "counter" that falls all the time needs a bound of its own.
const MOST_POINTS: usize = 4 * 120;

impl History {
    /// An empty history of these counters, each as far back as its longest window.
    pub fn new<S: Into<String>>(windows: impl IntoIterator<Item = (S, Duration)>) -> Self {
        let mut counters: BTreeMap<String, Counter> = BTreeMap::new();
        for (name, window) in windows {
            let counter = counters.entry(name.into()).or_insert_with(|| Counter { window: 0, series: HashMap::new() });
            counter.window = counter.window.max(millis(window));
        }
        Self { counters, runs: HashMap::new(), origin: None, latest: 0 }
    }

    /// The names of the counters it keeps.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        self.counters.keys().map(String::as_str)
    }

    /// A history of other counters that goes on with this one where metric and server, if there is one, are kept.
    #[must_use]
    pub fn continued<S: Into<String>>(
        &self,
        windows: impl IntoIterator<Item = (S, Duration)>,
        keep_metric: impl Fn(&str) -> bool,
        keep_server: impl Fn(Option<&str>) -> bool,
    ) -> Self {
        let mut history = Self { origin: self.origin, latest: self.latest, ..Self::new(windows) };
        for (metric, counter) in &mut history.counters {
            if let Some(known) = self.counters.get(metric).filter(|_| keep_metric(metric)) {
                let kept = known.series.iter().filter(|(key, _)| keep_server(server_of(key)));
                counter.series = kept.map(|(key, points)| (key.clone(), points.clone())).collect();
            }
        }
        history
    }

    /// Adds the readings of one snapshot.
    ///
    /// One that is a little older than the latest is left out: readers take snapshots side by side. When the clock was
    /// set back by more, what was recorded before is of no use and is forgotten.
    pub fn record(&mut self, snapshot: &Snapshot) {
        let Some(now) = self.advance(snapshot.taken) else { return };
        for (server, run) in snapshot.runs() {
            match self.runs.insert(server.to_owned(), run.to_owned()) {
                Some(before) if before != run => self.begin_run(server),
                _ => {}
            }
        }
        let mut key = String::new();
        for (metric, counter) in &mut self.counters {
            let start = u64::from(now).saturating_sub(counter.window);
            let step = counter.window / STEPS;
            for sample in snapshot.find(metric).into_iter().flat_map(|group| group.samples()) {
                if !sample.value.is_finite() {
                    continue;
                }
                write_key(&sample, &mut key);
                if !counter.series.contains_key(key.as_str()) {
                    if counter.series.len() >= MOST_SERIES {
                        continue;
                    }
                    counter.series.insert(key.as_str().into(), Points::new());
                }
                if let Some(points) = counter.series.get_mut(key.as_str()) {
                    push(points, now, sample.value, step);
                    drop_before(points, start);
                }
            }
            counter.series.retain(|_, points| points.back().is_some_and(|&(at, _)| u64::from(at) >= start));
        }
    }

    /// How much the counter behind this sample grew within the window before `now`, usually the snapshot's time.
    ///
    /// None until there are two readings without a reset between them. A fall is a reset, and another run of the server is
    /// as good as one: what happened between the two readings is not known, so neither growth nor time of that step
    /// counts. Where only the latest reading lies within the window the one before is used too, if it is no older than two
    /// windows.
    pub fn increase(&self, metric: &str, sample: &Sample<'_>, window: Duration, now: SystemTime) -> Option<Increase> {
        let mut key = String::new();
        let counter = self.counters.get(metric)?;
        write_key(sample, &mut key);
        let points = counter.series.get(key.as_str())?;
        let now = millis(now.duration_since(self.origin?).ok()?);
        let start = now.saturating_sub(millis(window));
        let earliest = start.saturating_sub(millis(window));
        let within = points.partition_point(|&(at, _)| u64::from(at) < start);
        let &(mut from, mut value) = points.get(within)?;
        let (mut amount, mut covered) = (0.0, 0);
        if let Some(&(at, before)) = within.checked_sub(1).and_then(|at| points.get(at)) {
            if is_same(before, value) {
                // Nothing changed between the two, so nothing did at the start of the window.
                covered = u64::from(from) - start;
            } else if within + 1 == points.len()
                && u64::from(at) >= earliest
                && let Some(growth) = growth(before, value)
            {
                (amount, covered) = (growth, u64::from(from - at));
            }
        }
        for &(at, next) in points.iter().skip(within + 1) {
            if let Some(growth) = growth(value, next) {
                amount += growth;
                covered += u64::from(at - from);
            }
            (from, value) = (at, next);
        }
        (covered > 0).then(|| Increase { amount, covered: Duration::from_millis(covered) })
    }

    /// How often what is behind this sample became another value within the window before `now`. A change from one run of
    /// the server to the next counts too; of those that came faster than 1/120 of the window some may be taken for one.
    ///
    /// None until there are two readings.
    pub fn changes(&self, metric: &str, sample: &Sample<'_>, window: Duration, now: SystemTime) -> Option<f64> {
        let mut key = String::new();
        let counter = self.counters.get(metric)?;
        write_key(sample, &mut key);
        let now = millis(now.duration_since(self.origin?).ok()?);
        let start = now.saturating_sub(millis(window));
        let within = counter.series.get(key.as_str())?.iter().filter(|(_, value)| value.is_finite());
        let (mut before, mut changes) = (None, None);
        for &(at, value) in within {
            if let Some(before) = before {
                let is_change = u64::from(at) >= start && !is_same(before, value);
                changes = Some(changes.unwrap_or(0.0) + f64::from(u8::from(is_change)));
            }
            before = Some(value);
        }
        changes
    }

    /// Lets nothing that was read of a server until now be compared with what comes.
    fn begin_run(&mut self, server: &str) {
        let of_server = format!("server\0{server}\0");
        let series = self.counters.values_mut().flat_map(|counter| &mut counter.series);
        for points in series.filter(|(key, _)| key.starts_with(&of_server)).map(|(_, points)| points) {
            if let Some(&(at, _)) = points.back() {
                points.push_back((at, f64::NAN));
            }
        }
    }

    /// The offset of a reading that is to be recorded.
    fn advance(&mut self, taken: SystemTime) -> Option<u32> {
        let origin = *self.origin.get_or_insert(taken);
        let latest = origin.checked_add(Duration::from_millis(self.latest))?;
        match latest.duration_since(taken) {
            Ok(behind) if behind.is_zero() => {}
            Ok(behind) if behind <= SIDE_BY_SIDE => return None,
            Ok(_) => {
                self.counters.values_mut().for_each(|counter| counter.series.clear());
                self.origin = Some(taken);
                self.latest = 0;
            }
            Err(_) => self.latest = taken.duration_since(origin).map_or(0, millis),
        }
        if self.latest > u64::from(u32::MAX / 2) {
            self.rebase();
        }
        u32::try_from(self.latest).ok()
    }

    /// Lets the offsets count from the beginning of the longest window, so that they never outgrow 32 bits.
    fn rebase(&mut self) {
        let longest = self.counters.values().map(|counter| counter.window).max().unwrap_or_default();
        // Twice, for the reading before the window that `increase` may use.
        let shift = self.latest.saturating_sub(longest.saturating_mul(2));
        for points in self.counters.values_mut().flat_map(|counter| counter.series.values_mut()) {
            points.retain(|&(at, _)| u64::from(at) >= shift);
            for (at, _) in points {
                *at = u32::try_from(u64::from(*at) - shift).unwrap_or_default();
            }
        }
        self.origin = self.origin.and_then(|origin| origin.checked_add(Duration::from_millis(shift)));
        self.latest -= shift;
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a counter stood still between two readings: not nearly, but to the bit.
fn is_same(left: f64, right: f64) -> bool {
    left.to_bits() == right.to_bits()
}

/// How much it grew from one reading to the next; none if it was reset in between.
fn growth(from: f64, to: f64) -> Option<f64> {
    (to >= from).then_some(to - from)
}

fn push(points: &mut Points, at: u32, value: f64, step: u64) {
    let mut newest = points.iter_mut().rev();
    if let Some((last_at, last)) = newest.next() {
        if *last_at >= at {
            return;
        }
        if let Some(&mut (before_at, before)) = newest.next() {
            let is_flat = is_same(before, *last) && is_same(*last, value);
            let is_close = u64::from(*last_at - before_at) < step && before <= *last && *last <= value;
            if is_flat || is_close {
                (*last_at, *last) = (at, value);
                return;
            }
        }
    }
    points.push_back((at, value));
    if points.len() > MOST_POINTS {
        points.pop_front();
    }
}

/// Drops what lies before the window, but for the latest of it.
fn drop_before(points: &mut Points, start: u64) {
    while points.get(1).is_some_and(|&(at, _)| u64::from(at) < start) {
        points.pop_front();
    }
}

/// The server in what [`write_key`] wrote.
fn server_of(key: &str) -> Option<&str> {
    let mut parts = key.split('\0');
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        if name == "server" {
            return Some(value);
        }
    }
    None
}

/// Writes a series' labels as one text.
fn write_key(sample: &Sample<'_>, key: &mut String) {
    key.clear();
    for (name, value) in sample.labels() {
        // PostgreSQL allows no NUL in any text.
        for part in [name, "\0", value, "\0"] {
            key.push_str(part);
        }
    }
}

#[cfg(test)]
mod tests;
