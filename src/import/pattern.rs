//! Regular expressions, as far as they say no more than patterns with `*` and `?` do.

/// The patterns of which a text matches one where it matches the expression; none where they cannot say it.
pub(super) fn globs(expression: &str) -> Option<Vec<String>> {
    let (starts, rest) = expression.strip_prefix('^').map_or((false, expression), |rest| (true, rest));
    let (ends, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    let group = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    if group.is_none() && rest.contains('|') && (starts || ends) {
        // `^a|b$` begins with a or ends with b.
        return None;
    }
    let choices = group.unwrap_or(rest).split('|');
    choices.map(|choice| Some(format!("{}{}{}", any(!starts), glob(choice)?, any(!ends)))).collect()
}

fn any(anything: bool) -> &'static str {
    if anything { "*" } else { "" }
}

fn glob(text: &str) -> Option<String> {
    let mut glob = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '.' if rest.next_if_eq(&'*').is_some() => glob.push('*'),
            '.' => glob.push('?'),
            '\\' => glob.push(rest.next().filter(|c| "._-$".contains(*c))?),
            c if c.is_alphanumeric() || "_- ".contains(c) => glob.push(c),
            _ => return None,
        }
    }
    // What repeats the last letter would have to be taken back.
    (!text.contains(['+', '?', '{'])).then_some(glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_expression_is_a_pattern() {
        for (expression, expected) in [
            ("appdb", Some(vec!["*appdb*"])),
            ("^app_.*$", Some(vec!["app_*"])),
            ("^(a|b\\.c)$", Some(vec!["a", "b.c"])),
            ("a|b", Some(vec!["*a*", "*b*"])),
            ("^a.c", Some(vec!["a?c*"])),
            ("^a|b$", None),
            ("a+", None),
            ("a?", None),
            ("[ab]", None),
            ("a*", None),
            ("\\d", None),
        ] {
            let found = globs(expression);
            let found: Option<Vec<&str>> = found.as_ref().map(|globs| globs.iter().map(String::as_str).collect());
            assert_eq!(found, expected, "{expression}");
        }
    }
}
