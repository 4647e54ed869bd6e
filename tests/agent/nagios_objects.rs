//! The Nagios objects and NRPE commands in `nagios/`: what `pgvitals generate` writes, and no check is missing.

use std::collections::BTreeSet;
use std::path::Path;

use pgvitals::catalog::Catalog;
use pgvitals::check::Check;

use crate::command::pgvitals;
use crate::golden::compare_file;

#[tokio::test]
async fn the_golden_files_of_nagios_are_what_generate_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("nagios");
    let files =
        [("nagios", "pgvitals.cfg"), ("nrpe", "nrpe.cfg"), ("icinga2", "icinga2.conf"), ("checkmk-local", "checkmk")];
    for (objects, file) in files {
        let ended = pgvitals(&["generate", objects]).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        compare_file(&folder.join(file), &ended.stdout);
    }
}

#[tokio::test]
async fn every_check_has_a_service_and_a_command_and_nothing_else_has() {
    let catalog = Catalog::built_in().unwrap();
    let checks: BTreeSet<&str> = catalog.checks().iter().map(Check::name).collect();
    let nagios = pgvitals(&["generate", "nagios"]).await.stdout;
    let services = nagios.lines().filter_map(|line| line.trim().strip_prefix("check_command"));
    assert_eq!(
        services.filter_map(|command| command.trim().strip_prefix("check_pgvitals!")).collect::<BTreeSet<_>>(),
        checks
    );
    assert_eq!(nagios.matches("define service {").count(), checks.len() + 1);
    let nrpe = pgvitals(&["generate", "nrpe"]).await.stdout;
    let commands = nrpe.lines().filter_map(|line| line.strip_prefix("command[check_pgvitals_")?.split_once("]="));
    for (name, line) in commands.clone() {
        assert!(line.ends_with(&format!("/pgvitals check {name}")), "{line}");
    }
    assert_eq!(commands.map(|(name, _)| name).collect::<BTreeSet<_>>(), checks);
}

#[tokio::test]
async fn checks_of_a_folder_are_generated_too() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid");
    let ended = crate::command::pgvitals_in(&config, &["generate", "nrpe", "--config", "everything.toml"]).await;
    assert!(ended.stdout.contains("\ncommand[check_pgvitals_jobs]=/usr/local/bin/pgvitals check jobs\n"));
}

/// The names between backticks in one column of the table in docs/checks.md.
fn names_in_column(column: usize) -> BTreeSet<String> {
    let page = include_str!("../../docs/checks.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Subject"));
    let cells = rows.map(|row| row.split('|').nth(column).unwrap());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn the_page_of_checks_names_each_of_ours_and_none_that_is_not_there() {
    let catalog = Catalog::built_in().unwrap();
    let checks: BTreeSet<String> = catalog.checks().iter().map(|check| check.name().to_owned()).collect();
    let named = names_in_column(4);
    let is_metric = |name: &&String| name.starts_with("pg_") || name.contains(' ') || name.starts_with("checks.d");
    assert_eq!(named.iter().filter(|name| !is_metric(name)).cloned().collect::<BTreeSet<_>>(), checks);
    for metric in named.iter().filter(|name| name.starts_with("pg_") && !name.ends_with('*')) {
        assert!(!catalog.providers(metric).is_empty(), "{metric}");
    }
}

#[tokio::test]
async fn the_page_of_checks_names_each_action_and_service_of_both_plugins() {
    let help = pgvitals(&["check-postgres", "--help"]).await.stdout;
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let actions = help.lines().filter_map(|line| line.strip_prefix(' ')?.split_once(" - "));
    let actions: BTreeSet<String> = actions.map(|(name, _)| name.trim()).filter(is_name).map(str::to_owned).collect();
    assert_eq!(names_in_column(2), actions);
    let list = pgvitals(&["check-pgactivity", "--list"]).await.stdout;
    let services = list.lines().filter_map(|line| line.strip_prefix('\t')?.split_whitespace().next());
    assert_eq!(names_in_column(3), services.map(str::to_owned).collect::<BTreeSet<String>>());
}
