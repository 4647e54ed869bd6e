//! A schema in a file, to be compared with what it is later: the text that the original writes, a hash of Perl's
//! `Data::Dumper`, which either program can read after the other.

use super::catalog::{Object, Objects, Schema};

/// The line after which the hash begins.
const START: &str = "## Start of same_schema information:";
const END: &str = "## End of same_schema information";
/// The line that only we write.
const WRITER: &str = "## Written by pgvitals";

/// What stands before the hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    /// Version of the program that wrote it.
    pub(super) version: String,
    /// Version of the server.
    pub(super) server: String,
    pub(super) created: String,
    pub(super) connection: String,
    pub(super) database: String,
    pub(super) host: String,
    pub(super) port: String,
    pub(super) user: String,
}

impl About {
    fn lines(&mut self) -> [(&'static str, &mut String); 8] {
        [
            ("CP version", &mut self.version),
            ("PG version", &mut self.server),
            ("Created", &mut self.created),
            ("Connection", &mut self.connection),
            ("Database name", &mut self.database),
            ("Host", &mut self.host),
            ("Port", &mut self.port),
            ("User", &mut self.user),
        ]
    }
}

/// A schema as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) about: About,
    /// Whether it is by the original: it cuts lines off and marks their ends.
    pub(super) is_foreign: bool,
    pub(super) schema: Schema,
}

/// The text of a file.
pub(super) fn write(mut about: About, schema: &Schema) -> String {
    let mut text = format!("## Audit file for check_postgres\n{WRITER}\n");
    for (name, value) in about.lines() {
        if !value.is_empty() {
            text += &format!("## {name}: {}\n", value.replace(['\n', '\r'], " "));
        }
    }
    text += &format!("{START}\n$POSTGRES1 = {{");
    let mut first = "";
    for (kind, objects) in schema {
        text += &format!("{first}\n  {} => {{", quoted(kind));
        write_objects(&mut text, objects);
        text += "\n  }";
        first = ",";
    }
    text + &format!("\n}};\n{END}\n")
}

fn write_objects(text: &mut String, objects: &Objects) {
    let mut first = "";
    for (name, object) in objects {
        *text += &format!("{first}\n    {} => {{", quoted(name));
        let columns = object.iter().map(|(column, value)| format!("\n      {} => {}", quoted(column), quoted(value)));
        *text += &columns.collect::<Vec<_>>().join(",");
        *text += "\n    }";
        first = ",";
    }
}

/// A text in Perl's double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '"' | '\\' | '$' | '@' => quoted.extend(['\\', letter]),
            letter if letter.is_ascii_graphic() || letter == ' ' => quoted.push(letter),
            letter => quoted += &format!("\\x{{{:x}}}", u32::from(letter)),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads a file. Nothing in it is run: what is no hash of hashes of texts is refused.
///
/// # Errors
///
/// Where it is none.
pub(super) fn read(text: &str) -> Result<Snapshot, String> {
    let (head, rest) = text.split_once(START).ok_or("no same_schema information in it")?;
    let (body, _) = rest.split_once(END).unwrap_or((rest, ""));
    let mut about = About::default();
    for (name, value) in about.lines() {
        let line = head.lines().find_map(|line| line.strip_prefix("## ")?.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or("???").trim_end().clone_into(value);
    }
    let mut parser = Parser { rest: body };
    parser.expect("$POSTGRES1")?;
    parser.expect("=")?;
    let mut schema = Schema::new();
    parser.hash(|parser, kind| {
        let mut objects = Objects::new();
        parser.hash(|parser, name| {
            let value = parser.object()?;
            objects.insert(name, value);
            Ok(())
        })?;
        schema.insert(kind, objects);
        Ok(())
    })?;
    // The original's own way from the numbers of roles to their names.
    schema.remove("useroid");
    Ok(Snapshot { about, is_foreign: !head.contains(WRITER), schema })
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        self.skip();
        match self.rest.strip_prefix(token) {
            Some(rest) => self.rest = rest,
            None => return Err(format!("expected `{token}` before `{}`", self.near())),
        }
        Ok(())
    }

    fn near(&self) -> String {
        self.rest.chars().take(20).filter(|letter| !letter.is_control()).collect()
    }

    fn hash(&mut self, mut entry: impl FnMut(&mut Self, String) -> Result<(), String>) -> Result<(), String> {
        self.expect("{")?;
        loop {
            self.skip();
            if let Some(rest) = self.rest.strip_prefix('}') {
                self.rest = rest;
                return Ok(());
            }
            let key = self.scalar()?;
            self.expect("=>")?;
            entry(self, key)?;
            self.skip();
            self.rest = self.rest.strip_prefix(',').unwrap_or(self.rest);
        }
    }

    /// A hash of texts; of anything else, such as the original's numbers of roles, nothing is kept.
    fn object(&mut self) -> Result<Object, String> {
        self.skip();
        let mut object = Object::new();
        if !self.rest.starts_with('{') {
            self.scalar()?;
            return Ok(object);
        }
        self.hash(|parser, column| {
            let value = parser.scalar()?;
            object.insert(column, value);
            Ok(())
        })?;
        Ok(object)
    }

    /// A text in double or single quotes, a number, a bare word; `undef` is empty.
    fn scalar(&mut self) -> Result<String, String> {
        self.skip();
        let mut letters = self.rest.chars();
        if let Some(quote @ ('"' | '\'')) = letters.next() {
            self.rest = letters.as_str();
            return self.text(quote);
        }
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        let end = self.rest.find(|letter| !is_word(letter)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or(("", self.rest));
        if word.is_empty() {
            return Err(format!("expected a text before `{}`", self.near()));
        }
        self.rest = rest;
        Ok(if word == "undef" { String::new() } else { word.to_owned() })
    }

    fn text(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut letters = self.rest.chars();
        loop {
            match letters.next() {
                None => return Err("a text does not end".to_owned()),
                Some(letter) if letter == quote => break,
                Some('\\') if quote == '\'' => match letters.next() {
                    Some(letter @ ('\'' | '\\')) => text.push(letter),
                    Some(letter) => text.extend(['\\', letter]),
                    None => {}
                },
                Some('\\') => {
                    let rest = escape(letters.as_str(), &mut text).ok_or("an escape that is not known")?;
                    letters = rest.chars();
                }
                Some(letter) => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Ok(text)
    }
}

/// What a backslash stands before; the text after it.
fn escape<'a>(rest: &'a str, text: &mut String) -> Option<&'a str> {
    let mut letters = rest.chars();
    let letter = letters.next()?;
    let plain = match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'f' => '\u{c}',
        'b' => '\u{8}',
        'a' => '\u{7}',
        'e' => '\u{1b}',
        'x' => {
            let (digits, rest) = letters.as_str().strip_prefix('{')?.split_once('}')?;
            text.push(u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?);
            return Some(rest);
        }
        '0'..='7' => {
            let end = rest.find(|letter| !matches!(letter, '0'..='7')).unwrap_or(rest.len()).min(3);
            let (digits, rest) = rest.split_at_checked(end)?;
            text.push(u32::from_str_radix(digits, 8).ok().and_then(char::from_u32)?);
            return Some(rest);
        }
        letter => letter,
    };
    text.push(plain);
    Some(letters.as_str())
}

/// A text without what the original loses or adds: blanks at the ends of lines, and the `+` of psql there.
pub(super) fn without_marks(value: &str) -> String {
    if !value.contains('\n') {
        return value.trim_end().to_owned();
    }
    let line = |line: &str| line.trim_end().trim_end_matches('+').trim_end().to_owned();
    value.lines().map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let value = " BEGIN\n\tRETURN 1; -- \"quoted\" \\ $x @y 'ä'\nEND ";
        let object = Object::from([("prosrc".to_owned(), value.to_owned()), ("name".to_owned(), "12".to_owned())]);
        Schema::from([
            ("function".to_owned(), Objects::from([("public.f(\"x\")".to_owned(), object)])),
            ("type".to_owned(), Objects::new()),
        ])
    }

    #[test]
    fn what_is_written_is_read_again() {
        let about = About { server: "15.18".to_owned(), port: "5600".to_owned(), ..About::default() };
        let snapshot = read(&write(about, &schema())).unwrap();
        assert_eq!(snapshot.schema, schema());
        assert_eq!((&*snapshot.about.port, &*snapshot.about.host, snapshot.is_foreign), ("5600", "???", false));
    }

    #[test]
    fn the_original_s_file_is_read() {
        let text = "## Audit file for check_postgres\n## CP version: 2.25.0\n## PG version: 15.18\n\
                    ## Created: Sun Nov 22 15:36:19 2026\n## Start of same_schema information:\n$POSTGRES1 = {\n  \
                    \"useroid\" => {\n    10 => \"postgres\"\n  },\n  \"user\" => {\n    \"postgres\" => {\n      \
                    \"usesysid\" => 10,\n      \"valuntil\" => undef,\n      \"x\" => \"a \\$b \\@c \\x{e4}\\n +\"\n    }\n  \
                    },\n  \"language\" => {}\n};\n## End of same_schema information\n";
        let snapshot = read(text).unwrap();
        let user = &snapshot.schema["user"]["postgres"];
        assert_eq!((&*user["usesysid"], &*user["valuntil"], &*user["x"]), ("10", "", "a $b @c ä\n +"));
        assert!(snapshot.is_foreign && snapshot.schema["language"].is_empty() && snapshot.schema.len() == 2);
    }

    #[test]
    fn what_is_not_a_hash_of_texts_is_refused_and_never_run() {
        for body in ["system('id');", "$POSTGRES1 = do { 1 };", "$POSTGRES1 = {\"a\" => {\"b\" => {\"c\" => \"", "x"] {
            assert!(read(&format!("{START}\n{body}\n{END}\n")).is_err(), "{body}");
        }
    }

    #[test]
    fn marks_of_psql_do_not_count() {
        assert_eq!(without_marks(" BEGIN      +\n  RETURN 1;   +\nEND "), " BEGIN\n  RETURN 1;\nEND");
        assert_eq!(without_marks("a + "), "a +");
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(body in "[\\PC\n]{0,60}") {
            let _ = read(&format!("{START}\n$POSTGRES1 = {{ \"a\" => {{ {body}"));
        }

        #[test]
        fn every_text_comes_back(name in "\\PC{0,20}", value in "[\\PC\n\t\r]{0,40}") {
            let object = Object::from([("c".to_owned(), value)]);
            let schema = Schema::from([("table".to_owned(), Objects::from([(name, object)]))]);
            proptest::prop_assert_eq!(read(&write(About::default(), &schema)).unwrap().schema, schema);
        }
    }
}
