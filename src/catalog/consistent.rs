//! What is wrong only beside other files: definitions that do not fit together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DATNAME, Definition, MetricColumn, Role, Scope, Texts, providers};
use crate::metric::Kind;
use crate::source::{Source, SourceError};

/// Refuses what does not fit together.
///
/// # Errors
///
/// The first mistake found.
pub(super) fn check(
    definitions: &[Arc<Definition>],
    listings: &[Arc<Definition>],
    sources: &BTreeMap<String, Source>,
) -> Result<(), SourceError> {
    refuse_duplicates(definitions, sources)?;
    refuse(definitions, sources, |it| unknown_metric(definitions, it))?;
    refuse(definitions, sources, |it| rate_of_nothing(definitions, it))?;
    refuse(definitions, sources, |it| texts_of_nothing(definitions, it))?;
    refuse(definitions, sources, |it| explained_by_nothing(definitions, listings, it))
}

/// Whether some server may be asked both.
pub(super) fn meet(one: &Definition, other: &Definition) -> bool {
    one.role == other.role || [one.role, other.role].contains(&Role::Any)
}

/// Two definitions may make one metric when no server is ever asked both: one as a primary, the other as a standby.
fn refuse_duplicates(definitions: &[Arc<Definition>], sources: &BTreeMap<String, Source>) -> Result<(), SourceError> {
    let mut known: BTreeMap<String, Vec<(&Definition, Kind)>> = BTreeMap::new();
    for definition in definitions {
        for metric in &definition.metrics {
            let kind = metric.metric.kind;
            // A histogram's own name too: its parts are of one family.
            for name in metric.names().chain(metric.buckets.iter().map(|_| metric.metric.name.clone())) {
                let others = known.entry(name.clone()).or_default();
                let reason = others.iter().find_map(|(other, other_kind)| {
                    let file = &other.name;
                    if meet(other, definition) {
                        return Some(format!("metric `{name}` is defined in {file}.toml already"));
                    }
                    (*other_kind != kind).then(|| format!("metric `{name}` has another type in {file}.toml"))
                });
                if let (Some(reason), Some(source)) = (reason, sources.get(&definition.name)) {
                    return Err(mistake_at(source, &format!("\"{}\"", metric.metric.name), reason));
                }
                others.push((definition, kind));
            }
        }
    }
    Ok(())
}

/// Refuses the first definition that has such a mistake: what it is looked for by in the text, and the reason.
fn refuse(
    definitions: &[Arc<Definition>],
    sources: &BTreeMap<String, Source>,
    mistake_of: impl Fn(&Definition) -> Option<(String, String)>,
) -> Result<(), SourceError> {
    for definition in definitions {
        if let (Some((sought, reason)), Some(source)) = (mistake_of(definition), sources.get(&definition.name)) {
            return Err(mistake_at(source, &sought, reason));
        }
    }
    Ok(())
}

/// A rule over a metric that nothing provides.
fn unknown_metric(definitions: &[Arc<Definition>], definition: &Definition) -> Option<(String, String)> {
    definition.rules.iter().find_map(|rule| {
        let name = rule.expression().metrics().into_iter().find(|name| providers(definitions, name).is_empty())?;
        let is_histogram = |it: &MetricColumn| it.buckets.is_some() && it.metric.name == name;
        let has_parts = definitions.iter().flat_map(|it| &it.metrics).any(is_histogram);
        let provided =
            if has_parts { "is a histogram: expected its _bucket, _sum or _count" } else { "nothing provides" };
        let reason = format!("rule `{}` uses the metric `{name}`, which {provided}", rule.name());
        Some((name.to_owned(), reason))
    })
}

/// A rate that nothing has. What is read once in some minutes has none over seconds: it would be 0 between two walks, and then
/// far too high. What a histogram counts is there now and gone then: it has no rate at all.
fn rate_of_nothing(definitions: &[Arc<Definition>], definition: &Definition) -> Option<(String, String)> {
    let reason_of = |metric: &str| {
        let columns = definitions.iter().flat_map(|it| it.metrics.iter().map(move |column| (it, column)));
        let (definition, column) = columns.into_iter().find(|(_, column)| column.makes(metric))?;
        match definition.scope {
            Scope::Database => Some("read in database scope only"),
            Scope::Server => column.buckets.as_ref().map(|_| "of a histogram of what is there now"),
        }
    };
    definition.rules.iter().find_map(|rule| {
        let (metric, reason) = rule.windows().into_iter().find_map(|(metric, _)| Some((metric, reason_of(metric)?)))?;
        let reason = format!("rule `{}` uses a rate of `{metric}`, which is {reason}", rule.name());
        Some((format!("({metric}"), reason))
    })
}

/// Texts of what no definition shows.
fn texts_of_nothing(definitions: &[Arc<Definition>], definition: &Definition) -> Option<(String, String)> {
    let Texts { of, key, .. } = definition.texts.as_ref()?;
    let shows = |metric: &MetricColumn| metric.labels.contains(key);
    let is_there = definitions.iter().any(|other| other.name == *of && other.metrics.iter().any(shows));
    (!is_there).then(|| ("[texts]".to_owned(), format!("no definition `{of}` shows a label `{key}`")))
}

/// A rule that is explained by rows that nobody gives, or by columns that they do not have.
fn explained_by_nothing(
    definitions: &[Arc<Definition>],
    listings: &[Arc<Definition>],
    definition: &Definition,
) -> Option<(String, String)> {
    definition.rules.iter().find_map(|rule| {
        let explain = rule.explain()?;
        let (name, sought) = (rule.name(), format!("explain = \"{}\"", explain.listing));
        let Some(listing) = super::row_set(definitions, listings, &explain.listing) else {
            let reason =
                format!("rule `{name}` is explained by `{}`, which is no listing and no definition", explain.listing);
            return Some((sought, reason));
        };
        let column = explain
            .columns()
            .into_iter()
            .find(|column| !(listing.names_column(column) || listing.scope == Scope::Database && *column == DATNAME))?;
        Some((
            sought,
            format!("rule `{name}` is explained by a column `{column}`, which `{}` has not", explain.listing),
        ))
    })
}

/// A mistake that shows only beside other files; it is looked for in the text by what it names.
fn mistake_at(source: &Source, sought: &str, reason: String) -> SourceError {
    source.mistake(source.text.find(sought).unwrap_or_default(), reason)
}

#[cfg(test)]
mod tests {
    use super::super::Provider;
    use super::super::tests::{MINE, load};

    #[test]
    fn a_metric_that_two_files_define_is_refused() {
        let error = load(&[("a.toml", MINE), ("b.toml", MINE)]).unwrap_err();
        assert_eq!(error, "/b.toml:7: metric `pg_mine` is defined in a.toml already");
    }

    #[test]
    fn a_metric_may_come_from_one_definition_on_primaries_and_from_another_on_standbys() {
        let of = |role: &str| MINE.replace("help = \"Mine\"", &format!("help = \"Mine\"\nrole = \"{role}\""));
        let catalog = load(&[("a.toml", &of("primary")), ("b.toml", &of("standby"))]).unwrap();
        assert_eq!(catalog.providers("pg_mine"), [Provider::Definition("a"), Provider::Definition("b")]);
        let error = load(&[("a.toml", &of("primary")), ("b.toml", &of("primary"))]).unwrap_err();
        assert_eq!(error, "/b.toml:8: metric `pg_mine` is defined in a.toml already");
        let counter = of("standby").replace("gauge", "counter");
        let error = load(&[("a.toml", &of("primary")), ("b.toml", &counter)]).unwrap_err();
        assert_eq!(error, "/b.toml:8: metric `pg_mine` has another type in a.toml");
    }

    #[test]
    fn a_rule_over_a_metric_that_nothing_provides_is_refused() {
        let rule = "help = \"x\"\n[[rule]]\nname = \"r\"\nvalue = \"pg_nothing\"\nwarning = \"1\"\nsummary = \"s\"\nreason = \"r\"\n";
        let error = load(&[("r.toml", rule)]).unwrap_err();
        assert_eq!(error, "/r.toml:4: rule `r` uses the metric `pg_nothing`, which nothing provides");
    }

    #[test]
    fn a_rule_is_about_a_part_of_a_histogram_and_no_rate_of_it() {
        let histogram = MINE.replace("gauge\"", "histogram\"\nbuckets = [1, 5]");
        let with_rule = |value: &str| {
            let rule = format!(
                "[[rule]]\nname = \"r\"\nvalue = \"{value}\"\nwarning = \"1\"\nsummary = \"s\"\nreason = \"r\"\n"
            );
            load(&[("mine.toml", &format!("{histogram}{rule}"))])
        };
        let catalog = with_rule("pg_mine_sum / pg_mine_count").unwrap();
        assert_eq!(catalog.providers("pg_mine_bucket"), [Provider::Definition("mine")]);
        for (value, reason) in [
            ("pg_mine", "uses the metric `pg_mine`, which is a histogram: expected its _bucket, _sum or _count"),
            (
                "rate(pg_mine_count[5min])",
                "uses a rate of `pg_mine_count`, which is of a histogram of what is there now",
            ),
        ] {
            assert!(with_rule(value).unwrap_err().ends_with(reason), "{value}");
        }
        let twin = MINE.replace("pg_mine", "pg_mine_count");
        let error = load(&[("mine.toml", &histogram), ("twin.toml", &twin)]).unwrap_err();
        assert_eq!(error, "/twin.toml:7: metric `pg_mine_count` is defined in mine.toml already");
    }

    #[test]
    fn a_rate_of_what_is_read_in_each_database_is_refused() {
        let walked =
            MINE.replace("help = \"Mine\"", "help = \"Mine\"\nscope = \"database\"").replace("gauge", "counter");
        let rule = "[[rule]]\nname = \"r\"\nvalue = \"rate(pg_mine[5min])\"\nwarning = \"1\"\nsummary = \"s\"\nreason = \"r\"\n";
        let error = load(&[("mine.toml", &format!("{walked}{rule}"))]).unwrap_err();
        assert_eq!(error, "/mine.toml:14: rule `r` uses a rate of `pg_mine`, which is read in database scope only");
    }
}
