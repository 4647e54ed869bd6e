//! Connection service files: named sections of keywords, as libpq's `pg_service.conf`.

use std::path::{Path, PathBuf};

use super::environment::{Environment, read};
use super::keywords::{DsnError, Keywords};

/// The keywords of one service.
///
/// A file that was named is the only one read; else it is `~/.pg_service.conf` and then the system's, in `PGSYSCONFDIR` or
/// Debian's `/etc/postgresql-common`.
pub(super) fn load(service: &str, file: Option<&str>, environment: &Environment) -> Result<Keywords, DsnError> {
    let failure = |reason: String| DsnError::Service { service: service.to_owned(), reason };
    let user_file = match file {
        Some(path) => Some(PathBuf::from(path)),
        None => environment.home().map(|home| home.join(".pg_service.conf")),
    };
    let system = environment.get("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
    let candidates = user_file.into_iter().chain([Path::new(&system).join("pg_service.conf")]);
    let mut seen = Vec::new();
    for path in candidates {
        if file.is_none() && !path.exists() {
            continue;
        }
        let text = read(&path)?;
        let found =
            section(&text, service).map_err(|(line, error)| failure(format!("{}:{line}: {error}", path.display())))?;
        if let Some(keywords) = found {
            return Ok(keywords);
        }
        seen.push(path.display().to_string());
        if file.is_some() {
            break;
        }
    }
    Err(failure(match seen.as_slice() {
        [] => "there is no service file".to_owned(),
        seen => format!("no such section in {}", seen.join(" or ")),
    }))
}

fn section(text: &str, service: &str) -> Result<Option<Keywords>, (usize, DsnError)> {
    let mut found: Option<Keywords> = None;
    let mut after_password = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            // Only the first section of a name counts.
            if found.is_some() {
                break;
            }
            if rest.split_once(']').is_some_and(|(name, _)| name == service) {
                found = Some(Keywords::default());
            }
        } else if let Some(keywords) = &mut found {
            let at = |error| (number + 1, error);
            let (keyword, value) =
                line.split_once('=').ok_or_else(|| at(DsnError::Syntax("expected keyword=value")))?;
            if keyword.starts_with("service") {
                return Err(at(DsnError::Syntax("a service cannot name another one")));
            }
            // libpq knows no blanks around `=`, so one that follows it belongs to the value; with blanks on both sides it
            // is meant as everywhere else.
            let (keyword, value) = match keyword.trim_end() {
                bare if bare.len() < keyword.len() => (bare, value.trim_start()),
                keyword => (keyword, value),
            };
            if after_password && !Keywords::is_known(keyword) {
                // The second line of a password may look like a keyword.
                return Err(at(DsnError::Syntax("expected a keyword after the password, which is one line")));
            }
            keywords.set(keyword, value).map_err(at)?;
            after_password = keyword == "password";
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::server::ConnectOptions;

    #[test]
    fn the_user_s_file_is_read_before_the_system_s() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(".pg_service.conf"), "# mine\n[a]\nhost=first\nport=1\n[b]\nhost=x\n[a]\nport=9\n")
            .unwrap();
        fs::write(home.path().join("pg_service.conf"), "[a]\nhost=second\n[c]\nhost = third\n").unwrap();
        let directory = home.path().display().to_string();
        let environment = Environment::new(move |name| match name {
            "HOME" | "PGSYSCONFDIR" => Some(directory.clone()),
            "PGHOST" => Some("from the environment".to_owned()),
            "PGSERVICE" => Some("c".to_owned()),
            _ => None,
        });
        let name = |dsn: &str| ConnectOptions::parse(dsn, &environment).map(|options| options.name());
        assert_eq!(name("service=a"), Ok("first:1".to_owned()));
        assert_eq!(name("service=a port=2"), Ok("first:2".to_owned()));
        assert_eq!(name(""), Ok("third:5432".to_owned()));
        assert!(name("service=d").unwrap_err().to_string().starts_with("service `d`: no such section in "));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(lines in proptest::collection::vec("(\\[a\\]|\\[.{0,5}|(host|password|port)? ?=? ?\\PC{0,10})", 0..8)) {
            let _ = section(&lines.join("\n"), "a");
        }
    }

    #[test]
    fn a_mistake_in_a_service_file_is_reported_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "[a]\nhost=h\ncolour=red\n").unwrap();
        let path = file.path().display().to_string();
        let error = load("a", Some(&path), &Environment::new(|_| None)).unwrap_err();
        assert!(error.to_string().contains(":3: unknown connection keyword `colour`"), "{error}");
        fs::write(file.path(), "[a]\nhost=h\npassword=first\ncanary=second\n").unwrap();
        let error = load("a", Some(&path), &Environment::new(|_| None)).unwrap_err().to_string();
        assert!(error.contains(":4: ") && !error.contains("canary"), "{error}");
    }
}
