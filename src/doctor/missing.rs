//! What definitions lack: privileges, extensions, libraries.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Finding, Remedy, Severity, column};
use crate::agent::{Facts, Obstacle};
use crate::catalog::{Catalog, Definition};
use crate::server::RowSet;

/// The libraries that are loaded at the start; nothing where our role may not know.
pub(super) const PRELOADED: &str = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'shared_preload_libraries'";

/// What becomes of every definition on this server.
pub(super) struct Plans<'a> {
    catalog: &'a Catalog,
    facts: &'a Facts,
    outcomes: Vec<(&'a Arc<Definition>, Planned<'a>)>,
}

/// The statement to ask, or why there is none.
type Planned<'a> = Result<Cow<'a, str>, Obstacle>;

impl<'a> Plans<'a> {
    pub(super) fn new(catalog: &'a Catalog, facts: &'a Facts) -> Self {
        let outcomes = catalog.asking().map(|definition| (definition, facts.plan(definition))).collect();
        Self { catalog, facts, outcomes }
    }

    /// The definitions that do not apply to this server, with the reason.
    pub(super) fn skipped(&self) -> Vec<(String, String)> {
        let applies = |obstacle: &Obstacle| !matches!(obstacle, Obstacle::Role(_) | Obstacle::Version { .. });
        let obstacles = self.outcomes.iter().filter_map(|(definition, plan)| Some((definition, plan.as_ref().err()?)));
        obstacles
            .filter(|(_, obstacle)| !applies(obstacle))
            .map(|(definition, obstacle)| (definition.name.clone(), self.facts.reason(obstacle)))
            .collect()
    }

    /// Declared privileges that our role lacks, one finding for each thing to do; a hint where it is for optional facts only.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut by_remedy: BTreeMap<Vec<String>, (BTreeSet<String>, BTreeSet<&str>)> = BTreeMap::new();
        for (definition, plan) in &self.outcomes {
            let Err(Obstacle::Privilege(lacks)) = plan else { continue };
            for lack in lacks {
                let (needs, names) = by_remedy.entry(self.facts.grants([lack])).or_default();
                needs.insert(lack.0.to_string());
                names.insert(&definition.name);
            }
        }
        let finding = |(statements, (needs, names)): (Vec<String>, (BTreeSet<String>, BTreeSet<&str>))| {
            let what = needs.into_iter().collect::<Vec<_>>().join(", ");
            let is_of = |definition: &Definition| names.contains(definition.name.as_str());
            let is_optional = self.catalog.asking().filter(|it| is_of(it)).all(|it| it.optional);
            let severity = if is_optional { Severity::Hint } else { Severity::Missing };
            let remedies = statements.into_iter().map(Remedy::Sql).collect();
            Finding { severity, ..self.missing(what, remedies, is_of) }
        };
        by_remedy.into_iter().map(finding).collect()
    }

    /// Asks which of the things that run without a declared need are refused all the same: what everybody may read on a
    /// fresh server, somebody may have revoked on this one.
    pub(super) fn refused_sql(&self) -> String {
        let names = self.outcomes.iter().filter_map(|(_, plan)| plan.as_ref().ok()).flat_map(|sql| names_in(sql));
        let (functions, others): (BTreeSet<_>, BTreeSet<_>) = names.partition(|(_, is_called)| *is_called);
        let array = |names: BTreeSet<(&str, bool)>| {
            let names = names.into_iter().map(|(name, _)| format!("'{name}'")).collect::<Vec<_>>();
            format!("ARRAY[{}]::pg_catalog.name[]", names.join(", "))
        };
        let (functions, others) = (array(functions), array(others));
        let ours = "= 'pg_catalog'::pg_catalog.regnamespace";
        format!(
            "SELECT c.relname AS name, 'SELECT ON TABLE pg_catalog.' || pg_catalog.quote_ident(c.relname) AS privilege \
               FROM pg_catalog.pg_class AS c \
              WHERE c.relname = ANY ({others}) AND c.relnamespace {ours} \
                AND NOT pg_catalog.has_any_column_privilege(c.oid, 'SELECT') \
             UNION ALL \
             SELECT p.proname, 'EXECUTE ON FUNCTION pg_catalog.' || pg_catalog.quote_ident(p.proname) || '(' \
                    || pg_catalog.oidvectortypes(p.proargtypes) || ')' \
               FROM (SELECT *, pg_catalog.bool_or(pg_catalog.has_function_privilege(oid, 'EXECUTE')) \
                            OVER (PARTITION BY proname) AS usable \
                       FROM pg_catalog.pg_proc WHERE proname = ANY ({functions}) AND pronamespace {ours}) AS p \
              WHERE NOT p.usable \
              ORDER BY 2"
        )
    }

    /// What the answer to [`Plans::refused_sql`] says.
    pub(super) fn refused(&self, rows: &RowSet) -> Vec<Finding> {
        let refused = column(rows, 0).zip(column(rows, 1));
        let finding = |(name, privilege): (&str, &str)| {
            let grant = format!("GRANT {privilege} TO {}", self.facts.role.name);
            self.missing(privilege.to_owned(), vec![Remedy::Sql(grant)], |definition| {
                let plan = self.outcomes.iter().find(|(planned, _)| planned.name == definition.name);
                let is_called = privilege.starts_with("EXECUTE");
                plan.is_some_and(|(_, plan)| {
                    plan.as_ref().is_ok_and(|sql| names_in(sql).any(|it| it == (name, is_called)))
                })
            })
        };
        refused.map(finding).collect()
    }

    /// Extensions that are not there, or whose library was not loaded. `rows` answer [`PRELOADED`]. One that needs no
    /// library is worth its price to some only. Whether the version that is there would do is not asked: the server reads
    /// the files of all extensions to tell, and one that is broken is an error.
    pub(super) fn extensions(&self, rows: &RowSet) -> Vec<Finding> {
        let mut wanted: BTreeMap<&str, (Severity, bool)> = BTreeMap::new();
        for (definition, plan) in &self.outcomes {
            let Err(Obstacle::Extension(name) | Obstacle::Preload(name)) = plan else { continue };
            let (severity, preload) = wanted.entry(name).or_insert((Severity::Hint, false));
            if definition.preload {
                *severity = Severity::Missing;
                *preload |= !self.facts.libraries.contains(name);
            }
        }
        let libraries = column(rows, 0).next();
        let finding = |(name, (severity, preload)): (&str, (Severity, bool))| {
            let mut remedies = Vec::new();
            if preload {
                let others = libraries.filter(|libraries| !libraries.is_empty());
                let hidden = if libraries.is_none() { "what it has already, " } else { "" };
                let all = others.map_or_else(|| format!("{hidden}{name}"), |others| format!("{others}, {name}"));
                let line = format!("shared_preload_libraries = '{}'", all.replace('\'', "''"));
                remedies.push(Remedy::Line { file: "postgresql.conf", line, then: "restart" });
            }
            if !self.facts.extensions.contains_key(name) {
                remedies.push(Remedy::Sql(format!("CREATE EXTENSION {name}")));
            }
            let is_of = |definition: &Definition| definition.extension.as_deref() == Some(name);
            let first =
                self.catalog.asking().filter(|definition| is_of(definition)).filter_map(|it| it.queries.first());
            let first = first.map(|query| query.since).min().filter(|_| severity == Severity::Hint);
            let version = first.map(|version| format!(", version {version} or newer")).unwrap_or_default();
            Finding { severity, ..self.missing(format!("extension {name}{version}"), remedies, is_of) }
        };
        wanted.into_iter().map(finding).collect()
    }

    fn missing(&self, what: String, remedies: Vec<Remedy>, costs: impl Fn(&Definition) -> bool) -> Finding {
        let families = |definition: &Definition| {
            definition.metrics.iter().map(|metric| metric.metric.name.clone()).collect::<Vec<_>>()
        };
        let absent: Vec<_> = self.catalog.asking().filter(|definition| costs(definition)).collect();
        let is_absent =
            |family: &str| absent.iter().any(|definition| definition.metrics.iter().any(|metric| metric.makes(family)));
        let checks = self.catalog.checks().iter().filter(|check| check.metrics().any(is_absent));
        Finding {
            checks: checks.map(|check| check.name().to_owned()).collect(),
            absent: absent.iter().map(|definition| (definition.name.clone(), families(definition))).collect(),
            ..Finding::new(Severity::Missing, what, remedies)
        }
    }
}

/// What a statement names in `pg_catalog`: functions, which are called, and tables, views and types. A view and the function
/// behind it may have one name.
fn names_in(sql: &str) -> impl Iterator<Item = (&str, bool)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    sql.split("pg_catalog.").skip(1).map(move |rest| {
        let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        (name, after.starts_with('('))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_and_the_function_of_its_name_are_two() {
        let sql = "SELECT pg_catalog.now() FROM pg_catalog.pg_hba_file_rules(), pg_catalog.pg_hba_file_rules";
        let expected = [("now", true), ("pg_hba_file_rules", true), ("pg_hba_file_rules", false)];
        assert_eq!(names_in(sql).collect::<Vec<_>>(), expected);
    }
}
