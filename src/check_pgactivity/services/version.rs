//! Versions: the server's, against those that were released, and our own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop, VERSION, own_version};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "minor_version",
        help: "Check if the PostgreSQL minor version is the latest one.",
        run: |call| Box::pin(minor_version(call)),
    },
    Service {
        name: "pga_version",
        help: "Check the version of this check_pgactivity script.",
        run: |call| Box::pin(pga_version(call)),
    },
];

/// Where the project tells its latest releases.
const RELEASES: &str = "https://www.postgresql.org/versions.rss";
/// Programs that fetch it, in the order in which they are tried, with what comes before the address.
const FETCHERS: &[(&str, &[&str])] = &[
    ("curl", &["--silent", "--location", "--header", "Pragma: no-cache"]),
    ("wget", &["--quiet", "--no-cache", "--output-document=-"]),
    ("GET", &["-H", "Pragma: no-cache"]),
    ("fetch", &["-q", "-o", "-"]),
    ("lynx", &["--dump"]),
    ("links", &["-dump"]),
    ("links2", &["-dump"]),
];

async fn minor_version(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_MINOR_VERSION";
    let mut host = call.one_host()?;
    let number = host.version().await?;
    let rows = host.rows("connection").await?;
    let version = Row::of(&rows).next().map(|row| row.text("server_version").to_owned()).unwrap_or_default();
    let latest = match (&call.options.warning, &call.options.critical) {
        (Some(_), Some(_)) => {
            return Err(Stop::usage("you must provide a warning OR a critical threshold for service minor_version!"));
        }
        (Some(given), None) | (None, Some(given)) => versions(given),
        (None, None) => match releases(&call).await? {
            Some(page) => versions(&titles(&page)),
            None => return Ok(Answer::new(LABEL, Status::Unknown, "Could not fetch PostgreSQL latest versions")),
        },
    };
    let major = number / 10_000;
    let Some(minor) = latest.get(&major) else {
        return Ok(Answer::new(LABEL, Status::Unknown, format!("Unknown major PostgreSQL version {major}")));
    };
    let (status, message) = if number % 10_000 == *minor {
        (Status::Ok, format!("PostgreSQL version {version}"))
    } else {
        let status = if call.options.warning.is_some() { Status::Warning } else { Status::Critical };
        (status, format!("PostgreSQL version {version} (should be {major}.{minor})"))
    };
    Ok(Answer::new(LABEL, status, message).with_perfdata(vec![Perf::new("version", number).unit("PGNUMVER")]))
}

/// The minor versions that a text names, by major; whatever else is in it is passed over. Of a major named twice the last
/// counts.
fn versions(text: &str) -> BTreeMap<u32, u32> {
    let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    let pairs = numbers.filter_map(|word| {
        let mut parts = word.split('.');
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (parts.next().is_none() && major >= 10).then_some((major, minor))
    });
    pairs.collect()
}

/// The titles of a page of releases.
fn titles(page: &str) -> String {
    let titles = page.split("<title>").skip(1).filter_map(|rest| rest.split('<').next());
    titles.collect::<Vec<_>>().join(" ")
}

/// The page of releases: by the program that `--path` names, else by the first that gives it.
async fn releases(call: &Call) -> Result<Option<String>, Stop> {
    let limit = call.limit;
    let Some(path) = &call.options.path else {
        for (name, arguments) in FETCHERS {
            if let Some(page) = fetch(Path::new(name), arguments, limit).await
                && page.contains("PostgreSQL latest versions")
            {
                return Ok(Some(page));
            }
        }
        return Ok(None);
    };
    let program = Path::new(path);
    if rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_err() {
        return Err(Stop::usage(format!("\"{path}\" is not a valid program.")));
    }
    let name = program.file_name().unwrap_or_default();
    let fetcher = FETCHERS.iter().find(|(known, _)| name == *known);
    let (_, arguments) = fetcher.ok_or_else(|| Stop::usage(format!("\"{path}\" is not a supported program.")))?;
    Ok(fetch(program, arguments, limit).await.filter(|page| !page.is_empty()))
}

async fn fetch(program: &Path, arguments: &[&str], limit: Duration) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).arg(RELEASES).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output()).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[expect(clippy::unused_async, reason = "a service is asked like any other")]
async fn pga_version(call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "PGACTIVITY_VERSION";
    let (expected, status) = match (&call.options.warning, &call.options.critical) {
        (Some(expected), None) => (expected, Status::Warning),
        (None, Some(expected)) => (expected, Status::Critical),
        _ => {
            return Err(Stop::usage("you must provide a warning or a critical threshold for service pga_version!"));
        }
    };
    if !is_version(expected) {
        return Err(Stop::usage("given version does not look like a check_pgactivity version!"));
    }
    Ok(if expected == VERSION {
        Answer::new(LABEL, Status::Ok, format!("check_pgactivity {VERSION}, {}", own_version()))
    } else {
        let message = format!("check_pgactivity {VERSION} (should be {expected}!), {}", own_version());
        Answer::new(LABEL, status, message)
    })
}

/// `2.10`, `2.8_beta1`, `3.0dev`.
fn is_version(text: &str) -> bool {
    let Some((major, rest)) = text.split_once('.') else { return false };
    let minor = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let stage = minor.strip_prefix('_').unwrap_or(minor);
    let stage = ["dev", "beta", "rc"].iter().find_map(|known| stage.strip_prefix(known));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    major.len() == 1
        && is_digits(major)
        && minor.len() < rest.len()
        && (minor.is_empty() || stage.is_some_and(is_digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_among_anything() {
        let found = |text| versions(text).into_iter().collect::<Vec<_>>();
        assert_eq!(found("18.4, 17.10/9.6.24;10.1 x"), [(10, 1), (17, 10), (18, 4)]);
        assert_eq!(found("15 15.x 1.2.3 99999999999.1"), []);
        let page =
            "<rss><title>PostgreSQL latest versions</title><item><title>18.4</title>9.9</item><title>17.10</title>";
        assert_eq!(found(&titles(page)), [(17, 10), (18, 4)]);
    }

    #[test]
    fn a_version_of_the_original_looks_like_one() {
        for version in ["2.10", "2.8_beta1", "3.0dev", "2.6rc2"] {
            assert!(is_version(version), "{version}");
        }
        for text in ["2", "22.1", "2.", "2.1x", "2.1_", "a.1", "2.1.1"] {
            assert!(!is_version(text), "{text}");
        }
    }
}
