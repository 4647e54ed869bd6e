//! What a command line leaves out: databases, and whatever else the service compares with `--exclude`.

use super::options::Options;
use crate::plugin::{Pattern, PatternError};

/// The expressions of a command line, ready for use.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    dbinclude: Vec<Pattern>,
    dbexclude: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl Filters {
    /// Reads `--dbinclude`, `--dbexclude` and, if they are expressions in this service, `--exclude`.
    ///
    /// # Errors
    ///
    /// An expression that is wrong, or that could take for ever.
    pub fn parse(options: &Options, with_exclude: bool) -> Result<Self, PatternError> {
        let all = |texts: &[String]| texts.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>();
        let exclude: &[String] = if with_exclude { &options.exclude } else { &[] };
        Ok(Self { dbinclude: all(&options.dbinclude)?, dbexclude: all(&options.dbexclude)?, exclude: all(exclude)? })
    }

    /// Whether a database is looked at: `--dbexclude` wins over `--dbinclude`.
    pub fn wants_database(&self, name: &str) -> bool {
        let found = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.is_match(name));
        !found(&self.dbexclude) && (self.dbinclude.is_empty() || found(&self.dbinclude))
    }

    /// Whether `--exclude` leaves this out.
    pub fn excludes(&self, text: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_excluded_stays_out_even_if_it_is_included() {
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let options = Options {
            dbinclude: list(&["app"]),
            dbexclude: list(&["^app2$"]),
            exclude: list(&["(?i)x"]),
            ..Options::default()
        };
        let filters = Filters::parse(&options, true).unwrap();
        assert!(filters.wants_database("myapp") && !filters.wants_database("app2") && !filters.wants_database("other"));
        assert!(filters.excludes("aXb") && !filters.excludes("ab"));
        assert!(!Filters::parse(&options, false).unwrap().excludes("aXb"));
        let options = Options { exclude: list(&["(?=a)"]), ..Options::default() };
        assert!(Filters::parse(&options, true).is_err());
    }
}
