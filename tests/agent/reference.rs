//! The reference of metrics: what `pgvitals generate` writes, and that no released name changes in silence.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgvitals::agent::{Agent, Ledger, OF_AGENT, Want};
use pgvitals::catalog::Catalog;
use pgvitals::collect::host::Roots;
use pgvitals::demo::cluster::Binaries;
use pgvitals::push;
use pgvitals::reference::{MAJORS, schema, shipped, subjects};

use crate::command::pgvitals;
use crate::golden::compare_file;
use crate::majors;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[tokio::test]
async fn the_golden_reference_is_what_generate_writes() {
    for (objects, file) in [("metrics", "docs/metrics.md"), ("schema", "docs/schema/current.txt")] {
        let ended = pgvitals(&["generate", objects]).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        compare_file(&root().join(file), &ended.stdout);
    }
}

#[test]
fn what_was_released_is_there_or_its_end_is_in_the_changelog() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let (released, current) = (read("docs/schema/released.txt"), read("docs/schema/current.txt"));
    let broken = schema::broken(&released, &current, &read("CHANGELOG.md")).unwrap();
    assert!(
        broken.is_empty(),
        "dashboards break: keep the old name beside the new one, or say under Metrics in CHANGELOG.md \
         \"- Renamed: `old` is `new`\", \"- Removed: `old`\" or \"- Changed: `old`\"\n{}",
        broken.join("\n")
    );
}

#[test]
fn every_major_ships_the_extensions_that_the_reference_says() {
    assert_eq!(MAJORS, majors::ALL);
    let mut found = 0;
    for major in MAJORS {
        let binaries = Binaries::major(major).unwrap();
        let debian = format!("/usr/share/postgresql/{major}/extension");
        let folders = ["../share/postgresql/extension", "../share/extension", &debian].map(|it| binaries.program(it));
        for extension in ["pg_buffercache", "pg_stat_statements"] {
            let mut files = folders.iter().map(|folder| folder.join(format!("{extension}.control")));
            let Some(control) = files.find_map(|file| fs::read_to_string(file).ok()) else { continue };
            let version = control.lines().find_map(|line| line.strip_prefix("default_version = '")?.strip_suffix('\''));
            assert_eq!(shipped(extension, major).unwrap().to_string(), version.unwrap(), "{extension} of {major}");
            found += 1;
        }
    }
    assert!(found >= 2 * 8, "{found} control files");
}

#[tokio::test]
async fn whatever_an_agent_says_of_itself_and_its_host_is_in_the_reference() {
    let catalog = Arc::new(Catalog::built_in().unwrap());
    let ledger: Arc<Ledger> = Arc::default();
    ledger.note_reload(true);
    ledger.note_web_file(Some(true));
    ledger.set_push(Some(Arc::default()));
    let agent = Agent::new(Arc::clone(&catalog), Some(Roots::default()), ledger);
    let snapshot = agent.read(&Want::default()).await.snapshot;
    let entries: Vec<_> = subjects(&catalog).into_iter().flat_map(|subject| subject.entries).collect();
    for group in snapshot.groups() {
        let metric = group.metric();
        let entry = entries.iter().find(|entry| entry.makes(&metric.name)).unwrap_or_else(|| panic!("{metric:?}"));
        assert_eq!(entry.kind, metric.kind, "{}", metric.name);
        let labels: Vec<&str> = entry.labels.iter().map(String::as_str).filter(|label| *label != "server").collect();
        for sample in group.samples() {
            assert_eq!(sample.labels().map(|(label, _)| label).collect::<Vec<_>>(), labels, "{}", metric.name);
        }
    }
    // Carbon was never out of reach.
    let shown = |name: &str| snapshot.find(name).is_some() || name == "pgvitals_graphite_last_error_timestamp_seconds";
    for metric in OF_AGENT.iter().chain(push::DESCRIBED) {
        assert!(shown(metric.name), "{}", metric.name);
    }
}
