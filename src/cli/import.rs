//! `pgvitals import`: definitions from files that were written for other exporters.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::{ImportArgs, ImportFormat, print};
use crate::catalog::Catalog;
use crate::import::{Choices, Format, Imported, import};
use crate::source::Source;

pub(super) fn run(args: &ImportArgs) -> anyhow::Result<()> {
    let format = match args.format {
        ImportFormat::PostgresExporter => Format::PostgresExporter,
        ImportFormat::PgExporter => Format::PgExporter,
        ImportFormat::SqlExporter => Format::SqlExporter,
        ImportFormat::Collectd => Format::Collectd,
    };
    let files = files(&args.files)?.iter().map(|file| Source::read(file)).collect::<Result<Vec<_>, _>>()?;
    let choices = Choices { every_database: args.every_database };
    let imported = import(format, &files, choices, &Catalog::built_in()?)?;
    match &args.to {
        None => print(&shown(&imported)),
        Some(folder) => {
            write(&imported, folder)?;
            print(&rest(&imported));
        }
    }
    Ok(())
}

/// The files, and those of folders by name.
fn files(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).with_context(|| format!("read {}", path.display()))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let mut inside = paths.with_context(|| format!("read {}", path.display()))?;
        let is_meant = |path: &PathBuf| {
            let extension = path.extension().unwrap_or_default();
            ["yaml", "yml", "conf"].iter().any(|known| extension == *known) && path.is_file()
        };
        inside.retain(is_meant);
        inside.sort();
        ensure!(!inside.is_empty(), "no *.yaml, *.yml or *.conf in {}", path.display());
        files.extend(inside);
    }
    Ok(files)
}

/// All of it, each definition under the name of its file.
fn shown(imported: &Imported) -> String {
    let mut text = String::new();
    for definition in &imported.definitions {
        text += &format!("# file {}.toml\n{}\n", definition.name, definition.text);
    }
    text + &rest(imported)
}

/// What is no definition.
fn rest(imported: &Imported) -> String {
    let mut text = String::new();
    if !imported.servers.is_empty() {
        text += &format!("# for the configuration, such as pgvitals.toml\n{}", imported.servers);
    }
    text + &imported.left_out
}

/// Writes all or, where a file is there already, none.
fn write(imported: &Imported, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let path = |name: &str| folder.join(format!("{name}.toml"));
    for definition in &imported.definitions {
        let path = path(&definition.name);
        ensure!(!path.exists(), "{} exists: expected a folder without it", path.display());
    }
    for definition in &imported.definitions {
        let path = path(&definition.name);
        let written = fs::File::create_new(&path).and_then(|mut file| file.write_all(definition.text.as_bytes()));
        written.with_context(|| format!("write {}", path.display()))?;
        print(&format!("{}\n", path.display()));
    }
    Ok(())
}
