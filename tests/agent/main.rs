//! What pgvitals does on real servers. Needs `tests/setup`; each module is one subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test ends where it fails")]

/// Every definition on every major, on a primary and on a standby.
mod catalog;
/// The clusters that everything else here is tested on.
mod cluster;
/// Queries that do not end.
mod deadline;
/// What every major is shown to have, in one file per major.
mod golden;
/// Servers that stop, start, hang and fail over below a running agent.
mod lifecycle;
/// One test on every major, a few at a time.
mod majors;
/// A primary with a streaming standby, and agents to watch them.
mod pair;
/// The agent as its users run it: the binary, read over HTTP.
mod program;
