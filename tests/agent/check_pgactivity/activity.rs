//! Locks, long queries, transactions that were forgotten.

use super::Subject;

pub(super) const SUBJECT: Subject = Subject {
    setup: &["CREATE TABLE locked (id int)"],
    cases: &[
        "{primary} -s locks -w 80% -c 90%",
        "{standby} -s locks -w 80% -c 90.5%",
        "{primary} -s locks -w 2000 -c 3000 -F nagios_strict",
        "{primary} -U plain -s locks -w 2000 -c 3000",
        "{primary} -s locks",
        "{primary} -s locks -w x -c y",
        "{primary} -s locks -w 1",
        "{both} -s locks -w 80% -c 90%",
        "hold BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE ;; busy SELECT * FROM locked ;; \
         until EXISTS (SELECT FROM pg_locks WHERE NOT granted) ;; \
         {primary} -s locks -w 2 -c 900 ;; {primary} -s locks -w 1 -c 2 ;; {primary} -s locks -w 80% -c 90%",
        "hold BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT * FROM locked ;; {primary} -s locks -w 1 -c 1",
        // Its own two locks are not there.
        "{primary} -s locks -w 1 -c 900 => POSTGRES_LOCKS OK: 0 locks, 0 predicate locks, 0 waiting locks |",
        "{primary} -s longest_query -w 1m -c 5m",
        "{standby} -s longest_query -w 1h30m -c 2h",
        "{primary} -U mon -s longest_query -w 1m -c 5m --dbinclude app",
        "{primary} -s longest_query -w 1m -c 5m --dbexclude app --dbexclude postgres",
        "{primary} -s longest_query -w 1m -c 5m --exclude ^SELECT",
        "{primary} -s longest_query",
        "{primary} -s longest_query -w 5% -c 6%",
        "{both} -s longest_query -w 1 -c 2",
        "busy SET application_name = 'report'; SELECT pg_sleep(600) ;; \
         until EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'report' \
         AND state_change < now() - '2s'::interval) ;; \
         {primary} -s longest_query -w 1m -c 5m ;; {primary} -U plain -s longest_query -w 0s -c 1s ;; \
         {primary} -s longest_query -w 0 -c 1 --exclude pg_sleep",
        "≠ busy SET application_name = 'report'; SELECT pg_sleep(600) ;; \
         until EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'report' \
         AND state_change < now() - '2s'::interval) ;; {primary} -s longest_query -w 0s -c 1s",
        "busy SET application_name = 'rep|ort'; SELECT pg_sleep(600) ;; \
         until EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'rep|ort' \
         AND state_change < now() - '2s'::interval) ;; {primary} -s longest_query -w 0s -c 10m \
         => POSTGRES_LONGEST_QUERY WARNING: app (rep¦ort): ",
        "{primary} -s oldest_2pc -w 1m -c 5m",
        "{standby} -s oldest_2pc -w 1m -c 5m",
        "{primary} -s oldest_2pc -w 1m",
        "{primary} -s oldest_2pc -w 1x -c 2x",
        "sql BEGIN; INSERT INTO locked VALUES (1); PREPARE TRANSACTION 'first' ;; \
         sql BEGIN; INSERT INTO locked VALUES (2); PREPARE TRANSACTION 'second' ;; \
         until min(now() - prepared) > '2s' FROM pg_prepared_xacts ;; \
         {primary} -s oldest_2pc -w 1m -c 5m ;; {primary} -U plain -s oldest_2pc -w 1 -c 5m ;; \
         {primary} -s oldest_2pc -w 0s -c 1s ;; sql ROLLBACK PREPARED 'first' ;; sql ROLLBACK PREPARED 'second'",
        "{primary} -s oldest_idlexact -w 1m -c 5m",
        "{standby} -s oldest_idlexact -w 1m -c 5m --dbexclude template",
        "hold SET application_name = 'forgotten'; BEGIN; SELECT txid_current() ;; \
         until EXISTS (SELECT FROM pg_stat_activity WHERE state ~ 'transaction' AND state_change < now() - '2s'::interval) ;; \
         {primary} -s oldest_idlexact -w 1m -c 5m ;; {primary} -U mon -s oldest_idlexact -w 0 -c 5m ;; \
         {primary} -s oldest_idlexact -w 0s -c 1s --dbinclude ^app$ ;; {primary} -U plain -s oldest_idlexact -w 0 -c 1",
        "≠ hold SET application_name = 'forgotten'; BEGIN; SELECT txid_current() ;; \
         until EXISTS (SELECT FROM pg_stat_activity WHERE state ~ 'transaction' AND state_change < now() - '2s'::interval) ;; \
         {primary} -s oldest_idlexact -w 0 -c 1 --exclude other,forgotten",
        "≠ hold SET application_name = 'forgotten'; BEGIN; SELECT txid_current() ;; \
         until EXISTS (SELECT FROM pg_stat_activity WHERE state ~ 'transaction' AND state_change < now() - '2s'::interval) ;; \
         {primary} -s oldest_idlexact -w 0 -c 1 --dbexclude app",
        // It holds nothing back: 2.10 does not count it any more.
        "hold BEGIN; SELECT 1 ;; {primary} -s oldest_idlexact -w 1h -c 2h => POSTGRES_OLDEST_IDLEXACT OK: 0 idle transaction(s)",
        "{primary} -s oldest_idlexact",
        "{primary} -s oldest_idlexact -w a -c b",
        "hold standby: BEGIN; SELECT 1 ;; {standby} -s locks -w 1 -c 900 ;; {standby} -s locks -w 1 -c 1",
        "≠ busy standby: SET application_name = 'report'; SELECT pg_sleep(600) ;; until standby: EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'report' AND state_change < now() - '2s'::interval) ;; {standby} -s longest_query -w 0s -c 10m --dbinclude app ;; {standby} -s longest_query -w 0s -c 1s ;; {standby} -s longest_query -w 0s -c 1s --dbexclude app --exclude ^SELECT",
        "≠ busy SET application_name = 'report'; SELECT pg_sleep(600) ;; until EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'report' AND state_change < now() - '2s'::interval) ;; {primary} -s longest_query -w 0s -c 10m",
        "hold standby: BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM locked ;; until standby: EXISTS (SELECT FROM pg_stat_activity WHERE state ~ 'transaction' AND state_change < now() - '2s'::interval) ;; {standby} -s oldest_idlexact -w 0 -c 5m --dbinclude app ;; {standby} -s oldest_idlexact -w 0s -c 1s",
        "{primary} -s oldest_idlexact -w 1h -c 5h --dbexclude other",
        "≠ hold BEGIN; SELECT txid_current() ;; until EXISTS (SELECT FROM pg_stat_activity WHERE state ~ 'transaction' AND state_change < now() - '2s'::interval) ;; {each} -s oldest_idlexact -w 0 -c 1 --exclude other,forgotten",
    ],
};
