//! pgvitals reads what PostgreSQL and the kernel say about themselves and shows it with several faces.
//!
//! # Layout
//!
//! Read top to bottom, this is the way the facts take:
//!
//! - [`server`] from a connection string to an open session
//! - [`collect`] asks a server or the host
//! - [`metric`] families, samples, the snapshot: what is handed around
//! - [`check`] rules and thresholds turn a snapshot into verdicts
//! - [`sink`] shows a snapshot or a verdict as text
//! - [`push`] sends a snapshot to Graphite on time
//!
//! Beside them stand [`mod@unit`], quantities as people write them, and [`demo`], throw-away clusters to look at and to
//! test against.

pub mod check;
pub mod collect;
pub mod demo;
pub mod metric;
pub mod push;
pub mod server;
pub mod sink;
pub mod unit;
