//! /proc/meminfo.

use super::HostCollector;
use super::file::{self, Files};
use crate::collect::CollectError;
use crate::metric::{Described, Family};

/// Every field of /proc/meminfo, also those that `node_exporter` leaves out (`FileHugePages`, `SecPageTables`, …).
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "meminfo",
    help: "Memory: what is available, file cache, dirty pages, swap, huge pages",
    provides: &[SIZE, NUMBER],
    collect,
};

const SIZE: Described = Described::gauge("node_memory_{}_bytes", &[], "Field {} of /proc/meminfo");
/// Huge pages are counted, not measured, and so have no unit.
const NUMBER: Described = Described::gauge("node_memory_{}", &[], "Field {} of /proc/meminfo");

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let path = files.roots.proc.join("meminfo");
    let families = parse(&files.text(&path)?);
    if families.is_empty() { Err(file::malformed(&path, "expected lines `MemTotal: N kB`")) } else { Ok(families) }
}

/// Not procfs' `Meminfo`: it knows a fixed list of fields and drops what a newer kernel adds.
fn parse(text: &str) -> Vec<Family> {
    let family = |line: &str| {
        let (field, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let value = file::number_of(words.next()?)?;
        let is_size = words.next() == Some("kB");
        let (metric, value) = if is_size { (SIZE, value * 1024.0) } else { (NUMBER, value) };
        Some(metric.family_of(&word_of(field), field, value))
    };
    text.lines().filter_map(family).collect()
}

/// `Active(file)` becomes `Active_file`, as in `node_exporter`.
fn word_of(field: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    field.trim_end_matches(')').chars().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_becomes_a_family_in_bytes_or_a_count() {
        let cases = [
            ("MemTotal:       24684084 kB", Some(("node_memory_MemTotal_bytes", 25_276_502_016.0))),
            ("Active(file):        12 kB", Some(("node_memory_Active_file_bytes", 12_288.0))),
            ("HugePages_Total:    4096", Some(("node_memory_HugePages_Total", 4096.0))),
            ("Hugepagesize:       2048 kB", Some(("node_memory_Hugepagesize_bytes", 2_097_152.0))),
            ("SomethingNew:          1 kB", Some(("node_memory_SomethingNew_bytes", 1024.0))),
            ("no field", None),
            ("Broken:  x kB", None),
        ];
        for (line, expected) in cases {
            let families = parse(line);
            let found = families.first().map(|f| (f.metric().name.as_str(), f.samples().next().unwrap().value));
            assert_eq!(found, expected, "{line}");
        }
    }
}
