//! What is compared: objects of each kind by name, with their columns as texts.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::check_postgres::End;
use crate::plugin::Row;
use crate::server::RowSet;

/// An object: what the catalog says of it, by the name of the column.
pub(super) type Object = BTreeMap<String, String>;
/// The objects of a kind, by name.
pub(super) type Objects = BTreeMap<String, Object>;
/// Everything of a database, by kind.
pub(super) type Schema = BTreeMap<String, Objects>;

/// A kind of objects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// As `--object` and `--filter` name it, and a snapshot.
    pub(super) name: &'static str,
    /// Who lists them.
    pub(super) listing: &'static str,
    /// As messages have it.
    pub(super) title: &'static str,
    /// Columns that differ where nothing is different: numbers of objects, sizes, counters, texts that others tell better.
    pub(super) ignored: &'static [&'static str],
    /// Columns that are lists of `name=value`; those ending in `acl` are too.
    pub(super) lists: &'static [&'static str],
}

const fn kind(
    name: &'static str,
    listing: &'static str,
    title: &'static str,
    ignored: &'static [&'static str],
) -> Kind {
    Kind { name, listing, title, ignored, lists: &[] }
}

/// All kinds, in the order in which differences are told.
pub(super) const KINDS: &[Kind] = &[
    Kind { lists: &["useconfig"], ..kind("user", "schema_users", "User", &["usesysid"]) },
    kind("language", "schema_languages", "Language", &["laninline", "lanplcallfoid", "lanvalidator"]),
    kind("cast", "schema_casts", "Cast", &["castfunc", "castsource", "casttarget"]),
    kind("domain", "schema_domains", "Domain", &["typarray", "typbasetype", "typcollation", "typelem"]),
    kind("operator", "schema_operators", "Operator", &["oprleft", "oprright", "oprresult", "oprnegate", "oprcom"]),
    kind("aggregate", "schema_aggregates", "Aggregate", &["aggfnoid", "aggsortop", "aggtranstype", "aggmtranstype"]),
    kind("comment", "schema_comments", "Comment", &[]),
    kind("extension", "schema_extensions", "Extension", &["extconfig"]),
    kind("type", "schema_types", "Type", &["typarray", "typbasetype", "typcollation", "typelem"]),
    kind("schema", "schema_schemas", "Schema", &[]),
    kind(
        "function",
        "schema_functions",
        "Function",
        &[
            "source_checksum",
            "prolang",
            "prorettype",
            "proargtypes",
            "proallargtypes",
            "provariadic",
            "proargdefaults",
            "protrftypes",
        ],
    ),
    kind(
        "table",
        "schema_tables",
        "Table",
        &[
            "reltype",
            "relfrozenxid",
            "relminmxid",
            "relpages",
            "reltuples",
            "relnatts",
            "relallvisible",
            "relallfrozen",
            "relhaspkey",
            "reloftype",
        ],
    ),
    kind("view", "schema_views", "View", &["reltype", "relpages", "reltuples"]),
    kind("sequence", "schema_sequences", "Sequence", &["reltype", "log_cnt", "relnatts", "is_called"]),
    kind(
        "index",
        "schema_indexes",
        "Index",
        &[
            "relpages",
            "reltuples",
            "indpred",
            "indclass",
            "indexprs",
            "indcheckxmin",
            "reltablespace",
            "indkey",
            "indcollation",
        ],
    ),
    kind("trigger", "schema_triggers", "Trigger", &["tgqual", "tgconstraint", "tgattr", "tgfoid"]),
    kind(
        "constraint",
        "schema_constraints",
        "Constraint",
        &[
            "conbin",
            "conindid",
            "conkey",
            "confkey",
            "confmatchtype",
            "conpfeqop",
            "conppeqop",
            "conffeqop",
            "conexclop",
        ],
    ),
    kind("column", "schema_columns", "Column", &["atttypid", "attnum", "attbyval", "attndims", "attcollation"]),
    kind("foreign_server", "schema_foreign_servers", "Foreign_server", &["srvfdw"]),
    kind(
        "foreign_data_wrapper",
        "schema_foreign_data_wrappers",
        "Foreign_data_wrapper",
        &["fdwhandler", "fdwvalidator"],
    ),
    kind("foreign_table", "schema_foreign_tables", "Foreign_table", &[]),
];

/// Columns whose type is a vector, which is written with blanks.
const VECTORS: &[&str] = &["indkey", "indcollation", "indclass", "indoption", "proargtypes", "tgattr"];

/// Reads what a listing says: a name in each row, and the columns as JSON.
///
/// # Errors
///
/// The columns are no JSON object.
pub(super) fn read(rows: &RowSet) -> Result<Objects, End> {
    let mut objects = Objects::new();
    for row in Row::of(rows) {
        let columns: serde_json::Map<String, Value> = serde_json::from_str(row.text("columns"))
            .map_err(|error| End::refused(format!("Invalid query returned: {error}")))?;
        let columns = columns.iter().map(|(column, value)| (column.clone(), text(column, value)));
        objects.insert(row.text("name").to_owned(), columns.collect());
    }
    Ok(objects)
}

/// A value as psql shows it.
fn text(column: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "t".to_owned(),
        Value::Bool(false) => "f".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if VECTORS.contains(&column) => {
            values.iter().map(|value| text("", value)).collect::<Vec<_>>().join(" ")
        }
        Value::Array(values) => format!("{{{}}}", values.iter().map(element).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// An element of an array, quoted where the server quotes it.
fn element(value: &Value) -> String {
    if value.is_null() {
        return "NULL".to_owned();
    }
    let text = text("", value);
    let is_plain = !text.is_empty()
        && !text.eq_ignore_ascii_case("null")
        && !text.contains(|c: char| c.is_ascii_whitespace() || "{},\"\\".contains(c));
    if is_plain || value.is_array() {
        return text;
    }
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// The elements of an array of one dimension; `None` where the text is none.
pub(super) fn elements(array: &str) -> Option<Vec<String>> {
    let inner = array.strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    let mut element = String::new();
    let mut quoted = false;
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => element.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => elements.push(std::mem::take(&mut element)),
            letter => element.push(letter),
        }
    }
    if !inner.is_empty() {
        elements.push(element);
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_server_writes_them() {
        let acl = serde_json::json!(["a=r/b", "\"B S\"=r*/b", null, "", "x y"]);
        assert_eq!(text("relacl", &acl), r#"{a=r/b,"\"B S\"=r*/b",NULL,"","x y"}"#);
        assert_eq!(elements(r#"{a=r/b,"\"B S\"=r*/b"}"#).unwrap(), ["a=r/b", "\"B S\"=r*/b"]);
        assert_eq!(text("indoption", &serde_json::json!([0, 3])), "0 3");
        assert_eq!((text("x", &Value::Bool(true)), text("x", &Value::Null)), ("t".to_owned(), String::new()));
        assert_eq!((elements("{}").unwrap().len(), elements("no list")), (0, None));
    }

    #[test]
    fn every_kind_has_its_listing() {
        let catalog = crate::catalog::Catalog::built_in().unwrap();
        for kind in KINDS {
            assert!(catalog.listing(kind.listing).is_some(), "{}", kind.listing);
        }
    }
}
