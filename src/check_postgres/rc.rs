//! `.check_postgresrc`: options that count where the command line has none.

use std::io;
use std::path::{Path, PathBuf};

use crate::server::Environment;
use crate::source::read_plain;

const LARGEST_FILE: u64 = 1 << 20;

/// One line of the file, under the first name of the option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option.
    pub name: String,
    /// What it is to be.
    pub value: String,
}

/// Reads the file that counts: the first that exists of `.check_postgresrc` in the current folder and in the home, and
/// `check_postgresrc` in `/etc` and `/usr/local/etc`.
///
/// # Errors
///
/// It is there and cannot be read.
pub(super) fn load(folder: &Path, environment: &Environment) -> Result<Vec<Setting>, (PathBuf, io::Error)> {
    let home = environment.get("HOME").map(|home| Path::new(&home).join(".check_postgresrc"));
    let system = ["/etc/check_postgresrc", "/usr/local/etc/check_postgresrc"].map(PathBuf::from);
    let candidates = [folder.join(".check_postgresrc")].into_iter().chain(home).chain(system);
    let Some(file) = candidates.into_iter().find(|file| file.exists()) else { return Ok(Vec::new()) };
    match read_plain(&file, LARGEST_FILE) {
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(error) => Err((file, error)),
    }
}

/// `name = value` lines; every other line says nothing.
pub(crate) fn parse(text: &str) -> Vec<Setting> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let settings = lines.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_word || value.is_empty() {
            return None;
        }
        let name = match name {
            "dbport" | "p" | "dbport1" | "p1" | "port1" => "port",
            "dbhost" | "H" | "dbhost1" | "H1" | "host1" => "host",
            "db" | "db1" | "dbname1" => "dbname",
            "u" | "u1" | "dbuser1" => "dbuser",
            name => name,
        };
        Some(Setting { name: name.to_owned(), value: value.to_owned() })
    });
    settings.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_that_are_no_settings_say_nothing() {
        let settings = parse("# a = b\n  host1 = db1 \nnonsense\nassume-prod=1\nu=\nquery = SELECT 1 = 1\n");
        let settings: Vec<_> = settings.iter().map(|setting| (setting.name.as_str(), setting.value.as_str())).collect();
        assert_eq!(settings, [("host", "db1"), ("query", "SELECT 1 = 1")]);
    }

    #[test]
    fn the_file_of_the_current_folder_is_the_only_one_read() {
        let (here, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = home.path().display().to_string();
        let environment = Environment::new(move |name| (name == "HOME").then(|| path.clone()));
        fs::write(home.path().join(".check_postgresrc"), "port=1\n").unwrap();
        assert_eq!(load(here.path(), &environment).unwrap().first().unwrap().value, "1");
        fs::write(here.path().join(".check_postgresrc"), "host=2\n").unwrap();
        assert_eq!(load(here.path(), &environment).unwrap().first().unwrap().value, "2");
    }
}
