//! The `cpuN` lines of /proc/stat.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::HostCollector;
use super::file::{self, Files};
use crate::collect::CollectError;
use crate::metric::{Described, Family, Table};

/// Seconds each CPU spent in each mode, from the `cpuN` lines of /proc/stat, and the number of CPUs online.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "cpu",
    help: "CPU time by mode: busy, waiting for disks, stolen by the hypervisor",
    provides: &[SECONDS, GUEST_SECONDS, CPUS],
    collect,
};

const LABELS: &[&str] = &["cpu", "mode"];
const SECONDS: Described = Described::counter("node_cpu_seconds_total", LABELS, "Seconds the CPU spent in the mode");
const GUEST_SECONDS: Described = Described::counter(
    "node_cpu_guest_seconds_total",
    LABELS,
    "Seconds the CPU ran virtual machines of this host; part of the mode of the same name in node_cpu_seconds_total",
);
const CPUS: Described = Described::gauge("pgvitals_host_cpus", &[], "CPUs that are online");

/// The columns of a `cpuN` line; an older kernel has fewer of them.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
/// The two columns after those.
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const IDLE: usize = 3;

/// The largest times seen of each CPU.
static SEEN: Mutex<Option<HashMap<PathBuf, Times>>> = Mutex::new(None);

/// Seconds by column for each CPU number, in the order of the file.
type Times = Vec<(u32, Vec<f64>)>;

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let path = files.roots.proc.join("stat");
    let ticks = procfs::ticks_per_second() as f64;
    let times = parse(files.stat()?, ticks);
    if times.is_empty() {
        return Err(file::malformed(&path, "expected lines `cpu0 …`"));
    }
    let times = remember(&path, times);
    let (mut table, total) = Table::of(&SECONDS);
    let (mut guests, guest) = Table::of(&GUEST_SECONDS);
    for (number, seconds) in &times {
        let number = number.to_string();
        for (mode, &value) in MODES.iter().zip(seconds) {
            table.row(&[number.as_str(), mode]);
            table.set(total, value);
        }
        for (mode, &value) in GUEST_MODES.iter().zip(seconds.iter().skip(MODES.len())) {
            guests.row(&[number.as_str(), mode]);
            guests.set(guest, value);
        }
    }
    let mut families = table.into_families();
    families.extend(guests.into_families());
    families.push(CPUS.family(times.len() as f64));
    Ok(families)
}

/// Not procfs' `KernelStats`: it counts the CPUs through, so that all numbers after an offline CPU would be wrong.
fn parse(text: &str, ticks: f64) -> Times {
    let line = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        // The line `cpu`, the sum of all, has no number.
        let number = line.get(3..4).filter(|c| *c != " ").and(fields.next())?.parse().ok()?;
        let seconds = fields.map_while(|field| field.parse::<u64>().ok()).map(|count| count as f64 / ticks);
        Some((number, seconds.collect()))
    };
    text.lines().take_while(|line| line.starts_with("cpu")).filter_map(line).collect()
}

/// Keeps the counters from going back, which Prometheus would read as a restart and a huge rate.
fn remember(path: &Path, now: Times) -> Times {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = seen.get_or_insert_default();
    let before: HashMap<u32, Vec<f64>> = seen.remove(path).into_iter().flatten().collect();
    let settled: Times = now
        .into_iter()
        .map(|(cpu, seconds)| (cpu, settle(before.get(&cpu).map_or(&[][..], Vec::as_slice), seconds)))
        .collect();
    seen.insert(path.to_owned(), settled.clone());
    settled
}

/// The kernel's idle and iowait times may step back by a few ticks (`proc(5)` says so of iowait); a CPU that was taken
/// offline and put back starts anew.
fn settle(before: &[f64], now: Vec<f64>) -> Vec<f64> {
    const PLUGGED_AGAIN: f64 = 3.0;
    let idle = |times: &[f64]| times.get(IDLE).copied().unwrap_or_default();
    if idle(before) - idle(&now) > PLUGGED_AGAIN {
        return now;
    }
    now.iter().enumerate().map(|(at, &value)| before.get(at).map_or(value, |&old| value.max(old))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_keeps_its_number_when_another_is_offline() {
        let text = "cpu  600 0 0 0\ncpu0 100 1 2 3 4 5 6 7 8 9\ncpu2 500 1\nintr 5\ncpu9 1 1 1 1\n";
        let times = parse(text, 100.0);
        assert_eq!(times.len(), 2);
        assert_eq!(times[0], (0, vec![1.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09]));
        assert_eq!(times[1], (2, vec![5.0, 0.01]));
    }

    #[test]
    fn a_time_never_steps_back_unless_the_cpu_was_plugged_again() {
        let cases = [
            ("first reading", vec![], vec![5.0, 0.0, 0.0, 9.0], vec![5.0, 0.0, 0.0, 9.0]),
            ("all grew", vec![5.0, 0.0, 0.0, 9.0], vec![6.0, 0.0, 1.0, 9.5], vec![6.0, 0.0, 1.0, 9.5]),
            ("idle stepped back", vec![5.0, 0.0, 0.0, 9.0], vec![6.0, 0.0, 0.0, 8.9], vec![6.0, 0.0, 0.0, 9.0]),
            ("plugged again", vec![5.0, 0.0, 0.0, 9.0], vec![0.1, 0.0, 0.0, 0.2], vec![0.1, 0.0, 0.0, 0.2]),
        ];
        for (name, before, now, expected) in cases {
            assert_eq!(settle(&before, now), expected, "{name}");
        }
    }
}
