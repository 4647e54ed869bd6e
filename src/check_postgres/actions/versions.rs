//! Whether there is a newer version of a program: the one thing that is asked of others than servers, by programs that are
//! here to fetch pages, and only when this action is called.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::connections::version_in;
use crate::check::Status;
use crate::check_postgres::{Action, Call, End, Ended};
use crate::plugin::Row;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(postgres(call)),
        ..Action::of_database("new_version_pg", "Whether there is a newer PostgreSQL")
    },
    Action {
        run: |call| {
            ours(call);
            Box::pin(async { Ok(()) })
        },
        ..Action::of_database("new_version_cp", "UNKNOWN: this is not check_postgres.pl")
    },
    Action {
        run: |call| Box::pin(program(call, "Bucardo", "bucardo_ctl", "bucardo")),
        ..Action::of_database("new_version_bc", "Whether there is a newer Bucardo")
    },
    Action {
        run: |call| Box::pin(program(call, "boxinfo", "boxinfo.pl", "boxinfo")),
        ..Action::of_database("new_version_box", "Whether there is a newer boxinfo")
    },
    Action {
        run: |call| Box::pin(program(call, "tail_n_mail", "tail_n_mail", "tail_n_mail")),
        ..Action::of_database("new_version_tnm", "Whether there is a newer tail_n_mail")
    },
];

/// Programs that fetch a page, in the order in which they are tried.
const METHODS: &[&[&str]] = &[
    &["GET", "-t", "30", "-H", "Pragma: no-cache"],
    &["wget", "--quiet", "--timeout=30", "--no-cache", "-O", "-"],
    &["curl", "--silent", "--max-time", "30", "-H", "Pragma: no-cache"],
    &["fetch", "-q", "-T", "30", "-o", "-"],
    &["lynx", "--connect-timeout=30", "--dump"],
    &["links", "-dump"],
];
/// What is read of a page.
const LONGEST_PAGE: u64 = 1 << 20;

/// A version of up to three numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Version {
    major: u32,
    minor: u32,
    revision: Option<u32>,
}

impl Version {
    /// The first one in a text.
    fn in_text(text: &str) -> Option<Self> {
        let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
        words.filter(|word| word.contains('.')).find_map(|word| {
            let mut numbers = word.trim_matches('.').split('.').map_while(|number| number.parse().ok());
            Some(Self { major: numbers.next()?, minor: numbers.next()?, revision: numbers.next() })
        })
    }

    fn text(self) -> String {
        let Self { major, minor, revision } = self;
        revision.map_or_else(|| format!("{major}.{minor}"), |revision| format!("{major}.{minor}.{revision}"))
    }
}

async fn postgres(call: &mut Call) -> Ended {
    let Some(at) = call.places().next() else { return Ok(()) };
    let answer = call.rows_at(at, "connection").await?;
    let said = Row::of(&answer).next().map(|row| row.text("version")).unwrap_or_default();
    let Some(word) = version_in(said) else {
        call.say_of_none(Status::Unknown, "Could not determine local version information for Postgres");
        return Ok(());
    };
    let Some(local) = Version::in_text(word) else {
        let text = format!("Cannot compare versions on development versions: you have Postgres version {word}");
        call.say_of_none(Status::Ok, text);
        return Ok(());
    };
    let page = fetch(call, "https://www.postgresql.org/versions.rss", |page| page.contains("<title>")).await?;
    let titles = page.split("<title>").skip(1).filter_map(|rest| {
        let title = rest.split('<').next()?;
        Version::in_text(title.split_whitespace().next()?)
    });
    // Since 10 the second number counts the releases of a major version.
    let is_same = |other: &Version| other.major == local.major && (local.major >= 10 || other.minor == local.minor);
    let newest = titles.filter(is_same).last();
    tell(call, "Postgres", local, newest);
    Ok(())
}

fn ours(call: &mut Call) {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("Could not determine local version information for check_postgres: this is pgvitals {version}");
    call.say_of_none(Status::Unknown, text);
}

async fn program(call: &mut Call, name: &str, file: &str, page: &str) -> Ended {
    let url = format!("https://bucardo.org/{page}/latest_version.txt");
    let page = fetch(call, &url, |page| Version::in_text(page).is_some()).await?;
    let newest = Version::in_text(&page);
    if newest.is_none() {
        tell(call, name, Version::default(), None);
        return Ok(());
    }
    let said = output_of(&[file, "--version"], call.timeout()).await.unwrap_or_default();
    match Version::in_text(&said) {
        Some(local) => tell(call, name, local, newest),
        None if said.is_empty() => {
            call.say_of_none(Status::Unknown, format!("Could not parse version information for {name}"));
        }
        None => {
            call.say_of_none(Status::Unknown, format!("Could not determine local version information for {name}"));
        }
    }
    Ok(())
}

fn tell(call: &mut Call, name: &str, local: Version, newest: Option<Version>) {
    let Some(newest) = newest else {
        call.say_of_none(Status::Unknown, format!("Could not download version information for {name}"));
        return;
    };
    let (here, there) = (local.text(), newest.text());
    let upgrade = format!("Please upgrade to version {there} of {name}. You are running {here}");
    let is_release = newest.major >= 10 && name == "Postgres";
    let parts = |version: Version| match (is_release, version) {
        (true, Version { major, minor, .. }) => (major, 0, minor),
        (false, Version { major, minor, revision }) => (major, minor, revision.unwrap_or_default()),
    };
    let (old, new) = (parts(local), parts(newest));
    let (status, text) = if old == new {
        (Status::Ok, format!("Version {here} is the latest for {name}"))
    } else if (old.0, old.1) == (new.0, new.1) && old.2 < new.2 {
        (Status::Critical, upgrade)
    } else if (old.0, old.1) < (new.0, new.1) {
        (Status::Warning, upgrade)
    } else {
        let text = format!("Your version of {name} ({here}) appears to be ahead of the current release! ({there})");
        (Status::Unknown, text)
    };
    call.say_of_none(status, text);
}

/// A page, by the first program that gets one which is of use; empty when none does.
async fn fetch(call: &Call, url: &str, is_of_use: impl Fn(&str) -> bool) -> Result<String, End> {
    let wanted = call.options.text("get_method").unwrap_or_default().to_lowercase();
    let names = || METHODS.iter().filter_map(|method| method.first().copied());
    let is_wanted = |name: &str| name.to_lowercase().starts_with(&wanted);
    if !names().any(is_wanted) {
        let choices = names().collect::<Vec<_>>().join(", ");
        return Err(End::refused(format!("Unknown value for get_method: {wanted}. Valid choices are: {choices}")));
    }
    let mut methods = METHODS.iter().filter(|method| method.first().is_some_and(|name| is_wanted(name)));
    let methods: Vec<_> = if wanted.is_empty() { methods.collect() } else { methods.next().into_iter().collect() };
    for method in methods {
        let words: Vec<&str> = method.iter().copied().chain([url]).collect();
        if let Some(page) = output_of(&words, call.timeout()).await
            && is_of_use(&page)
        {
            return Ok(page);
        }
    }
    Ok(String::new())
}

/// What a program prints on stdout within the time; none when there is no such program.
async fn output_of(words: &[&str], limit: Duration) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().ok()?;
    let mut printed = Vec::new();
    let mut stdout = child.stdout.take()?.take(LONGEST_PAGE);
    let read = tokio::time::timeout(limit, stdout.read_to_end(&mut printed)).await;
    read.ok()?.ok()?;
    Some(String::from_utf8_lossy(&printed).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_two_or_three_numbers_with_dots() {
        let read = |text| Version::in_text(text).map(Version::text);
        assert_eq!(read("15.20"), Some("15.20".to_owned()));
        assert_eq!(read("bucardo_ctl version 5.6.0 (2020)"), Some("5.6.0".to_owned()));
        assert_eq!((read("17beta1"), read("none."), read("1."), read("99999999999.1")), (None, None, None, None));
    }
}
