//! What the agent says about itself: `pgvitals_*` and `process_*`.

pub(super) mod described;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::sampler;
use super::slot::{Outcome, Run, Slot};
use super::state::Shared;
use super::tally::Missed;
use super::{Reading, Report};
use crate::metric::{Column, Described, Family, Table};
use crate::panics;
use crate::push::PushStats;

/// The family that tells that a server takes no new connections.
pub const CONNECT_FAILURE: &str = described::CONNECT_FAILURE.name;

/// The families about one server's (or the host's) collectors, while they are being filled.
pub(super) struct Runs {
    table: Table,
    success: Column,
    duration: Column,
    inherited_success: Column,
    inherited_duration: Column,
    age: Column,
    interval: Column,
    rows: Column,
    folded: Column,
    total: Column,
    failures: Column,
    reasons: Table,
    reason: Column,
    remainders: Table,
    remainder: Column,
}

impl Runs {
    /// `inherited` are the names by which another exporter tells how a collector fared and how long it took.
    pub(super) fn new(inherited: &[Described; 2]) -> Self {
        let [success, duration] = inherited;
        let mut table = Table::new(described::SUCCESS.labels);
        let (reasons, reason) = Table::of(&described::ABSENT);
        let (remainders, remainder) = Table::of(&described::REMAINDER);
        Self {
            success: table.describe(&described::SUCCESS),
            duration: table.describe(&described::DURATION),
            inherited_success: table.describe(success),
            inherited_duration: table.describe(duration),
            age: table.describe(&described::AGE),
            interval: table.describe(&described::INTERVAL),
            rows: table.describe(&described::ROWS),
            folded: table.describe(&described::DROPPED_ROWS),
            total: table.describe(&described::RUNS),
            failures: table.describe(&described::FAILURES),
            reason,
            remainder,
            table,
            reasons,
            remainders,
        }
    }

    pub(super) fn add(&mut self, report: &Report, run: Option<&Run>, slot: Option<&Slot>) {
        self.table.row(&[&report.collector]);
        match &report.outcome {
            Outcome::Ok => {
                self.set_success(1.0);
                for (metric, value) in run.into_iter().flat_map(|run| &run.remainder) {
                    self.remainders.row(&[&report.collector, metric]);
                    self.remainders.set(self.remainder, *value);
                }
            }
            Outcome::Failed { class, .. } => {
                self.set_success(0.0);
                self.add_reason(report, class);
            }
            Outcome::Skipped { reason, .. } => self.add_reason(report, reason),
        }
        if let Some(run) = run {
            self.table.set(self.duration, report.duration.as_secs_f64());
            self.table.set(self.inherited_duration, report.duration.as_secs_f64());
            self.table.set(self.age, report.age.as_secs_f64());
            self.table.set(self.rows, run.rows as f64);
            self.table.set(self.folded, run.folded as f64);
        }
        if let Some(slot) = slot {
            let (runs, failures) = slot.counts();
            self.table.set(self.interval, slot.interval().as_secs_f64());
            self.table.set(self.total, runs as f64);
            self.table.set(self.failures, failures as f64);
        }
    }

    fn set_success(&mut self, success: f64) {
        self.table.set(self.success, success);
        self.table.set(self.inherited_success, success);
    }

    fn add_reason(&mut self, report: &Report, reason: &str) {
        self.reasons.row(&[&report.collector, report.outcome.word(), reason]);
        self.reasons.set(self.reason, 1.0);
    }

    pub(super) fn into_families(self) -> Vec<Family> {
        let mut families = self.table.into_families();
        families.extend(self.reasons.into_families());
        families.extend(self.remainders.into_families());
        families
    }
}

/// The families about the connections to a server.
pub(super) fn connections(server: &Shared) -> Vec<Family> {
    let (mut open, column) = Table::of(&described::CONNECTIONS);
    for (at, lane) in ["fast", "slow"].into_iter().enumerate() {
        open.row(&[lane]);
        open.set(column, server.open_sessions(at) as f64);
    }
    open.row(&["stuck"]);
    open.set(column, server.stuck.load(Ordering::Relaxed) as f64);
    let mut families = open.into_families();
    if let Some(class) = server.door.refusal() {
        let (mut refusal, column) = Table::of(&described::CONNECT_FAILURE);
        refusal.row(&[class.as_str()]);
        refusal.set(column, 1.0);
        families.extend(refusal.into_families());
    }
    let opened = server.connects.load(Ordering::Relaxed) as f64;
    families.push(described::CONNECTS.family(opened));
    families
}

/// The families about the samples taken of a server; none where none are taken.
pub(super) fn samples(server: &Shared) -> Vec<Family> {
    if !server.is_sampled() {
        return Vec::new();
    }
    let (mut taken, of_taken) = Table::of(&described::SAMPLES_TAKEN);
    let (mut missed, of_missed) = Table::of(&described::SAMPLES_MISSED);
    for (at, slot) in sampler::sampled(server) {
        let Some(definition) = server.definitions.get(at) else { continue };
        let (count, count_missed) = slot.tally().counts();
        taken.row(&[&definition.name]);
        taken.set(of_taken, count as f64);
        for (why, word) in Missed::ALL {
            missed.row(&[definition.name.as_str(), word]);
            missed.set(of_missed, count_missed(why) as f64);
        }
    }
    taken.into_families().into_iter().chain(missed.into_families()).collect()
}

/// What the agent counts about itself beside its collectors.
#[derive(Debug, Default)]
pub struct Ledger {
    readings: AtomicU64,
    reload_failed: AtomicBool,
    reloaded: Mutex<Option<SystemTime>>,
    web_file: Mutex<Option<bool>>,
    push: Mutex<Option<Arc<PushStats>>>,
}

impl Ledger {
    /// Notes how the configuration was taken over.
    pub fn note_reload(&self, successful: bool) {
        self.reload_failed.store(!successful, Ordering::Relaxed);
        if successful {
            *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
        }
    }

    /// Notes whether the web configuration file was taken over when it was last looked at; none where there is none.
    pub fn note_web_file(&self, successful: Option<bool>) {
        *self.web_file.lock().unwrap_or_else(PoisonError::into_inner) = successful;
    }

    /// Notes whose counts of pushed points are shown; none where nothing is pushed.
    pub fn set_push(&self, stats: Option<Arc<PushStats>>) {
        *self.push.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    pub(super) fn count_reading(&self) {
        self.readings.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn families(&self, reading: &Reading, asked: Instant) -> Vec<Family> {
        let readings = self.readings.load(Ordering::Relaxed);
        let failed = self.reload_failed.load(Ordering::Relaxed);
        let reloaded = *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut build, column) = Table::of(&described::BUILD);
        build.row(&[env!("CARGO_PKG_VERSION")]);
        build.set(column, 1.0);
        let mut families = build.into_families();
        families.push(described::READINGS.family(readings as f64));
        families.push(described::PANICS.family(panics::count() as f64));
        families.push(described::SERIES.family(reading.snapshot.len() as f64));
        families.push(described::SCRAPES.family(readings as f64));
        families.push(described::SCRAPE_ERROR.family(f64::from(u8::from(!reading.is_whole()))));
        families.push(described::SCRAPE_DURATION.family(asked.elapsed().as_secs_f64()));
        families.push(described::RELOAD_SUCCESSFUL.family(f64::from(u8::from(!failed))));
        if let Some(at) = reloaded.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            families.push(described::RELOAD_TIME.family(at.as_secs_f64()));
        }
        if let Some(successful) = *self.web_file.lock().unwrap_or_else(PoisonError::into_inner) {
            families.push(described::WEB_FILE.family(f64::from(u8::from(successful))));
        }
        let push = self.push.lock().unwrap_or_else(PoisonError::into_inner);
        families.extend(push.iter().flat_map(|stats| stats.families()));
        families.extend(process());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            families.push(described::TASKS.family(runtime.metrics().num_alive_tasks() as f64));
        }
        families
    }
}

/// The agent's own process, under the names that client libraries use.
fn process() -> Vec<Family> {
    let Ok(me) = procfs::process::Process::myself() else { return Vec::new() };
    let mut families = Vec::new();
    if let Ok(stat) = me.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        let cpu = (stat.utime + stat.stime) as f64 / ticks;
        families.push(described::CPU.family(cpu));
        let resident = stat.rss as f64 * procfs::page_size() as f64;
        families.push(described::RESIDENT.family(resident));
    }
    if let Ok(open) = me.fd_count() {
        families.push(described::FILES.family(open as f64));
    }
    families
}
