//! The lines of /proc/stat that are about the whole host.

use super::{HostCollector, Roots, file};
use crate::collect::CollectError;
use crate::metric::{Family, Kind};

/// Interrupts, context switches, forks, boot time and runnable processes, from /proc/stat.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "stat",
    help: "Context switches, interrupts, forks, processes running and blocked, time of boot",
    provides: &[
        "node_intr_total",
        "node_context_switches_total",
        "node_boot_time_seconds",
        "node_forks_total",
        "node_procs_running",
        "node_procs_blocked",
    ],
    collect,
};

/// First word of the line, then name, type and meaning of its first number.
const LINES: [(&str, &str, Kind, &str); 6] = [
    ("intr", "node_intr_total", Kind::Counter, "Interrupts served"),
    ("ctxt", "node_context_switches_total", Kind::Counter, "Context switches"),
    ("btime", "node_boot_time_seconds", Kind::Gauge, "When the host booted, in seconds since 1970"),
    ("processes", "node_forks_total", Kind::Counter, "Processes and threads started"),
    ("procs_running", "node_procs_running", Kind::Gauge, "Processes that run or could run"),
    ("procs_blocked", "node_procs_blocked", Kind::Gauge, "Processes that wait for a disk"),
];

fn collect(roots: &Roots) -> Result<Vec<Family>, CollectError> {
    let path = roots.proc.join("stat");
    let families = parse(&file::text(&path)?);
    if families.is_empty() { Err(file::malformed(&path, "expected a line `ctxt …`")) } else { Ok(families) }
}

/// Not procfs' `KernelStats`: it leaves out the interrupts, and one missing line is an error for all.
fn parse(text: &str) -> Vec<Family> {
    let family = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (first, number) = (words.next()?, words.next()?);
        let (_, name, kind, help) = LINES.iter().find(|(word, ..)| *word == first)?;
        Some(Family::single(*kind, name, help, file::number_of(number)?))
    };
    text.lines().filter_map(family).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_gives_its_first_number_and_a_missing_one_nothing() {
        let text = "cpu  1 2\nintr 297176 0 14\nctxt 520545\nbtime 1795327972\nprocs_running 6\nsoftirq 225155 0\n";
        let values: Vec<_> =
            parse(text).iter().map(|f| (f.metric().name.clone(), f.samples().next().unwrap().value)).collect();
        let expected = [
            ("node_intr_total", 297_176.0),
            ("node_context_switches_total", 520_545.0),
            ("node_boot_time_seconds", 1_795_327_972.0),
            ("node_procs_running", 6.0),
        ];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value)));
    }
}
