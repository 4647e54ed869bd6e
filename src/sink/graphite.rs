//! Carbon's plaintext protocol: one line `path value epoch` for each sample.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use hashbrown::HashTable;

use super::{epoch, push_number};
use crate::metric::Snapshot;

/// Longest part of a path, in bytes: whisper makes it a file name, of which Linux allows 255 with `.wsp`.
const LONGEST_PART: usize = 200;

/// The beginning of every path: prefix and host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(String);

impl Root {
    /// Puts the host's name under a prefix, whose dots make levels of their own: `collectd.` and `collectd` are the same.
    pub fn new(prefix: &str, host: &str) -> Self {
        let mut root = String::new();
        for part in prefix.split('.').filter(|part| !part.is_empty()) {
            push_part(&mut root, part);
        }
        push_part(&mut root, host);
        Self(root)
    }

    /// The path up to and with the host.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The kernel's name of this host, as `uname -n` prints it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Appends one line for each sample, with the time at which the snapshot was taken.
///
/// A path is root, server (when `server` is the first label), metric, then the other label values in their declared
/// order; a
/// histogram's buckets end in their upper bound. All that is not `[A-Za-z0-9_-]` becomes `_` in each of them. When two series end up on one path, only the first is sent: Graphite
/// would otherwise jump between the two. Returns how many were left out for that reason. What is no finite number is
/// not sent, as Graphite has no word for it.
pub fn encode(snapshot: &Snapshot, root: &Root, out: &mut String) -> usize {
    encode_at(snapshot, root, snapshot.taken, out)
}

/// As [`encode`], for another moment than that at which the snapshot was taken.
pub fn encode_at(snapshot: &Snapshot, root: &Root, moment: SystemTime, out: &mut String) -> usize {
    // The full paths would be megabytes; that two of 100,000 share one of 2^64 hashes is no concern.
    let hasher = RandomState::new();
    let mut known = HashTable::new();
    let mut dropped = 0;
    let mut ending = String::from(" ");
    push_number(&mut ending, epoch(moment).floor());
    ending.push('\n');
    for group in snapshot.groups() {
        let name = &group.metric().name;
        for sample in group.samples().filter(|sample| sample.value.is_finite()) {
            let start = out.len();
            out.push_str(root.as_str());
            let mut labels = sample.labels().peekable();
            if let Some((_, server)) = labels.next_if(|(label, _)| *label == "server") {
                push_part(out, server);
            }
            push_part(out, name);
            out.push_str(sample.suffix());
            labels.for_each(|(_, value)| push_part(out, value));
            let hash = hasher.hash_one(out.get(start..));
            if known.find(hash, |known| *known == hash).is_some() {
                out.truncate(start);
                dropped += 1;
                continue;
            }
            known.insert_unique(hash, hash, |known| *known);
            out.push(' ');
            push_number(out, sample.value);
            out.push_str(&ending);
        }
    }
    dropped
}

/// Appends one part, after a dot unless it is the first.
fn push_part(out: &mut String, part: &str) {
    if !out.is_empty() {
        out.push('.');
    }
    if part.is_empty() {
        return out.push('_');
    }
    // Without an early end, which would keep the compiler from looking at sixteen bytes at once.
    let is_plain = |plain: bool, byte: u8| plain & (byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if part.len() <= LONGEST_PART && part.bytes().fold(true, is_plain) {
        return out.push_str(part);
    }
    out.extend(part.chars().take(LONGEST_PART).map(|character| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => character,
        _ => '_',
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::metric::{Family, Kind, Table};

    fn lines(labels: &[&str], rows: &[(&[&str], f64)], server: Option<&str>) -> (Vec<String>, usize) {
        let mut table = Table::new(labels);
        let column = table.column(Kind::Gauge, "pg_x", "");
        for (values, value) in rows {
            table.row(values);
            table.set(column, *value);
        }
        let mut snapshot = Snapshot::new(UNIX_EPOCH + Duration::from_millis(1_700_000_000_900));
        for family in table.into_families() {
            snapshot.add(server.map(Arc::from).as_ref(), &Arc::new(family));
        }
        let mut out = String::new();
        let dropped = encode(&snapshot, &Root::new("p", "h"), &mut out);
        (out.lines().map(str::to_owned).collect(), dropped)
    }

    #[test]
    fn a_path_is_root_server_metric_and_label_values() {
        let (found, dropped) = lines(&["z", "a"], &[(&["1", "2"], 0.5)], Some("15/main"));
        assert_eq!((found, dropped), (vec!["p.h.15_main.pg_x.1.2 0.5 1700000000".to_owned()], 0));
        let (found, _) = lines(&["device", "server"], &[(&["sda", "a b"], 1e300)], None);
        assert_eq!(found, ["p.h.pg_x.sda.a_b 1e300 1700000000"]);
    }

    #[test]
    fn a_part_holds_nothing_that_carbon_or_a_file_system_reads_otherwise() {
        let long = "x".repeat(300);
        let cases = [
            ("", "_"),
            (".", "_"),
            ("../../etc/passwd", "______etc_passwd"),
            ("a b\tc\nd\r", "a_b_c_d_"),
            ("ünïcode", "_n_code"),
            ("a;tag=b", "a_tag_b"),
            ("{*?[~}", "______"),
            ("Az0-_", "Az0-_"),
            (&long, &"x".repeat(LONGEST_PART)),
        ];
        for (value, expected) in cases {
            let (found, _) = lines(&["a"], &[(&[value], 1.0)], None);
            assert_eq!(found, [format!("p.h.pg_x.{expected} 1 1700000000")]);
        }
    }

    #[test]
    fn of_two_series_on_one_path_the_first_is_sent_and_the_other_counted() {
        let (found, dropped) = lines(&["a"], &[(&["a.b"], 1.0), (&["a/b"], 2.0), (&["a_b"], 3.0)], None);
        assert_eq!((found, dropped), (vec!["p.h.pg_x.a_b 1 1700000000".to_owned()], 2));
    }

    #[test]
    fn what_is_not_a_number_is_not_sent() {
        let rows: &[(&[&str], f64)] = &[(&["a"], f64::NAN), (&["b"], f64::INFINITY), (&["c"], 1.0)];
        assert_eq!(lines(&["a"], rows, None), (vec!["p.h.pg_x.c 1 1700000000".to_owned()], 0));
    }

    #[test]
    fn the_dots_of_a_prefix_make_levels_and_those_of_a_host_do_not() {
        for (prefix, expected) in
            [("collectd.", "collectd.db1_example"), ("", "db1_example"), ("a..b c", "a.b_c.db1_example")]
        {
            assert_eq!(Root::new(prefix, "db1.example").as_str(), expected);
        }
        assert!(!host_name().is_empty());
    }

    #[test]
    fn an_empty_snapshot_has_no_lines() {
        let mut out = String::new();
        let mut snapshot = Snapshot::new(UNIX_EPOCH);
        assert_eq!(encode(&snapshot, &Root::new("", "h"), &mut out), 0);
        assert_eq!(out, "");
        snapshot.add(None, &Arc::new(Family::single(Kind::Gauge, "a", "", 1.0)));
        encode(&snapshot, &Root::new("", "h"), &mut out);
        assert_eq!(out, "h.a 1 0\n");
    }
}
