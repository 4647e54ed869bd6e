//! The host's own facts, under `node_exporter`'s names: one file per subject of /proc and /sys.

mod bonding;
mod cpu;
mod diskstats;
mod file;
mod filesystem;
mod loadavg;
mod meminfo;
mod netclass;
mod netdev;
mod pressure;
mod stat;
mod time;
mod uname;
mod vmstat;

use std::path::{Path, PathBuf};

pub use file::Files;
pub use filesystem::Holding;

use super::CollectError;
use crate::metric::{Described, Family};

/// Where the host's facts are read: the real trees, or copies of them.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// What it gives.
    pub provides: &'static [Described],
    /// Reads the facts.
    pub collect: fn(&mut Files) -> Result<Vec<Family>, CollectError>,
}

impl HostCollector {
    /// Whether a family of this name comes from it.
    pub fn gives(&self, family: &str) -> bool {
        self.provides.iter().any(|metric| metric.makes(family))
    }
}

/// Every host collector, in the order in which they run.
pub const COLLECTORS: &[HostCollector] = &[
    loadavg::COLLECTOR,
    cpu::COLLECTOR,
    stat::COLLECTOR,
    meminfo::COLLECTOR,
    vmstat::COLLECTOR,
    pressure::COLLECTOR,
    diskstats::COLLECTOR,
    filesystem::COLLECTOR,
    netdev::COLLECTOR,
    netclass::COLLECTOR,
    bonding::COLLECTOR,
    uname::COLLECTOR,
    time::COLLECTOR,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use proptest::test_runner::{Config as ProptestConfig, TestRunner};

    use super::*;
    use crate::source::mutation::mutated;

    /// How often each file of a host is changed, and large ones twice as often.
    const ROUNDS: u32 = 8;

    fn fixtures() -> Vec<(String, Roots)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host");
        let hosts = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        let roots =
            |host: PathBuf| (host.display().to_string(), Roots { proc: host.join("proc"), sys: host.join("sys") });
        hosts.map(roots).collect()
    }

    /// Runs all collectors and gives the names of their families, after checking what holds for every host.
    fn run_all(host: &str, roots: &Roots) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for collector in COLLECTORS {
            let families = match (collector.collect)(&mut Files::new(roots.clone())) {
                Ok(families) => families,
                Err(CollectError::Skipped(_)) => continue,
                Err(error) => panic!("{host}: {}: {error}", collector.name),
            };
            for family in families {
                let metric = family.metric();
                let described = collector.provides.iter().find(|described| described.makes(&metric.name));
                let described = described.unwrap_or_else(|| panic!("{}: {}", collector.name, metric.name));
                assert_eq!(described.kind, metric.kind, "{}", metric.name);
                for sample in family.samples() {
                    let labels: Vec<&str> = sample.labels().map(|(label, _)| label).collect();
                    assert_eq!(labels, described.labels, "{}", metric.name);
                }
                assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}: {}", metric.name, metric.help);
                assert!(names.insert(metric.name.clone()), "{host}: {} comes twice", metric.name);
            }
        }
        names
    }

    #[test]
    fn every_collector_runs_on_every_fixture() {
        let fixtures = fixtures();
        assert!(fixtures.len() >= 4);
        let names: BTreeSet<_> = fixtures.iter().flat_map(|(host, roots)| run_all(host, roots)).collect();
        // Sizes are absent there: no mount point of a fixture exists where the tests run.
        let sizes =
            ["size_bytes", "free_bytes", "avail_bytes", "files", "files_free"].map(|n| format!("node_filesystem_{n}"));
        let promised = COLLECTORS.iter().flat_map(|collector| collector.provides);
        for metric in promised.filter(|metric| !sizes.iter().any(|size| size == metric.name)) {
            assert!(names.iter().any(|name| metric.makes(name)), "no fixture has {}", metric.name);
        }
    }

    #[test]
    fn every_collector_runs_on_the_host_of_the_tests() {
        let names = run_all("this host", &Roots::default());
        for name in ["node_load1", "node_cpu_seconds_total", "node_memory_MemAvailable_bytes"] {
            assert!(names.contains(name), "no {name} on this host");
        }
    }

    #[test]
    fn no_two_collectors_have_a_name_in_common() {
        let mut names = BTreeSet::new();
        for collector in COLLECTORS {
            assert!(names.insert(collector.name), "{}", collector.name);
            for metric in collector.provides {
                assert!(names.insert(metric.name), "{}", metric.name);
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_at_worst_an_error() {
        let bookworm = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host/bookworm");
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { proc: folder.path().to_owned(), sys: bookworm.join("sys") };
        for file in ["loadavg", "stat", "meminfo", "diskstats", "vmstat", "net/dev", "1/mountinfo", "pressure/io"] {
            let text = fs::read(bookworm.join("proc").join(file)).unwrap();
            let path = roots.proc.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            for end in (0..text.len()).step_by(7) {
                fs::write(&path, &text[..end]).unwrap();
                for collector in COLLECTORS.iter().filter(|collector| file.contains(file_of(collector.name))) {
                    let _ = (collector.collect)(&mut Files::new(roots.clone()));
                }
            }
        }
    }

    /// Every file that the collectors read on a host with everything: the one with LACP has bonds, the other all else.
    fn files(fixture: &str) -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host").join(fixture);
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => found.push(path.strip_prefix(&root).unwrap().to_owned()),
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn whatever_stands_in_a_file_of_the_kernel_is_at_worst_an_error() {
        for fixture in ["bookworm", "bond-802.3ad"] {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host").join(fixture);
            let folder = tempfile::tempdir().unwrap();
            let files = files(fixture);
            for file in &files {
                let copy = folder.path().join(file);
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                fs::copy(root.join(file), copy).unwrap();
            }
            let roots = Roots { proc: folder.path().join("proc"), sys: folder.path().join("sys") };
            let run = || {
                for collector in COLLECTORS {
                    for family in (collector.collect)(&mut Files::new(roots.clone())).into_iter().flatten() {
                        let name = &family.metric().name;
                        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
                        assert!(family.samples().all(|sample| sample.value.is_finite()), "{name}");
                    }
                }
            };
            for file in &files {
                let (path, original) = (folder.path().join(file), fs::read(root.join(file)).unwrap());
                let rounds = ROUNDS * (1 + u32::from(original.len() > 500));
                let config = ProptestConfig { cases: rounds, failure_persistence: None, ..ProptestConfig::default() };
                let mut runner = TestRunner::new(config);
                let outcome = runner.run(&mutated(original.clone()), |bytes| {
                    fs::write(&path, bytes).unwrap();
                    run();
                    Ok(())
                });
                assert_eq!(outcome, Ok(()), "{fixture}/{}", file.display());
                fs::remove_file(&path).unwrap();
                run();
                fs::create_dir(&path).unwrap();
                run();
                fs::remove_dir(&path).unwrap();
                fs::write(&path, original).unwrap();
            }
        }
    }

    /// Part of the path of the file that a collector reads.
    fn file_of(collector: &'static str) -> &'static str {
        match collector {
            "cpu" => "stat",
            "filesystem" => "mountinfo",
            "netdev" => "net/dev",
            other => other,
        }
    }
}
