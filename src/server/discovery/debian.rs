//! Debian's clusters: one folder `VERSION/NAME` of configuration each, as postgresql-common lays them out.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Discovered;
use crate::source::read_plain;

/// How deep files may include each other; PostgreSQL's own limit.
const DEEPEST: u32 = 10;
/// How many files make up one configuration: ten levels of files that include themselves twice would be a thousand.
const MOST_FILES: u32 = 100;
const LARGEST_FILE: u64 = 1 << 20;
const DEFAULT_PORT: u16 = 5432;
const DEFAULT_SOCKETS: &str = "/var/run/postgresql";

/// One configured cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    name: String,
    port: u16,
    sockets: Vec<PathBuf>,
    pub(super) data_directory: Option<PathBuf>,
}

impl Cluster {
    pub(super) fn discovered(&self) -> Discovered {
        let host = match self.sockets.first() {
            Some(directory) => directory.display().to_string(),
            None => "localhost".to_owned(),
        };
        Discovered { name: self.name.clone(), host, port: self.port, trusted: true }
    }

    /// Whether a socket is this cluster's, under whatever name of its directory.
    pub(super) fn has_socket(&self, directory: &Path, port: u16) -> bool {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        port == self.port && self.sockets.iter().any(|own| real(own) == real(directory))
    }
}

/// The clusters that are not disabled, by version and name.
pub(super) fn clusters(etc_postgresql: &Path) -> Vec<Cluster> {
    let mut found = Vec::new();
    for version in folders(etc_postgresql) {
        for name in folders(&etc_postgresql.join(&version)) {
            found.push((version_key(&version), version.clone(), name));
        }
    }
    found.sort_by(|left, right| left.partial_cmp(right).unwrap_or(std::cmp::Ordering::Equal));
    found.into_iter().filter_map(|(_, version, name)| read(etc_postgresql, &version, &name)).collect()
}

fn folders(parent: &Path) -> Vec<String> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn version_key(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn read(etc_postgresql: &Path, version: &str, name: &str) -> Option<Cluster> {
    let folder = etc_postgresql.join(version).join(name);
    let start = text_of(&folder.join("start.conf")).unwrap_or_default();
    let disabled = start.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).any(|l| l == "disabled");
    let mut settings = Settings { values: HashMap::new(), files_left: MOST_FILES };
    if disabled || !settings.read(&folder.join("postgresql.conf"), DEEPEST) {
        return None;
    }
    let data_directory = settings.values.get("data_directory").map(PathBuf::from);
    if let Some(directory) = &data_directory {
        // What ALTER SYSTEM wrote, if we may read it.
        settings.read(&directory.join("postgresql.auto.conf"), DEEPEST);
    }
    let settings = settings.values;
    let directories = settings.get("unix_socket_directories").map_or(DEFAULT_SOCKETS, String::as_str);
    Some(Cluster {
        name: format!("{version}/{name}"),
        port: settings.get("port").and_then(|port| port.parse().ok()).unwrap_or(DEFAULT_PORT),
        sockets: directories
            .split(',')
            .map(|directory| directory.trim().trim_matches('"'))
            .filter(|directory| directory.starts_with('/'))
            .map(PathBuf::from)
            .collect(),
        data_directory,
    })
}

fn text_of(path: &Path) -> Option<String> {
    read_plain(path, LARGEST_FILE).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

/// What the files of a configuration say.
struct Settings {
    values: HashMap<String, String>,
    files_left: u32,
}

impl Settings {
    /// Reads a configuration file and what it includes; a later setting wins. False when it cannot be read.
    fn read(&mut self, path: &Path, depth: u32) -> bool {
        let Some(files_left) = self.files_left.checked_sub(1) else { return true };
        self.files_left = files_left;
        let Some(text) = text_of(path) else { return false };
        let Some(depth) = depth.checked_sub(1) else { return true };
        let folder = path.parent().unwrap_or(Path::new("/"));
        for (name, value) in text.lines().filter_map(setting) {
            match name.as_str() {
                "include" | "include_if_exists" => _ = self.read(&folder.join(value), depth),
                "include_dir" => self.read_folder(&folder.join(value), depth),
                _ => _ = self.values.insert(name, value),
            }
        }
        true
    }

    fn read_folder(&mut self, folder: &Path, depth: u32) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_included(path)).collect();
        files.sort();
        for file in files {
            self.read(&file, depth);
        }
    }
}

fn is_included(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conf")
        && path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
}

/// `name = value` or `name value`; the value may stand in quotes, `#` begins a comment.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')?;
    let (name, rest) = line.split_at_checked(end)?;
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquote(quoted),
        None => rest.split(|c: char| c.is_whitespace() || c == '#').next()?.to_owned(),
    };
    (!name.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

/// Up to the closing quote; a quote inside is doubled or follows a backslash.
fn unquote(text: &str) -> String {
    let mut value = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' if chars.next_if_eq(&'\'').is_none() => break,
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_in_each_of_its_forms() {
        for (line, expected) in [
            ("port = 5433\t# (change requires restart)", Some(("port", "5433"))),
            ("PORT 5433", Some(("port", "5433"))),
            ("port=5433#x", Some(("port", "5433"))),
            (r"a = 'it''s \'x\' # not a comment' # one", Some(("a", "it's 'x' # not a comment"))),
            ("# port = 1", None),
            ("", None),
        ] {
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(setting(line), expected, "{line}");
        }
    }

    #[test]
    fn included_files_count_where_they_are_included_and_the_last_setting_wins() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("15/main");
        fs::create_dir_all(folder.join("conf.d")).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write("postgresql.conf", "port = 1\ninclude_dir = 'conf.d'\ninclude 'mine.txt'\nlisten_addresses = '*'\n");
        write("conf.d/10-a.conf", "port = 2\nunix_socket_directories = ''\n");
        write("conf.d/20-b.conf", "port = 3\n");
        write("conf.d/30-c.conf.bak", "port = 4\n");
        write("mine.txt", "unix_socket_directories = '@pg, /run/a , /run/b'\ninclude 'mine.txt'\n");
        let clusters = clusters(root.path());
        assert_eq!(clusters[0].sockets, [Path::new("/run/a"), Path::new("/run/b")]);
        let found = clusters[0].discovered();
        assert_eq!((found.name.as_str(), found.host.as_str(), found.port), ("15/main", "/run/a", 3));
    }

    #[test]
    fn files_that_include_each_other_without_end_are_read_for_a_moment_only() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("15/main");
        fs::create_dir_all(&folder).unwrap();
        let text = format!("port = 5433\n{}include '/dev/zero'\n", "include 'postgresql.conf'\n".repeat(100));
        fs::write(folder.join("postgresql.conf"), text).unwrap();
        assert_eq!(clusters(root.path())[0].port, 5433);
    }

    #[test]
    fn a_cluster_without_sockets_is_reached_by_tcp() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("16/tcp");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("postgresql.conf"), "unix_socket_directories = ''\n").unwrap();
        assert_eq!(clusters(root.path())[0].discovered().host, "localhost");
    }
}
