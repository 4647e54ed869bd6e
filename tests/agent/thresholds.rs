//! Thresholds that people may write: whatever it is, the answer is a verdict.

use std::fs;
use std::path::Path;

use pgvitals::check::Threshold;
use pgvitals::unit::Unit;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::command::pgvitals_in;
use crate::program::Program;

/// An agent without servers: the host's memory is always there to be judged.
const CONFIG: &str = "[discovery]\nenabled = false\n[host]\nenabled = true\n";

/// What a threshold looks like, what nearly does, and anything.
const TEXTS: &str =
    "@?(~|-?[0-9]{1,4})?:?[0-9.]{0,4}( ?[kMGT]?B| ?min| hours?|%|s)?|[@~:.0-9eE+a-zA-Z% -]{0,20}|\\PC{0,30}";

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"))
}

/// What is wrong with an answer to this threshold, if anything is.
fn wrong(text: &str, code: &str, body: &str) -> Option<String> {
    let read = text.parse::<Threshold>().map_err(|error| error.to_string());
    let read = read.and_then(|read| read.check_unit(Unit::Ratio).map_err(|error| error.to_string()));
    let is_one_line = body.lines().next().is_some_and(|line| line.matches('|').count() <= 1);
    let is_right = match read {
        Ok(()) => ["0", "1", "2"].contains(&code),
        // What was expected, or how it is written.
        Err(_) => {
            code == "3" && body.contains(" UNKNOWN: ") && (body.contains("expected") || body.contains("such as `80%`"))
        }
    };
    (!is_right || !is_one_line).then(|| format!("{text:?}: exit code {code}: {body}"))
}

#[test]
fn whatever_is_given_as_a_threshold_over_http_the_answer_is_a_verdict() {
    let program = Program::start(CONFIG);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let texts = prop::string::string_regex(TEXTS).unwrap();
    let given = (texts, prop_oneof!["w", "c"]);
    runner
        .run(&given, |(text, key)| {
            let answer = program.get(&format!("/check/swap?{key}={}", escape(&text)));
            let code = answer.header("pgvitals-exit-code").unwrap_or("none").to_owned();
            // `swap` is judged in bytes as well, so any unit but time fits.
            prop_assert!(["0", "1", "2", "3"].contains(&code.as_str()), "{}: {}", text, answer.body);
            prop_assert_eq!(answer.status, if code == "3" { 400 } else { 200 });
            let answer = program.get(&format!("/check/memory?{key}={}", escape(&text)));
            let code = answer.header("pgvitals-exit-code").unwrap_or("none");
            prop_assert_eq!(wrong(&text, code, &answer.body), None);
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_threshold_that_is_of_no_use_is_unknown_with_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pgvitals.toml"), CONFIG).unwrap();
    let ask = async |folder: &Path, option: &str, text: &str| {
        let ended = pgvitals_in(folder, &["check", "memory", option, text, "--config", "pgvitals.toml"]).await;
        assert_eq!(ended.stderr, "", "{text}");
        (ended.code.to_string(), ended.stdout)
    };
    let texts = [
        "",
        " ",
        "@",
        ":",
        "~",
        "@~",
        "1:2:3",
        "20:10",
        "-5",
        "10..20",
        "1e999",
        "80",
        "80 %%",
        "5min",
        "1 fortnight",
        "0x10",
        "∞",
        "|x",
        "90%\n95%",
        "--help",
        "N/A",
        "missing",
        "nan",
        "1e400%",
        "99%",
        "@~:",
        "0.5:0.9",
    ];
    for text in texts {
        for option in ["-w", "-c"] {
            let (code, said) = ask(folder.path(), option, text).await;
            // Clap takes an empty value and one that is an option for something else.
            let is_clap = text.is_empty() || text.starts_with("--");
            assert!(is_clap || wrong(text, &code, &said).is_none(), "{text:?}: {code}: {said}");
        }
    }
}
