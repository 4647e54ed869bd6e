//! Who is connected.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &[],
    cases: &[
        "{primary} -s backends -w 80% -c 90%",
        "{primary} -s backends -w 1 -c 90%",
        "{primary} -s backends -w 1 -c 1",
        "{standby} -s backends -w 80% -c 90%",
        "{primary} -s backends",
        "{primary} -s backends -w a -c b",
        "{primary} -s backends -w 1",
        "{both} -s backends -w 1 -c 1",
        "≠ {primary} -U plain -s backends -w80% -c90%",
        "{primary} -U mon -s backends -w80% -c90% -F human",
        "{primary} -s backends -w 80% -c 90% -F json",
        "{primary} -s backends -w 80% -c 90% -F json_strict",
        "{primary} -s backends -w 80% -c 90% -F debug",
        "{primary} -s backends_status",
        "{standby} -s backends_status -F nagios_strict",
        "{primary} -s backends_status -w 'waiting=5,idle_xact=10' -c 'waiting=20,idle_xact=30'",
        "{primary} -s backends_status -w 'active=1' -c 'active=20,idle=30'",
        "{primary} -s backends_status -w 'active=1, idle=10s' -c 'active=1, idle=20s'",
        "{primary} -s backends_status -w 'idle_xact=0s' -c 'idle_xact=1h'",
        "{primary} -s backends_status -w 5 -c 6",
        "{primary} -s backends_status --exclude SELECT --exclude START",
        "≠ {primary} -U plain -s backends_status -w idle=10 -c idle=20",
        "{primary} -s backends_status --exclude '(?=a)' => CHECK_PGACTIVITY UNKNOWN: the regular expression",
        "{primary} -s autovacuum",
        "{standby} -s autovacuum -w 1 -c 2",
        "≠ {primary} -U plain -s autovacuum",
        "{primary} -s backends -w 80% -c 90% -F nagios_strict",
    ],
};
