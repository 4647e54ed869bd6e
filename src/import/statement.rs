//! SQL that somebody else wrote: as much of it as must be understood to put it into a definition.

/// The only statement of a text, without what ends it; none if there are several or none.
pub(super) fn only_statement(sql: &str) -> Option<&str> {
    let mut statements = statements(sql).into_iter();
    let first = statements.next()?;
    statements.next().is_none().then_some(first)
}

/// Whether a statement can stand in brackets behind FROM.
pub(super) fn is_query(statement: &str) -> bool {
    let first = statement.trim_start_matches(|c: char| c == '(' || c.is_whitespace());
    let word = first.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    ["select", "with", "values", "table"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether a text mentions a word, in these very letters.
pub(super) fn mentions(sql: &str, word: &str) -> bool {
    sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|found| found == word)
}

/// Expressions behind SELECT, in lines as long as those of a definition.
pub(super) fn filled(expressions: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    let mut width = 0;
    for expression in expressions {
        if !text.is_empty() {
            text += if width + expression.len() > 100 { ",\n       " } else { ", " };
        }
        width = if text.ends_with("\n       ") { 0 } else { width } + expression.len() + 2;
        text += &expression;
    }
    text
}

/// Whether a query makes a column seconds since the epoch by itself.
pub(super) fn is_epoch(sql: &str, column: &str) -> bool {
    let words: Vec<String> = sql.to_lowercase().split_whitespace().map(str::to_owned).collect();
    let sql = words.join(" ");
    let column = column.to_lowercase();
    sql.match_indices(&format!("as {column}")).any(|(at, _)| {
        let before = sql.get(..at).unwrap_or_default();
        let begin = before.rfind(&format!("as {column}")).unwrap_or_default();
        let near = before.char_indices().rev().nth(120).map_or(0, |(at, _)| at);
        before.get(near.max(begin)..).is_some_and(|before| before.contains("epoch"))
    })
}

/// Whether a query may return a column: it names it, or does not name its columns.
pub(super) fn may_return(sql: &str, column: &str) -> bool {
    let lower = sql.to_lowercase();
    let column = column.to_lowercase();
    let is_named = mentions(&lower, &column) || (column == "date_part" && mentions(&lower, "extract"));
    is_named || !is_query(sql.trim()) || !is_plain(&column) || lower.replace("(*)", "").contains('*')
}

/// Whether rows of a query are of the database that it is asked in, as far as its text tells.
pub(super) fn is_of_database(sql: &str) -> bool {
    let lower = sql.to_lowercase();
    mentions(&lower, "current_database") || mentions(&lower, "current_catalog")
}

/// The text with expressions in place of `$1` and so on, but within quotes.
pub(super) fn with_parameters(sql: &str, parameters: &[String]) -> String {
    let mut text = String::new();
    let mut rest = sql;
    while !rest.is_empty() {
        let digits = rest.strip_prefix('$').map_or("", |rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default()
        });
        let parameter = digits.parse::<usize>().ok().and_then(|number| parameters.get(number.checked_sub(1)?));
        let length = if let Some(parameter) = parameter {
            text += parameter;
            1 + digits.len()
        } else {
            let length = token(rest).0;
            text += rest.get(..length).unwrap_or_default();
            length
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    text
}

/// A name in double quotes, or as it is where SQL takes it for itself.
pub(super) fn identifier(name: &str) -> String {
    let is_plain = is_plain(name) && !RESERVED.split_whitespace().any(|word| word == name);
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A text in single quotes.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether a name is what a definition calls an identifier.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && name.chars().all(plain)
}

/// The name with what no identifier may have put aside.
pub(super) fn plain(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let plain: String = name.chars().map(letter).collect();
    if plain.starts_with(|c: char| c.is_ascii_digit()) || plain.is_empty() { format!("_{plain}") } else { plain }
}

/// The name of the fragment that stands for an opening brace.
pub(super) const BRACE: &str = "brace";

/// The text with `{brace}` in place of each brace that would begin the name of a fragment, such as in `'{a}'`.
pub(super) fn without_fragments(sql: &str) -> String {
    let mut pieces = sql.split('{');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let is_name = piece.split_once('}').is_some_and(|(name, _)| is_plain(name));
        text += if is_name { "{brace}" } else { "{" };
        text += piece;
    }
    text
}

/// Words that cannot name a column where an expression begins.
const RESERVED: &str = "all analyse analyze and any array as asc asymmetric both case cast check collate column constraint \
     create current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc \
     distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral leading \
     limit localtime localtimestamp not null offset on only or order placing primary references returning select \
     session_user some symmetric system_user table then to trailing true union unique user using variadic when where window \
     with authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left like \
     natural notnull outer overlaps right similar tablesample verbose";

/// The statements of a text, trimmed; what holds nothing but blanks and comments is none.
fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut at, mut is_empty) = (0, 0, true);
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        let (length, kind) = token(rest);
        match kind {
            Token::Blank => {}
            Token::Code => is_empty = false,
            Token::End => {
                found.extend(sql.get(start..at).filter(|_| !is_empty).map(str::trim));
                (start, is_empty) = (at + length, true);
            }
        }
        at += length;
    }
    found.extend(sql.get(start..).filter(|_| !is_empty).map(str::trim));
    found
}

enum Token {
    Blank,
    Code,
    End,
}

/// The length of what stands first, and whether it is anything; quotes and comments are taken as a whole.
fn token(rest: &str) -> (usize, Token) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    let until = |end: &str, from: usize| {
        rest.get(from..).and_then(|rest| rest.find(end)).map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("--") {
        return (until("\n", 2), Token::Blank);
    }
    if rest.starts_with("/*") {
        return (comment(rest), Token::Blank);
    }
    if rest.starts_with(['E', 'e']) && rest.get(1..).is_some_and(|rest| rest.starts_with('\'')) {
        return (escaped(rest), Token::Code);
    }
    match rest.as_bytes().first() {
        Some(b';') => (1, Token::End),
        Some(b'\'') => (until("'", 1), Token::Code),
        Some(b'"') => (until("\"", 1), Token::Code),
        Some(b'$') => (dollar_tag(rest).map_or(1, |tag| until(tag, tag.len())), Token::Code),
        // A word as a whole: a `$` or an `e` in it begins nothing.
        Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'_' => {
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), Token::Code)
        }
        _ if rest.starts_with(char::is_whitespace) => (first, Token::Blank),
        _ => (first, Token::Code),
    }
}

/// `$tag$`, if that is what stands first.
fn dollar_tag(rest: &str) -> Option<&str> {
    let end = rest.get(1..)?.find('$')? + 2;
    let tag = rest.get(..end)?;
    let name = tag.trim_matches('$');
    let is_tag =
        name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then_some(tag)
}

/// The length of a comment; such comments nest.
fn comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = rest.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a text in which a backslash escapes.
fn escaped(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(2) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_at_a_semicolon_that_is_one() {
        for (sql, expected) in [
            (" SELECT 1 ; -- done;\n ", vec!["SELECT 1"]),
            (
                "SELECT ';' || E'\\';' /* ; /* ; */ ; */ || \";\" || $a$;$a$; SELECT 2",
                vec!["SELECT ';' || E'\\';' /* ; /* ; */ ; */ || \";\" || $a$;$a$", "SELECT 2"],
            ),
            ("SELECT a$1;b", vec!["SELECT a$1", "b"]),
            ("SELECT $1;b", vec!["SELECT $1", "b"]),
            ("SELECT 'it''s;' ; ;", vec!["SELECT 'it''s;'"]),
            ("SELECT 'open; ", vec!["SELECT 'open;"]),
            ("", vec![]),
            (" ; -- nothing", vec![]),
        ] {
            assert_eq!(statements(sql), expected, "{sql}");
        }
        assert_eq!(only_statement("SELECT 1;"), Some("SELECT 1"));
        assert_eq!(only_statement("SET a = 1; SELECT 1"), None);
    }

    #[test]
    fn what_returns_rows_can_stand_behind_from() {
        assert!(is_query("SELECT 1") && is_query("\n((with a as (values (1)) table a))") && is_query("VALUES (1)"));
        assert!(!is_query("SHOW all") && !is_query("selected") && !is_query(""));
    }

    #[test]
    fn parameters_are_replaced_where_they_are_some() {
        let parameters = ["a".to_owned(), "b".to_owned()];
        let sql = "SELECT $1, '$1', x$1, $2||$3, $$ $1 $$ -- $2";
        assert_eq!(with_parameters(sql, &parameters), "SELECT a, '$1', x$1, b||$3, $$ $1 $$ -- $2");
    }

    #[test]
    fn a_column_that_no_word_names_is_not_returned() {
        assert!(may_return("SELECT Count(*)", "count") && may_return("SELECT a.* FROM a", "b"));
        assert!(may_return("SELECT extract(epoch FROM now())", "date_part") && may_return("SHOW x", "y"));
        assert!(!may_return("SELECT count(*) AS n", "m"));
    }

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert_eq!([identifier("a_1"), identifier("user"), identifier("A\"b")], ["a_1", "\"user\"", "\"A\"\"b\""]);
        assert_eq!([plain("Foo-Bar"), plain("9a"), plain("")], ["foo_bar", "_9a", "_"]);
    }

    #[test]
    fn braces_that_are_no_fragments_are_escaped() {
        assert_eq!(without_fragments("'{a}' '{24}' '{}' '{b,c}' {x"), "'{brace}a}' '{24}' '{}' '{b,c}' {x");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", quotes in "[-/*;'\"$aE\\\\\n ]*") {
            for text in [&text, &quotes] {
                let _ = (statements(text), is_query(text), without_fragments(text));
            }
        }
    }
}
