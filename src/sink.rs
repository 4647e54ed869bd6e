//! Where snapshots and verdicts go: pure functions from them to text.

pub mod nagios;
