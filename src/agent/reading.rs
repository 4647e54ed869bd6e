//! What a reader is given: all facts at one moment, and how each server and collector fared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::slot::{Gap, Outcome, Run, Slot};
use super::state::Condition;
use super::watched::Watched;
use super::{Want, own, sampler, walk};
use crate::catalog::Scope;
use crate::metric::{Family, Snapshot, Table};

/// Everything known at one moment, and why the rest is not.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The facts.
    pub snapshot: Snapshot,
    /// The servers, by name.
    pub servers: Vec<ServerReport>,
    /// How each collector fared.
    pub reports: Vec<Report>,
}

/// What a reading found out about one server.
#[derive(Clone, Debug)]
pub struct ServerReport {
    /// Its name.
    pub name: Arc<str>,
    /// Its version as in `server_version_num` and whether it is in recovery; else the class of failure and the reason.
    pub state: Result<(u32, bool), (&'static str, String)>,
}

/// How one collector fared in a reading.
#[derive(Clone, Debug)]
pub struct Report {
    /// The server; none for the host.
    pub server: Option<Arc<str>>,
    /// The collector.
    pub collector: String,
    /// How its run ended.
    pub outcome: Outcome,
    /// How long the run took.
    pub duration: Duration,
    /// How old its result is.
    pub age: Duration,
    /// The databases of which it gives nothing although it should.
    pub gaps: Arc<[Gap]>,
}

impl Reading {
    pub(super) fn add(&mut self, server: Option<&Arc<str>>, families: Vec<Family>) {
        for family in families {
            self.snapshot.add(server, &Arc::new(family));
        }
    }

    pub(super) fn add_run(
        &mut self,
        server: Option<&Arc<str>>,
        collector: &str,
        shown: &Result<Arc<Run>, Outcome>,
        runs: &mut own::Runs,
        slot: Option<&Slot>,
    ) {
        let latest = slot.and_then(Slot::latest);
        let timed = shown.as_ref().ok().or(latest.as_ref());
        let walked = shown.as_ref().ok().and_then(|run| run.walked.as_ref());
        let report = Report {
            server: server.cloned(),
            collector: collector.to_owned(),
            outcome: shown.as_ref().map_or_else(Clone::clone, |run| run.outcome.clone()),
            duration: timed.map(|run| run.duration()).unwrap_or_default(),
            age: timed.map(|run| run.started.elapsed()).unwrap_or_default(),
            gaps: walked.map(|walked| Arc::clone(&walked.gaps)).unwrap_or_default(),
        };
        runs.add(&report, timed.map(Arc::as_ref), slot);
        if let Ok(run) = shown {
            run.families.iter().for_each(|family| self.snapshot.add(server, family));
        }
        self.reports.push(report);
    }

    pub(super) fn add_server(&mut self, server: &Watched, asked: Instant, want: &Want) {
        let shared = &server.shared;
        let (epoch, condition) = shared.state();
        let state = match condition {
            Condition::Down { class, reason } => Err((class.as_str(), reason)),
            Condition::Up(facts) if shared.probe.fresh(asked, epoch).is_some() => {
                self.snapshot.note_run(&shared.name, &facts.started);
                Ok((facts.version, facts.in_recovery))
            }
            Condition::Up(_) | Condition::Unknown => {
                Err(("timeout", "no answer within this reading's deadline".to_owned()))
            }
        };
        let up = f64::from(u8::from(state.is_ok()));
        let mut families = vec![own::described::UP.family(up)];
        if let Err((class, _)) = &state {
            let (mut failure, column) = Table::of(&own::described::SERVER_FAILURE);
            failure.row(&[class]);
            failure.set(column, 1.0);
            families.extend(failure.into_families());
        }
        let mut runs = own::Runs::new(&own::described::PEER_OF_SERVERS);
        for (at, (definition, slot)) in shared.definitions.iter().zip(&shared.slots).enumerate() {
            if want.has(&definition.name) {
                let absent = |reason: &str| Outcome::Failed { class: "timeout", reason: reason.to_owned() };
                let shown = match &state {
                    Ok(_) if definition.sampled => sampler::shown(shared, slot, epoch),
                    Ok(_) if definition.scope == Scope::Database => walk::shown(shared, at, asked, epoch)
                        .ok_or_else(|| absent("the walk over the databases is not through yet")),
                    Ok(_) => {
                        slot.shown(asked, epoch).ok_or_else(|| absent("not answered within this reading's deadline"))
                    }
                    Err((class, reason)) => Err(Outcome::server_down(class, reason)),
                };
                let shown = shown.map(|run| shared.census.without_gone(run));
                self.add_run(Some(&shared.name), &definition.name, &shown, &mut runs, Some(slot));
            }
        }
        families.extend(runs.into_families());
        families.extend(own::connections(shared));
        families.extend(walk::families(shared, epoch));
        families.extend(own::samples(shared));
        self.add(Some(&shared.name), families);
        self.servers.push(ServerReport { name: Arc::clone(&shared.name), state });
    }

    /// Whether every server answered, and every collector of theirs that applies.
    pub(super) fn is_whole(&self) -> bool {
        let failed = |report: &Report| report.server.is_some() && matches!(report.outcome, Outcome::Failed { .. });
        self.servers.iter().all(|server| server.state.is_ok()) && !self.reports.iter().any(failed)
    }

    /// How the collector of this name fared, per server.
    pub fn reports_of<'a>(&'a self, collector: &'a str) -> impl Iterator<Item = &'a Report> {
        self.reports.iter().filter(move |report| report.collector == collector)
    }
}
