//! Failures in the words that psql has for them, which the original passes on.

use super::targets::Place;
use crate::server::{ConnectFailure, DsnError, QueryFailure};

/// Why there is no session, as psql says it since version 14, in one line.
pub(super) fn of_connection(failure: &ConnectFailure, place: &Place) -> String {
    let message = failure.message.as_str();
    let reason = match message.split_once("FATAL: ") {
        Some((_, reason)) => format!("FATAL:  {reason}"),
        None => match message.rsplit_once("connect: ").or(message.rsplit_once("look up the name: ")) {
            Some((_, reason)) => without_number(reason).to_owned(),
            None => message.to_owned(),
        },
    };
    match (&place.service, place.host.as_deref()) {
        (Some(_), _) => message.to_owned(),
        (None, Some(host)) if !host.starts_with('/') => {
            format!("error: connection to server at \"{host}\", port {} failed: {reason}", place.port)
        }
        (None, host) => {
            let folder = host.unwrap_or("/var/run/postgresql");
            format!("error: connection to server on socket \"{folder}/.s.PGSQL.{}\" failed: {reason}", place.port)
        }
    }
}

/// What the kernel said, without its number.
fn without_number(reason: &str) -> &str {
    reason.split_once(" (os error").map_or(reason, |(reason, _)| reason)
}

/// Why the settings of a connection are of no use.
pub(super) fn of_settings(error: &DsnError) -> String {
    match error {
        DsnError::Service { service, reason }
            if reason.starts_with("no such section") || reason.starts_with("there is no") =>
        {
            format!("error: definition of service \"{service}\" not found")
        }
        other => format!("error: {other}"),
    }
}

/// Why there is no answer: what the server said, else what happened.
pub(super) fn of_query(failure: &QueryFailure) -> String {
    match failure {
        QueryFailure::Server { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
