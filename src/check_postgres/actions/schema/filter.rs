//! `--filter`: what is not compared.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Kind;
use crate::check_postgres::End;
use crate::check_postgres::options::Options;
use crate::plugin::Pattern;

/// What is left out.
#[derive(Debug, Default)]
pub(super) struct Filter {
    without: BTreeSet<String>,
    except: BTreeMap<String, Vec<Pattern>>,
    /// Whether the values of sequences are not compared.
    pub(super) without_values: bool,
}

impl Filter {
    /// Reads `noKIND` and `noKIND=EXPRESSION`, separated by commas or blanks; a plural will do.
    ///
    /// # Errors
    ///
    /// An expression that cannot be run.
    pub(super) fn read(options: &Options) -> Result<Self, End> {
        let mut filter = Self { without_values: options.is_on("skipsequencevals"), ..Self::default() };
        let phrases = options.list("filter").iter().flat_map(|list| list.split([',', ' ', '\t', '\n']));
        for phrase in phrases.filter(|phrase| !phrase.is_empty()) {
            let (name, pattern) = phrase.split_once('=').unwrap_or((phrase, ""));
            let name = singular(&name.to_lowercase());
            if pattern.is_empty() {
                filter.without.insert(name);
            } else {
                let pattern = Pattern::parse(pattern).map_err(|error| End::refused(error.to_string()))?;
                filter.except.entry(name).or_default().push(pattern);
            }
        }
        Ok(filter)
    }

    /// Whether `no` and this word is given.
    pub(super) fn is_without(&self, word: &str) -> bool {
        self.without.contains(&format!("no{word}"))
    }

    /// Whether an object is compared.
    pub(super) fn keeps(&self, kind: &Kind, name: &str) -> bool {
        let except = self.except.get(&format!("no{}", kind.name));
        !except.into_iter().flatten().any(|pattern| pattern.is_match(name))
    }
}

/// `noindexes` is `noindex`, `notables` is `notable`.
fn singular(name: &str) -> String {
    if let Some(stem) = name.strip_suffix("xes") {
        return format!("{stem}x");
    }
    let name = name.strip_suffix('s').unwrap_or(name);
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::catalog::KINDS;
    use super::*;

    #[test]
    fn kinds_are_left_out_whole_or_by_name() {
        let options = Options::read(&["--filter=nousers,noTrigger=^slony noindexes".to_owned()], &[]).unwrap();
        let filter = Filter::read(&options).unwrap();
        assert!(filter.is_without("user") && filter.is_without("index") && !filter.is_without("trigger"));
        let trigger = KINDS.iter().find(|kind| kind.name == "trigger").unwrap();
        assert!(!filter.keeps(trigger, "slony.t") && filter.keeps(trigger, "public.t"));
    }
}
