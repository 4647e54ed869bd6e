//! What is in one schema and not in another, and what is in both and differs.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Kind, Object, Schema, elements};
use super::filter::Filter;

/// Which of the databases, counted from 1, have a thing, and which do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Presence {
    pub(super) there: BTreeSet<usize>,
    pub(super) missing: BTreeSet<usize>,
}

/// What one of the databases, counted from 1, has.
pub(super) type Values = BTreeMap<usize, String>;

/// In what an object differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Columns with their values.
    pub(super) columns: BTreeMap<String, Values>,
    /// Columns that are lists.
    pub(super) lists: BTreeMap<String, ListDifference>,
}

/// In what a list of `name=value` differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListDifference {
    pub(super) presence: BTreeMap<String, Presence>,
    pub(super) values: BTreeMap<String, Values>,
}

/// What was found for one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Objects that not all have, and the table of an index.
    pub(super) presence: BTreeMap<String, (Presence, Option<String>)>,
    /// Objects that differ.
    pub(super) differences: BTreeMap<String, Difference>,
}

/// Compares the objects of one kind, each schema with each other.
pub(super) fn compare(kind: &Kind, schemas: &[Schema], filter: &Filter) -> Found {
    let mut found = Found::default();
    for (one, this) in schemas.iter().enumerate() {
        for (other, that) in schemas.iter().enumerate().filter(|(other, _)| *other != one) {
            let objects = this.get(kind.name).into_iter().flatten();
            for (name, object) in objects.filter(|(name, _)| filter.keeps(kind, name)) {
                let counterpart = that.get(kind.name).and_then(|objects| objects.get(name));
                match counterpart {
                    None if is_told_elsewhere(kind, object, this, that, filter) => {}
                    None => {
                        let table = (kind.name == "index").then(|| object.get("tablename").cloned()).flatten();
                        let (presence, _) = found.presence.entry(name.clone()).or_insert((Presence::default(), table));
                        presence.there.insert(one + 1);
                        presence.missing.insert(other + 1);
                    }
                    Some(counterpart) if one < other => {
                        let pair = [(one + 1, object), (other + 1, counterpart)];
                        let difference = found.differences.entry(name.clone()).or_default();
                        compare_objects(kind, pair, filter, difference);
                    }
                    Some(_) => {}
                }
            }
        }
    }
    found.differences.retain(|_, difference| *difference != Difference::default());
    found
}

/// Whether an object is missing because its schema or table is.
fn is_told_elsewhere(kind: &Kind, object: &Object, this: &Schema, that: &Schema, filter: &Filter) -> bool {
    let has = |schema: &Schema, kind: &str, name: &String| schema.get(kind).is_some_and(|all| all.contains_key(name));
    let has_schemas = this.get("schema").is_some_and(|schemas| !schemas.is_empty());
    if kind.name != "schema"
        && has_schemas
        && object.get("schemaname").is_some_and(|schema| !has(that, "schema", schema))
    {
        return true;
    }
    let Some(table) = object.get("tablename").filter(|_| kind.name != "table") else { return false };
    filter.is_without("table") || (has(this, "table", table) && !has(that, "table", table))
}

fn compare_objects(kind: &Kind, pair: [(usize, &Object); 2], filter: &Filter, difference: &mut Difference) {
    let [(one, this), (other, that)] = pair;
    for (column, value) in this {
        let Some(counterpart) = that.get(column) else { continue };
        if value == counterpart || is_ignored(kind, column, filter) {
            continue;
        }
        let is_list = kind.lists.contains(&column.as_str()) || has_ending(column, "acl");
        let lists = is_list.then(|| Some((settings(value)?, settings(counterpart)?))).flatten();
        let Some((mine, theirs)) = lists else {
            let values = difference.columns.entry(column.clone()).or_default();
            values.extend([(one, value.clone()), (other, counterpart.clone())]);
            continue;
        };
        let mut list = ListDifference::default();
        let names: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        for name in names {
            match (mine.get(name), theirs.get(name)) {
                (Some(mine), Some(theirs)) if mine != theirs => {
                    let values = list.values.entry(name.clone()).or_default();
                    values.extend([(one, mine.clone()), (other, theirs.clone())]);
                }
                (Some(_), Some(_)) | (None, None) => {}
                (mine, _) => {
                    let (there, missing) = if mine.is_some() { (one, other) } else { (other, one) };
                    let presence = list.presence.entry(name.clone()).or_default();
                    presence.there.insert(there);
                    presence.missing.insert(missing);
                }
            }
        }
        if list != ListDifference::default() {
            merge(difference.lists.entry(column.clone()).or_default(), list);
        }
    }
}

fn merge(into: &mut ListDifference, list: ListDifference) {
    for (name, presence) in list.presence {
        let known = into.presence.entry(name).or_default();
        known.there.extend(presence.there);
        known.missing.extend(presence.missing);
    }
    for (name, values) in list.values {
        into.values.entry(name).or_default().extend(values);
    }
}

/// Numbers of objects differ from database to database; their names stand beside them.
fn is_ignored(kind: &Kind, column: &str, filter: &Filter) -> bool {
    column == "oid"
        || kind.ignored.contains(&column)
        || ["namespace", "owner", "filenode", "oid", "relid"].iter().any(|ending| has_ending(column, ending))
        || (kind.name == "sequence" && filter.without_values)
}

fn has_ending(column: &str, ending: &str) -> bool {
    column.len() > ending.len() && column.ends_with(ending)
}

/// A list of `name=value`; `None` where it is none.
fn settings(list: &str) -> Option<BTreeMap<String, String>> {
    if list.is_empty() {
        return Some(BTreeMap::new());
    }
    let pair = |element: String| element.rsplit_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    elements(list)?.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::super::catalog::KINDS;
    use super::*;

    /// Kind, name, and columns with their values.
    type Object<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    fn schema(objects: &[Object<'_>]) -> Schema {
        let mut schema = Schema::new();
        for (kind, name, columns) in objects {
            let columns = columns.iter().map(|(column, value)| ((*column).to_owned(), (*value).to_owned()));
            schema.entry((*kind).to_owned()).or_default().insert((*name).to_owned(), columns.collect());
        }
        schema
    }

    fn found(kind: &str, schemas: &[Schema]) -> Found {
        let kind = KINDS.iter().find(|known| known.name == kind).unwrap();
        compare(kind, schemas, &Filter::default())
    }

    #[test]
    fn what_is_missing_with_its_schema_or_table_is_told_once() {
        let full = schema(&[
            ("schema", "public", &[]),
            ("schema", "s", &[]),
            ("table", "s.t", &[("schemaname", "s")]),
            ("table", "public.t", &[("schemaname", "public")]),
            ("column", "public.t.a", &[("schemaname", "public"), ("tablename", "public.t")]),
        ]);
        let bare = schema(&[("schema", "public", &[])]);
        let schemas = [full, bare];
        assert_eq!(found("schema", &schemas).presence.into_keys().collect::<Vec<_>>(), ["s"]);
        assert_eq!(found("table", &schemas).presence.into_keys().collect::<Vec<_>>(), ["public.t"]);
        assert!(found("column", &schemas).presence.is_empty());
    }

    #[test]
    fn numbers_of_objects_differ_in_silence_and_columns_of_one_version_too() {
        let one = schema(&[("table", "t", &[("oid", "1"), ("relowner", "2"), ("relkind", "r"), ("new", "x")])]);
        let other = schema(&[("table", "t", &[("oid", "3"), ("relowner", "4"), ("relkind", "v")])]);
        let found = found("table", &[one, other]);
        let columns: Vec<_> = found.differences["t"].columns.keys().collect();
        assert_eq!(columns, ["relkind"]);
    }

    #[test]
    fn lists_are_compared_by_name_whatever_their_order() {
        let table = |acl| schema(&[("table", "t", &[("relacl", acl)])]);
        assert!(found("table", &[table("{a=r/x,b=w/x}"), table("{b=w/x,a=r/x}")]).differences.is_empty());
        let found = found("table", &[table("{a=r/x,b=w/x}"), table("{a=rw/x}"), table("")]);
        let list = &found.differences["t"].lists["relacl"];
        assert_eq!(list.values["a"], Values::from([(1, "r/x".to_owned()), (2, "rw/x".to_owned())]));
        assert_eq!(list.presence["b"], Presence { there: [1].into(), missing: [2, 3].into() });
    }
}
