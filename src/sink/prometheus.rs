//! The Prometheus text format 0.0.4, which Prometheus, collectors and people with `curl` read.
//!
//! Types are those of the exporters whose names we keep, even where promtool's linter would rather see another one:
//! a counter is a counter whether or not its name ends in `_total`.

use super::Take;
use super::series::{push_lines, size_of};
use crate::metric::{Kind, Snapshot, push_escaped};

/// What the HTTP header `Content-Type` says.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends all families, ordered by name.
///
/// Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>, "Text-based format".
pub fn encode(snapshot: &Snapshot, out: &mut String) {
    out.reserve(snapshot.groups().map(|group| size_of(&group)).sum());
    encode_in_pieces(snapshot, out, &mut |_| ());
}

/// As [`encode`]; what is left at the end, which is less than a piece, is not taken.
pub fn encode_in_pieces(snapshot: &Snapshot, out: &mut String, take: Take<'_>) {
    for group in snapshot.groups() {
        let metric = group.metric();
        if !metric.help.is_empty() {
            out.extend(["# HELP ", &metric.name, " "]);
            push_escaped(out, &metric.help, false);
            out.push('\n');
        }
        out.extend(["# TYPE ", &metric.name, " ", name_of(metric.kind), "\n"]);
        group.parts().iter().for_each(|part| push_lines(out, &metric.name, part, take));
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Unknown => "untyped",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::metric::{Family, Table};

    #[test]
    fn two_servers_share_one_header() {
        let mut snapshot = Snapshot::new(SystemTime::now());
        for (server, value) in [("15/main", 1.0), ("17/main", f64::NAN)] {
            snapshot.add(Some(&Arc::from(server)), &Arc::new(Family::single(Kind::Gauge, "pg_up", "Reachable", value)));
        }
        snapshot.add(None, &Arc::new(Family::single(Kind::Unknown, "node_netstat_Tcp_InSegs", "", f64::NEG_INFINITY)));
        let mut out = String::new();
        encode(&snapshot, &mut out);
        assert_eq!(
            out,
            "# TYPE node_netstat_Tcp_InSegs untyped\n\
             node_netstat_Tcp_InSegs -Inf\n\
             # HELP pg_up Reachable\n\
             # TYPE pg_up gauge\n\
             pg_up{server=\"15/main\"} 1\n\
             pg_up{server=\"17/main\"} NaN\n"
        );
    }

    #[test]
    fn labels_and_help_are_escaped_each_by_its_own_rule() {
        let mut table = Table::new(&["a", "b"]);
        let column = table.column(Kind::Counter, "c", "a \\ \"b\"\nc");
        table.row(&["\\\"\n", ""]);
        table.set(column, f64::INFINITY);
        let mut snapshot = Snapshot::new(SystemTime::now());
        for family in table.into_families() {
            snapshot.add(None, &Arc::new(family));
        }
        let mut out = String::new();
        encode(&snapshot, &mut out);
        let expected = concat!(r#"# HELP c a \\ "b"\nc"#, "\n# TYPE c counter\n", r#"c{a="\\\"\n",b=""} +Inf"#, "\n");
        assert_eq!(out, expected);
    }
}
