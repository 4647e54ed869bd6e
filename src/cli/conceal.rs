//! Passwords on the command line: never repeated in what we say about it.

use std::borrow::Cow;
use std::ffi::OsString;

/// The arguments that may hold a password, wherever on the command line they ended up.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Those among the arguments of the process.
    pub(super) fn among(arguments: &[OsString]) -> Self {
        let texts = arguments.iter().map(|argument| argument.to_string_lossy());
        let mut found = Vec::new();
        for text in texts.filter(|text| may_hold_one(text)) {
            // What follows the scheme, as an address without it is shown too, and as a check's name is.
            let rest = text.split_once("://").map_or(&*text, |(_, rest)| rest);
            found.extend([rest.to_owned(), rest.to_uppercase()].into_iter().filter(|text| !text.is_empty()));
        }
        Self(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A message with `…` in their place.
    pub(super) fn conceal<'a>(&self, message: &'a str) -> Cow<'a, str> {
        self.0.iter().fold(Cow::Borrowed(message), |message, secret| {
            if message.contains(secret.as_str()) {
                Cow::Owned(message.replace(secret.as_str(), "…"))
            } else {
                message
            }
        })
    }
}

/// A connection string with a password, or credentials in another URL. A range such as `@10:20` is neither, and a file
/// may be called `password.toml`.
fn may_hold_one(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let assigns = text.split("password").skip(1).any(|rest| rest.trim_start().starts_with('='));
    assigns || text.rsplit_once('@').is_some_and(|(before, _)| before.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_password_is_not_repeated_and_all_else_is() {
        let among = |arguments: &[&str]| Secrets::among(&arguments.iter().map(OsString::from).collect::<Vec<_>>());
        let secrets = among(&["check", "postgresql://u:canary@h", "-w", "@10:20"]);
        let said = "PGVITALS POSTGRESQL://U:CANARY@H UNKNOWN: no check \"postgresql://u:canary@h\", not @10:20";
        let shown = "PGVITALS POSTGRESQL://… UNKNOWN: no check \"postgresql://…\", not @10:20";
        assert_eq!(secrets.conceal(said), shown);
        assert_eq!(among(&["once", "password=canary"]).conceal("no 'password=canary'"), "no '…'");
        let plain = ["--agent", "http://127.0.0.1:9187", "-w", "@5:10", "--config", "/home/me@site/password.toml"];
        assert!(among(&plain).is_empty());
    }
}
