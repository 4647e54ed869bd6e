//! Several columns of a row as samples of one metric: collectd and `sql_exporter` tell them apart by a label.

use super::statement::{filled, identifier, is_query, only_statement};

/// What is made of each row of a query.
pub(super) struct Pivot {
    /// Columns of the query that are kept.
    pub(super) kept: Vec<String>,
    /// The names of the columns that are made.
    pub(super) made: Vec<String>,
    /// Their values, for each row that is made of one of the query: expressions over `q`.
    pub(super) rows: Vec<Vec<String>>,
}

impl Pivot {
    /// The statement; none if the query is not one SELECT.
    pub(super) fn statement(&self, sql: &str) -> Option<String> {
        let inner = only_statement(sql).filter(|inner| is_query(inner))?;
        let kept = self.kept.iter().map(|name| format!("q.{}", identifier(name)));
        let columns = filled(kept.chain(self.made.iter().map(|name| format!("v.{}", identifier(name)))));
        let rows: Vec<String> = self.rows.iter().map(|row| format!("({})", row.join(", "))).collect();
        let names: Vec<String> = self.made.iter().map(|name| identifier(name)).collect();
        Some(format!(
            "SELECT {columns}\n  FROM (\n{inner}\n) AS q\n CROSS JOIN LATERAL (VALUES {}) AS v({})",
            rows.join(",\n       "),
            names.join(", ")
        ))
    }
}

/// A column's value as a number.
pub(super) fn number(column: &str) -> String {
    format!("q.{}::pg_catalog.float8", identifier(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_rows() {
        let pivot = Pivot {
            kept: vec!["datname".to_owned()],
            made: vec!["col".to_owned(), "value".to_owned()],
            rows: vec![vec!["'a'".to_owned(), number("a")], vec!["'B'".to_owned(), number("B")]],
        };
        assert_eq!(
            pivot.statement("SELECT datname, a, \"B\" FROM x;").unwrap(),
            "SELECT q.datname, v.col, v.value\n  FROM (\nSELECT datname, a, \"B\" FROM x\n) AS q\n \
             CROSS JOIN LATERAL (VALUES ('a', q.a::pg_catalog.float8),\n       ('B', q.\"B\"::pg_catalog.float8)) AS v(col, value)"
        );
        assert!(pivot.statement("SHOW all").is_none());
    }
}
