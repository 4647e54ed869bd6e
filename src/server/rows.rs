//! The rows of an answer, kept as one text.

/// An answer: columns, and rows of texts or NULL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet {
    columns: Vec<String>,
    text: String,
    /// Where each value ends in `text`, row after row; the highest bit says that it is NULL.
    ends: Vec<u32>,
}

const NULL: u32 = 1 << 31;

/// Answers end at so many bytes; no collector has use for a larger one, and the agent shall not be the reason why memory runs out.
pub(super) const LARGEST: usize = 64 << 20;

impl RowSet {
    /// An answer without rows yet.
    pub fn new(columns: Vec<String>) -> Self {
        Self { columns, ..Self::default() }
    }

    /// Appends a value to the last row; false when there is no room for it.
    #[must_use]
    pub fn push(&mut self, value: Option<&str>) -> bool {
        let text = value.unwrap_or_default();
        let end = self.text.len() + text.len();
        // NULL takes room too.
        let fits = self.bytes() + text.len() <= LARGEST;
        let Some(end) = u32::try_from(end).ok().filter(|_| fits) else { return false };
        self.text.push_str(text);
        self.ends.push(if value.is_none() { end | NULL } else { end });
        true
    }

    /// The names of the columns, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len().checked_div(self.columns.len()).unwrap_or(0)
    }

    /// How much memory the values take.
    pub fn bytes(&self) -> usize {
        self.text.len() + size_of_val(self.ends.as_slice())
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value in a row and column: `None` for NULL, and where there is no such row or column.
    pub fn value(&self, row: usize, column: usize) -> Option<&str> {
        if column >= self.columns.len() {
            return None;
        }
        let at = row.checked_mul(self.columns.len())?.checked_add(column)?;
        let end = *self.ends.get(at)?;
        if end & NULL != 0 {
            return None;
        }
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| end & !NULL);
        self.text.get(start as usize..end as usize)
    }

    /// The rows, each an iterator over its values in the order of the columns.
    pub fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = Option<&str>>> {
        (0..self.len()).map(move |row| (0..self.columns.len()).map(move |column| self.value(row, column)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_nothing_but_null_ends_too() {
        let mut rows = RowSet { ends: vec![0; LARGEST / 4], ..RowSet::default() };
        assert!(rows.push(None) && !rows.push(None));
    }

    #[test]
    fn null_and_the_empty_text_are_two_things() {
        let mut rows = RowSet::new(vec!["a".to_owned(), "b".to_owned()]);
        for value in [Some("x"), None, Some(""), Some("yz")] {
            assert!(rows.push(value));
        }
        let read: Vec<Vec<_>> = rows.rows().map(Iterator::collect).collect();
        assert_eq!(read, [[Some("x"), None], [Some(""), Some("yz")]]);
        assert_eq!((rows.len(), rows.column("b")), (2, Some(1)));
        assert_eq!((rows.value(0, 2), rows.value(2, 0)), (None, None));
    }
}
