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
    /// `NULL::type AS column`, where a version has not; what is computed of such a column alone is none either.
    pub fn knows(&self, column: &str) -> bool {
        !is_null(&code_of(&self.sql), column, &mut BTreeSet::new())
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

/// Whether all that a statement calls by this name is NULL. `seen` are the names that lead here.
fn is_null<'a>(code: &'a str, name: &'a str, seen: &mut BTreeSet<&'a str>) -> bool {
    if !seen.insert(name) {
        return false;
    }
    // Who computes of a column means the inner one, not what stands in for it further out.
    let inner_only = seen.len() > 1;
    let mut meanings = meanings(code, name, inner_only).peekable();
    meanings.peek().is_some()
        && meanings.all(|(meaning, rest)| {
            let literal = meaning.trim_start_matches('(').split("::").next().unwrap_or_default();
            // The other parts of a union may well have something to say.
            literal == "NULL" && !is_of_union(rest)
                || !stands_in(meaning) && names_in(meaning).any(|name| is_null(code, name, &mut seen.clone()))
        })
}

/// What stands before each `AS name` and after it, but where it is made of a column of that name itself: that one decides.
fn meanings<'a>(code: &'a str, name: &'a str, inner_only: bool) -> impl Iterator<Item = (&'a str, &'a str)> {
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '(');
    let of_name = move |(before, rest): (&'a str, &'a str)| {
        let rest = rest.trim_start().strip_prefix(name).filter(|rest| is_end(rest));
        rest.map(|rest| (last_expression(before).trim(), rest))
    };
    let is_new = move |(meaning, _): &(&str, &str)| {
        !inner_only && stands_in(meaning) || names_in(meaning).all(|other| other != name)
    };
    split_at_each(code, " AS").filter_map(of_name).filter(is_new)
}

/// Whether a query goes on with `UNION` before it ends.
fn is_of_union(rest: &str) -> bool {
    let mut depth = 0_u32;
    for (at, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return false,
            ')' => depth -= 1,
            'U' if depth == 0 && rest.get(at..).is_some_and(|rest| rest.starts_with("UNION")) => return true,
            _ => {}
        }
    }
    false
}

/// Whether it has a value where a column of it has none.
fn stands_in(expression: &str) -> bool {
    ["COALESCE", "IS NOT TRUE", "IS NOT FALSE", "DISTINCT FROM"].iter().any(|words| expression.contains(words))
}

/// The last expression of a list: what follows the last comma, parenthesis or `SELECT` that is not closed.
fn last_expression(list: &str) -> &str {
    let mut depth = 0_u32;
    for (at, c) in list.char_indices().rev() {
        match c {
            ')' => depth += 1,
            '(' | ',' if depth == 0 => return list.get(at + 1..).unwrap_or_default(),
            '(' => depth -= 1,
            'T' if depth == 0 && list.get(..=at).is_some_and(|start| start.ends_with("SELECT")) => {
                return list.get(at + 1..).unwrap_or_default();
            }
            _ => {}
        }
    }
    list
}

/// The columns that an expression names, without the tables that they are of.
fn names_in(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && !"_.".contains(c));
    words.filter_map(|word| word.rsplit('.').next()).filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
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
    fn what_comes_of_a_column_that_is_null_is_not_known() {
        let query = query(
            "SELECT w.wal_records AS records, w.wal_bytes, x.lsn AS wal_fpi, w.wal_sync AS wal_sync,\n\
             CASE WHEN w.wal_time > 0 OR r.timed THEN w.wal_time / 1000.0 END AS seconds, COALESCE(w.wal_time, 0) AS time,\n\
             EXTRACT(EPOCH FROM w.reset) AS stats_reset, (SELECT 1) AS one, pg_catalog.sum(w.buffers) AS buffers,\n\
             COALESCE(w.zeros, 0) AS zeros, pg_catalog.count(*) FILTER (WHERE w.wal_time IS NOT TRUE) AS open\n\
             FROM (SELECT NULL::bigint AS wal_records, NULL::numeric AS wal_bytes, NULL::bigint AS wal_sync,\n\
             NULL AS buffers, NULL AS zeros, NULL::numeric AS wal_time, NULL::pg_catalog.timestamptz AS reset) AS w",
        );
        for column in ["records", "wal_bytes", "wal_sync", "seconds", "stats_reset", "buffers"] {
            assert!(!query.knows(column), "{column}");
        }
        for column in ["wal_fpi", "time", "one", "zeros", "open"] {
            assert!(query.knows(column), "{column}");
        }
    }

    #[test]
    fn what_stands_in_for_a_null_says_nothing_of_what_is_computed_of_it() {
        let query = query("SELECT COALESCE(a.best, '') AS best, a.best = 1 AS is_best FROM (SELECT NULL AS best) AS a");
        assert!(query.knows("best") && !query.knows("is_best"));
    }

    #[test]
    fn a_column_that_another_part_of_a_union_fills_is_known() {
        let union =
            "WITH holder AS (SELECT NULL::integer AS xids, NULL AS no FROM (SELECT 1) AS s UNION ALL SELECT 1, NULL)";
        assert!(query(&format!("{union} SELECT pg_catalog.max(xids) AS xids FROM holder")).knows("xids"));
        assert!(!query("SELECT a FROM (SELECT NULL AS a) AS s UNION ALL SELECT 1").knows("a"));
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
