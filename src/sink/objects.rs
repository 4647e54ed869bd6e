//! Checks as the configuration of those who run them: Nagios objects and NRPE commands, Icinga 2's and Checkmk's.
//!
//! Nagios Core 4, "Object Definitions": `;` begins a comment and `$` a macro wherever they stand. Icinga 1 and Naemon read
//! the same. NRPE 4, nrpe.cfg: `command[NAME]=LINE`.

mod checkmk;
mod icinga2;

use std::fmt::Write;

pub use checkmk::checkmk_local;
pub use icinga2::icinga2;

use crate::check::{Check, Rule};

/// Where `make install` puts the binary.
const PROGRAM: &str = "/usr/local/bin/pgvitals";
/// Where the agent listens.
const PORT: u16 = 9187;

/// Commands, a hostgroup, a service template and one service per check; the rules' reasons are the services' notes.
///
/// The hostgroup has no members: hosts name it in their `hostgroups`. The template uses `generic-service`, which the
/// samples of Nagios and Debian define.
pub fn nagios(checks: &[Check]) -> String {
    let mut out = format!(
        "# Nagios objects for the checks of pgvitals, written by `pgvitals generate nagios`.\n\
         # Each host that runs PostgreSQL gets them with `hostgroups pg-servers`.\n\
         \n\
         # Asks the agent over HTTP; the agent must listen on the host's address: listen = \"0.0.0.0:{PORT}\".\n\
         # check_pgvitals!NAME, or with other thresholds check_pgvitals!NAME!-w 80% -c 90%\n\
         define command {{\n    \
             command_name          check_pgvitals\n    \
             command_line          {PROGRAM} check '$ARG1$' --agent 'http://$HOSTADDRESS$:{PORT}' $ARG2$\n\
         }}\n\
         \n\
         # The same through NRPE, with the commands of `pgvitals generate nrpe` on the host: check_pgvitals_nrpe!NAME\n\
         define command {{\n    \
             command_name          check_pgvitals_nrpe\n    \
             command_line          /usr/lib/nagios/plugins/check_nrpe -H '$HOSTADDRESS$' -c 'check_pgvitals_$ARG1$'\n\
         }}\n\
         \n\
         define hostgroup {{\n    \
             hostgroup_name        pg-servers\n    \
             alias                 PostgreSQL servers\n\
         }}\n\
         \n\
         define service {{\n    \
             name                  pgvitals\n    \
             use                   generic-service\n    \
             hostgroup_name        pg-servers\n    \
             check_interval        1\n    \
             retry_interval        1\n    \
             register              0\n\
         }}\n"
    );
    for check in checks {
        let name = check.name();
        let seldom = minutes(check).map(|minutes| format!("check_interval        {minutes}\n    ")).unwrap_or_default();
        let _ = write!(
            out,
            "\ndefine service {{\n    \
             use                   pgvitals\n    \
             service_description   pgvitals {name}\n    \
             check_command         check_pgvitals!{name}\n    \
             {seldom}notes                 {}\n\
             }}\n",
            escape(&notes(check))
        );
    }
    out
}

/// One `command[check_pgvitals_NAME]` per check, and one that takes arguments, as a comment.
pub fn nrpe(checks: &[Check]) -> String {
    let mut out = "# NRPE commands for the checks of pgvitals, written by `pgvitals generate nrpe`: /etc/nagios/nrpe.d/pgvitals.cfg\n\
         #\n\
         # A check asks the agent on this host if there is one; else it connects to PostgreSQL as NRPE's user.\n\
         # Other thresholds: add -w RANGE and -c RANGE here, or set them for all faces in /etc/pgvitals/pgvitals.toml:\n\
         #   [check.disk]\n\
         #   warning = \"80%\"\n\
         \n"
        .to_owned();
    for check in checks {
        let name = check.name();
        let _ = writeln!(out, "command[check_pgvitals_{name}]={PROGRAM} check {name}");
    }
    let _ = write!(
        out,
        "\n# With thresholds from the monitoring server: check_nrpe -H HOST -c check_pgvitals -a disk 80% 90%\n\
         # This takes dont_blame_nrpe=1 in nrpe.cfg: whoever can reach NRPE's port then writes a part of the command line,\n\
         # which NRPE hands to a shell after a look for dangerous characters; the options after NAME are theirs too. Debian\n\
         # builds its NRPE without it, so that there the setting has no effect. Thresholds in this file need none of it.\n\
         #command[check_pgvitals]={PROGRAM} check $ARG1$ -w $ARG2$ -c $ARG3$\n"
    );
    out
}

/// Why the thresholds are what they are, then what is to be done.
fn notes(check: &Check) -> String {
    let mut notes: Vec<_> = check.rules().iter().map(Rule::reason).collect();
    notes.dedup();
    let mut actions: Vec<_> = check.rules().iter().filter_map(|rule| rule.terms().action.as_deref()).collect();
    actions.dedup();
    notes.extend(actions);
    notes.join(". ")
}

/// How often to look, where once a minute is more than its rules ask for.
fn minutes(check: &Check) -> Option<u64> {
    let often = check.rules().iter().map(|rule| rule.terms().every).min()??;
    Some(often.as_secs() / 60).filter(|minutes| *minutes > 1)
}

fn escape(text: &str) -> String {
    text.replace(';', "\\;").replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::check;

    const RULE: &str = r#"
        [[rule]]
        name = "lag"
        value = "lag_bytes"
        unit = "bytes"
        warning = "16MB"
        summary = "{value} behind"
    "#;

    #[test]
    fn each_check_is_a_service_and_a_command() {
        let checks = [check(RULE)];
        assert!(nagios(&checks).ends_with(
            "    service_description   pgvitals lag\n    \
             check_command         check_pgvitals!lag\n    \
             notes                 a test\n}\n"
        ));
        assert!(nrpe(&checks).contains("\ncommand[check_pgvitals_lag]=/usr/local/bin/pgvitals check lag\n"));
    }

    #[test]
    fn a_reason_is_neither_cut_nor_taken_for_a_macro() {
        assert_eq!(escape("full; drop it for 5 $"), "full\\; drop it for 5 $$");
    }
}
