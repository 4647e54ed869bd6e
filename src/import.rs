//! Files written for other exporters, as definitions of ours: the names stay, and what cannot be carried over is said.

mod branch;
mod collectd;
mod draft;
mod pattern;
mod pg_exporter;
mod pivot;
mod postgres_exporter;
mod render;
mod sql_exporter;
mod statement;
mod versions;
mod yaml;

use crate::catalog::{Catalog, Definition};
use crate::source::{Source, SourceError};
use branch::{Note, Place, Subject};
use draft::Taken;

/// Who a file was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `postgres_exporter`'s `--extend.query-path`.
    PostgresExporter,
    /// Collectors of `pg_exporter`.
    PgExporter,
    /// Jobs of `sql_exporter` (justwatch), or the queries of Elephant Shed's.
    SqlExporter,
    /// The configuration of collectd's `postgresql` plugin.
    Collectd,
}

/// What was not decided by the files, but by how their exporter was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choices {
    /// `postgres_exporter` ran with `--auto-discover-databases`: its queries were asked in every database.
    pub every_database: bool,
}

/// What files became.
#[derive(Debug, Default)]
pub struct Imported {
    /// Definitions that load, in the order of the files.
    pub definitions: Vec<Written>,
    /// Servers that the files name: sections for the configuration.
    pub servers: String,
    /// What became nothing, as comments.
    pub left_out: String,
}

/// The text of a definition.
#[derive(Debug)]
pub struct Written {
    /// Its name: the file's without `.toml`.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Turns files into definitions that can stand beside those of a catalog.
///
/// # Errors
///
/// The first mistake found: a file is not of this format.
pub fn import(format: Format, files: &[Source], choices: Choices, catalog: &Catalog) -> Result<Imported, SourceError> {
    let mut imported = Imported::default();
    let mut subjects = Vec::new();
    if format == Format::Collectd {
        let read = collectd::read(files)?;
        imported.servers = read.servers;
        imported.left_out = render::notes(&read.notes);
        subjects = read.subjects;
    }
    for file in files {
        match format {
            Format::Collectd => {}
            Format::PostgresExporter => subjects.extend(postgres_exporter::read(file, choices)?),
            Format::PgExporter => pg_exporter::read(file, &mut subjects)?,
            Format::SqlExporter => sql_exporter::read(file, &mut subjects)?,
        }
    }
    let mut taken = Taken::by(catalog);
    for subject in subjects {
        imported.add(subject, &mut taken);
    }
    Ok(imported)
}

impl Imported {
    fn add(&mut self, subject: Subject, taken: &mut Taken<'_>) {
        let (name, place) = (subject.name.clone(), subject.place.clone());
        let drafts = match draft::drafts_of(subject, taken) {
            Ok(drafts) => drafts,
            Err(notes) => return self.leave_out(&name, &place, &notes),
        };
        for draft in drafts {
            let text = render::definition(&draft);
            match Definition::parse(&draft.name, &text) {
                Ok(_) => self.definitions.push(Written { name: draft.name, text }),
                Err(mistake) => {
                    let reason = format!("makes no definition: {}", mistake.reason);
                    self.leave_out(&name, &place, &[Note { place: place.clone(), reason }]);
                }
            }
        }
    }

    fn leave_out(&mut self, name: &str, place: &Place, notes: &[Note]) {
        let reason = if notes.is_empty() { ": it has no metrics" } else { "" };
        let note = Note { place: place.clone(), reason: format!("{name} is left out{reason}") };
        self.left_out += &render::notes(&[note]);
        self.left_out += &render::notes(notes);
    }
}
