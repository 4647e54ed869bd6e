//! The syntax of collectd's configuration (its `liboconfig`): keys with values, blocks in angle brackets, comments behind `#`,
//! and lines that go on behind a backslash.

use crate::source::{Source, SourceError};

/// Blocks within blocks, so many at most; collectd's own need four.
const DEEPEST: usize = 32;

/// A key with its values, or a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// The key, in the letters it is written in; they mean the same in any case.
    pub(super) key: String,
    /// Texts, numbers and words alike.
    pub(super) values: Vec<String>,
    /// Its line, from 1.
    pub(super) line: usize,
    /// What stands in the block.
    pub(super) items: Vec<Item>,
}

impl Item {
    /// Whether it has this key.
    pub(super) fn is(&self, key: &str) -> bool {
        self.key.eq_ignore_ascii_case(key)
    }

    /// The first value; empty if there is none.
    pub(super) fn value(&self) -> &str {
        self.values.first().map_or("", String::as_str)
    }
}

/// Reads a file.
///
/// # Errors
///
/// What was expected, and in which line.
pub(super) fn read(source: &Source) -> Result<Vec<Item>, SourceError> {
    let mut reading = Reading { source, rest: &source.text, line: 1 };
    let mut open: Vec<Item> = vec![Item::default()];
    while let Some(words) = reading.line()? {
        let Line { first: line, opens, closes, mut words } = words;
        if words.is_empty() {
            continue;
        }
        let key = words.remove(0);
        if closes {
            let block = open.pop().filter(|_| !open.is_empty());
            let block = block.ok_or_else(|| mistake(source, line, format!("</{key}> closes no block")))?;
            if !block.is(&key) {
                let reason = format!("expected </{}> for the block of line {}", block.key, block.line);
                return Err(mistake(source, line, reason));
            }
            if let Some(outer) = open.last_mut() {
                outer.items.push(block);
            }
            continue;
        }
        let item = Item { key, values: words, line, items: Vec::new() };
        if opens && open.len() > DEEPEST {
            return Err(mistake(source, line, format!("expected {DEEPEST} blocks within each other at most")));
        }
        if opens {
            open.push(item);
        } else if let Some(outer) = open.last_mut() {
            outer.items.push(item);
        }
    }
    match open.as_slice() {
        [_, block, ..] => Err(mistake(source, block.line, format!("expected </{}>: the block has no end", block.key))),
        _ => Ok(open.pop().map(|file| file.items).unwrap_or_default()),
    }
}

fn mistake(source: &Source, line: usize, reason: impl Into<String>) -> SourceError {
    SourceError::Mistake { file: source.file.clone(), line, reason: reason.into() }
}

struct Reading<'a> {
    source: &'a Source,
    rest: &'a str,
    line: usize,
}

/// What stands in a line, or in several that are one.
struct Line {
    first: usize,
    opens: bool,
    closes: bool,
    words: Vec<String>,
}

impl Reading<'_> {
    /// The next line; none at the end.
    fn line(&mut self) -> Result<Option<Line>, SourceError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut line = Line { first: self.line, opens: false, closes: false, words: Vec::new() };
        let mut is_closed = false;
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\n' => {
                    self.skip(1);
                    break;
                }
                '#' => self.skip(self.rest.find('\n').unwrap_or(self.rest.len())),
                '\\' if self.rest.starts_with("\\\n") || self.rest.starts_with("\\\r\n") => {
                    self.skip(self.rest.find('\n').unwrap_or_default() + 1);
                }
                c if c.is_whitespace() => self.skip(c.len_utf8()),
                _ if is_closed => return Err(self.mistake("expected the end of the line behind >")),
                '<' if line.words.is_empty() && !line.opens => {
                    line.opens = true;
                    self.skip(1);
                }
                '/' if line.opens && line.words.is_empty() && !line.closes => {
                    line.closes = true;
                    self.skip(1);
                }
                '>' if line.opens && !line.words.is_empty() => {
                    is_closed = true;
                    self.skip(1);
                }
                '"' => {
                    let text = self.quoted()?;
                    line.words.push(text);
                }
                _ => {
                    // The path of a file stands without quotes in older files.
                    let is_end = |c: char| c.is_whitespace() || "<>\"#".contains(c);
                    let end = self.rest.find(is_end).unwrap_or(self.rest.len());
                    if end == 0 {
                        return Err(self.mistake(format!("`{c}`: expected a key, a value or a block")));
                    }
                    line.words.extend(self.rest.get(..end).map(str::to_owned));
                    self.skip(end);
                }
            }
        }
        if line.opens != is_closed {
            return Err(mistake(self.source, line.first, "expected > at the end of the line"));
        }
        Ok(Some(line))
    }

    /// A text in quotes. A backslash takes the letter behind it as it is; at the end of a line it takes the end and the blanks
    /// that the next line begins with.
    fn quoted(&mut self) -> Result<String, SourceError> {
        let from = self.line;
        self.skip(1);
        let mut text = String::new();
        loop {
            let mut letters = self.rest.chars();
            match (letters.next(), letters.next()) {
                (None, _) => return Err(mistake(self.source, from, "expected \" at the end of the text")),
                (Some('"'), _) => {
                    self.skip(1);
                    return Ok(text);
                }
                (Some('\\'), Some('\n' | '\r')) => {
                    self.skip(self.rest.find('\n').map_or(self.rest.len(), |at| at + 1));
                    self.skip(self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len());
                    // Between two words of a statement it is as good as a blank, and easier to read.
                    let is_literal = text.matches('\'').count() % 2 == 1;
                    if !is_literal && text.ends_with(char::is_whitespace) {
                        text.truncate(text.trim_end().len());
                        text.push('\n');
                    }
                }
                (Some('\\'), Some(letter)) => {
                    text.push(letter);
                    self.skip(1 + letter.len_utf8());
                }
                (Some(letter), _) => {
                    text.push(letter);
                    self.skip(letter.len_utf8());
                }
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }

    fn mistake(&self, reason: impl Into<String>) -> SourceError {
        mistake(self.source, self.line, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mutation::mutated;

    const GOOD: &str = "# comment\nLoadPlugin postgresql\n<Plugin \"postgresql\">\n  <Query a_b>\n    Statement \"SELECT \\\"x\\\" AS x, \\\n        \
                        1 # not a comment \\\n  FROM y;\" # comment\n    Param database\n    MinVersion 80300\n  </Query>\n</Plugin>\n";

    fn source(text: &str) -> Source {
        Source { file: "collectd.conf".into(), text: text.to_owned().into() }
    }

    #[test]
    fn keys_values_and_blocks_know_their_lines() {
        let items = read(&source(GOOD)).unwrap();
        assert_eq!((items[0].key.as_str(), items[0].value(), items[0].line), ("LoadPlugin", "postgresql", 2));
        let query = &items[1].items[0];
        assert_eq!((query.key.as_str(), query.value(), query.line), ("Query", "a_b", 4));
        let found: Vec<_> = query.items.iter().map(|item| (item.key.as_str(), item.value(), item.line)).collect();
        assert_eq!(
            found,
            [
                ("Statement", "SELECT \"x\" AS x,\n1 # not a comment\nFROM y;", 5),
                ("Param", "database", 8),
                ("MinVersion", "80300", 9)
            ]
        );
    }

    #[test]
    fn a_mistake_names_its_line() {
        for (text, expected) in [
            ("a 1\n<b>\n c 1\n", "collectd.conf:2: expected </b>: the block has no end"),
            ("<b>\n</c>\n", "collectd.conf:2: expected </b> for the block of line 1"),
            ("</c>\n", "collectd.conf:1: </c> closes no block"),
            ("\na \"b\n\n", "collectd.conf:2: expected \" at the end of the text"),
            ("<a\nb 1\n", "collectd.conf:1: expected > at the end of the line"),
            ("<a> b\n</a>", "collectd.conf:1: expected the end of the line behind >"),
            ("a > b\n", "collectd.conf:1: `>`: expected a key, a value or a block"),
            (&"<a>\n".repeat(10_000), "collectd.conf:33: expected 32 blocks within each other at most"),
        ] {
            assert_eq!(read(&source(text)).unwrap_err().to_string(), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_change_of_a_file_makes_the_reader_panic(text in mutated(GOOD)) {
            let _ = read(&source(&String::from_utf8_lossy(&text)));
        }
    }
}
