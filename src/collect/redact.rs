//! What of the text of a statement may be shown: its words, and none of the values in it.
//!
//! `pg_stat_statements` puts parameters for the constants of queries, but not for those of all other statements, and keeps a
//! text as it was written when it was evicted while it ran. So every literal becomes `?` here, whoever wrote the text.

use std::iter::Peekable;
use std::str::Chars;

/// The first words of statements whose `SET` names columns. In all others it names settings, whose values need no quotes.
const WITH_COLUMNS: [&str; 7] = ["select", "insert", "update", "delete", "merge", "with", "values"];

/// A statement with `?` for each string and number, without comments, on one line, and with so many characters at most.
///
/// What cannot be told for sure is left out together with all that follows it: an end that is missing, a backslash before a
/// quote (whether that ends a string depends on a setting of who wrote it), the value of a setting.
pub fn redacted(text: &str, most: usize) -> String {
    let mut reader = Reader { rest: text.chars().peekable(), out: String::new(), words: Vec::new() };
    while reader.out.len() <= most.saturating_mul(4) && reader.token().is_some() {}
    let mut cut: String = reader.out.trim().chars().take(most).collect();
    cut.truncate(cut.trim_end().len());
    cut
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    /// Those of the statement so far that decide what follows: the first, and `set` after it.
    words: Vec<String>,
}

impl Reader<'_> {
    /// Reads one token and writes what may be shown of it; none at the end of what can be told.
    fn token(&mut self) -> Option<()> {
        let first = self.rest.next()?;
        match first {
            '\'' => self.string(false)?,
            '"' => self.name()?,
            '-' if self.rest.peek() == Some(&'-') => {
                self.rest.by_ref().find(|c| matches!(c, '\n' | '\r'))?;
                self.space();
            }
            '/' if self.rest.peek() == Some(&'*') => self.comment()?,
            '$' => self.dollar()?,
            '0'..='9' => self.number(),
            // Of a fraction without a number before its point.
            '.' if self.rest.peek().is_some_and(char::is_ascii_digit) => self.number(),
            _ if is_of_word(first) => self.word(first)?,
            _ if is_invisible(first) => self.space(),
            '=' if self.is_of_setting() => return self.leave_out(),
            _ => self.out.push(first),
        }
        Some(())
    }

    /// To the quote that ends it, which is not there twice.
    fn string(&mut self, escapes: bool) -> Option<()> {
        self.out.push('?');
        let mut before = ' ';
        loop {
            let next = self.rest.next()?;
            match next {
                '\\' if escapes => {
                    self.rest.next()?;
                }
                '\'' if before == '\\' && !escapes => return None,
                '\'' if self.rest.peek() == Some(&'\'') => {
                    self.rest.next();
                }
                '\'' => return Some(()),
                _ => {}
            }
            before = next;
        }
    }

    fn name(&mut self) -> Option<()> {
        let mut name = String::from('"');
        loop {
            let next = self.rest.next()?;
            name.push(if is_invisible(next) { ' ' } else { next });
            if next == '"' {
                let Some(twice) = self.rest.next_if_eq(&'"') else {
                    self.out.push_str(&name);
                    return Some(());
                };
                name.push(twice);
            }
        }
    }

    /// Comments stand within comments.
    fn comment(&mut self) -> Option<()> {
        self.rest.next();
        let mut depth = 1;
        while depth > 0 {
            match self.rest.next()? {
                '*' if self.rest.next_if_eq(&'/').is_some() => depth -= 1,
                '/' if self.rest.next_if_eq(&'*').is_some() => depth += 1,
                _ => {}
            }
        }
        self.space();
        Some(())
    }

    /// A parameter stays; a string between dollars does not.
    fn dollar(&mut self) -> Option<()> {
        if self.rest.peek().is_some_and(char::is_ascii_digit) {
            self.out.push('$');
            while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
                self.out.push(digit);
            }
            return Some(());
        }
        let mut end = String::from('$');
        while let Some(next) = self.rest.next_if(|next| is_of_word(*next) && *next != '$') {
            end.push(next);
        }
        self.rest.next_if_eq(&'$')?;
        end.push('$');
        self.out.push('?');
        let mut tail = String::new();
        while !tail.ends_with(&end) {
            tail.push(self.rest.next()?);
            if tail.len() > 4 * end.len() + 256 {
                let from = (tail.len() - end.len()..tail.len()).find(|at| tail.is_char_boundary(*at))?;
                tail.drain(..from.min(tail.len()));
            }
        }
        Some(())
    }

    /// With whatever sticks to it: `1e-5`, `0xff`, `1_000`.
    fn number(&mut self) {
        self.out.push('?');
        let mut before = ' ';
        while let Some(next) = self.rest.next_if(|next| {
            is_of_word(*next) || *next == '.' || (matches!(next, '+' | '-') && matches!(before, 'e' | 'E'))
        }) {
            before = next;
        }
    }

    fn word(&mut self, first: char) -> Option<()> {
        let mut word = String::from(first);
        while let Some(next) = self.rest.next_if(|next| is_of_word(*next)) {
            word.push(next);
        }
        // E'', B'', X'', N'': only the first knows backslashes.
        if self.rest.peek() == Some(&'\'') && word.len() == 1 && "eEbBxXnN".contains(first) {
            self.rest.next();
            return self.string(matches!(first, 'e' | 'E'));
        }
        self.out.push_str(&word);
        let word = word.to_ascii_lowercase();
        if word == "to" && self.is_of_setting() {
            return self.leave_out();
        }
        if self.words.is_empty() || word == "set" {
            self.words.push(word);
        }
        Some(())
    }

    fn is_of_setting(&self) -> bool {
        let first = self.words.first().map(String::as_str).unwrap_or_default();
        !WITH_COLUMNS.contains(&first) && self.words.iter().any(|word| word == "set")
    }

    fn leave_out(&mut self) -> Option<()> {
        let equals = !self.out.to_ascii_lowercase().ends_with("to");
        self.out.push_str(if equals { "= ?" } else { " ?" });
        None
    }

    fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with(' ') {
            self.out.push(' ');
        }
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || (!c.is_ascii() && !is_invisible(c))
}

/// White space, control characters, and what changes how others are shown.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_stay_and_values_do_not() {
        for (text, shown) in [
            ("SELECT a, t1.b2 FROM t1 WHERE c = $1", "SELECT a, t1.b2 FROM t1 WHERE c = $1"),
            ("SELECT 'x''y', E'it\\'s', B'01', U&'d\\0061', 1.5e-3+.5, 0xff, 1_000", "SELECT ?, ?, ?, U&?, ?+?, ?, ?"),
            ("SELECT \"a\"\"'b\" -- password\n\t, 2 /* a /* b */ c */ FROM t", "SELECT \"a\"\"'b\" , ? FROM t"),
            ("SELECT $$secret$$, $x$ $$ 'y $x$, $2", "SELECT ?, ?, $2"),
            ("ALTER ROLE bob PASSWORD 'secret'", "ALTER ROLE bob PASSWORD ?"),
            (
                "CREATE USER MAPPING FOR a SERVER b OPTIONS (password 'x')",
                "CREATE USER MAPPING FOR a SERVER b OPTIONS (password ?)",
            ),
            ("UPDATE t SET a = b WHERE c TO d", "UPDATE t SET a = b WHERE c TO d"),
            ("SET my.secret = canary", "SET my.secret = ?"),
            ("set local my.secret to \"canary\", b", "set local my.secret to ?"),
            ("ALTER DATABASE d SET my.secret=canary", "ALTER DATABASE d SET my.secret= ?"),
            ("COPY t FROM PROGRAM 'curl -u a:b' WITH (FORMAT csv)", "COPY t FROM PROGRAM ? WITH (FORMAT csv)"),
            ("SELECT \u{1b}[2J\u{202e}x\u{0}y", "SELECT [? x y"),
            ("SELECT Ж, 'Ж', ЖE'a'", "SELECT Ж, ?, ЖE?"),
            ("", ""),
        ] {
            assert_eq!(redacted(text, 120), shown, "{text}");
        }
    }

    #[test]
    fn what_has_no_sure_end_is_left_out() {
        for (text, shown) in [
            ("SELECT 'canary", "SELECT ?"),
            // Where standard_conforming_strings is off the string goes on.
            ("SELECT 'it\\'s', canary", "SELECT ?"),
            ("SELECT E'a\\'canary", "SELECT ?"),
            ("SELECT a /* canary", "SELECT a"),
            ("SELECT a -- canary", "SELECT a"),
            ("SELECT \"canary", "SELECT"),
            ("SELECT $a$ canary $b$", "SELECT ?"),
            ("SELECT a $canary", "SELECT a"),
        ] {
            assert_eq!(redacted(text, 120), shown, "{text}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(redacted("SELECT ЖЖЖЖ", 9), "SELECT ЖЖ");
        assert_eq!(redacted("SELECT a", 7), "SELECT");
        assert_eq!(redacted(&"Ж, ".repeat(1_000_000), 120).chars().count(), 119);
        assert_eq!(redacted(&format!("DO $x${}$x$ ", "Ж".repeat(100_000)), 120), "DO ?");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_too_long(text in ".{0,80}", most in 0usize..50) {
            let shown = redacted(&text, most);
            prop_assert!(shown.chars().count() <= most);
            prop_assert!(!shown.chars().any(char::is_control));
        }

        #[test]
        fn nothing_within_quotes_is_ever_shown(
            before in "(SELECT|ALTER ROLE a PASSWORD|SET x TO|[a-z(,= ]{0,10})",
            secret in "canary[a-z'\\\\$0-9 -]{0,10}"
        ) {
            let quoted = format!("{before} '{}'", secret.replace('\'', "''"));
            prop_assert!(!redacted(&quoted, 200).contains("canary"), "{}", quoted);
            let escaped = format!("{before} E'{}'", secret.replace('\\', "\\\\").replace('\'', "\\'"));
            prop_assert!(!redacted(&escaped, 200).contains("canary"), "{}", escaped);
        }
    }
}
