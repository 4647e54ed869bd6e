use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use super::{Group, NEWER, ORIGINAL, Stage};
use crate::program::BINARY;

const NOTHING: Group = Group { conf: &[], prepare: &[], standby: &[], hold: &[], programs: &[], cases: &[] };
/// A name that would end the line, begin the perfdata and end a label.
const HOSTILE: &str = "a|b\nc'd=e f";

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn names_and_values_stay_on_their_line() {
    let stage = Stage::set(&NOTHING).await;
    stage.primary.sql("postgres", &format!("CREATE DATABASE \"{HOSTILE}\"")).await.unwrap();
    let said = text(&stage.ours_to("backends -c 1"));
    assert_eq!((said.matches('\n').count(), said.matches('|').count()), (1, 1), "{said}");
    assert!(said.contains(" 'a_b_c''d=e f'=0;1;1;0;100"), "{said}");
    let query = "custom_query -w 1 --query='SELECT E$$2\\n  OK | x=1$$ AS result, E$$3 \\n4$$ AS \"x|y\"'";
    let said = text(&stage.ours_to(&query.replace("E$$2\\n", "$$2\n").replace("E$$3 \\n", "$$3 \n")));
    assert_eq!((said.matches('\n').count(), said.matches('|').count()), (1, 1), "{said}");
    assert!(said.contains("2\\n OK <PIPE> x=1 | time=") && said.contains(" x_y=3_4;1 \n"), "{said}");
}

#[tokio::test]
async fn a_server_that_hangs_is_told_of_in_time() {
    let stage = Stage::set(&NOTHING).await;
    stage.primary.freeze().await.unwrap();
    let connection = stage.ours_to("connection -t 1");
    assert_eq!(text(&connection), "POSTGRES_CONNECTION CRITICAL:  Timed out \n");
    assert_eq!(connection.status.code(), Some(2));
    let backends = stage.ours_to("backends -t 1");
    assert_eq!(text(&backends), "ERROR: Command timed out! Consider boosting --timeout higher than 1\n");
    assert_eq!(backends.status.code(), Some(3));
    stage.primary.thaw();
}

#[tokio::test]
async fn a_full_server_is_critical() {
    let full = Group { conf: &["max_connections = 4", "superuser_reserved_connections = 0"], ..NOTHING };
    let stage = Stage::set(&full).await;
    let mut taken = Vec::new();
    while let Ok(client) = stage.primary.client("postgres").await {
        taken.push(client);
    }
    let [original, ours] =
        [stage.run("", Path::new(ORIGINAL), &stage.arguments("backends")), stage.ours_to("backends")];
    assert!(text(&ours).contains("Could not connect: too many connections | time="), "{ours:?}");
    assert_eq!(without_time(&ours), without_time(&original));
    assert_eq!(ours.status.code(), original.status.code());
}

fn without_time(output: &Output) -> String {
    text(output).split(" | time=").next().unwrap().to_owned()
}

#[tokio::test]
async fn a_link_s_name_is_the_action_and_the_file_says_the_rest() {
    let stage = Stage::set(&NOTHING).await;
    let links = stage.folder.path().join("links");
    std::fs::create_dir(&links).unwrap();
    let made = Command::new(BINARY).arg("install-links").arg(&links).output().unwrap();
    assert!(made.status.success() && text(&made).contains("check_postgres_backends is made\n"), "{made:?}");
    let (socket, port) = (stage.primary.socket_dir(), stage.primary.port());
    let file = format!("# where\nhost = {}\ndbport=1\ndb=postgres\nshowperf = 0\n", socket.display());
    std::fs::write(stage.folder.path().join(".check_postgresrc"), file).unwrap();
    let arguments = ["--port".to_owned(), port.to_string()];
    for action in ["backends", "version"] {
        let original = stage.folder.path().join(format!("check_postgres_{action}"));
        symlink(ORIGINAL, &original).unwrap();
        let ours = stage.run("", &links.join(format!("check_postgres_{action}")), &arguments);
        assert_eq!(text(&stage.run("", &original, &arguments)), text(&ours));
    }
}

#[test]
fn no_action_of_the_original_is_missing() {
    let named = |program: &mut Command| -> BTreeSet<String> {
        let said = text(&program.arg("--help").output().unwrap());
        let lines = said.lines().filter_map(|line| line.strip_prefix(' ')?.split_once(" - "));
        lines.map(|(name, _)| name.trim_end().to_owned()).filter(|name| !name.contains([' ', ','])).collect()
    };
    let mut theirs = named(&mut Command::new(ORIGINAL));
    assert!(theirs.len() > 50, "{theirs:?}");
    // What came after Debian's version.
    theirs.extend(NEWER.map(str::to_owned));
    let ours = named(Command::new(BINARY).arg("check-postgres"));
    assert_eq!(theirs.symmetric_difference(&ours).collect::<Vec<_>>(), Vec::<&String>::new());
}
