//! Names of files by wildcards, as Perl's `glob` has them: `*`, `?`, `[a-z]`, `{dump,sql}`, `~`, several with blanks between.

use std::fs;
use std::path::{Path, PathBuf};

use crate::plugin::Pattern;

/// A pattern stands for so many at most.
const MOST: usize = 10_000;

/// The files that a pattern names, those of each part in order of their names.
pub(super) fn find(pattern: &str) -> Vec<PathBuf> {
    let home = || std::env::var("HOME").unwrap_or_default();
    let mut found = Vec::new();
    for part in pattern.split_whitespace().flat_map(expand) {
        let part = part.strip_prefix("~/").map_or_else(|| part.clone(), |rest| format!("{}/{rest}", home()));
        let mut paths = vec![PathBuf::from(if part.starts_with('/') { "/" } else { "" })];
        for component in part.split('/').filter(|component| !component.is_empty()) {
            paths = paths.iter().flat_map(|path| within(path, component)).take(MOST).collect();
        }
        found.extend(paths);
    }
    found
}

/// The entries of a folder that one component names. Without a wildcard it names one, whether it is there or not.
fn within(folder: &Path, component: &str) -> Vec<PathBuf> {
    let Some(pattern) = pattern(component) else { return vec![folder.join(component)] };
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(listed).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    // Hidden files are named by a dot only.
    names.retain(|name| {
        let name = name.to_string_lossy();
        name.starts_with('.') == component.starts_with('.') && pattern.is_match(&name)
    });
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// The component as an expression, if it has a wildcard.
fn pattern(component: &str) -> Option<Pattern> {
    if !component.contains(['*', '?', '[']) {
        return None;
    }
    let mut text = String::from(r"(?s)\A");
    let mut in_set = false;
    for letter in component.chars() {
        match letter {
            '[' => in_set = true,
            ']' => in_set = false,
            _ => {}
        }
        match letter {
            '*' if !in_set => text.push_str(".*"),
            '?' if !in_set => text.push('.'),
            '!' if in_set && text.ends_with('[') => text.push('^'),
            '[' | ']' | '-' | '^' if in_set || letter == ']' => text.push(letter),
            letter if letter.is_alphanumeric() || letter == '_' => text.push(letter),
            letter => text.extend(['\\', letter]),
        }
    }
    text.push_str(r"\z");
    // One that is none, such as `[`, names nothing.
    Pattern::parse(&text).ok()
}

/// What `{a,b}` stands for, from the outside in.
fn expand(text: &str) -> Vec<String> {
    let Some(open) = text.find('{') else { return vec![text.to_owned()] };
    let (before, rest) = text.split_at(open);
    let mut depth = 0_usize;
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut letters = rest.chars();
    for letter in letters.by_ref() {
        match letter {
            '{' if depth == 0 => depth = 1,
            '}' if depth == 1 => {
                parts.push(std::mem::take(&mut part));
                depth = 0;
                break;
            }
            ',' if depth == 1 => parts.push(std::mem::take(&mut part)),
            letter => {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                part.push(letter);
            }
        }
    }
    if depth > 0 {
        return vec![text.to_owned()];
    }
    let after = letters.as_str();
    let all = parts.iter().flat_map(|part| expand(&format!("{before}{part}{after}")));
    all.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_taken_apart() {
        assert_eq!(expand("a*{dump,sql}"), ["a*dump", "a*sql"]);
        assert_eq!(expand("{a,b{c,d}}e"), ["ae", "bce", "bde"]);
        assert_eq!(expand("a{b"), ["a{b"]);
    }

    #[test]
    fn files_are_found_by_wildcards() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a-1.dump", "b-2.dump", "c.sql", ".hidden.dump", "d.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/e+1.dump"), "").unwrap();
        let names = |pattern: &str| {
            let found = find(&format!("{}/{pattern}", folder.path().display()));
            let name = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
            found.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names("*.dump"), ["a-1.dump", "b-2.dump"]);
        assert_eq!(names("*{dump,sql}"), ["a-1.dump", "b-2.dump", "c.sql"]);
        assert_eq!(names("[!ac]*.???"), ["d.txt"]);
        assert_eq!(names("*/e+*"), ["sub/e+1.dump"]);
        assert_eq!(names("nothing"), ["nothing"]);
        assert!(names("[").is_empty() || names("[") == ["["]);
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern in "[a-z*?{},!-\\[\\]]{0,12}") {
            let _ = (expand(&pattern), super::pattern(&pattern));
        }
    }
}
