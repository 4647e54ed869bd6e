use std::time::SystemTime;

use super::*;
use crate::check::tests::{check, snapshot};

const CONNECTIONS: &str = r#"
    [[rule]]
    name = "connections"
    value = "used / limit"
    unit = "ratio"
    warning = "80%"
    critical = "90%"
    none = "no connection"
    summary = "{value} used by {datname}"
"#;
const LAG: &str = r#"
    [[rule]]
    name = "lag"
    value = "lag_bytes"
    unit = "bytes"
    critical = "1MB"
    summary = "{slot} is {value} behind"
    [[rule]]
    name = "lag"
    value = "lag_seconds"
    unit = "seconds"
    warning = "10s"
    summary = "{value} behind on {server}"
"#;
const SLOTS: &str = r#"
    [[rule]]
    name = "slots"
    value = "lost"
    critical = "0"
    summary = "lost"
    ok = "all there"
    none = "no slot"
    [[rule]]
    name = "slots"
    value = "kept"
    unit = "bytes"
    warning = "1GB"
    summary = "{value} kept"
    none = "nothing kept"
"#;
const ONLINE: &str = r#"
    [[rule]]
    name = "online"
    value = "1 - pg_up"
    critical = "0"
    summary = "does not answer"
"#;
const CHECKPOINTS: &str = r#"
    [[rule]]
    name = "checkpoints"
    value = "increase(requested[1h]) / increase(timed[1h])"
    unit = "ratio"
    warning = "20%"
    summary = "{value} requested"
"#;
const RATE: &str = r#"
    [[rule]]
    name = "deadlocks"
    value = "rate(deadlocks[5m])"
    warning = "0.1"
    none = "none"
    summary = "{value} per second"
"#;

/// Answers by lines such as `metric server ran`, `metric server failed why`; `-` is the host, `*` any metric.
fn answers(text: &str) -> impl Fn(&str) -> Vec<Answer> {
    move |metric| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| line.splitn(4, ' '));
        lines
            .filter_map(|mut words| {
                let (name, server, outcome) = (words.next()?, words.next()?, words.next()?);
                let reason = words.next().unwrap_or_default().to_owned();
                let outcome = match outcome {
                    "failed" => Outcome::Failed(reason),
                    "skipped" => Outcome::Skipped(reason),
                    _ => Outcome::Ran,
                };
                let server = (server != "-").then(|| server.to_owned());
                (name == "*" || name == metric).then_some(Answer { server, outcome })
            })
            .collect()
    }
}

fn verdict(rules: &str, samples: &str, availability: &str) -> Verdict {
    let snapshot = snapshot(SystemTime::now(), samples);
    let facts = Facts { snapshot: &snapshot, history: None };
    judge(&check(rules), facts, &answers(availability), &Limits::default(), None)
}

#[test]
fn a_check_is_as_bad_as_its_worst_finding_and_tells_what_it_does_not_know() {
    let limit = "limit{server=\"a\"} 100\n";
    for (rules, samples, availability, expected) in [
        (CONNECTIONS, "used{server=\"a\",datname=\"x\"} 80", "* a ran", "OK 80 % used by x"),
        (CONNECTIONS, "used{server=\"a\",datname=\"x\"} 85", "* a ran", "WARNING 85 % used by x"),
        (CONNECTIONS, "used{server=\"a\",datname=\"x\"} 95", "* a ran", "CRITICAL 95 % used by x"),
        (
            CONNECTIONS,
            "used{server=\"a\",datname=\"x\"} 5\nused{server=\"a\",datname=\"y\"} 7",
            "* a ran",
            "OK 7 % used by y",
        ),
        (
            CONNECTIONS,
            "used{server=\"a\",datname=\"x\"} 85\nused{server=\"a\",datname=\"y\"} 95",
            "* a ran",
            "CRITICAL 95 % used by y; 85 % used by x",
        ),
        // Ran and nothing there.
        (CONNECTIONS, "", "* a ran", "OK no connection"),
        (LAG, "", "* a ran", "UNKNOWN no value for `lag_bytes`; no value for `lag_seconds`"),
        (SLOTS, "", "* a ran", "OK no slot"),
        (SLOTS, "", "* a ran\n* b ran", "OK no slot"),
        (SLOTS, "kept{server=\"a\"} 1", "* a ran", "OK 1 B kept"),
        (SLOTS, "lost{server=\"a\"} 0\nkept{server=\"a\"} 1", "* a ran", "OK all there; 1 B kept"),
        (SLOTS, "lost{server=\"a\"} 1", "* a ran\n* b ran", "CRITICAL a: lost"),
        // Not here.
        (LAG, "", "* a skipped this is a primary", "OK nothing to check: this is a primary"),
        (
            LAG,
            "lag_seconds{server=\"a\"} 20",
            "lag_bytes a skipped new in 13\nlag_seconds a ran",
            "WARNING 20 s behind on a",
        ),
        // Could not be read.
        (CONNECTIONS, "", "* a failed no answer within 2s", "UNKNOWN no answer within 2s"),
        (CONNECTIONS, "", "used a failed timeout\nlimit a ran", "UNKNOWN timeout"),
        (LAG, "", "* a failed permission denied", "UNKNOWN permission denied"),
        (CONNECTIONS, "", "", "UNKNOWN no collector provides `limit`"),
        // What is bad is not hidden by what is not known, nor what is not known by what is well.
        (
            LAG,
            "lag_bytes{server=\"a\",slot=\"s\"} 2097152",
            "lag_bytes a ran\nlag_seconds a failed timeout",
            "CRITICAL s is 2 MB behind; timeout",
        ),
        (
            LAG,
            "lag_bytes{server=\"a\",slot=\"s\"} 1",
            "lag_bytes a ran\nlag_seconds a failed timeout",
            "UNKNOWN timeout",
        ),
        // A part of the answer, and a failure.
        (
            CONNECTIONS,
            "used{server=\"a\",datname=\"x\"} 85",
            "limit a ran\nused a failed database y: timeout",
            "WARNING 85 % used by x; database y: timeout",
        ),
        (ONLINE, "pg_up{server=\"a\"} 1", "* a ran", "OK does not answer"),
        (ONLINE, "pg_up{server=\"a\"} 0", "* a ran", "CRITICAL does not answer"),
        (ONLINE, "pg_up{server=\"a\"} 0", "* a failed refused", "CRITICAL does not answer: refused"),
        (ONLINE, "", "* a failed refused", "CRITICAL refused"),
        (
            CHECKPOINTS,
            "requested{server=\"a\"} 5\ntimed{server=\"a\"} 5",
            "* a ran",
            "UNKNOWN the rate of `requested` needs two readings",
        ),
        (RATE, "deadlocks{server=\"a\"} 5", "* a ran", "UNKNOWN the rate of `deadlocks` needs two readings"),
    ] {
        let verdict = verdict(rules, &format!("{limit}{samples}"), availability);
        assert_eq!(format!("{} {}", verdict.status, verdict.summary), expected, "{samples} {availability}");
    }
}

#[test]
fn several_servers_are_told_apart() {
    let verdict = verdict(
        LAG,
        r#"
        lag_bytes{server="a",slot="s"} 1
        lag_bytes{server="b",slot="s"} 2097152
        lag_seconds{server="a"} 20
        "#,
        "* a ran\nlag_bytes b ran\nlag_seconds b failed timeout\n* c skipped this is a primary",
    );
    assert_eq!(verdict.status, Status::Critical);
    assert_eq!(verdict.summary, "b: s is 2 MB behind; 20 s behind on a; b: timeout");
    let texts: Vec<_> = verdict.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(texts, ["b: s is 2 MB behind", "20 s behind on a", "b: timeout", "a: s is 1 B behind"]);
    let labels: Vec<_> = verdict.perfdata.iter().map(|one| one.label.as_str()).collect();
    assert_eq!(labels, ["lag_bytes a s", "lag_bytes b s", "lag_seconds a"]);
}

#[test]
fn the_summary_names_the_worst_and_counts_the_rest() {
    let samples: Vec<_> = (0..10).map(|n| format!("used{{server=\"a\",datname=\"d{n}\"}} {}", 85 + n)).collect();
    let verdict = verdict(CONNECTIONS, &format!("limit{{server=\"a\"}} 100\n{}", samples.join("\n")), "* a ran");
    assert_eq!(verdict.summary, "94 % used by d9; 93 % used by d8; 92 % used by d7; and 7 more");
    assert_eq!(verdict.findings.len(), 10);
    assert_eq!(verdict.perfdata[0].label, "connections d0");
}

#[test]
fn a_label_that_the_rule_asks_for_is_not_part_of_a_name() {
    let rule = r#"
        [[rule]]
        name = "cut"
        value = 'state{state="cut"} * age'
        warning = "60"
        summary = "cut off for {value}"
    "#;
    let verdict = verdict(rule, "state{state=\"cut\"} 1\nage 70", "* - ran");
    assert_eq!(verdict.perfdata[0].label, "cut");
}

#[test]
fn a_wider_warning_leaves_the_critical_limit_as_it_is() {
    let snapshot = snapshot(SystemTime::now(), "limit 100\nused 93\n");
    let facts = Facts { snapshot: &snapshot, history: None };
    for (warning, expected) in [
        ("50%", "CRITICAL 93 % used by (no datname)"),
        ("95%", "CRITICAL 93 % used by (no datname)"),
        ("80", "UNKNOWN `80` is a ratio above 1: write per cent, such as `80%`"),
        ("5min", "UNKNOWN `300s` is in seconds: expected a ratio, such as `80%`"),
    ] {
        let overrides = Limits { warning: Some(warning.parse().unwrap()), critical: None };
        let verdict = judge(&check(CONNECTIONS), facts, &answers("* - ran"), &overrides, None);
        assert_eq!(format!("{} {}", verdict.status, verdict.summary), expected);
    }
}

#[test]
fn an_ambiguous_rule_is_not_taken_for_no_sample() {
    let verdict = verdict(
        CONNECTIONS,
        "used{datname=\"x\"} 1\nused{datname=\"y\"} 1\nlimit{role=\"r\"} 1\nlimit{role=\"s\"} 1",
        "* a ran",
    );
    assert_eq!(verdict.status, Status::Unknown);
    assert_eq!(verdict.summary, "`used / limit` matches several samples with several");
}

#[test]
fn a_verdict_is_shown_as_json() {
    let verdict = verdict(CONNECTIONS, "limit 100\nused{datname=\"x\"} 85", "* - ran");
    let json = serde_json::to_value(&verdict).unwrap();
    assert_eq!(json["status"], "warning");
    assert_eq!(json["findings"][0]["labels"]["datname"], "x");
    assert_eq!(json["findings"][0]["unit"], "ratio");
}
