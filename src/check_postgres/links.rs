//! Symbolic links by which the program is called.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Outcome, actions};

/// The answer to `--symlinks` and `build_symlinks`: a link for each action in the current folder. With `force` links are
/// replaced; files never are.
pub(super) fn build(program: &str, path: &Path, folder: &Path, force: bool) -> Outcome {
    if !program.contains("postgres") {
        let text = "This command will not work unless the program has the word \"postgres\" in it";
        return Outcome { stdout: format!("ERROR: {text}\n"), stderr: String::new(), code: 3 };
    }
    let mut names: Vec<&str> = actions::all().map(|action| action.name).collect();
    names.sort_unstable();
    let width = names.iter().map(|name| name.len()).max().unwrap_or_default();
    let mut outcome = Outcome::default();
    for name in names {
        let (file, space) = (format!("check_postgres_{name}"), " ".repeat(width - name.len()));
        let link = folder.join(&file);
        match fs::read_link(&link) {
            Ok(source) if !force => {
                let source = source.display();
                outcome.stdout += &format!("Not creating \"{file}\": {space} already linked to \"{source}\"\n");
                continue;
            }
            Ok(_) => {
                outcome.stdout += &format!("Unlinking \"{file}\":{space} ");
                if let Err(error) = fs::remove_file(&link) {
                    outcome.stdout += &format!("Failed to unlink \"{file}\": {error}\n");
                    outcome.code = 3;
                    continue;
                }
            }
            Err(_) if link.exists() => {
                outcome.stdout += &format!("Not creating \"{file}\": {space} file already exists\n");
                continue;
            }
            Err(_) => {}
        }
        match symlink(path, &link) {
            Ok(()) => outcome.stdout += &format!("Created \"{file}\"\n"),
            Err(error) => {
                outcome.stdout += &format!("Could not symlink {file} to {program}: {error}\n");
                outcome.code = 3;
            }
        }
    }
    outcome
}

/// Makes links to the binary under every name that both plugins are called by, and says of each what was done. What is there
/// and no link to a binary called `pgvitals` stays as it is.
///
/// # Errors
///
/// The folder is none, or cannot be written to.
pub fn install(binary: &Path, folder: &Path) -> io::Result<String> {
    let mut names = vec!["check_postgres".to_owned(), "check_postgres.pl".to_owned(), "check_pgactivity".to_owned()];
    names.extend(actions::all().map(|action| format!("check_postgres_{}", action.name)));
    names.sort_unstable();
    if !folder.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is no folder", folder.display())));
    }
    let mut said = String::new();
    for name in names {
        let link = folder.join(&name);
        let done = match fs::read_link(&link) {
            Ok(source) if source == binary => "is there".to_owned(),
            Ok(source) if source.file_name() == binary.file_name() => {
                fs::remove_file(&link)?;
                symlink(binary, &link)?;
                "is renewed".to_owned()
            }
            Ok(source) => format!("stays: it links to {}", source.display()),
            Err(_) if link.exists() => "stays: it is a file".to_owned(),
            Err(_) => {
                symlink(binary, &link)?;
                "is made".to_owned()
            }
        };
        said += &format!("{name} {done}\n");
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_over_nothing_that_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("check_postgres.pl"), "perl").unwrap();
        symlink("/usr/share/check_postgres.pl", at("check_postgres")).unwrap();
        symlink("/old/pgvitals", at("check_postgres_backends")).unwrap();
        let said = install(Path::new("/usr/bin/pgvitals"), folder.path()).unwrap();
        for line in [
            "check_postgres stays: it links to /usr/share/check_postgres.pl",
            "check_postgres.pl stays: it is a file",
            "check_postgres_backends is renewed",
            "check_pgactivity is made",
        ] {
            assert!(said.lines().any(|said| said == line), "{line} in {said}");
        }
        assert_eq!(fs::read_link(at("check_postgres_connection")).unwrap(), Path::new("/usr/bin/pgvitals"));
        let again = install(Path::new("/usr/bin/pgvitals"), folder.path()).unwrap();
        assert!(again.contains("check_pgactivity is there\n"), "{again}");
    }
}
