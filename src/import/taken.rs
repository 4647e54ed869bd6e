//! Names that are taken: a definition replaces no other, and a metric is of one definition.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{Draft, Shown};
use super::statement;
use crate::catalog::{Catalog, MetricColumn, Role};
use crate::metric::{Kind, SUFFIXES};

/// What drafts may not be called, because something is.
pub(super) struct Taken<'a> {
    catalog: &'a Catalog,
    metrics: BTreeMap<String, Vec<Made>>,
    names: BTreeSet<String>,
}

/// Which draft a metric is of.
struct Made {
    definition: String,
    role: Role,
    kind: Kind,
}

impl<'a> Taken<'a> {
    /// What a catalog has.
    pub(super) fn by(catalog: &'a Catalog) -> Self {
        Self { catalog, metrics: BTreeMap::new(), names: BTreeSet::new() }
    }

    /// A name for a definition that replaces no other.
    pub(super) fn name_for(&mut self, wanted: &str) -> String {
        let wanted: String = statement::plain(wanted).chars().take(80).collect();
        let wanted = wanted.trim_start_matches('_');
        let mut name = if wanted.is_empty() { "imported".to_owned() } else { wanted.to_owned() };
        let mut count = 1;
        while self.catalog.definition(&name).is_some()
            || self.catalog.collectors().any(|known| known == name)
            || self.names.contains(&name)
        {
            name = if count == 1 { format!("imported_{wanted}") } else { format!("imported_{wanted}_{count}") };
            count += 1;
        }
        self.names.insert(name.clone());
        name
    }

    /// Takes the names of a draft's metrics.
    pub(super) fn add(&mut self, draft: &Draft) {
        for metric in &draft.metrics {
            for name in metric.names() {
                let made = Made { definition: draft.name.clone(), role: draft.role, kind: metric.kind };
                self.metrics.entry(name).or_default().push(made);
            }
        }
    }

    /// Why a metric cannot be called so.
    pub(super) fn objection(&self, shown: &Shown, role: Role) -> Option<String> {
        shown.names().iter().find_map(|name| self.objection_to(name, shown.kind, role))
    }

    fn objection_to(&self, metric: &str, kind: Kind, role: Role) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if metric.is_empty() || metric.starts_with(|c: char| c.is_ascii_digit()) || !metric.chars().all(plain) {
            return Some("no name of a metric: expected letters, digits, _ and :".to_owned());
        }
        if metric.starts_with("pgvitals_") || metric.starts_with("node_") {
            return Some(format!("{metric} is a name of the agent's own"));
        }
        for made in self.metrics.get(metric).into_iter().flatten() {
            let name = &made.definition;
            if role == Role::Any || made.role == Role::Any || role == made.role {
                return Some(format!("is made by {name}.toml already"));
            }
            if made.kind != kind {
                return Some(format!("is of another type in {name}.toml"));
            }
        }
        let is_its = |it: &MetricColumn| it.makes(metric) || it.metric.name == metric;
        let makes = |metrics: &[MetricColumn]| metrics.iter().any(is_its);
        let owner = self.catalog.definitions().iter().find(|definition| makes(&definition.metrics));
        match owner {
            Some(definition) => Some(format!("is built in: pgvitals show {}", definition.name)),
            None => (!self.catalog.providers(metric).is_empty()).then(|| "is built in".to_owned()),
        }
    }
}

impl Shown {
    /// The names that no other metric may have: its own, and those of a histogram's parts.
    fn names(&self) -> Vec<String> {
        let suffixes: &[&str] = if self.kind == Kind::Histogram { &SUFFIXES } else { &[] };
        [""].iter().chain(suffixes).map(|suffix| format!("{}{suffix}", self.name)).collect()
    }

    /// Why it cannot stand beside others of its definition. What another branch calls alike is the same metric.
    pub(super) fn objection_beside(&self, others: &[Self]) -> Option<String> {
        if self.kind == Kind::Histogram && self.labels.iter().any(|label| label == "le") {
            return Some("a histogram has no label le but that of its buckets".to_owned());
        }
        let names = self.names();
        let other = others.iter().find(|other| other.names().iter().any(|name| names.contains(name)))?;
        match other.name == self.name {
            true if other.buckets == self.buckets => None,
            true => Some("is made by another branch already, with other buckets or none".to_owned()),
            false => {
                Some(format!("cannot stand beside {}: a histogram has the names _bucket, _sum and _count", other.name))
            }
        }
    }
}
