//! `<Database>` blocks as `[[server]]` sections of the configuration.

use super::USUAL;
use super::syntax::Item;
use crate::import::branch::{Note, Place};
use crate::import::render::quoted;
use crate::source::{Source, SourceError};

/// What is known of a database.
pub(super) struct Database {
    pub(super) place: Place,
    pub(super) name: String,
    /// What collectd shows it as.
    pub(super) instance: String,
    pub(super) host: Option<String>,
    /// In seconds.
    pub(super) interval: Option<f64>,
    /// The names of its queries.
    pub(super) queries: Vec<String>,
    /// Keywords of its connection string but for the database.
    keywords: Vec<(&'static str, String)>,
    has_password: bool,
}

impl Database {
    /// Reads a block.
    pub(super) fn read(source: &Source, item: &Item, notes: &mut Vec<Note>) -> Result<Self, SourceError> {
        let wrong = |line: usize, reason: &str| SourceError::Mistake {
            file: source.file.clone(),
            line,
            reason: reason.to_owned(),
        };
        let name = item.value().to_owned();
        if name.is_empty() {
            return Err(wrong(item.line, "Database: expected a name"));
        }
        let mut database = Self {
            place: Place::new(source, item.line),
            instance: name.clone(),
            name,
            host: None,
            interval: None,
            queries: Vec::new(),
            keywords: Vec::new(),
            has_password: false,
        };
        let mut writes = false;
        for key in &item.items {
            let value = key.value().to_owned();
            let mut note = |reason: &str| {
                notes.push(Note { place: Place::new(source, key.line), reason: reason.to_owned() });
            };
            match key.key.to_lowercase().as_str() {
                "host" => {
                    database.host = Some(value.clone());
                    database.keywords.push(("host", value));
                }
                "port" => database.keywords.push(("port", value)),
                "user" => database.keywords.push(("user", value)),
                "sslmode" => database.keywords.push(("sslmode", value)),
                "service" => database.keywords.push(("service", value)),
                "password" => database.has_password = true,
                "instance" => database.instance = value,
                "interval" => {
                    let interval = value.parse().ok().filter(|interval: &f64| interval.is_finite() && *interval > 0.0);
                    let expected = "Interval: expected a number of seconds";
                    database.interval = Some(interval.ok_or_else(|| wrong(key.line, expected))?);
                }
                "query" => database.queries.push(value),
                "writer" => writes = true,
                "plugin" => note("the names begin with collectd_ all the same"),
                "krbsrvname" => note("Kerberos is not spoken here"),
                "commitinterval" | "expiredelay" => {}
                _ => note("a key that means nothing in a Database"),
            }
        }
        if database.queries.is_empty() && !writes {
            database.queries = USUAL.map(str::to_owned).to_vec();
        }
        database.keywords.sort();
        Ok(database)
    }

    /// Whether it asks a query.
    pub(super) fn asks(&self, query: &str) -> bool {
        self.queries.iter().any(|name| name.eq_ignore_ascii_case(query))
    }
}

/// The sections, one for each server, whatever the number of its databases.
pub(super) fn configuration(databases: &[Database]) -> String {
    let mut text = String::new();
    let mut known: Vec<&[(&str, String)]> = Vec::new();
    for database in databases.iter().filter(|database| !database.queries.is_empty()) {
        if known.contains(&database.keywords.as_slice()) {
            continue;
        }
        known.push(&database.keywords);
        let pairs = database.keywords.iter().map(|(keyword, value)| (*keyword, value.as_str()));
        let pairs = pairs.chain([("dbname", database.name.as_str())]);
        let dsn: Vec<String> = pairs.map(|(keyword, value)| format!("{keyword}={}", value_of(value))).collect();
        text += &format!("# {}\n[[server]]\ndsn = {}\n", database.place.at, quoted(&dsn.join(" ")));
        if database.has_password {
            text += "# Its password is not repeated: put it into a file that only root and the agent may read.\n";
            text += "# password_file = \"/etc/pgvitals/password\"\n";
        }
        text.push('\n');
    }
    text
}

/// A value of a keyword/value connection string.
fn value_of(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}
