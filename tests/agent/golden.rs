//! What every major is shown to have: names, types, labels and HELP, in one file per major.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgvitals::agent::Reading;
use pgvitals::collect::host::{COLLECTORS, Files, Roots};
use pgvitals::metric::{Kind, Metric, Snapshot};

use crate::majors;
use crate::pair::Pair;

/// Per metric: its HELP and TYPE, and the sets of label names that its samples have, after what ends their names.
type Shapes = BTreeMap<String, (String, BTreeSet<String>)>;

/// Adds what a snapshot shows of a server or the host. What the agent says of itself is the same for all, and some of it comes and
/// goes, such as that a busy machine was too slow once; `docs/metrics.md` has it.
fn add_shapes(snapshot: &Snapshot, shapes: &mut Shapes) {
    let own = |name: &str| ["process_", "pgvitals_"].iter().any(|prefix| name.starts_with(prefix));
    for group in snapshot.groups().filter(|group| !own(&group.metric().name)) {
        let Metric { name, help, kind } = group.metric();
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Unknown => "untyped",
        };
        let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let (_, labels) = shapes.entry(name.clone()).or_insert((head, BTreeSet::new()));
        labels.extend(group.samples().map(|sample| {
            let labels: Vec<_> = sample.labels().map(|(label, _)| label).collect();
            format!("{}{{{}}}", sample.suffix(), labels.join(","))
        }));
    }
}

fn text_of(shapes: &Shapes) -> String {
    let mut text = String::new();
    for (name, (head, labels)) in shapes {
        text += head;
        for labels in labels {
            let _ = writeln!(text, "{name}{labels}");
        }
    }
    text
}

fn compare(name: &str, text: &str) {
    compare_file(&golden_folder().join(name), text);
}

/// Compares with the golden file, or writes it when `PGVITALS_GOLDEN=write`.
pub(crate) fn compare_file(path: &Path, text: &str) {
    if is_written_anew() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    if golden != text {
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = (golden.lines().collect(), text.lines().collect());
        let gone = old.difference(&new).map(|line| format!("- {line}"));
        let added = new.difference(&old).map(|line| format!("+ {line}"));
        let changes: Vec<_> = gone.chain(added).take(40).collect();
        let name = path.display();
        panic!("{name} is not what it was; `make golden` writes it anew\n{}", changes.join("\n"));
    }
}

fn is_written_anew() -> bool {
    std::env::var_os("PGVITALS_GOLDEN").is_some_and(|value| value == "write")
}

fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn of_server(reading: &Reading) -> Snapshot {
    let mut own = Snapshot::new(reading.snapshot.taken);
    for group in reading.snapshot.groups() {
        for part in group.parts().iter().filter(|part| part.server.is_some()) {
            own.add(None, &part.family);
        }
    }
    own
}

#[tokio::test]
async fn every_major_shows_what_its_golden_file_says() {
    majors::each(|binaries| async move {
        let pair = Pair::start(&binaries).await;
        let names = [format!("pg{}.txt", binaries.major), format!("pg{}-standby.txt", binaries.major)];
        for (cluster, name) in [&pair.primary, &pair.standby].into_iter().zip(names) {
            let agent = crate::pair::agent(&[cluster]);
            agent.sample_every(Some(Duration::from_millis(100)));
            // Facts such as a measured lag come and go, so a few readings are put together: as many as it takes to see
            // all that is golden, or, to write that, as many as bring nothing new for a while.
            let golden = std::fs::read_to_string(golden_folder().join(&name)).unwrap_or_default();
            let (mut shapes, mut text, mut same) = (Shapes::new(), String::new(), 0);
            let is_complete = |reading: &Reading| {
                add_shapes(&of_server(reading), &mut shapes);
                let now = text_of(&shapes);
                same = if now == text { same + 1 } else { 0 };
                text = now;
                if is_written_anew() { same == 30 } else { text == golden }
            };
            crate::pair::read_until(&agent, is_complete).await;
            compare(&name, &text);
        }
    })
    .await;
}

#[test]
fn a_host_shows_what_its_golden_file_says() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host");
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let roots = Roots { proc: folder.join("proc"), sys: folder.join("sys") };
        let mut snapshot = Snapshot::new(std::time::SystemTime::now());
        let mut files = Files::new(roots.clone());
        for family in COLLECTORS.iter().filter_map(|collector| (collector.collect)(&mut files).ok()).flatten() {
            if family.metric().name != "node_time_seconds" {
                snapshot.add(None, &std::sync::Arc::new(family));
            }
        }
        let mut text = String::new();
        pgvitals::sink::prometheus::encode(&snapshot, &mut text);
        compare(&format!("host-{}.txt", folder.file_name().unwrap().display()), &text);
    }
}
