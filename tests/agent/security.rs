//! What SECURITY.md promises.

use std::fs;
use std::path::{Path, PathBuf};

/// The text of every Rust file below a folder.
fn sources(folder: PathBuf) -> String {
    let mut text = String::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

#[test]
fn every_test_that_is_named_as_a_proof_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let promises = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let sources = sources(root.join("src")) + &sources(root.join("tests/agent"));
    let mut count = 0;
    let rows = promises.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| They try to"));
    for cell in rows.filter_map(|row| row.trim_end_matches(" |").rsplit_once("| ")).map(|(_, cell)| cell) {
        let names = cell.split('`').skip(1).step_by(2).filter(|name| name.contains('_') && !name.contains([' ', '=']));
        for name in names.filter(|name| name.len() > 20) {
            assert!(sources.contains(&format!("fn {name}()")) || sources.contains(&format!("fn {name}(\n")), "{name}");
            count += 1;
        }
    }
    assert!(count > 40, "{count} tests are named");
}
