//! What every major is shown to have: names, types, labels and HELP, in one file per major.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pgvitals::agent::Reading;
use pgvitals::collect::host::{COLLECTORS, Roots};
use pgvitals::metric::{Kind, Metric, Snapshot};

use crate::majors;
use crate::pair::Pair;

/// A snapshot without what differs from run to run: one line per set of label names.
fn exposition(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for group in snapshot.groups().filter(|group| !group.metric().name.starts_with("process_")) {
        let Metric { name, help, kind } = group.metric();
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Unknown => "untyped",
        };
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let shapes: BTreeSet<String> = group
            .samples()
            .map(|sample| sample.labels().map(|(label, _)| label).collect::<Vec<_>>().join(","))
            .collect();
        for shape in shapes {
            let _ = writeln!(text, "{name}{{{shape}}}");
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
            // Some facts need a moment: a first archived segment, a standby's first reply. What is written as golden is
            // what there is once nothing has come for a while.
            let golden = std::fs::read_to_string(golden_folder().join(&name)).unwrap_or_default();
            let mut latest = (String::new(), 0);
            let settled = |reading: &Reading| {
                let text = exposition(&of_server(reading));
                latest = if text == latest.0 { (text, latest.1 + 1) } else { (text, 0) };
                if is_written_anew() { latest.1 == 30 } else { latest.0 == golden }
            };
            let reading = crate::pair::read_until(&agent, settled).await;
            compare(&name, &exposition(&of_server(&reading)));
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
        for family in COLLECTORS.iter().filter_map(|collector| (collector.collect)(&roots).ok()).flatten() {
            if family.metric().name != "node_time_seconds" {
                snapshot.add(None, &std::sync::Arc::new(family));
            }
        }
        let mut text = String::new();
        pgvitals::sink::prometheus::encode(&snapshot, &mut text);
        compare(&format!("host-{}.txt", folder.file_name().unwrap().display()), &text);
    }
}
