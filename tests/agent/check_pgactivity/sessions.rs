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
        "{primary} -U plain -s backends -w80% -c90% -F human",
        "{primary} -s backends -w 80% -c 90% -F nagios_strict",
    ],
};
