//! The lines of /proc/stat that are about the whole host.

use super::HostCollector;
use super::file::{self, Files};
use crate::collect::CollectError;
use crate::metric::{Described, Family};

/// Interrupts, context switches, forks, boot time and runnable processes, from /proc/stat.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "stat",
    help: "Context switches, interrupts, forks, processes running and blocked, time of boot",
    provides: &[INTERRUPTS, SWITCHES, BOOT, FORKS, RUNNING, BLOCKED],
    collect,
};

const INTERRUPTS: Described = Described::counter("node_intr_total", &[], "Interrupts served");
const SWITCHES: Described = Described::counter("node_context_switches_total", &[], "Context switches");
const BOOT: Described = Described::gauge("node_boot_time_seconds", &[], "When the host booted, in seconds since 1970");
const FORKS: Described = Described::counter("node_forks_total", &[], "Processes and threads started");
const RUNNING: Described = Described::gauge("node_procs_running", &[], "Processes that run or could run");
const BLOCKED: Described = Described::gauge("node_procs_blocked", &[], "Processes that wait for a disk");

/// What a line begins with, and what its number is.
const LINES: [(&str, Described); 6] = [
    ("intr", INTERRUPTS),
    ("ctxt", SWITCHES),
    ("btime", BOOT),
    ("processes", FORKS),
    ("procs_running", RUNNING),
    ("procs_blocked", BLOCKED),
];

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let path = files.roots.proc.join("stat");
    let families = parse(files.stat()?);
    if families.is_empty() { Err(file::malformed(&path, "expected a line `ctxt …`")) } else { Ok(families) }
}

/// Not procfs' `KernelStats`: it leaves out the interrupts, and one missing line is an error for all.
fn parse(text: &str) -> Vec<Family> {
    let family = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (first, number) = (words.next()?, words.next()?);
        let (_, metric) = LINES.iter().find(|(word, _)| *word == first)?;
        Some(metric.family(file::number_of(number)?))
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
