//! The host's own facts, under node_exporter's names: one file per subject of /proc and /sys.

use std::path::{Path, PathBuf};

use super::CollectError;
use crate::metric::Family;

/// Where the host's facts are read: the real trees, or copies of them.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: Path::new("/proc").to_owned(), sys: Path::new("/sys").to_owned() }
    }
}

/// One subject of the host.
#[derive(Clone, Copy, Debug)]
pub struct HostCollector {
    /// Its name in `pgvitals list` and in the self-metrics.
    pub name: &'static str,
    /// One line: what it reads and why one looks at it.
    pub help: &'static str,
    /// The names of its families; one ending in `_` stands for all names that begin so.
    pub provides: &'static [&'static str],
    /// Reads the facts.
    pub collect: fn(&Roots) -> Result<Vec<Family>, CollectError>,
}

/// Every host collector, in the order in which they run.
pub const COLLECTORS: &[HostCollector] = &[];
