//! What a probe finds out about a server, and what follows from it: which query of a definition runs, or why none does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::slot::{Outcome, Skip};
use crate::catalog::{Catalog, Definition, Grantee, Lack, Need, Role, Version};
use crate::server::RowSet;

/// Asks for the libraries that were loaded when the server started: their parameters have a type, which those that only
/// the configuration mentions have not.
pub(crate) const LIBRARIES: &str = "SELECT DISTINCT pg_catalog.split_part(name, '.', 1) FROM pg_catalog.pg_settings \
     WHERE name LIKE '%.%' AND vartype <> 'string'";

/// The question whether a server is up, in which role, and what it lets us do: one round trip for everything that
/// decides what is asked next. It needs no privilege.
#[derive(Debug)]
pub(crate) struct Probe {
    needs: Vec<Need>,
    sql: String,
    asks_libraries: bool,
}

/// What decides which query of a definition runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `server_version_num`, read anew on every connection.
    pub(crate) version: u32,
    /// `pg_postmaster_start_time()` as the server writes it: behind an address there may be another server now.
    pub(crate) started: String,
    /// `pg_is_in_recovery()`, read anew by every probe.
    pub(crate) in_recovery: bool,
    /// The role that our privileges are those of; known where it lacks something.
    pub(crate) role: Grantee,
    /// What definitions need and the role has not.
    pub(crate) lacks: BTreeMap<Need, Lack>,
    /// The version of each extension in the database we are connected to.
    pub(crate) extensions: BTreeMap<String, Version>,
    /// The quoted schema of each extension.
    pub(crate) schemas: BTreeMap<String, String>,
    /// The libraries of [`LIBRARIES`].
    pub(crate) libraries: BTreeSet<String>,
}

/// Why no query of a definition runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It is of this role only.
    Role(Role),
    /// The server, or the extension, is older than what it reads.
    Version { of: String, first: String, found: Version },
    /// This extension is not in the database.
    Extension(String),
    /// This extension's library was not loaded at the start.
    Preload(String),
    /// Our role may not.
    Privilege(Vec<(Need, Lack)>),
}

impl Probe {
    /// The probe that finds out about everything these definitions need.
    pub(crate) fn new(catalog: &Catalog) -> Self {
        let needs = catalog.needs();
        let tests: Vec<String> = needs.iter().map(Need::test).collect();
        let sql = format!(
            "SELECT pg_catalog.pg_is_in_recovery() AS in_recovery, pg_catalog.pg_postmaster_start_time() AS started, \
             ARRAY[{}]::pg_catalog.bool[] AS needs, e.extname, e.extversion, \
             pg_catalog.quote_ident(n.nspname) AS schema, \
             (SELECT pg_catalog.sum(pg_catalog.hashname(d.datname)) FROM pg_catalog.pg_database AS d) AS databases \
             FROM (SELECT 1) AS one \
             LEFT JOIN pg_catalog.pg_extension AS e ON true \
             LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace",
            tests.join(", ")
        );
        Self { needs, sql, asks_libraries: catalog.asking().any(|definition| definition.preload) }
    }

    /// The statement.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Whether [`LIBRARIES`] matter to any definition.
    pub(crate) fn asks_libraries(&self) -> bool {
        self.asks_libraries
    }

    /// What in the answer is another when a database was created, dropped or renamed. Cheap with thousands of them.
    pub(crate) fn mark_of_databases(rows: &RowSet) -> &str {
        rows.value(0, 6).unwrap_or_default()
    }

    /// What the answer says; nothing where it has no row.
    pub(crate) fn read(&self, version: u32, rows: &RowSet) -> Option<Facts> {
        if rows.is_empty() {
            return None;
        }
        let mut facts = Facts {
            version,
            started: rows.value(0, 1).unwrap_or_default().to_owned(),
            in_recovery: rows.value(0, 0) == Some("t"),
            role: Grantee::default(),
            lacks: BTreeMap::new(),
            extensions: BTreeMap::new(),
            schemas: BTreeMap::new(),
            libraries: BTreeSet::new(),
        };
        for row in 0..rows.len() {
            let answers = elements(rows.value(row, 2).unwrap_or_default());
            let lacking = self.needs.iter().zip(answers).filter(|(_, answer)| *answer == "f");
            facts.lacks.extend(lacking.map(|(need, _)| (need.clone(), Lack::Direct)));
            if let (Some(name), Some(version), Some(schema)) =
                (rows.value(row, 3), rows.value(row, 4), rows.value(row, 5))
            {
                // An extension may call its versions as it likes; one without numbers has no definition of ours.
                let version = version.parse().unwrap_or(Version { major: 0, minor: 0 });
                facts.extensions.insert(name.to_owned(), version);
                facts.schemas.insert(name.to_owned(), schema.to_owned());
            }
        }
        Some(facts)
    }
}

impl Facts {
    /// Asks for our role, and which of the things that it lacks `pg_monitor` has.
    pub(crate) fn sql_of_role(&self) -> String {
        let tests: Vec<String> = self.lacks.keys().map(Need::test_of_monitor).collect();
        format!(
            "SELECT pg_catalog.quote_ident(r.rolname), r.rolinherit, pg_catalog.pg_has_role('pg_monitor', 'MEMBER'), \
             ARRAY[{}]::pg_catalog.bool[] FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user",
            tests.join(", ")
        )
    }

    /// Adds what the answer to [`Facts::sql_of_role`] says.
    pub(crate) fn add_role(&mut self, rows: &RowSet) {
        let is_true = |column| rows.value(0, column) == Some("t");
        self.role = Grantee {
            name: rows.value(0, 0).unwrap_or_default().to_owned(),
            version: self.version,
            inherits: is_true(1),
            is_monitor: is_true(2),
        };
        for (lack, answer) in self.lacks.values_mut().zip(elements(rows.value(0, 3).unwrap_or_default())) {
            if answer == "t" {
                *lack = Lack::Monitor;
            }
        }
    }

    /// The statement of a definition to run, or why there is none.
    pub(crate) fn plan<'a>(&self, definition: &'a Definition) -> Result<Cow<'a, str>, Obstacle> {
        match (definition.role, self.in_recovery) {
            (Role::Primary, true) | (Role::Standby, false) => return Err(Obstacle::Role(definition.role)),
            _ => {}
        }
        let version = match &definition.extension {
            None => Version::of_server(self.version),
            Some(name) => *self.extensions.get(name).ok_or_else(|| Obstacle::Extension(name.clone()))?,
        };
        let Some(query) = definition.query_for(version) else {
            let of = definition.extension.as_deref().unwrap_or("PostgreSQL").to_owned();
            let first = definition.queries.first().map(|query| query.since.to_string()).unwrap_or_default();
            return Err(Obstacle::Version { of, first, found: version });
        };
        if let Some(name) =
            definition.extension.as_ref().filter(|name| definition.preload && !self.libraries.contains(*name))
        {
            return Err(Obstacle::Preload(name.clone()));
        }
        let lacks = definition.needs.iter().filter_map(|need| Some((need.clone(), *self.lacks.get(need)?)));
        let lacks: Vec<_> = lacks.collect();
        if !lacks.is_empty() {
            return Err(Obstacle::Privilege(lacks));
        }
        let schema = definition.extension.as_ref().and_then(|name| self.schemas.get(name));
        Ok(schema.map_or(Cow::Borrowed(&*query.sql), |schema| query.sql.replace("{schema}", schema).into()))
    }

    /// The statements that give our role what it lacks, each once.
    pub(crate) fn grants<'a>(&self, lacks: impl IntoIterator<Item = &'a (Need, Lack)>) -> Vec<String> {
        let mut statements = Vec::new();
        for (need, lack) in lacks {
            for statement in need.grants(*lack, &self.role, &self.schemas) {
                if !statements.contains(&statement) {
                    statements.push(statement);
                }
            }
        }
        statements
    }

    /// An obstacle as the outcome of a run.
    pub(super) fn skipped(&self, obstacle: &Obstacle) -> Outcome {
        let why = match obstacle {
            Obstacle::Role(_) | Obstacle::Version { .. } => Skip::Nothing,
            Obstacle::Extension(_) | Obstacle::Preload(_) => Skip::Extension,
            Obstacle::Privilege(_) => Skip::Privilege,
        };
        Outcome::Skipped { why, reason: self.reason(obstacle) }
    }

    /// An obstacle in words, with what would remove it.
    pub(crate) fn reason(&self, obstacle: &Obstacle) -> String {
        match obstacle {
            Obstacle::Role(Role::Standby) => "runs on a standby only".to_owned(),
            Obstacle::Role(_) => "runs on a primary only".to_owned(),
            Obstacle::Version { of, first, found } => format!("needs {of} {first}, this is {found}"),
            Obstacle::Extension(name) => format!("extension {name} is not installed in the database we connect to"),
            Obstacle::Preload(name) => format!("{name} is not in shared_preload_libraries"),
            Obstacle::Privilege(lacks) => {
                let needs: Vec<String> = lacks.iter().map(|(need, _)| need.to_string()).collect();
                format!("our role lacks {}: {}", needs.join(", "), self.grants(lacks).join("; "))
            }
        }
    }
}

/// The elements of an array of booleans as PostgreSQL writes it.
fn elements(array: &str) -> impl Iterator<Item = &str> {
    array.trim_matches(['{', '}']).split(',')
}
