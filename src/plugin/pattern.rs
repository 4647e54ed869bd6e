//! Regular expressions as Perl has them, by an engine whose time is bounded whatever the expression is.

use regex::{Regex, RegexBuilder};

/// A compiled expression may take so many bytes.
const LARGEST: usize = 1 << 20;

/// A regular expression that is found anywhere in a text, unless it is anchored.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the regular expression `{pattern}` is refused: {reason}")]
pub struct PatternError {
    /// The expression.
    pub pattern: String,
    /// What it has that cannot be had, or what is wrong with it; one line.
    pub reason: String,
}

impl Pattern {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// It is wrong, or looks around itself or back: such expressions can take for ever, and are not run.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        // Perl's end of text allows for one newline, as its `$` does.
        let text = pattern.replace(r"\Z", r"\n?\z");
        RegexBuilder::new(&text).size_limit(LARGEST).build().map(Self).map_err(|error| {
            let reason = match error {
                regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                other => {
                    let text = other.to_string();
                    let last = text.lines().last().unwrap_or_default();
                    last.trim_start_matches("error: ").to_owned()
                }
            };
            PatternError { pattern: pattern.to_owned(), reason }
        })
    }

    /// Whether it is found in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// What its first group found in the text; none if it was not found, or has no group.
    pub fn capture<'a>(&self, text: &'a str) -> Option<&'a str> {
        Some(self.0.captures(text)?.get(1)?.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_take_for_ever_is_refused_with_the_reason() {
        for (pattern, reason) in [
            ("(?=a)b", "look-around, including look-ahead and look-behind, is not supported"),
            (r"(a)\1", "backreferences are not supported"),
            ("(a", "unclosed group"),
            ("(\\w{999}){999}", "it is too large"),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap_err().reason, reason, "{pattern}");
        }
    }

    #[test]
    fn it_is_found_anywhere_unless_it_is_anchored() {
        let found = |pattern: &str, text: &str| Pattern::parse(pattern).unwrap().is_match(text);
        assert!(found("pp", "app") && !found("^pp", "app") && found(r"\Aapp\Z", "app\n") && found("(?i)APP", "app"));
    }

    proptest::proptest! {
        #[test]
        fn no_expression_makes_it_panic(pattern in "\\PC{0,30}", text in "\\PC{0,30}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.is_match(&text);
            }
        }
    }
}
