//! The rules as a monitoring policy, and a policy as rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pgvitals::catalog::Catalog;
use pgvitals::check::{Check, IGNORE};
use pgvitals::demo::cluster::{Binaries, Cluster, Settings};

use crate::command::{Ended, pgvitals, pgvitals_in};
use crate::golden::compare_file;
use crate::pair::prepare;
use crate::program::watching;

#[tokio::test]
async fn the_golden_policy_is_what_the_rules_say() {
    let Ended { code, stdout, stderr } = pgvitals(&["policy"]).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    compare_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md"), &stdout);
    let Ended { code, stdout, stderr } = pgvitals(&["policy", "--lint=importance,every,action,reason"]).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
}

#[test]
fn every_built_in_rule_has_a_name_of_its_own_in_the_policy_and_a_group() {
    let catalog = Catalog::built_in().unwrap();
    let rules: Vec<_> = catalog.checks().iter().flat_map(Check::rules).collect();
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.monitor()).collect();
    assert_eq!(names.len(), rules.len());
    for check in catalog.checks() {
        assert_eq!(check.groups().len(), 1, "{}", check.name());
    }
    for rule in rules {
        assert!(rule.terms().group.is_some() && !rule.terms().is_ignored(), "{}", rule.monitor());
    }
}

/// A policy as a team wrote it down, before anybody thought of what reads it; only the values are ours.
const SHEET: &str = r#"
help = "The sheet"
[[query]]
since = 10
sql = "SELECT pg_catalog.count(DISTINCT usename) AS users FROM pg_catalog.pg_stat_activity"
[[metric]]
name = "site_users"
type = "gauge"
column = "users"
help = "Roles that are connected"

[[rule]]
monitor = "Disk Space of /db"
importance = "major"
every = "1 hour"
warning = "1.5TB"
critical = "2TB"
action = "email support"
name = "db-space"
value = 'node_filesystem_size_bytes{mountpoint="/db"} - node_filesystem_free_bytes{mountpoint="/db"}'
unit = "bytes"
summary = "{mountpoint} holds {value}"
none = "there is no /db"
reason = "it is mirrored to a disk of 2 TB"

[[rule]]
monitor = "PostgreSQL online"
importance = "critical"
every = "10 seconds"
warning = "N/A"
critical = "no"
action = "email DBAs"
name = "db-online"
value = "pg_up"
summary = "{server} does not answer"
ok = "{server} answers"
reason = "nothing works without it"

[[rule]]
monitor = "Server Ping"
importance = "critical"
every = "10 seconds"
warning = "100ms"
critical = "500ms"
action = "email support"
name = "db-ping"
# there and back, with a small query
value = 'pgvitals_collector_duration_seconds{collector="server"} + 0 * pg_static'
unit = "seconds"
summary = "{server} answers within {value}"
reason = "who waits half a second goes elsewhere"

[[rule]]
monitor = "OS User Count"
importance = "minor"
every = "1 minute"
warning = "10"
critical = "20"
action = "ignore"
name = "db-users"
value = "100 * site_users"
summary = "{value} users"
reason = "somebody wanted it once"

[[rule]]
monitor = "/db Mount"
importance = "critical"
every = "10 seconds"
warning = "N/A"
critical = "missing"
action = "panic"
name = "db-mount"
value = 'node_filesystem_mount_info{mountpoint="/db"}'
summary = "{device} is mounted at {mountpoint}"
none = "/db is not mounted"
reason = "an empty folder takes writes too"
"#;

#[tokio::test]
async fn the_rows_of_a_sheet_are_rules_as_they_stand() {
    let mut cluster = Cluster::start(&Binaries::major(17).unwrap(), Settings::default()).await.unwrap();
    prepare(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("checks.d")).unwrap();
    let write = |sheet: &str| fs::write(folder.path().join("checks.d/sheet.toml"), sheet).unwrap();
    let checks = format!("checks = '{}'\n", folder.path().join("checks.d").display());
    fs::write(folder.path().join("pgvitals.toml"), checks + &watching(&[&cluster])).unwrap();
    let ask = async |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').chain(["--config", "pgvitals.toml"]).collect();
        pgvitals_in(folder.path(), &arguments).await
    };
    write(SHEET);
    let policy = ask("policy --format csv").await.stdout;
    let rows: Vec<&str> = policy.split("\r\n").collect();
    assert_eq!(rows[0], "Monitor,Importance,Frequency,Warning Level,Critical Level,Action");
    for row in [
        "Disk Space of /db,major,1 hour,1.5 TB,2 TB,email support",
        "PostgreSQL online,critical,10 seconds,N/A,no,email DBAs",
        "Server Ping,critical,10 seconds,100 ms,500 ms,email support",
        "OS User Count,minor,1 minute,10,20,ignore",
        "/db Mount,critical,10 seconds,N/A,missing,panic",
    ] {
        assert!(rows.contains(&row), "{row}: {policy}");
    }
    let judged = async |cases: [(&str, i32, &str); 5]| {
        for (name, code, part) in cases {
            let ended = ask(&format!("check {name}")).await;
            assert!(ended.code == code && ended.stdout.contains(part), "{name}: {ended:?}");
        }
    };
    // This host has no /db, and /db is what must not be missing.
    judged([
        ("db-space", 0, "DB-SPACE OK: there is no /db"),
        ("db-online", 0, "DB-ONLINE OK: primary answers | db-online=1;;@0"),
        ("db-ping -w 1min -c 2min", 0, "DB-PING OK: primary answers within "),
        ("db-users", 0, "DB-USERS OK: nothing to check: the policy says to ignore it"),
        ("db-mount", 2, "DB-MOUNT CRITICAL: /db is not mounted"),
    ])
    .await;
    // The same where /db is a file system that this host has.
    let seen = ask("once filesystem").await.stdout;
    let sizes = seen.lines().find(|line| line.starts_with("node_filesystem_size_bytes{")).unwrap();
    let mount = sizes.split("mountpoint=").nth(1).unwrap().split('"').nth(1).unwrap();
    write(
        &SHEET
            .replace("\"/db\"", &format!("\"{mount}\""))
            .replace(&format!("action = \"{IGNORE}\""), "action = \"call\""),
    );
    cluster.stop().await.unwrap();
    judged([
        ("db-space -w @~:1PB -c 1PB", 1, "DB-SPACE WARNING: /"),
        ("db-online", 2, "DB-ONLINE CRITICAL: primary does not answer"),
        ("db-ping", 3, "DB-PING UNKNOWN: refused: "),
        ("db-users", 3, "DB-USERS UNKNOWN: refused: "),
        ("db-mount", 0, " is mounted at /"),
    ])
    .await;
    cluster.start_again().await.unwrap();
    let ended = ask("check db-users").await;
    assert!(ended.code == 2 && ended.stdout.contains("DB-USERS CRITICAL: "), "{ended:?}");
}

#[tokio::test]
async fn lint_names_the_file_and_line_of_what_nobody_agreed_on() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("checks.d")).unwrap();
    let sheet = SHEET.replace("action = \"panic\"\n", "").replace("importance = \"minor\"\n", "");
    fs::write(folder.path().join("checks.d/sheet.toml"), &sheet).unwrap();
    let config = "checks = 'checks.d'\n[check.disk]\nwarning = \"70%\"\nowner = \"storage\"\n\
                  [check.swap]\nreason = \"it has none\"\nwarning = \"N/A\"\n[check.db-users]\nimportance = \"minor\"\n\
                  [check.load]\naction = \"ignore\"\n";
    fs::write(folder.path().join("pgvitals.toml"), config).unwrap();
    let ask = async |arguments: &[&str]| {
        let arguments = [&["policy", "--config", "pgvitals.toml"], arguments].concat();
        pgvitals_in(folder.path(), &arguments).await
    };
    let Ended { code, stdout, stderr } = ask(&["--lint"]).await;
    // Where its [[rule]] stands, one line above.
    let line = sheet[..sheet.find("/db Mount").unwrap()].matches('\n').count();
    let expected = format!(
        "checks.d/sheet.toml:{line}: rule `db-mount`: no action\n\
         pgvitals.toml:3: check `disk`: another level, and no reason\n\
         pgvitals.toml:11: check `load`: ignored, and no reason\n"
    );
    assert_eq!((code, stdout, stderr.as_str()), (1, expected, ""));
    let owners = ask(&["--lint=owner"]).await;
    assert_eq!(owners.code, 1);
    assert!(!owners.stdout.contains("`disk`") && owners.stdout.contains("rule `swap`: no owner\n"), "{owners:?}");
    let policy = ask(&["--format", "csv"]).await.stdout;
    assert!(policy.contains("\r\nSpace of file systems,critical,1 minute,70 %,95 %,"), "{policy}");
    assert!(policy.contains("\r\nSwap in use,minor,10 minutes,N/A,N/A,"), "{policy}");
}
