//! pgvitals reads what PostgreSQL and the kernel say about themselves and shows it with several faces.
//!
//! # Layout
//!
//! Read top to bottom, this is the way the facts take:
//!
//! - [`collect`] asks a server or the host
//! - [`metric`] families, samples, the snapshot: what is handed around
//! - [`check`] rules and thresholds turn a snapshot into verdicts
//! - [`sink`] writes snapshots and verdicts for others to read
//! - [`mod@unit`] quantities as people write them

pub mod check;
pub mod collect;
pub mod metric;
pub mod sink;
pub mod unit;
