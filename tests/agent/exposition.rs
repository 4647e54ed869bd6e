//! What the sinks write, read by the parsers that users have: promtool (Debian `prometheus`) and Python's
//! `prometheus_client` (Debian `python3-prometheus-client`).

use std::sync::Arc;
use std::time::SystemTime;

use pgvitals::metric::{Buckets, Family, Kind, Metric, Snapshot, Table};
use pgvitals::push::PushStats;
use pgvitals::sink::{json, openmetrics, prometheus};

use crate::program::run;

/// Prints every sample of the JSON, the text and the OpenMetrics form on a line, and fails unless they agree.
const COMPARE: &str = r#"
import json, math, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

def line(name, labels, value):
    # OpenMetrics wants le="1.0" where the text form has le="1".
    labels = {k: repr(float(v)) if k == "le" else v for k, v in labels.items()}
    return json.dumps([name, sorted(labels.items()), "NaN" if math.isnan(float(value)) else repr(float(value))])

given = json.load(sys.stdin)
facts = {f["name"]: f for f in json.loads(given["json"])["families"]}
expected = sorted(line(s.get("name", n), s["labels"], s["value"]) for n, f in facts.items() for s in f["samples"])

def name_of(sample):
    # For the text form this parser puts a _total of its own behind a counter that has none.
    return sample.name if sample.name in facts else sample.name.removesuffix("_total")

for face, parse in (("text", text), ("openmetrics", openmetrics)):
    families = list(parse(given[face]))
    found = sorted(line(name_of(s), s.labels, s.value) for f in families for s in f.samples)
    assert found == expected, (face, found, expected)
    helps = {f.documentation for f in families}
    assert helps == {f["help"] for f in facts.values()}, (face, helps)
print(len(expected))
"#;

fn add(snapshot: &mut Snapshot, families: Vec<Family>) {
    for family in families {
        snapshot.add(Some(&Arc::from("15/main")), &Arc::new(family));
    }
}

fn single(kind: Kind, name: &str, value: f64) -> Family {
    Family::single(kind, name, "Some meaning", value)
}

/// A histogram of these values.
fn histogram(name: &str, values: &[f64]) -> Vec<Family> {
    let mut table = Table::new(&["state", "application_name"]);
    let metric = Metric { name: name.to_owned(), help: "How long".to_owned(), kind: Kind::Histogram };
    let column = table.histogram_of(Arc::new(metric), Arc::new(Buckets::new(vec![0.1, 1.0, 300.0])));
    for (value, application) in values.iter().zip(["", "a\"b"].iter().cycle()) {
        table.row(&["idle", application]);
        table.set(column, *value);
    }
    table.into_families()
}

fn well_named() -> Snapshot {
    let mut table = Table::new(&["datname", "usename"]);
    let size = table.column(Kind::Gauge, "pg_database_size_bytes", "How large: \\ \"all\" files,\nindexes too");
    let calls = table.column(Kind::Counter, "pg_stat_statements_calls_total", "How often");
    let seconds = table.column(Kind::Counter, "pg_stat_statements_seconds_total", "How long");
    let rows = [
        ["plain", ""],
        ["quote\"", "back\\slash"],
        ["line\nend", "\\n"],
        ["a,b=\"c\"} 1", "{}#"],
        ["tab\t\r", " "],
        ["数据库", "größe"],
        ["\\", "\"\\\""],
    ];
    let values = [0.0, 1.0, 0.1, 9_007_199_254_740_992.0, 1e300, 1.5e-9, 123_456_789.123];
    for (row, value) in rows.iter().zip(values) {
        table.row(row);
        table.set(size, -value);
        table.set(calls, value);
        table.set(seconds, value / 3.0);
    }
    let mut snapshot = Snapshot::new(SystemTime::now());
    add(&mut snapshot, table.into_families());
    add(&mut snapshot, vec![single(Kind::Gauge, "pg_nothing_ratio", f64::NAN)]);
    add(&mut snapshot, vec![single(Kind::Gauge, "pg_more_ratio", f64::INFINITY)]);
    add(&mut snapshot, vec![single(Kind::Unknown, "pg_less_ratio", f64::NEG_INFINITY)]);
    add(&mut snapshot, histogram("pg_process_idle_seconds", &[0.05, 1.0, 299.9, 300.0, 1e6]));
    add(&mut snapshot, PushStats::default().families());
    snapshot.add(None, &Arc::new(single(Kind::Gauge, "node_load1", 0.25)));
    snapshot
}

/// Names and types as the peers have them, against the naming rules of today.
fn compatible() -> Snapshot {
    let mut snapshot = Snapshot::new(SystemTime::now());
    // As a clock that was set back makes it; OpenMetrics knows no such histogram.
    add(&mut snapshot, histogram("pg_negative_seconds", &[-1.0]));
    add(
        &mut snapshot,
        vec![
            single(Kind::Counter, "pg_stat_database_xact_commit", 1.0),
            single(Kind::Counter, "pg_stat_archiver_failed_count", 1.0),
            single(Kind::Gauge, "pg_stat_activity_count", 1.0),
            single(Kind::Gauge, "pg_x_total", 1.0),
            single(Kind::Counter, "pg_y_total", 1.0),
            single(Kind::Gauge, "pg_y", 1.0),
            single(Kind::Unknown, "node_netstat_Tcp_InSegs", 1.0),
            single(Kind::Gauge, "node_memory_MemTotal_bytes", 1.0),
        ],
    );
    snapshot
}

fn text(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    prometheus::encode(snapshot, &mut out);
    out
}

#[test]
fn promtool_finds_nothing_in_well_named_families() {
    let output = run("promtool", &["check", "metrics"], &text(&well_named()));
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[test]
fn promtool_reads_compatible_names_and_only_finds_fault_with_their_style() {
    let output = run("promtool", &["check", "metrics"], &text(&compatible()));
    let found = String::from_utf8(output.stderr).unwrap();
    let mut names: Vec<_> = found.lines().filter_map(|line| line.split(' ').next()).collect();
    names.dedup();
    // 3 is a matter of style, 1 would be a text that Prometheus cannot read.
    assert_eq!(output.status.code(), Some(3), "{found}");
    assert_eq!(
        names,
        [
            "node_memory_MemTotal_bytes",
            "node_netstat_Tcp_InSegs",
            "pg_stat_activity_count",
            "pg_stat_archiver_failed_count",
            "pg_stat_database_xact_commit",
            "pg_x_total",
        ]
    );
}

#[test]
fn python_reads_the_same_samples_from_every_sink() {
    for (snapshot, samples) in [(well_named(), 7 * 3 + 3 + 2 * 6 + 8 + 1), (compatible(), 6 + 8)] {
        let (mut json, mut openmetrics) = (String::new(), String::new());
        json::encode(&snapshot, &mut json);
        openmetrics::encode(&snapshot, &mut openmetrics);
        let given = serde_json::json!({"json": json, "text": text(&snapshot), "openmetrics": openmetrics});
        let output = run("/usr/bin/python3", &["-c", COMPARE], &given.to_string());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}\n{openmetrics}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), samples.to_string());
    }
}
