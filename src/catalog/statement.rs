//! What the text of a statement tells by itself: which columns it knows nothing of, and what it reads.

use std::collections::BTreeSet;

use super::definition::Query;

/// Functions of `pg_catalog` that compute from their arguments, or say who asks: no source of facts.
const COMPUTING: [&str; 9] = [
    "pg_backend_pid",
    "pg_encoding_to_char",
    "pg_get_userbyid",
    "pg_has_role",
    "pg_is_in_recovery",
    "pg_my_temp_schema",
    "pg_size_bytes",
    "pg_typeof",
    "pg_wal_lsn_diff",
];

/// The functions below the views of statistics are told by this one name: a definition calls dozens of them.
const COUNTERS: &str = "pg_stat_get_";

impl Query {
    /// Whether it has something to say of a column. Catalog files write `NULL AS column`, or with a type
    /// `NULL::type AS column`, where a version has not.
    pub fn knows(&self, column: &str) -> bool {
        let code = code_of(&self.sql);
        let words: Vec<&str> = code.split_whitespace().collect();
        let is_null = |word: &str| word == "NULL" || word.starts_with("NULL::");
        // What stands before tells NULL from IS NOT NULL.
        let is_unknown = |before: &str, value: &str, keyword: &str, name: &str| {
            let is_test = before == "NOT" || before == "IS";
            is_null(value.trim_start_matches('('))
                && !is_test
                && keyword == "AS"
                && name.trim_end_matches([',', ')']) == column
        };
        !words
            .windows(4)
            .any(|four| matches!(four, [before, value, keyword, name] if is_unknown(before, value, keyword, name)))
    }

    /// The views, tables and functions that it reads, without their schema, functions with `()`.
    ///
    /// Whatever it names with the schema `pg_catalog` or `{schema}`, but types and functions that only compute.
    pub fn sources(&self) -> BTreeSet<String> {
        let code = code_of(&self.sql);
        let of_catalog = |(before, rest): (&str, &str)| source(before, rest).filter(|it| gives_facts(it));
        let of_extension = |(before, rest): (&str, &str)| source(before, rest);
        let catalog = split_at_each(&code, "pg_catalog.").filter_map(of_catalog);
        let extension = split_at_each(&code, "{schema}.").filter_map(of_extension);
        catalog.chain(extension).collect()
    }
}

/// What stands before and after each place at which a text has a word.
fn split_at_each<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.match_indices(word).filter_map(|(at, _)| Some((text.get(..at)?, text.get(at + word.len()..)?)))
}

/// The name that a statement goes on with after a schema, functions with `()`; none for types and operators.
fn source(before: &str, rest: &str) -> Option<String> {
    let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())?;
    if before.ends_with("::") || before.trim_end().ends_with(" AS") {
        return None;
    }
    let is_function = rest.get(name.len()..)?.trim_start().starts_with('(');
    Some(match is_function {
        true if name.starts_with(COUNTERS) => format!("{COUNTERS}*()"),
        true => format!("{name}()"),
        false => name.to_owned(),
    })
}

/// Whether it is a view, a table, or a function that does more than compute; `count()` and the like have no prefix.
fn gives_facts(source: &str) -> bool {
    source.strip_suffix("()").is_none_or(|function| function.starts_with("pg_") && !COMPUTING.contains(&function))
}

/// The statement without comments and without what stands between quotes.
fn code_of(sql: &str) -> String {
    let lines: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    lines.join("\n").split('\'').step_by(2).collect::<Vec<_>>().join("''")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Version;

    fn query(sql: &str) -> Query {
        Query { since: Version { major: 10, minor: 0 }, sql: sql.to_owned() }
    }

    #[test]
    fn a_column_that_is_null_is_not_known() {
        let query =
            query("SELECT NULL AS sessions_killed, (SELECT NULL::pg_catalog.int8 AS lsn), 1 AS one,\n NULL AS last");
        let known = ["sessions_killed", "lsn", "last", "sessions", "one", "las"].map(|column| query.knows(column));
        assert_eq!(known, [false, false, false, true, true, true]);
    }

    #[test]
    fn what_is_computed_in_a_column_is_known() {
        assert!(query("SELECT CASE WHEN a IS NOT NULL THEN NULL END AS a, NULLIF(b, 0) AS b").knows("a"));
        assert!(query("SELECT reason IS NOT NULL AS lost, state IS NULL AS idle").knows("lost"));
        assert!(query("SELECT reason IS NOT NULL AS lost, state IS NULL AS idle").knows("idle"));
    }

    #[test]
    fn sources_are_views_and_functions_that_give_facts() {
        let query = query(
            "WITH own AS (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks) -- pg_catalog.pg_class\n\
             SELECT x::pg_catalog.text, CAST(y AS pg_catalog.int8), 'pg_catalog.pg_class', a OPERATOR(pg_catalog.=) b,\n\
             pg_catalog.pg_stat_get_numscans(1), pg_catalog.pg_stat_get_tuples_returned (1), pg_catalog.pg_backend_pid()\n\
             FROM own, {schema}.pg_stat_statements(false) JOIN pg_catalog.pg_database ON true",
        );
        let sources: Vec<String> = query.sources().into_iter().collect();
        assert_eq!(sources, ["pg_database", "pg_locks", "pg_stat_get_*()", "pg_stat_statements()"]);
    }
}
