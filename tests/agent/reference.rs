//! The reference of metrics: what `pgvitals generate` writes, and that no released name changes in silence.

use std::fs;
use std::path::{Path, PathBuf};

use pgvitals::demo::cluster::Binaries;
use pgvitals::reference::{MAJORS, schema, shipped};

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
