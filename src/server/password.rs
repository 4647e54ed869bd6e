//! Where a password comes from. Files and commands are read again for every connection, so that a rotated password
//! needs no restart.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::failure::{ConnectFailure, FailureClass};
use super::options::{ConnectOptions, Host};
use super::secret::{Password, Secret, program_of};
use crate::source::read_plain;

const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// A file with a password, or what a command prints; what is longer is a mistake.
const LONGEST_PASSWORD: u64 = 8192;
const LARGEST_PASSFILE: u64 = 1 << 20;

/// The password for one host: from its own source, else from libpq's password file.
pub(super) async fn find(options: &ConnectOptions, host: &Host) -> Result<Option<Secret>, ConnectFailure> {
    let found = match &options.password {
        Some(Password::Given(secret)) => Some(secret.clone()),
        Some(Password::File(path)) => {
            let read = read_plain(path, LONGEST_PASSWORD).and_then(text_of);
            Some(first_line(read.map_err(|error| refused(&format!("read {}", path.display()), &error))?))
        }
        Some(Password::Command(argv)) => Some(run(argv).await?),
        None => options.passfile.as_deref().and_then(|path| look_up(path, options, host)),
    };
    Ok(found.filter(|secret| !secret.0.is_empty()))
}

fn refused(doing: &str, error: &io::Error) -> ConnectFailure {
    let class = match error.kind() {
        ErrorKind::PermissionDenied => FailureClass::Permission,
        _ => FailureClass::Authentication,
    };
    ConnectFailure::new(class, format!("{doing}: {error}"))
}

fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "not UTF-8"))
}

fn first_line(mut text: String) -> Secret {
    text.truncate(text.find(['\n', '\r']).unwrap_or(text.len()));
    Secret(text)
}

async fn run(argv: &[String]) -> Result<Secret, ConnectFailure> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| ConnectFailure::new(FailureClass::Authentication, "the password command is empty"))?;
    let doing = format!("password command {}", program_of(argv));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| refused(&doing, &error))?;
    let stdout = child.stdout.take();
    let answer = timeout(COMMAND_LIMIT, async {
        let mut text = String::new();
        if let Some(stdout) = stdout {
            stdout.take(LONGEST_PASSWORD).read_to_string(&mut text).await?;
        }
        child.wait().await.map(|status| (status, text))
    })
    .await;
    match answer {
        Ok(Ok((status, text))) if status.success() => Ok(first_line(text)),
        Ok(Ok((status, _))) => Err(ConnectFailure::new(FailureClass::Authentication, format!("{doing}: {status}"))),
        Ok(Err(error)) => Err(refused(&doing, &error)),
        Err(_) => Err(ConnectFailure::timeout(&doing, COMMAND_LIMIT)),
    }
}

/// Looks into `.pgpass`; as in libpq it is ignored with a warning when others can read it.
fn look_up(path: &Path, options: &ConnectOptions, host: &Host) -> Option<Secret> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() {
        tracing::warn!(path = %path.display(), "password file is not a plain file: not used");
        return None;
    }
    if metadata.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "password file can be read by group or others: not used, make it 0600");
        return None;
    }
    let text = match read_plain(path, LARGEST_PASSFILE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "password file cannot be read");
            return None;
        }
    };
    let (name, port) = match host {
        Host::Socket { directory, port } if is_default_directory(directory) => ("localhost".into(), port),
        Host::Socket { directory, port } => (directory.to_string_lossy(), port),
        Host::Tcp { name, port, .. } => (name.into(), port),
    };
    let wanted = [&*name, &port.to_string(), &options.database, &options.user];
    text.lines().find_map(|line| match_line(line, wanted))
}

/// Which directory is the default one was decided when libpq was built: Debian and Red Hat took the first, PostgreSQL
/// itself the last.
fn is_default_directory(directory: &Path) -> bool {
    ["/var/run/postgresql", "/run/postgresql", "/tmp"].iter().any(|known| directory == Path::new(known))
}

/// `host:port:database:user:password`; `*` alone matches all, `\` takes the next character as it is.
fn match_line(line: &str, wanted: [&str; 4]) -> Option<Secret> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for want in wanted {
        let (raw, value, after) = field(rest)?;
        if raw != "*" && value != want {
            return None;
        }
        rest = after;
    }
    let mut chars = rest.trim_end_matches('\r').chars();
    let mut password = String::new();
    while let Some(c) = chars.next() {
        password.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    Some(Secret(password))
}

/// The next field as it is written, as it is meant, and the text after its colon.
fn field(text: &str) -> Option<(&str, String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            ':' => return Some((text.get(..at)?, value, text.get(at + 1..)?)),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::server::Environment;

    fn options(dsn: &str) -> ConnectOptions {
        ConnectOptions::parse(dsn, &Environment::new(|_| None)).unwrap()
    }

    async fn password_of(options: &ConnectOptions) -> Result<Option<String>, ConnectFailure> {
        Ok(find(options, &options.hosts()[0]).await?.map(|secret| secret.0))
    }

    #[tokio::test]
    async fn the_first_line_of_a_password_file_that_fits_wins() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(
            file.path(),
            "# h:5432:*:u:comment\nh:5432:other:u:no\nh:*:*:u:first\\:\\\\x\nh:5432:db:u:second\n\
             localhost:5432:*:u:socket\n/sock:5432:*:u:directory\n\\:\\:1:5432:*:u:six\nbroken\n",
        )
        .unwrap();
        let path = file.path().display();
        for (host, expected) in [
            ("h", Some("first:\\x")),
            ("/run/postgresql", Some("socket")),
            ("/sock", Some("directory")),
            ("::1", Some("six")),
            ("unknown", None),
        ] {
            let options = options(&format!("host={host} user=u dbname=db passfile={path}"));
            assert_eq!(password_of(&options).await.unwrap().as_deref(), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn a_password_file_that_others_can_read_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "*:*:*:*:secret\n").unwrap();
        let options = options(&format!("host=h user=u passfile={}", file.path().display()));
        assert_eq!(password_of(&options).await.unwrap().as_deref(), Some("secret"));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(password_of(&options).await.unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in "[a-z:*\\\\#\\PC]{0,40}") {
            let _ = match_line(&line, ["h", "5432", "db", "u"]);
        }

        #[test]
        fn any_password_survives_a_password_file(password in "[^\\n\\r]{0,30}") {
            let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
            let found = match_line(&format!("h:*:*:u:{escaped}"), ["h", "5432", "db", "u"]);
            proptest::prop_assert_eq!(found.map(|secret| secret.0), Some(password));
        }
    }

    #[tokio::test]
    async fn files_and_commands_are_asked_anew_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let from_file = options("host=h user=u").with_password(Password::File(path.clone()));
        let command = vec!["/bin/cat".to_owned(), path.display().to_string()];
        let from_command = options("host=h user=u").with_password(Password::Command(command));
        for password in ["first", "second"] {
            fs::write(&path, format!("{password}\nnot this\n")).unwrap();
            assert_eq!(password_of(&from_file).await.unwrap().as_deref(), Some(password));
            assert_eq!(password_of(&from_command).await.unwrap().as_deref(), Some(password));
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_says_so_without_its_arguments() {
        let argv = ["/bin/sh", "-c", "echo canary; exit 3"].map(ToOwned::to_owned).to_vec();
        let failure = password_of(&options("host=h user=u").with_password(Password::Command(argv))).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Authentication);
        assert_eq!(failure.message, "password command /bin/sh: exit status: 3");
    }
}
