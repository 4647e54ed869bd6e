//! `--include`, `--exclude` and their like for owners: what an action looks at.

use super::End;
use super::options::Options;
use crate::plugin::Pattern;

/// What the four options say, read once.
#[derive(Debug, Default)]
pub struct Filter {
    include: Option<Vec<Item>>,
    exclude: Option<Vec<Item>>,
    owners: Owners,
}

#[derive(Debug)]
struct Item {
    of: Of,
    is: Is,
}

/// What an item is held against.
#[derive(Debug, PartialEq)]
enum Of {
    Name,
    Schema,
}

#[derive(Debug)]
enum Is {
    Equal(String),
    Like(Pattern),
}

#[derive(Debug, Default)]
enum Owners {
    #[default]
    All,
    Only(Vec<String>),
    AllBut(Vec<String>),
}

impl Filter {
    /// Reads the options.
    ///
    /// # Errors
    ///
    /// A regular expression that cannot be run.
    pub fn read(options: &Options) -> Result<Self, End> {
        let items = |name: &str| -> Result<Option<Vec<Item>>, End> {
            let texts = options.list(name).iter().flat_map(|list| list.split(',')).map(str::trim);
            let items: Vec<Item> = texts.map(Item::read).collect::<Result<_, _>>()?;
            Ok((!items.is_empty()).then_some(items))
        };
        let names = |name: &str| -> Vec<String> {
            options.list(name).iter().flat_map(|list| list.split(',')).map(str::to_owned).collect()
        };
        let owners = match (options.has("includeuser"), options.has("excludeuser")) {
            (true, _) => Owners::Only(names("includeuser")),
            (false, true) => Owners::AllBut(names("excludeuser")),
            (false, false) => Owners::All,
        };
        Ok(Self { include: items("include")?, exclude: items("exclude")?, owners })
    }

    /// Whether what has this name is looked at.
    pub fn keeps(&self, name: &str) -> bool {
        self.keeps_in("", name)
    }

    /// Whether what has this name in this schema is looked at. What is excluded can be included again; where only includes
    /// are given, nothing else is looked at.
    pub fn keeps_in(&self, schema: &str, name: &str) -> bool {
        let any =
            |items: &Option<Vec<Item>>| items.as_ref().map(|items| items.iter().any(|item| item.matches(schema, name)));
        match (any(&self.exclude), any(&self.include)) {
            (_, Some(true)) | (None | Some(false), None) | (Some(false), Some(false)) => true,
            (Some(true), _) | (None, Some(false)) => false,
        }
    }

    /// Whether `--include` or `--exclude` is given.
    pub fn is_given(&self) -> bool {
        self.include.is_some() || self.exclude.is_some()
    }

    /// Whether what this role owns is looked at.
    pub fn keeps_owner(&self, owner: &str) -> bool {
        let is_among = |names: &[String]| names.iter().any(|name| name == owner);
        match &self.owners {
            Owners::All => true,
            Owners::Only(names) => is_among(names),
            Owners::AllBut(names) => !is_among(names),
        }
    }

    /// Whether `--includeuser` or `--excludeuser` is given.
    pub fn is_by_owner(&self) -> bool {
        !matches!(self.owners, Owners::All)
    }
}

impl Item {
    /// `name`, `schema.`, `~expression` or `~expression.`.
    fn read(text: &str) -> Result<Self, End> {
        let (of, text) = match text.strip_suffix('.') {
            Some(schema) => (Of::Schema, schema),
            None => (Of::Name, text),
        };
        let is = match text.strip_prefix('~') {
            Some(pattern) => Is::Like(Pattern::parse(pattern).map_err(|error| End::refused(error.to_string()))?),
            None => Is::Equal(text.to_owned()),
        };
        Ok(Self { of, is })
    }

    fn matches(&self, schema: &str, name: &str) -> bool {
        let text = if self.of == Of::Schema { schema } else { name };
        match &self.is {
            Is::Equal(wanted) => wanted == text,
            Is::Like(pattern) => pattern.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(arguments: &[&str]) -> Filter {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Filter::read(&Options::read(&arguments, &[]).unwrap()).unwrap()
    }

    #[test]
    fn exclusion_comes_first_and_inclusion_pulls_back() {
        let excluded = filter(&["--exclude=a, b", "--exclude=~^c"]);
        assert!(!excluded.keeps("a") && !excluded.keeps("b") && !excluded.keeps("cc") && excluded.keeps("d"));
        let included = filter(&["--include=a"]);
        assert!(included.keeps("a") && !included.keeps("b"));
        let both = filter(&["--exclude=~.", "--include=a"]);
        assert!(both.keeps("a") && !both.keeps("b"));
        let apart = filter(&["--exclude=x", "--include=a"]);
        assert!(apart.keeps("a") && apart.keeps("b") && !apart.keeps("x"), "matched by neither is kept");
    }

    #[test]
    fn a_dot_at_the_end_means_the_schema() {
        let filter = filter(&["--exclude=pg_catalog.,~^pg_temp_."]);
        assert!(!filter.keeps_in("pg_catalog", "t") && !filter.keeps_in("pg_temp_3", "t"));
        assert!(filter.keeps_in("public", "pg_catalog"));
    }

    #[test]
    fn owners_are_compared_as_they_are() {
        let only = filter(&["--includeuser=a,b", "--excludeuser=a"]);
        assert!(only.keeps_owner("a") && !only.keeps_owner("c"));
        let but = filter(&["--excludeuser=a"]);
        assert!(!but.keeps_owner("a") && but.keeps_owner("c") && but.is_by_owner());
    }

    #[test]
    fn an_expression_that_looks_around_is_refused() {
        let options = Options::read(&["--include=~(?=a)".to_owned()], &[]).unwrap();
        let refused = Filter::read(&options).unwrap_err().to_string();
        assert!(refused.contains("look-around"), "{refused}");
    }
}
