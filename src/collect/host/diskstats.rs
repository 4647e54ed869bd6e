//! /proc/diskstats.

use procfs::{DiskStat, DiskStats, FromBufRead};

use super::HostCollector;
use super::file::{self, Files};
use crate::collect::CollectError;
use crate::metric::{Described, Family, Table};

/// Reads, writes, discards and flushes of each disk, from /proc/diskstats.
///
/// Discards need kernel 4.18, flushes 5.5; before that they are absent.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "diskstats",
    help: "Disks: reads and writes, their sizes and times, how busy and how long the queue",
    provides: &COUNTS,
    collect,
};

/// The kernel counts in sectors of this size whatever the disk's own are.
const SECTOR: f64 = 512.0;
const MILLISECOND: f64 = 0.001;

/// Where a count is found in a line; older kernels have fewer columns.
type Field = fn(&DiskStat) -> Option<u64>;

const fn counter(name: &'static str, help: &'static str) -> Described {
    Described::counter(name, LABELS, help)
}

const LABELS: &[&str] = &["device"];

const COUNTS: [Described; 17] = [
    counter("node_disk_reads_completed_total", "Reads completed"),
    counter("node_disk_reads_merged_total", "Reads merged with a neighbour before they were issued"),
    counter("node_disk_read_bytes_total", "Bytes read"),
    counter("node_disk_read_time_seconds_total", "Seconds spent by all reads"),
    counter("node_disk_writes_completed_total", "Writes completed"),
    counter("node_disk_writes_merged_total", "Writes merged with a neighbour before they were issued"),
    counter("node_disk_written_bytes_total", "Bytes written"),
    counter("node_disk_write_time_seconds_total", "Seconds spent by all writes"),
    Described::gauge("node_disk_io_now", LABELS, "Requests under way"),
    counter(
        "node_disk_io_time_seconds_total",
        "Seconds in which any request was under way; its rate is the share of time the disk is busy",
    ),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        "Seconds spent by all requests; its rate is the mean length of the queue",
    ),
    counter("node_disk_discards_completed_total", "Discards completed"),
    counter("node_disk_discards_merged_total", "Discards merged with a neighbour before they were issued"),
    counter("node_disk_discarded_sectors_total", "Sectors of 512 bytes discarded"),
    counter("node_disk_discard_time_seconds_total", "Seconds spent by all discards"),
    counter("node_disk_flush_requests_total", "Flushes completed"),
    counter("node_disk_flush_requests_time_seconds_total", "Seconds spent by all flushes"),
];

/// Unit and source of each of [`COUNTS`].
const FIELDS: [(f64, Field); 17] = [
    (1.0, |d| Some(d.reads)),
    (1.0, |d| Some(d.merged)),
    (SECTOR, |d| Some(d.sectors_read)),
    (MILLISECOND, |d| Some(d.time_reading)),
    (1.0, |d| Some(d.writes)),
    (1.0, |d| Some(d.writes_merged)),
    (SECTOR, |d| Some(d.sectors_written)),
    (MILLISECOND, |d| Some(d.time_writing)),
    (1.0, |d| Some(d.in_progress)),
    (MILLISECOND, |d| Some(d.time_in_progress)),
    (MILLISECOND, |d| Some(d.weighted_time_in_progress)),
    (1.0, |d| d.discards),
    (1.0, |d| d.discards_merged),
    (1.0, |d| d.sectors_discarded),
    (MILLISECOND, |d| d.time_discarding),
    (1.0, |d| d.flushes),
    (MILLISECOND, |d| d.time_flushing),
];

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let path = files.roots.proc.join("diskstats");
    let text = files.text(&path)?;
    let disks = DiskStats::from_buf_read(text.as_bytes()).map_err(|e| file::malformed(&path, e.to_string()))?;
    Ok(families(&disks.0))
}

fn families(disks: &[DiskStat]) -> Vec<Family> {
    let mut table = Table::new(LABELS);
    let columns = COUNTS.map(|metric| table.describe(&metric));
    for disk in disks.iter().filter(|disk| !is_excluded(&disk.name)) {
        table.row(&[&disk.name]);
        for (column, (unit, field)) in columns.into_iter().zip(FIELDS) {
            table.set_known(column, field(disk).map(|count| in_unit(count, unit)));
        }
    }
    table.into_families()
}

/// Divides by a whole number where it can, which keeps 4715 ms from being shown as 4.715000000000001 s.
fn in_unit(count: u64, unit: f64) -> f64 {
    if unit < 1.0 { count as f64 / unit.recip().round() } else { count as f64 * unit }
}

/// Partitions and memory disks, by `node_exporter`'s default:
/// `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`.
fn is_excluded(device: &str) -> bool {
    let stem = device.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == device.len() {
        return false;
    }
    let is_partition_of =
        |start: &str| stem.strip_prefix(start).is_some_and(|letter| matches!(letter.as_bytes(), [b'a'..=b'z']));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_nvme_partition = || {
        let numbers = stem.strip_prefix("nvme").and_then(|rest| rest.strip_suffix('p'))?.split_once('n')?;
        Some(is_number(numbers.0) && is_number(numbers.1))
    };
    ["ram", "zram", "loop", "fd"].contains(&stem)
        || ["hd", "sd", "vd", "xvd"].into_iter().any(is_partition_of)
        || is_nvme_partition().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_memory_disks_are_left_out_as_in_node_exporter() {
        let cases = [
            ("sda", false),
            ("sda1", true),
            ("sdaa", false),
            ("sdaa1", false),
            ("vda15", true),
            ("xvdf2", true),
            ("nvme0n1", false),
            ("nvme0n1p2", true),
            ("nvme12n34p56", true),
            ("nvmen1p2", false),
            ("dm-0", false),
            ("md127", false),
            ("drbd0", false),
            ("sr0", false),
            ("loop0", true),
            ("ram15", true),
            ("zram0", true),
            ("fd0", true),
            ("mmcblk0p1", false),
            ("0", false),
            ("", false),
        ];
        for (device, expected) in cases {
            assert_eq!(is_excluded(device), expected, "{device}");
        }
    }

    #[test]
    fn a_line_gives_as_many_families_as_it_has_columns() {
        let counts = |columns: usize| {
            let numbers: Vec<_> = (1..=columns).map(|n| (n * 1000).to_string()).collect();
            families(&DiskStats::from_buf_read(format!("8 0 sda {}", numbers.join(" ")).as_bytes()).unwrap().0)
        };
        for (columns, expected) in [(11, 11), (15, 15), (17, 17), (19, 17)] {
            assert_eq!(counts(columns).len(), expected, "{columns} columns");
        }
        let values: Vec<_> = counts(17).iter().map(|family| family.samples().next().unwrap().value).collect();
        assert_eq!(values[..4], [1000.0, 2000.0, 3000.0 * 512.0, 4.0]);
        assert_eq!(values[8..11], [9000.0, 10.0, 11.0]);
        assert_eq!(values[12..15], [13_000.0, 14_000.0, 15.0]);
    }

    #[test]
    fn every_name_has_its_field() {
        assert_eq!(COLLECTOR.provides.len(), FIELDS.len());
    }
}
