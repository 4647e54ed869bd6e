//! /proc/pressure: how long work stood still for want of CPU, memory or disks.

use std::borrow::Cow;
use std::path::Path;

use super::HostCollector;
use super::file::Files;
use crate::collect::CollectError;
use crate::metric::{Described, Family};

/// Stall times, from /proc/pressure (kernel 4.20, `irq` 6.1); skipped where the kernel has none or was booted with `psi=0`.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "pressure",
    help: "Pressure: time that tasks stood still for want of CPU, memory or disks",
    provides: &[CPU_WAITING, IO_WAITING, IO_STALLED, MEMORY_WAITING, MEMORY_STALLED, IRQ_STALLED],
    collect,
};

const CPU_WAITING: Described =
    Described::counter("node_pressure_cpu_waiting_seconds_total", &[], "Seconds in which some task waited for a CPU");
const IO_WAITING: Described =
    Described::counter("node_pressure_io_waiting_seconds_total", &[], "Seconds in which some task waited for a disk");
const IO_STALLED: Described =
    Described::counter("node_pressure_io_stalled_seconds_total", &[], "Seconds in which all tasks waited for a disk");
const MEMORY_WAITING: Described = Described::counter(
    "node_pressure_memory_waiting_seconds_total",
    &[],
    "Seconds in which some task waited for memory",
);
const MEMORY_STALLED: Described = Described::counter(
    "node_pressure_memory_stalled_seconds_total",
    &[],
    "Seconds in which all tasks waited for memory",
);
const IRQ_STALLED: Described = Described::counter(
    "node_pressure_irq_stalled_seconds_total",
    &[],
    "Seconds in which all tasks waited for interrupts",
);

/// File, start of its line, and what its total is. The `full` line of `cpu` is always 0 for the whole host and so left out.
const LINES: [(&str, &str, Described); 6] = [
    ("cpu", "some", CPU_WAITING),
    ("io", "some", IO_WAITING),
    ("io", "full", IO_STALLED),
    ("memory", "some", MEMORY_WAITING),
    ("memory", "full", MEMORY_STALLED),
    ("irq", "full", IRQ_STALLED),
];

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let folder = files.roots.proc.join("pressure");
    let mut families = Vec::new();
    for resource in ["cpu", "io", "memory", "irq"] {
        if let Some(text) = read(files, &folder.join(resource))? {
            families.extend(parse(resource, &text));
        }
    }
    if families.is_empty() {
        return Err(CollectError::Skipped(format!("the kernel keeps no pressure in {}", folder.display())));
    }
    Ok(families)
}

fn read<'a>(files: &'a mut Files, path: &Path) -> Result<Option<Cow<'a, str>>, CollectError> {
    match files.text(path) {
        Ok(text) => Ok(Some(text)),
        Err(CollectError::Skipped(_)) => Ok(None),
        // With `psi=0` on the kernel's command line the files are there, but cannot be read.
        Err(CollectError::Read { source, .. }) if source.kind() == std::io::ErrorKind::Unsupported => Ok(None),
        Err(e) => Err(e),
    }
}

/// Not procfs' `parse_pressure_record`: it panics on a line that is cut short.
fn parse(resource: &str, text: &str) -> Vec<Family> {
    let family = |line: &str| {
        let (start, rest) = line.split_once(' ')?;
        let (_, _, metric) = LINES.iter().find(|(of, first, ..)| *of == resource && *first == start)?;
        let total = rest.split_ascii_whitespace().find_map(|field| field.strip_prefix("total="))?;
        let microseconds: u64 = total.parse().ok()?;
        Some(metric.family(microseconds as f64 / 1e6))
    };
    text.lines().filter_map(family).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_is_waiting_and_full_is_stalled_in_seconds() {
        let both =
            "some avg10=4.50 avg60=0.91 avg300=0.00 total=8320552\nfull avg10=2.10 avg60=0.12 avg300=0.00 total=5\n";
        let cases = [
            ("io", both, vec![("io_waiting", 8.320_552), ("io_stalled", 0.000_005)]),
            ("cpu", both, vec![("cpu_waiting", 8.320_552)]),
            ("irq", "full avg10=0.00 avg60=0.00 avg300=0.00 total=1000000", vec![("irq_stalled", 1.0)]),
            ("memory", "some", vec![]),
            ("memory", "some total=x", vec![]),
        ];
        for (resource, text, expected) in cases {
            let found: Vec<_> = parse(resource, text)
                .iter()
                .map(|f| (f.metric().name.clone(), f.samples().next().unwrap().value))
                .collect();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(name, value)| (format!("node_pressure_{name}_seconds_total"), value))
                .collect();
            assert_eq!(found, expected, "{resource} {text}");
        }
    }
}
