//! Checks as Icinga 2 reads them (documentation of 2.13, "Language Reference" and "Object Types").

use std::fmt::Write;

use super::{PORT, PROGRAM, minutes, notes};
use crate::check::Check;

/// A command, a service template, and one service per check for each host that says `vars.postgresql = true`.
pub fn icinga2(checks: &[Check]) -> String {
    let mut out = format!(
        "// Icinga 2 objects for the checks of pgvitals, written by `pgvitals generate icinga2`.\n\
         // Each host that runs PostgreSQL gets them with `vars.postgresql = true`.\n\
         \n\
         // Asks the agent over HTTP; the agent must listen on the host's address: listen = \"0.0.0.0:{PORT}\".\n\
         // With `vars.pgvitals_agent = \"http://127.0.0.1:{PORT}\"` and `command_endpoint` Icinga's own agent asks it there.\n\
         object CheckCommand \"pgvitals\" {{\n  \
           command = [ \"{PROGRAM}\", \"check\" ]\n  \
           arguments = {{\n    \
             \"NAME\" = {{ value = \"$pgvitals_check$\", skip_key = true, required = true, order = -1 }}\n    \
             \"--agent\" = {{ value = \"$pgvitals_agent$\", required = true }}\n    \
             \"-w\" = \"$pgvitals_warning$\"\n    \
             \"-c\" = \"$pgvitals_critical$\"\n  \
           }}\n  \
           vars.pgvitals_agent = \"http://$address$:{PORT}\"\n\
         }}\n\
         \n\
         template Service \"pgvitals\" {{\n  \
           check_command = \"pgvitals\"\n  \
           max_check_attempts = 3\n  \
           check_interval = 1m\n  \
           retry_interval = 1m\n\
         }}\n"
    );
    for check in checks {
        let name = check.name();
        let seldom = minutes(check).map(|minutes| format!("check_interval = {minutes}m\n  ")).unwrap_or_default();
        let _ = write!(
            out,
            "\napply Service \"pgvitals {name}\" {{\n  \
             import \"pgvitals\"\n  \
             vars.pgvitals_check = \"{name}\"\n  \
             {seldom}notes = \"{}\"\n  \
             assign where host.vars.postgresql\n\
             }}\n",
            escape(&notes(check))
        );
    }
    out
}

/// Between quotes; `$` would begin a macro.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_ends_no_string_and_begins_no_macro() {
        assert_eq!(escape(r#"a "b" \ 5 $"#), r#"a \"b\" \\ 5 $$"#);
    }
}
