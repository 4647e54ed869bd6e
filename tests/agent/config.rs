//! The configuration file: what is taken, what is refused and how, and the catalog that it asks for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{Ended, pgvitals, pgvitals_in};
use crate::golden::compare_file;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

/// The names of the configurations in a folder.
fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "toml"))
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_good_configuration_is_taken() {
    let folder = folder("valid");
    for name in names(&folder) {
        let Ended { code, stdout, stderr } =
            pgvitals_in(&folder, &["validate", "--config", &format!("{name}.toml")]).await;
        assert_eq!((code, stderr.as_str()), (0, ""), "{name}");
        assert!(stdout.starts_with("ok: "), "{name}: {stdout}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_the_golden_text() {
    let folder = folder("invalid");
    let names = names(&folder);
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let Ended { code, stdout, stderr } =
            pgvitals_in(&folder, &["validate", "--config", &format!("{name}.toml")]).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{name}");
        assert!(!stderr.contains("canary"), "{name}: {stderr}");
        compare_file(&folder.join(format!("{name}.stderr")), &stderr);
    }
}

#[tokio::test]
async fn the_list_shows_collectors_and_checks() {
    let Ended { code, stdout, .. } = pgvitals(&["list"]).await;
    assert_eq!(code, 0);
    for line in ["Collectors of servers", "Collectors of the host", "Checks"] {
        assert!(stdout.lines().any(|own| own == line), "{stdout}");
    }
    for name in ["replication", "checkpoints", "bonding", "online"] {
        assert!(stdout.lines().any(|line| line.starts_with(&format!("  {name} "))), "{name}: {stdout}");
    }
}

#[tokio::test]
async fn what_the_list_names_can_be_shown() {
    let list = pgvitals(&["list"]).await.stdout;
    for name in list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
        let Ended { code, stdout, stderr } = pgvitals(&["show", name]).await;
        assert!(code == 0 && !stdout.is_empty(), "{name}: {stderr}");
    }
    let check = pgvitals(&["show", "connections"]).await.stdout;
    assert!(check.contains("pg_connections_used"), "{check}");
}

#[tokio::test]
async fn a_statement_is_that_of_the_version() {
    let statement = async |version: &str| pgvitals(&["show", "checkpoints", "--sql", "--pg", version]).await;
    let (old, new) = (statement("13").await.stdout, statement("17").await.stdout);
    assert!(old.contains("pg_stat_bgwriter") && !old.contains("pg_stat_checkpointer"), "{old}");
    assert!(new.contains("pg_stat_checkpointer"), "{new}");
    let newest = pgvitals(&["show", "checkpoints", "--sql"]).await.stdout;
    assert_eq!(newest, statement("99").await.stdout);
    for (arguments, part) in [
        (&["show", "chekpoints"][..], "no definition, host collector or check \"chekpoints\", see `pgvitals list`"),
        (&["show", "checkpoints", "--sql", "--pg", "9"], "checkpoints needs 10 or newer"),
        (&["show", "checkpoints", "--sql", "--pg", "new"], "expected a version"),
        (&["show", "bonding", "--sql"], "bonding holds rules only"),
        (&["show", "meminfo", "--sql"], "\"meminfo\" has no statement; these have: activity, "),
    ] {
        let Ended { code, stdout, stderr } = pgvitals(arguments).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
    }
}
