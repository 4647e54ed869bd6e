//! Settings that should stay as they are.

use md5::{Digest as _, Md5};

use crate::check::Status;
use crate::check_postgres::threshold::{Texts, texts};
use crate::check_postgres::{Action, At, Call, End, Ended};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[Action {
    run: |call| Box::pin(settings_checksum(call)),
    ..Action::of_database("settings_checksum", "Whether settings have changed")
}];

async fn settings_checksum(call: &mut Call) -> Ended {
    let expected = expected(call)?;
    let mut answers = Vec::new();
    for at in call.places() {
        answers.push((at, call.rows_as_user_at(at, "settings_text").await?));
    }
    for (at, answer) in answers {
        match written(call, &answer) {
            Some(text) => judge(call, at, &expected, &checksum(&text))?,
            None => call.unknown(at, "No matching settings found due to exclusion/inclusion options"),
        }
    }
    Ok(())
}

/// The settings as psql would find them in the original's session, a line each; none when none is looked at. Whoever has kept
/// a checksum has kept that of such a session.
fn written(call: &Call, answer: &RowSet) -> Option<String> {
    let mut text = String::new();
    for row in Row::of(answer) {
        let name = row.text("name");
        if !call.filter.keeps(name) {
            continue;
        }
        let of_session = match name {
            "application_name" => call.environment.get("PGAPPNAME").or_else(|| Some("psql".to_owned())),
            "statement_timeout" => Some(call.timeout().as_millis().to_string()),
            // The driver asks for an encoding, psql does not.
            "client_encoding" => {
                call.environment.get("PGCLIENTENCODING").or_else(|| row.get("server_encoding").map(str::to_owned))
            }
            _ => None,
        };
        let setting = of_session.as_deref().unwrap_or(row.text("setting"));
        text += &format!("{name} {}\n", setting.trim_end());
    }
    (!text.is_empty()).then_some(text)
}

/// What is expected: one checksum. `0` for critical asks for the checksum and expects none.
///
/// # Errors
///
/// It is none, or there is not exactly one.
pub(super) fn expected(call: &Call) -> Result<Texts, End> {
    if call.is_mrtg() {
        return Ok(Texts::default());
    }
    let expected = texts(&call.options);
    let is_checksum = |text: &str| {
        text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let refused = |name: &str| End::refused(format!("Invalid '{name}' option: must be a checksum"));
    if expected.critical.as_ref().is_some_and(|text| !is_checksum(text) && text != "0") {
        return Err(refused("critical"));
    }
    if expected.warning.as_ref().is_some_and(|text| !is_checksum(text)) {
        return Err(refused("warning"));
    }
    match (&expected.warning, &expected.critical) {
        (Some(_), Some(_)) => Err(End::refused("Can only provide 'warning' OR 'critical' option")),
        (None, None) => Err(End::refused("Must provide a 'warning' or 'critical' option")),
        _ => Ok(expected),
    }
}

/// The MD5 of a text, in hexadecimal.
pub(super) fn checksum(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Says whether a checksum is the expected one.
///
/// # Errors
///
/// For MRTG, where the action ends with it.
pub(super) fn judge(call: &mut Call, at: At, expected: &Texts, checksum: &str) -> Ended {
    let message = format!("checksum: {checksum}");
    if call.is_mrtg() {
        let wanted = call.options.text("mrtg").filter(|wanted| !matches!(*wanted, "" | "0"));
        let wanted = wanted.ok_or_else(|| End::refused("Must provide a checksum via the --mrtg option"))?;
        return Err(call.mrtg(u8::from(wanted == checksum), "", checksum));
    }
    let status = match (&expected.critical, &expected.warning) {
        (Some(critical), _) if critical == "0" => Status::Unknown,
        (Some(critical), _) if critical != checksum => Status::Critical,
        (None, Some(warning)) if warning != checksum => Status::Warning,
        _ => Status::Ok,
    };
    call.say(status, at, message);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_thirty_two_small_letters_and_digits() {
        assert_eq!(checksum("abc\n"), "0bee89b07a248e27c83fc3d5951213c1");
    }
}
