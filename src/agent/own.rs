//! What the agent says about itself: `pgvitals_*` and `process_*`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::slot::{Outcome, Run, Slot};
use super::state::Shared;
use super::{Reading, Report};
use crate::metric::{Column, Family, Kind, Table};
use crate::panics;
use crate::push::PushStats;

/// The family that tells that a server takes no new connections.
pub const CONNECT_FAILURE: &str = "pgvitals_connect_failure";

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
    /// `inherited` is what the names begin with by which `postgres_exporter` (`pg`) or `node_exporter` (`node`) tell the same.
    pub(super) fn new(inherited: &str) -> Self {
        let mut table = Table::new(&["collector"]);
        let mut reasons = Table::new(&["collector", "outcome", "reason"]);
        let mut remainders = Table::new(&["collector", "metric"]);
        Self {
            success: table.column(
                Kind::Gauge,
                "pgvitals_collector_success",
                "1 if the collector gave its facts, 0 if it failed, absent if it does not apply here",
            ),
            duration: table.column(Kind::Gauge, "pgvitals_collector_duration_seconds", "Duration of the latest run"),
            inherited_success: table.column(
                Kind::Gauge,
                &format!("{inherited}_scrape_collector_success"),
                "pgvitals_collector_success, by its inherited name",
            ),
            inherited_duration: table.column(
                Kind::Gauge,
                &format!("{inherited}_scrape_collector_duration_seconds"),
                "pgvitals_collector_duration_seconds, by its inherited name",
            ),
            age: table.column(Kind::Gauge, "pgvitals_collector_age_seconds", "Age of the latest run's facts"),
            interval: table.column(
                Kind::Gauge,
                "pgvitals_collector_interval_seconds",
                "A result is used again for this long: the definition's fresh_for, or 100 times what a run takes",
            ),
            rows: table.column(Kind::Gauge, "pgvitals_collector_rows", "Rows (of the host: samples) of the latest run"),
            folded: table.column(
                Kind::Gauge,
                "pgvitals_collector_dropped_rows",
                "Rows of the latest run that max_series keeps from being shown",
            ),
            total: table.column(Kind::Counter, "pgvitals_collector_runs_total", "Runs since the agent started"),
            failures: table.column(
                Kind::Counter,
                "pgvitals_collector_failures_total",
                "Failed runs since the agent started",
            ),
            reason: reasons.column(
                Kind::Gauge,
                "pgvitals_collector_absent",
                "1 with the reason while a collector's facts are absent",
            ),
            remainder: remainders.column(
                Kind::Gauge,
                "pgvitals_collector_remainder",
                "What the rows that max_series keeps from being shown have of a counter; falls and leaps as rows change sides",
            ),
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
    let mut open = Table::new(&["lane"]);
    let column = open.column(
        Kind::Gauge,
        "pgvitals_connections",
        "Connections to the server that are open, by lane; stuck are those with a query that we gave up and the server \
         did not",
    );
    for (at, lane) in ["fast", "slow"].into_iter().enumerate() {
        open.row(&[lane]);
        open.set(column, server.open_sessions(at) as f64);
    }
    open.row(&["stuck"]);
    open.set(column, server.stuck.load(Ordering::Relaxed) as f64);
    let mut families = open.into_families();
    if let Some(class) = server.door.refusal() {
        let mut refusal = Table::new(&["class"]);
        let column = refusal.column(
            Kind::Gauge,
            CONNECT_FAILURE,
            "1 with the class of failure while the latest attempt to open another connection failed, else absent; tried \
             every 5 minutes at least while somebody reads",
        );
        refusal.row(&[class.as_str()]);
        refusal.set(column, 1.0);
        families.extend(refusal.into_families());
    }
    let opened = server.connects.load(Ordering::Relaxed) as f64;
    families.push(Family::single(
        Kind::Counter,
        "pgvitals_connects_total",
        "Connections to the server opened since the agent started",
        opened,
    ));
    families
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
        let mut build = Table::new(&["version"]);
        let column = build.column(Kind::Gauge, "pgvitals_build_info", "1 with the agent's version");
        build.row(&[env!("CARGO_PKG_VERSION")]);
        build.set(column, 1.0);
        let mut families = build.into_families();
        families.push(Family::single(
            Kind::Counter,
            "pgvitals_readings_total",
            "Readings of all collectors",
            readings as f64,
        ));
        families.push(Family::single(
            Kind::Counter,
            "pgvitals_panics_total",
            "Mistakes of pgvitals that were contained; the log says where",
            panics::count() as f64,
        ));
        families.push(Family::single(
            Kind::Gauge,
            "pgvitals_series",
            "Samples of servers, host and collectors in this reading",
            reading.snapshot.len() as f64,
        ));
        families.extend(inherited(readings, reading.is_whole(), asked.elapsed()));
        families.push(Family::single(
            Kind::Gauge,
            "pgvitals_config_last_reload_successful",
            "1 unless the latest reload found a mistake; the configuration before it is then still in force",
            f64::from(u8::from(!failed)),
        ));
        if let Some(at) = reloaded.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            families.push(Family::single(
                Kind::Gauge,
                "pgvitals_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was loaded",
                at.as_secs_f64(),
            ));
        }
        if let Some(successful) = *self.web_file.lock().unwrap_or_else(PoisonError::into_inner) {
            families.push(Family::single(
                Kind::Gauge,
                "pgvitals_web_config_last_read_successful",
                "1 unless the web configuration file became wrong; what it said before is then still in force",
                f64::from(u8::from(successful)),
            ));
        }
        let push = self.push.lock().unwrap_or_else(PoisonError::into_inner);
        families.extend(push.iter().flat_map(|stats| stats.families()));
        families.extend(process());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            families.push(Family::single(
                Kind::Gauge,
                "pgvitals_tasks",
                "Tasks of the agent that have not ended: a few for each server, a few for each reader",
                runtime.metrics().num_alive_tasks() as f64,
            ));
        }
        families
    }
}

/// What `postgres_exporter` says of itself, by its names.
fn inherited(readings: u64, is_whole: bool, took: Duration) -> [Family; 3] {
    let told = |kind, name, help, value| Family::single(kind, name, help, value);
    [
        told(
            Kind::Counter,
            "pg_exporter_scrapes_total",
            "pgvitals_readings_total, by its inherited name",
            readings as f64,
        ),
        told(
            Kind::Gauge,
            "pg_exporter_last_scrape_error",
            "1 if a server or one of its collectors failed in this reading",
            f64::from(u8::from(!is_whole)),
        ),
        told(
            Kind::Gauge,
            "pg_exporter_last_scrape_duration_seconds",
            "How long the reader waited for this reading",
            took.as_secs_f64(),
        ),
    ]
}

/// The agent's own process, under the names that client libraries use.
fn process() -> Vec<Family> {
    let Ok(me) = procfs::process::Process::myself() else { return Vec::new() };
    let mut families = Vec::new();
    if let Ok(stat) = me.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        let cpu = (stat.utime + stat.stime) as f64 / ticks;
        families.push(Family::single(Kind::Counter, "process_cpu_seconds_total", "CPU time of the agent", cpu));
        let resident = stat.rss as f64 * procfs::page_size() as f64;
        families.push(Family::single(
            Kind::Gauge,
            "process_resident_memory_bytes",
            "Resident memory of the agent",
            resident,
        ));
    }
    if let Ok(open) = me.fd_count() {
        families.push(Family::single(
            Kind::Gauge,
            "process_open_fds",
            "Open file descriptors of the agent",
            open as f64,
        ));
    }
    families
}
