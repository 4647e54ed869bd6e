//! The label values of families, as the text that is written for them.

/// Rows of label values under common label names.
///
/// A row is kept as it stands between the braces of the text formats, `device="sda",mode="read"`. A definition of thirty metrics
/// writes each row thirty times, and each time it is one copy; what has to be escaped was found when the row came.
#[derive(Debug, Default)]
pub struct Rows {
    names: Vec<String>,
    text: String,
    /// Where the closing quote of each value is in `text`, row after row.
    ends: Vec<u32>,
    /// As they were: the values that are escaped in `text`, by their place in `ends`, rising.
    escaped: Vec<(usize, Box<str>)>,
}

impl Rows {
    /// No rows yet, under these label names.
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { names, ..Self::default() }
    }

    /// The label names, in the order of the values.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The label values of one row, in the order of [`Rows::names`].
    pub fn values(&self, row: u32) -> impl Iterator<Item = &str> {
        let first = row as usize * self.names.len();
        let mut start = self.start(first);
        self.names.iter().zip(first..).zip(self.ends.iter().skip(first)).map(move |((name, at), &end)| {
            // Before it stand the comma of all but the first, its name, `=` and the opening quote.
            let opened = start + usize::from(at > first) + name.len() + 2;
            start = end as usize + 1;
            self.as_it_was(at).or_else(|| self.text.get(opened..end as usize)).unwrap_or_default()
        })
    }

    /// Names and values of one row as the text formats of Prometheus have them between braces; without the braces.
    pub fn text(&self, row: u32) -> &str {
        let first = row as usize * self.names.len();
        self.text.get(self.start(first)..self.start(first + self.names.len())).unwrap_or_default()
    }

    /// How many bytes the text of a row has in the mean, rounded up.
    pub(super) fn mean_bytes(&self) -> usize {
        (self.text.len() * self.names.len()).checked_div(self.ends.len()).map_or(0, |mean| mean + 1)
    }

    /// Appends a row. Values that are missing are empty, and those that are too many are left out.
    pub(super) fn push<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) {
        let mut values = values.into_iter();
        for (at, name) in self.names.iter().enumerate() {
            let value = values.next().unwrap_or_default();
            if at > 0 {
                self.text.push(',');
            }
            self.text.push_str(name);
            self.text.push_str("=\"");
            if push_escaped(&mut self.text, value, true) {
                self.escaped.push((self.ends.len(), value.into()));
            }
            self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
            self.text.push('"');
        }
    }

    /// Takes back the row with this number and all after it.
    pub(super) fn truncate(&mut self, row: u32) {
        let values = row as usize * self.names.len();
        if values >= self.ends.len() {
            return;
        }
        self.text.truncate(self.start(values));
        self.ends.truncate(values);
        while self.escaped.pop_if(|(at, _)| *at >= values).is_some() {}
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.escaped.shrink_to_fit();
    }

    /// The bytes it keeps.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    /// Where the text of the row begins of which this value is the first.
    fn start(&self, value: usize) -> usize {
        // After a closing quote, which is one byte.
        value.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |&end| end as usize + 1)
    }

    fn as_it_was(&self, value: usize) -> Option<&str> {
        let found = self.escaped.binary_search_by_key(&value, |(at, _)| *at).ok()?;
        self.escaped.get(found).map(|(_, value)| &**value)
    }
}

/// Appends a text as the text formats of Prometheus want it, and tells whether anything had to be escaped: backslash, line feed, and
/// the double quote of what stands between quotes.
pub fn push_escaped(out: &mut String, text: &str, quoted: bool) -> bool {
    // Without an early end, which would keep the compiler from looking at sixteen bytes at once.
    if !text.bytes().fold(false, |found, byte| found | matches!(byte, b'\\' | b'"' | b'\n')) {
        out.push_str(text);
        return false;
    }
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(names: &[&str], rows: &[Vec<String>]) -> Rows {
        let mut found = Rows::new(names.iter().map(|&name| name.to_owned()).collect());
        for values in rows {
            found.push(values.iter().map(String::as_str));
        }
        found
    }

    #[test]
    fn a_row_is_kept_as_it_is_written() {
        let values = [["sda", "a \"b\"\\\n"], ["", ","]].map(|row| row.map(str::to_owned).to_vec());
        let rows = rows(&["device", "mode"], &values);
        assert_eq!(rows.text(0), r#"device="sda",mode="a \"b\"\\\n""#);
        assert_eq!(rows.text(1), r#"device="",mode=",""#);
        assert_eq!(rows.text(2), "");
        assert_eq!(rows.values(2).count(), 0);
    }

    #[test]
    fn rows_without_labels_have_no_text() {
        let rows = rows(&[], &[Vec::new(), Vec::new()]);
        assert_eq!((rows.text(0), rows.values(1).count(), rows.mean_bytes()), ("", 0, 0));
    }

    #[test]
    fn a_row_has_as_many_values_as_there_are_names() {
        let rows = rows(&["a", "b"], &[vec!["x".to_owned()], ["1", "2", "3"].map(str::to_owned).to_vec()]);
        assert_eq!(rows.values(0).chain(rows.values(1)).collect::<Vec<_>>(), ["x", "", "1", "2"]);
    }

    proptest! {
        #[test]
        fn values_are_given_back_as_they_came(
            given in prop::collection::vec(prop::collection::vec("[a\"\\\\\n,={}é]{0,5}", 3), 1..8),
            kept in 0u32..8,
        ) {
            let mut found = rows(&["a", "label", "x_y"], &given);
            let read = |rows: &Rows, row: u32| rows.values(row).map(str::to_owned).collect::<Vec<_>>();
            for (row, values) in (0..).zip(&given) {
                prop_assert_eq!(&read(&found, row), values);
            }
            found.truncate(kept);
            found.push(["\"", "", "\n"]);
            let last = kept.min(u32::try_from(given.len()).unwrap());
            for (row, values) in (0..last).zip(&given) {
                prop_assert_eq!(&read(&found, row), values);
            }
            prop_assert_eq!(read(&found, last), ["\"", "", "\n"]);
        }
    }
}
