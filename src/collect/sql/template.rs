//! Texts with the values of columns in them.

use super::Row;

/// A text in which `{column}` stands for what a row has in that column.
pub(super) struct Template<'a> {
    /// Each text, and the column whose value follows it.
    pieces: Vec<(&'a str, usize)>,
    end: &'a str,
}

impl<'a> Template<'a> {
    /// Finds the columns of these names in a text.
    pub(super) fn new(text: &'a str, columns: &[(&str, usize)]) -> Self {
        let (mut pieces, mut end) = (Vec::new(), text);
        while let Some((before, column, after)) = next(end, columns) {
            pieces.push((before, column));
            end = after;
        }
        Self { pieces, end }
    }

    /// The text for a row; what is NULL is empty.
    pub(super) fn fill(&self, row: Row<'_>) -> String {
        self.fill_with(row, String::push_str)
    }

    /// The same in the letters that the name of a metric may have.
    pub(super) fn fill_name(&self, row: Row<'_>) -> String {
        self.fill_with(row, |name, value| {
            name.extend(value.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
        })
    }

    fn fill_with(&self, row: Row<'_>, push: impl Fn(&mut String, &str)) -> String {
        let mut text = String::new();
        for (before, column) in &self.pieces {
            text.push_str(before);
            push(&mut text, row.get(*column).unwrap_or_default());
        }
        text + self.end
    }
}

/// The first of the columns that a text has: what stands before it, which it is, and what comes after it.
fn next<'a>(text: &'a str, columns: &[(&str, usize)]) -> Option<(&'a str, usize, &'a str)> {
    let found = columns.iter().filter_map(|(name, column)| {
        let (before, after) = text.split_once(&format!("{{{name}}}"))?;
        Some((before, *column, after))
    });
    found.min_by_key(|(before, ..)| before.len())
}
