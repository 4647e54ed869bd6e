//! What pgvitals does on real servers. Needs `tests/setup`; each module is one subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test ends where it fails")]

/// Every definition on every major, on a primary and on a standby.
mod catalog;
/// `pgvitals check` as Nagios runs it.
mod check;
/// The clusters that everything else here is tested on.
mod cluster;
/// The binary, run as its users do.
mod command;
/// The configuration file: what is taken, what is refused and how, and the catalog that it asks for.
mod config;
/// What every major is shown to have, in one file per major.
mod golden;
/// One test on every major, a few at a time.
mod majors;
/// The Nagios objects and NRPE commands in `nagios/`.
mod nagios_objects;
/// Checks through a real NRPE server.
mod nrpe;
/// A primary with a streaming standby, and agents to watch them.
mod pair;
