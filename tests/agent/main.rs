//! What pgvitals does on real servers. Needs `tests/setup`; each module is one subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test ends where it fails"
)]

/// Who may read the web server: TLS, passwords, clients' certificates.
mod access;
/// Questions that are sent before the one before them is answered.
mod ahead;
/// What autovacuum is said to work on.
mod autovacuum;
/// Two programs that are asked one after the other about something that goes on in between.
mod beside;
/// Who waits for whom.
mod blocking;
/// What many readers cost.
mod budget;
/// A carbon-cache, which Graphite's points go to.
mod carbon;
/// Every definition on every major, on a primary and on a standby.
mod catalog;
/// Certificates of servers and clients, judged as libpq judges them.
mod certificates;
/// `pgvitals check` as Nagios runs it.
mod check;
/// Beside `check_pgactivity` on the same servers.
mod check_pgactivity;
/// Beside `check_postgres` on the same server.
mod check_postgres;
/// Databases that are entered on one server and not on another.
mod chosen;
/// Every class of failure, on every face.
mod classes;
/// Sessions of ours on a cluster, and psql beside them to say what libpq does.
mod client;
/// Clients of the web server that are many, slow or absurd.
mod clients;
/// The clusters that everything else here is tested on.
mod cluster;
/// What the columns of every query hold, and what becomes of it.
mod columns;
/// The binary's commands, run to their end.
mod command;
/// The configuration file: what is taken, what is refused and how, and the catalog that it asks for.
mod config;
/// What is said of a server's own configuration.
mod configuration;
/// Sessions by role, by database and by transaction, and who is none.
mod counted;
/// Every metric that a major knows is seen on it.
mod coverage;
/// More readers than there are seats.
mod crowd;
/// Queries that do not end.
mod deadline;
/// The demo, and that nothing of it is left.
mod demo;
/// Clusters that are found: they appear, go, and are forgotten when somebody says so.
mod discovery;
/// `pgvitals doctor`: its statements leave nothing missing.
mod doctor;
/// Servers on other hosts, of which this host's facts would not be true.
mod elsewhere;
/// How sessions come: with TLS, in the open, through a socket.
mod encryption;
/// A long life: memory, files, connections and the log stay as they are.
mod endurance;
/// Who or what is behind a problem.
mod explained;
/// What the sinks write, read by the parsers that users have.
mod exposition;
/// Every way to be refused, and passwords from everywhere.
mod failures;
/// Collectors that misbehave.
mod fate;
/// A fault for a rule, planted and named.
mod faults;
/// What every major is shown to have, in one file per major.
mod golden;
/// Pushing to Graphite, through outages.
mod graphite;
/// Servers and networks that stop answering.
mod hang;
/// What is counted by its size: sessions and transactions by their age.
mod histograms;
/// Who keeps vacuum from removing dead rows.
mod horizon;
/// Names that hurt, on every face.
mod hostile;
/// Problems that are problems once enough readings have them.
mod hysteresis;
/// Queries that people bring along, and files of other exporters that become definitions.
mod import;
/// What listens at a server's address may be anything.
mod impostor;
/// Statements that are asked again and again.
mod kept;
/// Servers that stop, start, hang and fail over below a running agent.
mod lifecycle;
/// A link between two servers that can be cut.
mod link;
/// Rows by name from the agent.
mod listed;
/// Row sets that checks ask for by name.
mod listings;
/// `pgvitals check --lsb` as a cluster manager reads it.
mod lsb;
/// One test on every major, a few at a time.
mod majors;
/// What comparisons of command lines have brought out.
mod matrix;
/// What is generated for Nagios, Icinga 2 and Checkmk, in their hands.
mod monitoring_servers;
/// The Nagios objects and NRPE commands in `nagios/`.
mod nagios_objects;
/// What metrics are called.
mod names;
/// Checks through a real NRPE server.
mod nrpe;
/// Tables, indexes, sequences: what is wrong with them, and that lists of them are bounded.
mod objects;
/// A primary with a streaming standby, and agents to watch them.
mod pair;
/// Passwords in every form that they can be written in.
mod passwords;
/// Beside `postgres_exporter` on the same server.
mod peer;
/// Objects planted under the catalog's names.
mod planted;
/// The rules as a monitoring policy, and a policy as rules.
mod policy;
/// Sessions through `PgBouncer`, and its console.
mod pooler;
/// A role with less than `pg_monitor`: what it cannot see is absent and says what to grant.
mod privilege;
/// The agent as its users run it: the binary, read over HTTP.
mod program;
/// A Prometheus that scrapes the agent.
mod prometheus;
/// The reference of metrics, and that no released name changes in silence.
mod reference;
/// A configuration that is read again: nothing is lost, whatever stands in its place.
mod reload;
/// Counters that are reset, evicted, or of another run of their server.
mod resets;
/// Samples between readings.
mod sampling;
/// Passwords: every one works in every form, and none is ever shown.
/// No password is ever shown.
mod secrets;
/// What SECURITY.md promises.
mod security;
/// The command lines of other plugins, answered by the agent.
mod served;
/// The agent as a service: what its manager hears, and how it ends.
mod service;
/// A session: read-only, bounded, and what it leaves behind.
mod sessions;
/// All checks or a group of them, judged as one.
mod several;
/// What the server's log says of us: that we connected, and nothing else.
mod silence;
/// What a standby says of itself.
mod standby;
/// What a primary says of its standbys and of those that are gone.
mod standbys;
/// Statements: every version of the extension, and those inside of functions.
mod statements;
/// What is told of WAL, archive and tablespaces.
mod storage;
/// Subscriptions that do not go on.
mod subscriptions;
/// Roles that change under load.
mod switchover;
/// Standbys that commits wait for.
mod synchronous;
/// Texts of statements, for those who ask for them.
mod texts;
/// Thresholds that people may write, over the command line and over HTTP.
mod thresholds;
/// TLS, certificates and how `sslmode` is understood.
mod tls;
/// Databases, slots, sessions and servers that are gone.
mod vanished;
/// The walk over the databases: who is entered, who is not, and what it costs.
mod walk;
/// Every page of the web server.
mod web;
