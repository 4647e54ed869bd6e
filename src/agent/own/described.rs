//! The agent's own metrics: name, type, labels and meaning of each.

use crate::metric::Described;

pub(in crate::agent) const SUCCESS: Described = Described::gauge(
    "pgvitals_collector_success",
    &["collector"],
    "1 if the collector gave its facts, 0 if it failed, absent if it does not apply here",
);
pub(in crate::agent) const DURATION: Described =
    Described::gauge("pgvitals_collector_duration_seconds", &["collector"], "Duration of the latest run");
pub(in crate::agent) const AGE: Described =
    Described::gauge("pgvitals_collector_age_seconds", &["collector"], "Age of the latest run's facts");
pub(in crate::agent) const INTERVAL: Described = Described::gauge(
    "pgvitals_collector_interval_seconds",
    &["collector"],
    "A result is used again for this long: the definition's fresh_for, or 100 times what a run takes",
);
pub(in crate::agent) const ROWS: Described =
    Described::gauge("pgvitals_collector_rows", &["collector"], "Rows (of the host: samples) of the latest run");
pub(in crate::agent) const DROPPED_ROWS: Described = Described::gauge(
    "pgvitals_collector_dropped_rows",
    &["collector"],
    "Rows of the latest run that max_series keeps from being shown",
);
pub(in crate::agent) const RUNS: Described =
    Described::counter("pgvitals_collector_runs_total", &["collector"], "Runs since the agent started");
pub(in crate::agent) const FAILURES: Described =
    Described::counter("pgvitals_collector_failures_total", &["collector"], "Failed runs since the agent started");
pub(in crate::agent) const ABSENT: Described = Described::gauge(
    "pgvitals_collector_absent",
    &["collector", "outcome", "reason"],
    "1 with the reason while a collector's facts are absent",
);
pub(in crate::agent) const REMAINDER: Described = Described::gauge(
    "pgvitals_collector_remainder",
    &["collector", "metric"],
    "What the rows that max_series keeps from being shown have of a counter; falls and leaps as rows change sides",
);
/// Success and duration of a server's collector, as `postgres_exporter` names them.
pub(in crate::agent) const PEER_OF_SERVERS: [Described; 2] = [
    Described::gauge(
        "pg_scrape_collector_success",
        &["collector"],
        "pgvitals_collector_success, by its inherited name",
    ),
    Described::gauge(
        "pg_scrape_collector_duration_seconds",
        &["collector"],
        "pgvitals_collector_duration_seconds, by its inherited name",
    ),
];
/// Those of the host's collectors, as `node_exporter` names them.
pub(in crate::agent) const PEER_OF_HOST: [Described; 2] = [
    Described::gauge(
        "node_scrape_collector_success",
        &["collector"],
        "pgvitals_collector_success, by its inherited name",
    ),
    Described::gauge(
        "node_scrape_collector_duration_seconds",
        &["collector"],
        "pgvitals_collector_duration_seconds, by its inherited name",
    ),
];
pub(in crate::agent) const UP: Described =
    Described::gauge("pg_up", &[], "Whether the server answered when it was last asked");
pub(in crate::agent) const SERVER_FAILURE: Described = Described::gauge(
    "pgvitals_server_failure",
    &["class"],
    "1 with the class of failure while a server does not answer, else absent",
);
pub(in crate::agent) const CONNECTIONS: Described = Described::gauge(
    "pgvitals_connections",
    &["lane"],
    "Connections to the server that are open, by lane; stuck are those with a query that we gave up and the server did not",
);
pub(in crate::agent) const CONNECT_FAILURE: Described = Described::gauge(
    "pgvitals_connect_failure",
    &["class"],
    "1 with the class of failure while the latest attempt to open another connection failed, else absent; tried every 5 minutes at least while somebody reads",
);
pub(in crate::agent) const CONNECTS: Described =
    Described::counter("pgvitals_connects_total", &[], "Connections to the server opened since the agent started");
pub(in crate::agent) const SAMPLES_TAKEN: Described = Described::counter(
    "pgvitals_samples_taken_total",
    &["collector"],
    "Samples taken between readings since the agent started; what is sampled, divided by these, is an average",
);
pub(in crate::agent) const SAMPLES_MISSED: Described = Described::counter(
    "pgvitals_samples_missed_total",
    &["collector", "reason"],
    "Samples that were not taken: the agent or the server was busy, late or down, the query failed, or there is nothing to sample",
);
pub(in crate::agent) const DATABASES: Described = Described::gauge(
    "pgvitals_databases",
    &["state"],
    "Databases by what became of them in the latest walk over the databases",
);
pub(in crate::agent) const DATABASE_FAILURE: Described = Described::gauge(
    "pgvitals_database_failure",
    &["datname", "collector", "class"],
    "1 with the class of failure while a collector's facts of a database are absent; 100 are named at most",
);
pub(in crate::agent) const WALK_DURATION: Described = Described::gauge(
    "pgvitals_databases_walk_duration_seconds",
    &[],
    "Time that the latest walk over the databases took, without what ran between its steps",
);
pub(in crate::agent) const WALK_AGE: Described =
    Described::gauge("pgvitals_databases_walk_age_seconds", &[], "Time since the latest walk over the databases began");
pub(in crate::agent) const WALK_REST: Described = Described::gauge(
    "pgvitals_databases_walk_rest_seconds",
    &[],
    "The next walk begins so long after the latest one at the earliest: 100 times what one takes",
);
pub(in crate::agent) const WALKS: Described =
    Described::counter("pgvitals_databases_walks_total", &[], "Walks over the databases since the agent started");
pub(in crate::agent) const BUILD: Described =
    Described::gauge("pgvitals_build_info", &["version"], "1 with the agent's version");
pub(in crate::agent) const READINGS: Described =
    Described::counter("pgvitals_readings_total", &[], "Readings of all collectors");
pub(in crate::agent) const PANICS: Described =
    Described::counter("pgvitals_panics_total", &[], "Mistakes of pgvitals that were contained; the log says where");
pub(in crate::agent) const SERIES: Described =
    Described::gauge("pgvitals_series", &[], "Samples of servers, host and collectors in this reading");
pub(in crate::agent) const TASKS: Described = Described::gauge(
    "pgvitals_tasks",
    &[],
    "Tasks of the agent that have not ended: a few for each server, a few for each reader",
);
pub(in crate::agent) const RELOAD_SUCCESSFUL: Described = Described::gauge(
    "pgvitals_config_last_reload_successful",
    &[],
    "1 unless the latest reload found a mistake; the configuration before it is then still in force",
);
pub(in crate::agent) const RELOAD_TIME: Described = Described::gauge(
    "pgvitals_config_last_reload_success_timestamp_seconds",
    &[],
    "When the configuration in force was loaded",
);
pub(in crate::agent) const WEB_FILE: Described = Described::gauge(
    "pgvitals_web_config_last_read_successful",
    &[],
    "1 unless the web configuration file became wrong; what it said before is then still in force",
);
pub(in crate::agent) const SCRAPES: Described =
    Described::counter("pg_exporter_scrapes_total", &[], "pgvitals_readings_total, by its inherited name");
pub(in crate::agent) const SCRAPE_ERROR: Described = Described::gauge(
    "pg_exporter_last_scrape_error",
    &[],
    "1 if a server or one of its collectors failed in this reading, else 0",
);
pub(in crate::agent) const SCRAPE_DURATION: Described =
    Described::gauge("pg_exporter_last_scrape_duration_seconds", &[], "How long the reader waited for this reading");
pub(in crate::agent) const CPU: Described =
    Described::counter("process_cpu_seconds_total", &[], "CPU time of the agent");
pub(in crate::agent) const RESIDENT: Described =
    Described::gauge("process_resident_memory_bytes", &[], "Resident memory of the agent");
pub(in crate::agent) const FILES: Described =
    Described::gauge("process_open_fds", &[], "Open file descriptors of the agent");

/// Of each server.
pub const OF_SERVERS: &[Described] = &[
    UP,
    SERVER_FAILURE,
    CONNECTIONS,
    CONNECT_FAILURE,
    CONNECTS,
    SAMPLES_TAKEN,
    SAMPLES_MISSED,
    DATABASES,
    DATABASE_FAILURE,
    WALK_DURATION,
    WALK_AGE,
    WALK_REST,
    WALKS,
];

/// Of each collector, of a server or of the host.
pub const OF_COLLECTORS: &[Described] =
    &[SUCCESS, DURATION, AGE, INTERVAL, ROWS, DROPPED_ROWS, RUNS, FAILURES, ABSENT, REMAINDER];

/// The same of each collector of a server, and of the host, under inherited names.
pub const INHERITED: &[Described] = &[PEER_OF_SERVERS[0], PEER_OF_SERVERS[1], PEER_OF_HOST[0], PEER_OF_HOST[1]];

/// Of the agent as a whole.
pub const OF_AGENT: &[Described] = &[
    BUILD,
    READINGS,
    PANICS,
    SERIES,
    TASKS,
    RELOAD_SUCCESSFUL,
    RELOAD_TIME,
    WEB_FILE,
    SCRAPES,
    SCRAPE_ERROR,
    SCRAPE_DURATION,
    CPU,
    RESIDENT,
    FILES,
];
