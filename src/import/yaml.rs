//! YAML as exporters are configured with: a tree whose keys know their lines.
//!
//! What is read was written by anybody: what aliases make of it is bounded, and so is its depth.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::source::{Source, SourceError};

/// So many bytes may come of a file once its aliases are followed.
const LARGEST: usize = 8 << 20;
/// What each node counts beside its text.
const NODE: usize = 64;
/// A key is looked for so far behind the one before it, when comments or a long text stand between.
const WINDOW: usize = 16 << 10;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// A key alone.
    Nothing,
    /// A text, a number or a boolean, as it is written or as it would be.
    Word(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in its order.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// The key's line, from 1; that of the key before where it cannot be told.
    pub(super) line: usize,
    /// The value.
    pub(super) value: Node,
}

/// Reads a file with one document.
///
/// # Errors
///
/// It is no YAML, holds a key twice, is nested too deeply, or is too large once aliases are followed.
pub(super) fn read(source: &Source) -> Result<Node, SourceError> {
    let reading = Reading { text: &source.text, at: Cell::new(0), line: Cell::new(1), left: Cell::new(LARGEST) };
    let read = Seed(&reading).deserialize(yaml_serde::Deserializer::from_str(&source.text));
    read.map_err(|error| {
        let said = error.to_string();
        let reason = said.split(" at line ").next().unwrap_or_default();
        source.mistake(error.location().map_or(reading.at.get(), |place| place.index()), reason)
    })
}

/// What is left to be read.
struct Reading<'a> {
    text: &'a str,
    /// Behind the last key or value that was found.
    at: Cell<usize>,
    /// Its line.
    line: Cell<usize>,
    left: Cell<usize>,
}

impl Reading<'_> {
    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(bytes.saturating_add(NODE));
        self.left.set(left.ok_or_else(|| E::custom("too large once its aliases are followed"))?);
        Ok(())
    }

    /// The part of the text in which the next key or value begins.
    fn window(&self, size: usize) -> &str {
        let start = self.at.get();
        let mut end = self.text.len().min(start.saturating_add(size));
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.get(start..end).unwrap_or_default()
    }

    fn go_to(&self, offset: usize) {
        let passed = self.window(offset).bytes().filter(|&byte| byte == b'\n').count();
        self.line.set(self.line.get() + passed);
        self.at.set(self.at.get() + self.window(offset).len());
    }

    /// Goes behind a key and gives its line. The parser gives no place for what is right.
    fn pass_key(&self, key: &str) -> usize {
        let window = self.window(WINDOW);
        let found = window.match_indices(key).find(|(at, _)| {
            let before = window.get(..*at).unwrap_or_default();
            let begins = before.is_empty() || before.ends_with(|c: char| c.is_whitespace() || "{,'\"-".contains(c));
            let after = window.get(at + key.len()..).unwrap_or_default().trim_start_matches(['\'', '"']).trim_start();
            let line = before.rsplit('\n').next().unwrap_or_default();
            begins && after.starts_with(':') && !line.trim_start().starts_with('#')
        });
        if let Some((at, _)) = found.filter(|_| !key.is_empty()) {
            self.go_to(at + key.len());
        }
        self.line.get()
    }

    /// Goes behind a text of several lines, in which there may be what looks like a key.
    fn pass_text(&self, text: &str) {
        let Some((first, rest)) = text.split_once('\n') else { return };
        let found = self.window(WINDOW).find(first.trim()).filter(|_| !first.trim().is_empty());
        if let Some(at) = found {
            self.go_to(at + first.len() + rest.len());
        }
    }
}

struct Seed<'a>(&'a Reading<'a>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Seed<'_> {
    fn word<E: Error>(self, word: impl fmt::Display) -> Result<Node, E> {
        self.0.spend(0)?;
        Ok(Node::Word(word.to_string()))
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.0.spend(0)?;
        Ok(Node::Nothing)
    }

    // A file that holds nothing but comments.
    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.word(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.word(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.word(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.word(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        self.0.spend(text.len())?;
        self.0.pass_text(text);
        Ok(Node::Word(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        self.0.spend(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed(self.0))? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        self.0.spend(0)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        let mut known = BTreeSet::new();
        while let Some(key) = map.next_key_seed(Seed(self.0))? {
            let Node::Word(key) = key else { return Err(A::Error::custom("expected a word as the key")) };
            if !known.insert(key.clone()) {
                return Err(A::Error::custom(format!("`{}` stands there twice", shortened(&key))));
            }
            let line = self.0.pass_key(&key);
            let value = map.next_value_seed(Seed(self.0))?;
            match value {
                Node::Map(more) if key == "<<" => merged.extend(more),
                value => entries.push(Entry { key, line, value }),
            }
        }
        entries.extend(merged.into_iter().filter(|entry| known.insert(entry.key.clone())));
        Ok(Node::Map(entries))
    }
}

/// As much of a text as a message may repeat.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A file and what is wrong in it.
pub(super) struct Expecting<'a>(pub(super) &'a Source);

impl Expecting<'_> {
    /// The entries of a map; a key alone has none.
    pub(super) fn map<'n>(&self, entry: &'n Entry, what: &str) -> Result<&'n [Entry], SourceError> {
        self.entries(&entry.value, entry.line, what)
    }

    /// The same of a value in a list.
    pub(super) fn entries<'n>(&self, node: &'n Node, line: usize, what: &str) -> Result<&'n [Entry], SourceError> {
        match node {
            Node::Map(entries) => Ok(entries),
            Node::Nothing => Ok(&[]),
            _ => Err(self.mistake(line, format!("expected {what}"))),
        }
    }

    /// The items of a list; a key alone has none.
    pub(super) fn list<'n>(&self, entry: &'n Entry, what: &str) -> Result<&'n [Node], SourceError> {
        match &entry.value {
            Node::List(items) => Ok(items),
            Node::Nothing => Ok(&[]),
            _ => Err(self.mistake(entry.line, format!("{}: expected {what}", shortened(&entry.key)))),
        }
    }

    /// A list of texts.
    pub(super) fn words(&self, entry: &Entry) -> Result<Vec<String>, SourceError> {
        let what = "a list of texts";
        let words = self.list(entry, what)?.iter().map(|item| match item {
            Node::Word(word) => Ok(word.clone()),
            _ => Err(self.mistake(entry.line, format!("{}: expected {what}", shortened(&entry.key)))),
        });
        words.collect()
    }

    /// A text; a key alone is an empty one.
    pub(super) fn text(&self, entry: &Entry) -> Result<String, SourceError> {
        match &entry.value {
            Node::Word(word) => Ok(word.clone()),
            Node::Nothing => Ok(String::new()),
            _ => Err(self.mistake(entry.line, format!("{}: expected a text", shortened(&entry.key)))),
        }
    }

    /// A number that is finite.
    pub(super) fn number(&self, entry: &Entry) -> Result<f64, SourceError> {
        let number = self.text(entry)?.trim().parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.mistake(entry.line, format!("{}: expected a number", shortened(&entry.key))))
    }

    /// A boolean.
    pub(super) fn flag(&self, entry: &Entry) -> Result<bool, SourceError> {
        match self.text(entry)?.trim().to_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(true),
            "" | "false" | "no" | "off" => Ok(false),
            _ => Err(self.mistake(entry.line, format!("{}: expected true or false", shortened(&entry.key)))),
        }
    }

    /// What is wrong in a line.
    pub(super) fn mistake(&self, line: usize, reason: impl Into<String>) -> SourceError {
        SourceError::Mistake { file: self.0.file.clone(), line, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { file: "x.yml".into(), text: text.to_owned().into() }
    }

    fn lines(node: &Node, found: &mut Vec<(String, usize)>) {
        match node {
            Node::List(items) => items.iter().for_each(|item| lines(item, found)),
            Node::Map(entries) => {
                for entry in entries {
                    found.push((entry.key.clone(), entry.line));
                    lines(&entry.value, found);
                }
            }
            Node::Nothing | Node::Word(_) => {}
        }
    }

    #[test]
    fn every_key_knows_its_line() {
        let text = "# one: 1\none:\n  query: |\n    SELECT 1 -- metrics: 2\n     metrics: 3\n  metrics:\n  - a: {usage: LABEL, \
                    'rename': b}\n  - usage: x\n\n  # usage: y\n\"two\": |-\n  q\nthree: 9.6\n";
        let mut found = Vec::new();
        lines(&read(&source(text)).unwrap(), &mut found);
        let found: Vec<String> = found.into_iter().map(|(key, line)| format!("{key} {line}")).collect();
        assert_eq!(
            found,
            ["one 2", "query 3", "metrics 6", "a 7", "usage 7", "rename 7", "usage 8", "two 11", "three 13"]
        );
    }

    #[test]
    fn aliases_and_merges_are_followed_so_far_and_no_further() {
        let text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n";
        let Node::Map(entries) = read(&source(text)).unwrap() else { panic!("no map") };
        let Node::Map(merged) = &entries[1].value else { panic!("no map") };
        let merged: Vec<_> = merged.iter().map(|entry| (entry.key.as_str(), entry.value.clone())).collect();
        assert_eq!(merged, [("y", Node::Word("3".to_owned())), ("x", Node::Word("1".to_owned()))]);

        let mut bomb = format!("a0: &a0 {}\n", "x".repeat(1000));
        for level in 1..20 {
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "));
        }
        let error = read(&source(&bomb)).unwrap_err().to_string();
        assert!(error.contains("too large") || error.contains("repetition limit"), "{error}");
    }

    #[test]
    fn a_mistake_names_its_line() {
        for (text, expected) in [
            ("a: 1\nb: [\n", "x.yml:3: "),
            ("a: 1\na: 2\n", "`a` stands there twice"),
            ("a:\n  ? [x]\n  : 1\n", "expected a word as the key"),
            ("a: !b 1\n", "a value without a tag"),
            (&"[".repeat(10_000), "recursion limit exceeded"),
            ("a: 1\n---\nb: 1\n", "more than one document"),
        ] {
            let error = read(&source(text)).unwrap_err().to_string();
            assert!(error.starts_with("x.yml:") && error.contains(expected), "{error}");
        }
    }
}
