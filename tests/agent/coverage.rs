//! Every metric that the reference says a major knows is in that major's golden files, because its cause was provoked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use pgvitals::catalog::{Catalog, Role};
use pgvitals::reference::{Entry, MAJORS, Majors, Origin, subjects};

/// What is known and not provoked: name, majors, reason. An item that is seen after all must go.
const NOT_PROVOKED: &[(&str, &str, &str)] = &[
    ("pg_postmaster_recovery_time_seconds", "10-", "takes a crash, which ends every session: see tests/agent/faults"),
    ("pg_stat_database_stats_reset", "15-", "not yet: takes pg_stat_reset(), as there is no first time since 15"),
    ("pg_stat_replication_slots_stats_reset_seconds", "14-", "not yet: takes pg_stat_reset_replication_slot()"),
    ("pg_stat_replication_xmin_age_xids", "10-", "not yet: takes feedback of a standby that uses no slot"),
    ("pg_stat_statements_jit_deform_count_total", "17-", NO_LLVM),
    ("pg_stat_statements_jit_deform_seconds_total", "17-", NO_LLVM),
    ("pg_stat_statements_jit_emission_count_total", "16-", NO_LLVM),
    ("pg_stat_statements_jit_emission_seconds_total", "16-", NO_LLVM),
    ("pg_stat_statements_jit_generation_seconds_total", "16-", NO_LLVM),
    ("pg_stat_statements_jit_inlining_count_total", "16-", NO_LLVM),
    ("pg_stat_statements_jit_inlining_seconds_total", "16-", NO_LLVM),
    ("pg_stat_statements_jit_optimization_count_total", "16-", NO_LLVM),
    ("pg_stat_statements_jit_optimization_seconds_total", "16-", NO_LLVM),
    ("pg_stat_subscription_stats_stats_reset_seconds", "15-", "not yet: takes pg_stat_reset_subscription_stats()"),
    ("pg_subscription_disabled_on_error", "15-", "not yet: takes a subscription with disable_on_error"),
];

const NO_LLVM: &str = "the servers of 16 to 18 in the tests are built without LLVM";

/// What a golden file shows of a metric: its type and the sets of labels.
#[derive(Default)]
struct Shape {
    kind: String,
    labels: BTreeSet<String>,
}

fn golden(name: &str) -> BTreeMap<String, Shape> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    let mut family = String::new();
    for line in fs::read_to_string(path).unwrap().lines().filter(|line| !line.starts_with("# HELP")) {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut family);
            shapes.entry(family.clone()).or_default().kind = kind.replace("untyped", "unknown");
        } else if let Some((_, labels)) = line.trim_end_matches('}').split_once('{') {
            // The buckets of a histogram have a label more than it.
            let labels = labels.split(',').filter(|label| *label != "le").collect::<Vec<_>>().join(",");
            shapes.entry(family.clone()).or_default().labels.insert(labels);
        }
    }
    shapes
}

/// What a major shows, on a primary and on a standby.
struct Seen {
    primary: BTreeMap<String, Shape>,
    standby: BTreeMap<String, Shape>,
}

impl Seen {
    fn of(major: u32) -> Self {
        Self { primary: golden(&format!("pg{major}.txt")), standby: golden(&format!("pg{major}-standby.txt")) }
    }

    fn all(&self) -> impl Iterator<Item = (&String, &Shape)> {
        self.primary.iter().chain(&self.standby)
    }

    fn has(&self, entry: &Entry, role: Role) -> bool {
        let has = |shapes: &BTreeMap<String, Shape>| shapes.keys().any(|name| entry.makes(name));
        match role {
            Role::Primary => has(&self.primary),
            Role::Standby => has(&self.standby),
            Role::Any => has(&self.primary) || has(&self.standby),
        }
    }
}

#[test]
fn every_metric_that_a_major_knows_is_seen_when_its_cause_is_provoked() {
    let catalog = Catalog::built_in().unwrap();
    let subjects = subjects(&catalog);
    let mut missing: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for major in MAJORS {
        let seen = Seen::of(major);
        for subject in &subjects {
            let Origin::Server(definition) = subject.origin else { continue };
            for entry in subject.entries.iter().filter(|entry| entry.majors.contains(major)) {
                if !seen.has(entry, definition.role) {
                    missing.entry(&entry.name).or_default().push(major);
                }
            }
        }
        let entries = || subjects.iter().flat_map(|subject| &subject.entries);
        for (name, shape) in seen.all() {
            let exact = entries().find(|entry| entry.name == *name);
            let Some(entry) = exact.or_else(|| entries().find(|entry| entry.makes(name))) else {
                wrong.push(format!("{name} of {major}: nothing gives it"));
                continue;
            };
            // pg_up and what the agent says of a server are of no version.
            if !entry.majors.is_empty() && !entry.majors.contains(major) {
                wrong.push(format!("{name} is shown on {major}, and the reference has it on {}", entry.majors));
            }
            let labels: Vec<&str> = entry.labels.iter().map(String::as_str).filter(|it| *it != "server").collect();
            if shape.labels.iter().any(|seen| *seen != labels.join(",")) || shape.kind != entry.kind.as_str() {
                wrong.push(format!("{name} of {major}: {} {:?} instead of {entry:?}", shape.kind, shape.labels));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let missing: BTreeMap<&str, String> =
        missing.into_iter().map(|(name, on)| (name, on.into_iter().collect::<Majors>().to_string())).collect();
    let excused: BTreeMap<&str, String> = NOT_PROVOKED.iter().map(|(name, on, _)| (*name, (*on).to_owned())).collect();
    assert_eq!(excused.len(), NOT_PROVOKED.len(), "a name stands twice in NOT_PROVOKED");
    let told = |from: &BTreeMap<&str, String>, other: &BTreeMap<&str, String>| {
        let differ = from.iter().filter(|(name, on)| other.get(*name) != Some(on));
        differ.map(|(name, on)| format!("    {name} on {on}")).collect::<Vec<_>>()
    };
    let (unseen, stale) = (told(&missing, &excused), told(&excused, &missing));
    assert!(
        unseen.is_empty() && stale.is_empty(),
        "not provoked in tests/agent/pair, or the golden files are old:\n{}\n\
         in NOT_PROVOKED, and not so (any more):\n{}",
        unseen.join("\n"),
        stale.join("\n")
    );
}
