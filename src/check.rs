//! Judging: from a snapshot and rules to verdicts.

mod threshold;

pub use threshold::{Threshold, ThresholdError};
