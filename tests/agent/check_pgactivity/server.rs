//! Command lines, formats, and services about the server as a whole.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &[],
    cases: &[
        "{primary} -s connection",
        "{standby} -s connection -w 1 -c 2",
        "{down} -s connection",
        "{down} -s is_master",
        "{primary} -s is_master",
        "{standby} -s is_master",
        "{primary} -s is_hot_standby",
        "{standby} -s is_hot_standby",
        "{both} -s is_master",
        "-s connection -w 1",
        "-s nothing",
        "",
        "--nothing",
        "≠ -V",
        "{primary} -s connection -F nothing",
        "{primary} -s connection -F human",
        "{primary} -s connection --query x",
        "{primary} -s connection --work_mem 5",
        "{primary} -s connection --suffix .gz",
        "{primary} -s connection --slave 'a 1'",
        "{primary} -s connection --detailed",
        "≠ --status-file {folder} -s connection",
        "{primary} -s connection --dbname nothing",
    ],
};
