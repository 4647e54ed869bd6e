//! Checks as a local check of Checkmk's agent ("Local checks" of its user guide): one line per service, `STATUS "NAME" METRICS
//! TEXT`, where `|` separates metrics and `\n`, as two characters, lines of text.

use super::PROGRAM;
use crate::check::Check;

/// What the script does with each answer: a Nagios line becomes Checkmk's.
///
/// Checkmk takes names of metrics of letters, digits and `_`, and bare numbers, so that a range stays away; a label that a
/// check has made of a name of somebody's is between quotes.
const BODY: &str = r#"
ask() {
    answer=$("$program" check "$1" --timeout 8)
    printf '%s\n' "$answer" | awk -v status=$? -v name="pgvitals $1" '
        function metrics(text,    found, label, rest, parts) {
            while (match(text, /^ *(\047([^\047]|\047\047)*\047|[^ =\047]+)=[^ ]*/)) {
                rest = substr(text, RSTART, RLENGTH)
                text = substr(text, RSTART + RLENGTH)
                sub(/^ */, "", rest)
                match(rest, /=[^=]*$/)
                label = substr(rest, 1, RSTART - 1)
                split(substr(rest, RSTART + 1), parts, ";")
                gsub(/[^A-Za-z0-9_]/, "_", label)
                gsub(/^_+|_+$/, "", label)
                sub(/[^0-9.eE+-].*$/, "", parts[1])
                if (label == "" || parts[1] == "") continue
                if (parts[2] !~ /^[0-9.]+$/ || parts[3] !~ /^[0-9.]+$/) { parts[2] = ""; parts[3] = "" }
                found = found (found == "" ? "" : "|") label "=" parts[1] (parts[2] == "" ? "" : ";" parts[2] ";" parts[3])
            }
            return found == "" ? "-" : found
        }
        NR == 1 {
            at = index($0, " | ")
            text = at ? substr($0, 1, at - 1) : $0
            perf = at ? metrics(substr($0, at + 3)) : "-"
            sub(/^PGVITALS [^ ]+ [A-Z]+: /, "", text)
        }
        NR > 1 { text = text "\\n" $0 }
        END { printf "%s \"%s\" %s %s\n", status, name, perf, text }'
}

"#;

/// A script for `/usr/lib/check_mk_agent/local`.
pub fn checkmk_local(checks: &[Check]) -> String {
    let mut out = format!(
        "#!/bin/sh\n\
         # A local check of Checkmk's agent with the checks of pgvitals, written by `pgvitals generate checkmk-local`:\n\
         # /usr/lib/check_mk_agent/local/pgvitals, with the right to be run.\n\
         #\n\
         # A check asks the agent of pgvitals on this host if there is one; else it connects to PostgreSQL as the script's user.\n\
         program={PROGRAM}\n{BODY}"
    );
    for check in checks {
        out += &format!("ask {}\n", check.name());
    }
    out
}
