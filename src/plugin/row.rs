//! Reading the rows of a listing by the names of their columns.

use crate::server::RowSet;

/// One row of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    rows: &'a RowSet,
    at: usize,
}

impl<'a> Row<'a> {
    /// The rows of an answer, in order.
    pub fn of(rows: &'a RowSet) -> impl Iterator<Item = Self> {
        (0..rows.len()).map(move |at| Self { rows, at })
    }

    /// The value of a column; `None` for NULL, and for a column that is not there.
    pub fn get(&self, column: &str) -> Option<&'a str> {
        self.rows.value(self.at, self.rows.column(column)?)
    }

    /// The value of a column; empty for NULL.
    pub fn text(&self, column: &str) -> &'a str {
        self.get(column).unwrap_or_default()
    }

    /// A number; `None` for NULL and for what is none.
    pub fn number(&self, column: &str) -> Option<f64> {
        self.get(column)?.parse().ok()
    }

    /// A whole number; `None` for NULL and for what is none.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.get(column)?.parse().ok()
    }

    /// Whether a boolean is true.
    pub fn is(&self, column: &str) -> bool {
        self.get(column) == Some("t")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_column_and_null_is_none() {
        let mut rows = RowSet::new(["a", "b", "c"].map(str::to_owned).to_vec());
        for value in [Some("1"), Some("t"), None, Some("x"), None, Some("2.5")] {
            assert!(rows.push(value));
        }
        let rows: Vec<Row<'_>> = Row::of(&rows).collect();
        assert_eq!(
            (rows[0].integer("a"), rows[0].is("b"), rows[0].get("c"), rows[0].get("d")),
            (Some(1), true, None, None)
        );
        assert_eq!((rows[1].integer("a"), rows[1].text("b"), rows[1].number("c")), (None, "", Some(2.5)));
    }
}
