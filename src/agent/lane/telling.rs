//! What a failure amounts to, and what the log is told of it.

use tracing::{debug, info, warn};

use crate::agent::facts::Facts;
use crate::agent::slot::{LOCKED, Outcome, Skip};
use crate::agent::state::Condition;
use crate::server::{FailureClass, QueryFailure};

pub(super) fn class_of(failure: &QueryFailure) -> FailureClass {
    match failure {
        QueryFailure::Deadline(_) | QueryFailure::StatementTimeout(_) => FailureClass::Timeout,
        QueryFailure::Lost { class, .. } => *class,
        // insufficient_privilege
        QueryFailure::Server { sqlstate, .. } if sqlstate == "42501" => FailureClass::Permission,
        _ => FailureClass::Other,
    }
}

pub(super) fn outcome_of(failure: &QueryFailure) -> Outcome {
    match class_of(failure) {
        _ if matches!(failure, QueryFailure::TooLarge(_)) => {
            Outcome::Failed { class: "too_large", reason: failure.to_string() }
        }
        _ if matches!(failure, QueryFailure::LockTimeout) => {
            Outcome::Failed { class: LOCKED, reason: failure.to_string() }
        }
        FailureClass::Permission => Outcome::Skipped { why: Skip::Privilege, reason: failure.to_string() },
        class => Outcome::Failed { class: class.as_str(), reason: failure.to_string() },
    }
}

pub(super) fn log_change(server: &str, before: &Condition, now: &Condition) {
    match (before, now) {
        (Condition::Up(old), Condition::Up(new)) if old.in_recovery != new.in_recovery => {
            info!(server, role = role(new), "server changed its role");
        }
        (Condition::Unknown | Condition::Down { .. }, Condition::Up(facts)) => {
            info!(server, version = facts.version, role = role(facts), "server is up");
        }
        (Condition::Unknown | Condition::Up(_), Condition::Down { class, reason }) => {
            warn!(server, class = class.as_str(), reason, "server is down");
        }
        _ => {}
    }
}

fn role(facts: &Facts) -> &'static str {
    if facts.in_recovery { "standby" } else { "primary" }
}

pub(super) fn log_outcome(server: &str, collector: &str, before: Option<&Outcome>, now: &Outcome) {
    let failed = |outcome: Option<&Outcome>| matches!(outcome, Some(Outcome::Failed { .. }));
    match now {
        Outcome::Failed { class: "server_down", .. } => {}
        Outcome::Failed { class, reason } if !failed(before) => {
            warn!(server, collector, class, reason, "collector failed");
        }
        Outcome::Ok if failed(before) => info!(server, collector, "collector recovered"),
        Outcome::Skipped { reason, .. } => debug!(server, collector, reason, "collector skipped"),
        _ => {}
    }
}
