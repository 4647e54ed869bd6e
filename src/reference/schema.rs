//! The schema: one line per metric, so that a change of what dashboards rely on can be seen by comparing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Entry, Majors, subjects};
use crate::catalog::Catalog;

/// What stands above the lines.
const HEAD: &str = "# name type {labels} unit majors\n";
/// What says that nothing is known.
const NONE: &str = "-";

/// Every metric in a line of its own, by name: name, type, labels, the unit that the name says, and the majors of
/// PostgreSQL that know it.
pub fn schema(catalog: &Catalog) -> String {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in subjects(catalog).into_iter().flat_map(|subject| subject.entries) {
        // A primary and a standby may have the same fact from two definitions.
        entries
            .entry(entry.name.clone())
            .and_modify(|known| known.majors = known.majors.iter().chain(entry.majors.iter()).collect())
            .or_insert(entry);
    }
    let mut text = HEAD.to_owned();
    for entry in entries.values() {
        let _ = writeln!(text, "{}", line_of(entry));
    }
    text
}

fn line_of(entry: &Entry) -> String {
    let majors = if entry.majors.is_empty() { NONE.to_owned() } else { entry.majors.to_string() };
    let (name, kind, labels) = (&entry.name, entry.kind.as_str(), entry.labels.join(","));
    format!("{name} {kind} {{{labels}}} {} {majors}", entry.unit().unwrap_or(NONE))
}

/// What a line says of a name.
type Line<'a> = (&'a str, &'a str, &'a str, &'a str);

fn lines_of(schema: &str) -> Result<BTreeMap<&str, Line<'_>>, String> {
    let lines = schema.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, kind, labels, unit, majors] = words.as_slice() else {
                return Err(format!("expected `name type {{labels}} unit majors`, got `{line}`"));
            };
            Ok((*name, (*kind, *labels, *unit, *majors)))
        })
        .collect()
}

/// What of a released schema is not as it was, and not announced either: each metric that is gone, that has another type,
/// other labels or another unit, or that a major no longer knows.
///
/// `changelog` announces it under `## Unreleased`, `### Metrics`, in an item that begins with `Removed`, `Renamed` or
/// `Changed` and holds the old name between backticks; a `*` at its end stands for all names that begin so. A metric that goes on beside its new name is none of these.
///
/// # Errors
///
/// A line of a schema is of another form.
pub fn broken(released: &str, now: &str, changelog: &str) -> Result<Vec<String>, String> {
    let (released, now) = (lines_of(released)?, lines_of(now)?);
    let announced = announced(changelog);
    let mut broken = Vec::new();
    for (name, before) in released {
        let reason = match now.get(name) {
            None => Some("is gone".to_owned()),
            Some(after) => change(before, *after)?,
        };
        let is_announced = announced.iter().any(|told| match told.strip_suffix('*') {
            None => *told == name,
            Some(stem) => name.starts_with(stem),
        });
        if let Some(reason) = reason.filter(|_| !is_announced) {
            broken.push(format!("{name} {reason}"));
        }
    }
    Ok(broken)
}

fn change(before: Line<'_>, after: Line<'_>) -> Result<Option<String>, String> {
    for (what, old, new) in [("type", before.0, after.0), ("labels", before.1, after.1), ("unit", before.2, after.2)] {
        if old != new {
            return Ok(Some(format!("changes its {what} from {old} to {new}")));
        }
    }
    let majors = |text: &str| if text == NONE { Ok(Majors::default()) } else { text.parse::<Majors>() };
    let (old, new) = (majors(before.3)?, majors(after.3)?);
    Ok((!new.covers(old)).then(|| format!("was known by {old}, is by {new}")))
}

/// The names between backticks, without their labels, in the items that announce a change.
fn announced(changelog: &str) -> Vec<&str> {
    let section = |text: &'_ str, head: &str| -> Option<(usize, usize)> {
        let level = head.split(' ').next()?;
        let start = text.find(&format!("\n{head}\n"))? + head.len() + 2;
        let rest = text.get(start..)?;
        let ends = (2..=level.len()).filter_map(|depth| rest.find(&format!("\n{} ", "#".repeat(depth))));
        Some((start, start + ends.min().unwrap_or(rest.len())))
    };
    let within = |text: &'_ str, head: &str| section(text, head);
    let unreleased = within(changelog, "## Unreleased").and_then(|(start, end)| changelog.get(start - 1..end));
    let metrics = unreleased.and_then(|text| within(text, "### Metrics").and_then(|(start, end)| text.get(start..end)));
    let items = metrics.unwrap_or_default().split("\n- ").map(|item| item.trim_start_matches("- ").trim_start());
    let announcing = items.filter(|item| ["Removed", "Renamed", "Changed"].iter().any(|word| item.starts_with(word)));
    let names = announcing.flat_map(|item| item.split('`').skip(1).step_by(2));
    names.map(|name| name.split('{').next().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASED: &str = "# head\npg_a_total counter {server} - 10-\npg_b_seconds gauge {server,name} seconds 13-16\n\
                            pg_settings_{metric} gauge {server} - 10-\nnode_load1 gauge {} - -\n";

    fn broken_by(now: &str, changelog: &str) -> Vec<String> {
        broken(RELEASED, now, changelog).unwrap()
    }

    #[test]
    fn what_stays_and_what_is_added_breaks_nothing() {
        let now = format!("{RELEASED}pg_c gauge {{server}} - 18-\n").replace("13-16", "12-16,18-");
        assert!(broken_by(&now, "").is_empty());
    }

    #[test]
    fn each_kind_of_change_is_told() {
        for (from, to, told) in [
            ("pg_a_total counter {server} - 10-\n", "", "pg_a_total is gone"),
            ("pg_a_total counter", "pg_a_total gauge", "pg_a_total changes its type from counter to gauge"),
            ("{server,name}", "{server}", "pg_b_seconds changes its labels from {server,name} to {server}"),
            ("name} seconds", "name} -", "pg_b_seconds changes its unit from seconds to -"),
            ("13-16", "14-", "pg_b_seconds was known by 13-16, is by 14-"),
            ("pg_settings_{metric}", "pg_setting_{metric}", "pg_settings_{metric} is gone"),
        ] {
            assert_eq!(broken_by(&RELEASED.replace(from, to), ""), [told]);
        }
        assert!(broken(RELEASED, "pg_a_total counter", "").is_err());
    }

    #[test]
    fn what_the_changelog_announces_is_no_breach() {
        let now = RELEASED.replace("pg_a_total", "pg_new_total").replace("13-16", "14-16");
        let changelog =
            |item: &str| format!("# Changelog\n\n## Unreleased\n\n### Added\n\n- x\n\n### Metrics\n\n- Old.\n{item}\n");
        let renamed = "- Renamed: `pg_a_total{server}` is\n  `pg_new_total`.\n- Changed: `pg_b_seconds`: not on 13.";
        assert!(broken_by(&now, &changelog(renamed)).is_empty());
        assert!(broken_by(&now, &changelog("- Changed: `pg_a_*`, `pg_b_*{name}`.")).is_empty());
        // Named in passing, in another section, or for another release: not announced.
        assert_eq!(broken_by(&now, &changelog("- Added: `pg_a_total`, `pg_b_seconds`.")).len(), 2);
        assert_eq!(broken_by(&now, &changelog("\n### Fixed\n\n- Renamed: `pg_a_total`, `pg_b_seconds`")).len(), 2);
        let released = format!("{}\n## 0.1.0\n\n### Metrics\n\n{renamed}\n", changelog(""));
        assert_eq!(broken_by(&now, &released).len(), 2);
    }
}
