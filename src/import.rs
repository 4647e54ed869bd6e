//! Files written for other exporters, as definitions of ours: the names stay, and what cannot be carried over is said.

mod arrays;
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
mod taken;
mod versions;
mod yaml;

use crate::catalog::{Catalog, Definition};
use crate::source::{Source, SourceError};
use branch::{Note, Place, Subject};
use taken::Taken;

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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::catalog::Version;
    use crate::source::mutation::mutated;

    const FILES: [(Format, &str); 5] = [
        (Format::PostgresExporter, include_str!("../tests/fixtures/import/queries.yaml")),
        (Format::PgExporter, include_str!("../tests/fixtures/import/pg_exporter.yml")),
        (Format::SqlExporter, include_str!("../tests/fixtures/import/sql_exporter.yml")),
        (Format::SqlExporter, include_str!("../tests/fixtures/import/elephant_shed.yml")),
        (Format::Collectd, include_str!("../tests/fixtures/import/collectd.conf")),
    ];

    fn imported(format: Format, text: &str, every_database: bool) -> Result<Imported, SourceError> {
        static BUILT_IN: LazyLock<Catalog> = LazyLock::new(|| Catalog::built_in().unwrap());
        let file = Source { file: "queries".into(), text: text.to_owned().into() };
        import(format, &[file], Choices { every_database }, &BUILT_IN)
    }

    /// Loads what was made beside the built-in definitions.
    fn load(imported: &Imported) -> Result<Catalog, SourceError> {
        let folder = tempfile::tempdir().unwrap();
        for Written { name, text } in &imported.definitions {
            fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
        }
        Catalog::load(folder.path())
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn whatever_a_file_becomes_is_a_definition(
            text in (0..FILES.len()).prop_flat_map(|at| mutated(FILES[at].1).prop_map(move |text| (FILES[at].0, text))),
            every_database in any::<bool>(),
        ) {
            let (format, text) = text;
            match imported(format, &String::from_utf8_lossy(&text), every_database) {
                Ok(imported) => for Written { name, text } in imported.definitions {
                    prop_assert!(Definition::parse(&name, &text).is_ok(), "{text}");
                },
                Err(error) => prop_assert!(error.to_string().starts_with("queries:"), "{error}"),
            }
        }
    }

    #[test]
    fn all_that_files_become_loads_beside_the_built_in_definitions() {
        for (format, text) in FILES {
            for every_database in [false, true] {
                let imported = imported(format, text, every_database).unwrap();
                load(&imported).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    #[test]
    fn the_same_file_gives_the_same_text_and_no_password() {
        for (format, text) in FILES {
            let texts = |imported: &Imported| {
                let definitions: Vec<&str> = imported.definitions.iter().map(|it| it.text.as_str()).collect();
                format!("{definitions:?} {} {}", imported.servers, imported.left_out)
            };
            let [one, other] = [(); 2].map(|()| texts(&imported(format, text, false).unwrap()));
            assert_eq!(one, other);
            assert!(!one.contains("canary"), "{one}");
        }
    }

    #[test]
    fn a_definition_replaces_no_built_in_one() {
        let text = "wal:\n  query: SELECT 1 AS shops\n  metrics:\n  - shops: {usage: GAUGE}\n";
        let imported = imported(Format::PostgresExporter, text, false).unwrap();
        assert_eq!(imported.definitions[0].name, "imported_wal");
        assert!(imported.definitions[0].text.contains("name = \"wal_shops\""));
    }

    #[test]
    fn a_histogram_takes_no_name_and_no_label_of_others() {
        let columns = "\n  - le: {usage: LABEL}\n  - age: {usage: HISTOGRAM, bucket: [1]}\n  - n: {usage: GAUGE}\n";
        let with_le =
            format!("shop:\n  query: SELECT 1 AS le, 2 AS age, 3 AS n\n  tags: [cluster]\n  metrics:{columns}");
        let built_in = "pg_process:\n  query: SELECT 1 AS idle_seconds, 2 AS n\n  tags: [cluster]\n  metrics:\n  \
                        - idle_seconds: {usage: GAUGE}\n  - n: {usage: GAUGE}\n";
        for (text, expected) in
            [(with_le.as_str(), "# queries:6: a histogram has no label le"), (built_in, "# queries:5: is built in")]
        {
            let imported = imported(Format::PgExporter, text, false).unwrap();
            let written = &imported.definitions[0].text;
            assert!(written.contains(expected) && !written.contains("histogram\""), "{written}");
            load(&imported).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn versions_that_no_query_is_for_are_asked_nothing() {
        let text = "shop:\n  query: SELECT '{a}' AS x, 1 AS shops\n  runonserver: '>=11.0.0 <13.0.0 || >=15.0.0 <16.0.0'\n  \
                    metrics:\n  - shops: {usage: GAUGE}\n";
        let imported = imported(Format::PostgresExporter, text, false).unwrap();
        let definition = Definition::parse("shop", &imported.definitions[0].text).unwrap();
        let asked = |major| definition.query_for(Version { major, minor: 0 }).map(|query| query.sql.contains("'{a}'"));
        assert_eq!(
            [10, 11, 12, 13, 14, 15, 16, 18].map(asked),
            [None, Some(true), Some(true), Some(false), Some(false), Some(true), Some(false), Some(false)]
        );
    }
}
