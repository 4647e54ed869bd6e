//! Asking: how a collector answers, and what can go wrong.

pub mod gathered;
pub mod host;
pub mod redact;
pub mod shown;
pub mod sql;

use std::io;
use std::path::PathBuf;

/// Why a collector gives no families.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Not here: another version, role or platform, or nothing to see. Expected, so not a failure.
    #[error("{0}")]
    Skipped(String),
    /// A column is missing or its value cannot be read as a number.
    #[error("column `{column}`: {reason}")]
    Column {
        /// The column's name.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More rows than anybody can look at, from a definition that says nothing of how many to keep.
    #[error("{rows} rows, more than {most}: give the definition `max_series` and `rank_by`")]
    TooLarge {
        /// How many came.
        rows: usize,
        /// How many there may be.
        most: usize,
    },
    /// More text than any answer may have.
    #[error("the answers together are too large")]
    TooMuch,
    /// A file of the host could not be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the host is not in the form we know.
    #[error("parse {}: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What was not understood.
        reason: String,
    },
}

impl CollectError {
    /// What kind of failure it is, one word of a small set.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Column { .. } => "column",
            Self::TooLarge { .. } | Self::TooMuch => "too_large",
            Self::Read { .. } => "read",
            Self::Parse { .. } | Self::Skipped(_) => "parse",
        }
    }
}
