//! What a configuration comes to: the catalog, the servers and the thresholds that are in force.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::access::Policy;
use crate::agent::{Agent, Ledger};
use crate::catalog::Catalog;
use crate::check::{Check, Level, ThresholdError, is_line};
use crate::collect::host::Roots;
use crate::config::{CheckSection, Config, HostEnabled, Loaded, ServerConfig, USUAL_CHECKS};
use crate::judge::Judge;
use crate::server::{
    ConnectOptions, Databases, DiscoveryRoots, DsnError, Environment, Keywords, Password, cluster_name, discover,
};
use crate::source::SourceError;

/// A configuration that was understood to the end.
#[derive(Debug)]
pub struct Plan {
    /// The configuration it was made from.
    pub config: Config,
    /// The definitions in force.
    pub catalog: Arc<Catalog>,
    /// What is watched.
    pub servers: Servers,
    /// Who may read the web server.
    pub policy: Policy,
    databases_of: BTreeMap<String, Databases>,
    checks: Vec<Check>,
    environment: Arc<Environment>,
}

/// Which servers are watched.
#[derive(Clone, Debug)]
pub enum Servers {
    /// These, by name.
    Named(Vec<(String, ConnectOptions)>),
    /// Whatever cluster is found on this host, now and later.
    Discovered,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The configuration or a definition cannot be read or is wrong.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A connection string of the command line or the environment is wrong.
    #[error("{origin}: {source}")]
    Dsn {
        /// Where it was written.
        origin: &'static str,
        /// What is wrong with it.
        source: DsnError,
    },
    /// Two servers would have the same label.
    #[error("two servers are called {0:?}, give one of them a name in the configuration")]
    SameName(String),
}

impl Plan {
    /// A plan from parts, with the checks that the definitions bring.
    pub fn new(config: Config, catalog: Arc<Catalog>, servers: Servers) -> Self {
        let environment = Arc::new(Environment::new(|_| None));
        let (policy, databases_of, checks) = (Policy::default(), BTreeMap::new(), catalog.checks().to_vec());
        Self { config, catalog, servers, policy, databases_of, checks, environment }
    }

    /// Reads the configuration and everything it names.
    ///
    /// Servers come from `dsns` (the command line), else the file, else the environment, else discovery.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with file and line where there is one.
    pub fn load(file: Option<&Path>, dsns: &[String], environment: Environment) -> Result<Self, PlanError> {
        let loaded = Loaded::read(file)?;
        let catalog = load_catalog(&loaded.config)?;
        Self::of(loaded, catalog, dsns, environment)
    }

    /// The same for who asks for one check: where nobody wrote definitions, only those are read that it needs.
    ///
    /// # Errors
    ///
    /// As [`Plan::load`].
    pub fn load_for_check(
        name: &str,
        file: Option<&Path>,
        dsns: &[String],
        environment: Environment,
    ) -> Result<Self, PlanError> {
        let loaded = Loaded::read(file)?;
        let config = &loaded.config;
        let names: BTreeSet<&str> = config.check.keys().map(String::as_str).chain([name]).collect();
        let few = || Catalog::built_in_of(&names).map(|few| shown(few, config));
        let few = folder_of_checks(config).map_or_else(few, |_| None);
        let catalog = few.map_or_else(|| load_catalog(config), Ok)?;
        Self::of(loaded, catalog, dsns, environment)
    }

    fn of(loaded: Loaded, catalog: Catalog, dsns: &[String], environment: Environment) -> Result<Self, PlanError> {
        let catalog = Arc::new(catalog);
        let checks = checks_in_force(&loaded, &catalog)?;
        let mut databases_of = BTreeMap::new();
        let servers = servers(&loaded, dsns, &environment, &mut databases_of)?;
        let (policy, environment) = (Policy::default(), Arc::new(environment));
        Ok(Self { config: loaded.config, catalog, servers, policy, databases_of, checks, environment })
    }

    /// Reads who may read the web server, from this file or the one that the configuration names. Apart from the rest,
    /// because who runs a check may not read the web server's key.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the file or those that it names.
    pub fn read_policy(&mut self, file: Option<&Path>) -> Result<(), SourceError> {
        if let Some(file) = file.or(self.config.web.config_file.as_deref()) {
            self.policy = Policy::read(file)?;
        }
        Ok(())
    }

    /// The agent with its checks. What is the same in `previous` is taken over: servers with their connections, the host,
    /// and the past of counters.
    ///
    /// Must be called within a Tokio runtime.
    pub fn start(&self, ledger: &Arc<Ledger>, previous: Option<&Judge>) -> Judge {
        let host = &self.config.host;
        let read = host.enabled != HostEnabled::No;
        let roots = read.then(|| Roots { proc: host.proc.clone(), sys: host.sys.clone() });
        let mut agent = Agent::new(Arc::clone(&self.catalog), roots, Arc::clone(ledger))
            .with_databases(self.config.databases.clone())
            .with_databases_of(self.databases_of.clone());
        let before = previous.map(Judge::agent);
        if let Some(before) = before {
            agent = agent.with_host_of(before);
        }
        if host.enabled == HostEnabled::Auto {
            agent = agent.with_host_of_servers();
        }
        for (name, options) in self.find_servers() {
            agent.watch(&name, options, before.map(Arc::as_ref));
        }
        Judge::new(Arc::new(agent), self.checks.clone(), previous)
    }

    /// The servers as they are now: the named ones, or those found on this host.
    pub fn find_servers(&self) -> Vec<(String, ConnectOptions)> {
        match &self.servers {
            Servers::Named(servers) => servers.clone(),
            Servers::Discovered => self.discover(),
        }
    }

    fn discover(&self) -> Vec<(String, ConnectOptions)> {
        let mut keywords = Keywords::default();
        let user = self.config.discovery.user.iter().map(|user| ("user", user));
        for (keyword, value) in user.chain([("dbname", &self.config.discovery.database)]) {
            // Both keywords are known, and any text is a name.
            let _ = keywords.set(keyword, value);
        }
        let mut servers = Vec::new();
        let etc_postgresql = self.config.discovery.folder.clone();
        for found in discover(&DiscoveryRoots { etc_postgresql, proc: self.config.host.proc.clone() }) {
            match found.options_with(keywords.clone(), &self.environment) {
                Ok(options) => servers.push((found.name, options)),
                Err(error) => warn!(server = found.name, %error, "cluster found, but not how to connect to it"),
            }
        }
        servers
    }

    /// How often samples are taken between readings; none where they are not.
    pub fn sampling_interval(&self) -> Option<Duration> {
        self.config.sampling.as_ref().map(|sampling| sampling.interval.0)
    }

    /// How often to look for new clusters; none where the servers are named.
    pub fn discovery_interval(&self) -> Option<Duration> {
        matches!(self.servers, Servers::Discovered).then_some(self.config.discovery.interval.0)
    }
}

/// The name of a server that was given none: that of the Debian cluster there, else host and port.
pub fn name_of(options: &ConnectOptions) -> String {
    cluster_name(&DiscoveryRoots::default().etc_postgresql, options).unwrap_or_else(|| options.name())
}

/// The definitions of the binary and those of the configured folder; the usual folder need not exist.
///
/// # Errors
///
/// The folder cannot be read or holds a wrong definition.
pub fn load_catalog(config: &Config) -> Result<Catalog, SourceError> {
    let catalog = folder_of_checks(config).map_or_else(Catalog::built_in, Catalog::load)?;
    Ok(shown(catalog, config))
}

fn shown(catalog: Catalog, config: &Config) -> Catalog {
    let statements = &config.statements;
    catalog.with_texts(statements.texts.then_some(statements.text_length))
}

/// The same for a command that asks for row sets by their names.
///
/// # Errors
///
/// As [`load_catalog`], but of the built-in definitions only those are read that are asked for.
pub fn load_rows(config: &Config) -> Result<Catalog, SourceError> {
    Catalog::of_rows(folder_of_checks(config))
}

fn folder_of_checks(config: &Config) -> Option<&Path> {
    let usual = || Some(Path::new(USUAL_CHECKS)).filter(|folder| folder.is_dir());
    config.checks.as_deref().or_else(usual)
}

/// The checks of a catalog with what the configuration says of them.
///
/// # Errors
///
/// The configuration names a check that there is not, or says of one what does not fit it.
pub fn checks_in_force(loaded: &Loaded, catalog: &Catalog) -> Result<Vec<Check>, SourceError> {
    let sections = &loaded.config.check;
    if let Some(name) = sections.keys().find(|name| catalog.check(name).is_none()) {
        let known = catalog.checks().iter().map(Check::name).collect::<Vec<_>>().join(", ");
        let table = loaded.place_of(&format!("[check.{name}]"));
        return Err(loaded.mistake(table, format!("no check `{name}`, expected one of: {known}")));
    }
    let amended = catalog.checks().iter().map(|check| match sections.get(check.name()) {
        Some(section) => amended(loaded, check, section),
        None => Ok(check.clone()),
    });
    amended.collect()
}

fn amended(loaded: &Loaded, check: &Check, section: &CheckSection) -> Result<Check, SourceError> {
    let mistake = |key: &str, reason: String| {
        let table = || loaded.place_of(&format!("[check.{}]", check.name()));
        loaded.mistake(section.place_of(key).unwrap_or_else(table), reason)
    };
    let terms = section.terms();
    terms.check().map_err(|(key, reason)| mistake(key, reason))?;
    let reason = section.reason.as_ref().map(|reason| reason.get_ref().as_str());
    if reason.is_some_and(|reason| !is_line(reason)) {
        return Err(mistake("reason", "expected one line of text".to_owned()));
    }
    let mut check = check.agreed(&terms, reason);
    // One after the other, so that a mistake names the line of its own level.
    for (key, written) in [("warning", &section.warning), ("critical", &section.critical)] {
        let Some(written) = written else { continue };
        let wrong = |wrong: ThresholdError| mistake(key, wrong.to_string());
        let level = Some(written.get_ref().parse::<Level>().map_err(wrong)?);
        let (warning, critical) = if key == "warning" { (level, None) } else { (None, level) };
        check = check.with_levels(warning, critical).map_err(wrong)?;
    }
    Ok(check)
}

fn servers(
    loaded: &Loaded,
    dsns: &[String],
    environment: &Environment,
    databases_of: &mut BTreeMap<String, Databases>,
) -> Result<Servers, PlanError> {
    let mut servers = Vec::new();
    for dsn in dsns {
        let options =
            ConnectOptions::parse(dsn, environment).map_err(|source| PlanError::Dsn { origin: "--dsn", source })?;
        servers.push((name_of(&options), options));
    }
    if servers.is_empty() {
        for written in &loaded.config.server {
            let server = configured(loaded, written, environment)?;
            if servers.iter().any(|(name, _)| *name == server.0) {
                let reason = format!("a server called `{}` stands above already: expected another `name`", server.0);
                return Err(loaded.mistake(written.dsn.span().start, reason).into());
            }
            databases_of
                .extend(written.databases(&loaded.config.databases).map(|databases| (server.0.clone(), databases)));
            servers.push(server);
        }
    }
    if servers.is_empty() {
        let named = environment.servers().map_err(|source| PlanError::Dsn { origin: "environment", source })?;
        servers.extend(named.into_iter().map(|options| (name_of(&options), options)));
    }
    let mut names: Vec<&str> = servers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first()).flatten())
    {
        return Err(PlanError::SameName((*twice).to_owned()));
    }
    match (servers.is_empty(), loaded.config.discovery.enabled) {
        (true, true) => Ok(Servers::Discovered),
        _ => Ok(Servers::Named(servers)),
    }
}

fn configured(
    loaded: &Loaded,
    written: &ServerConfig,
    environment: &Environment,
) -> Result<(String, ConnectOptions), SourceError> {
    let mistake = |error: DsnError| loaded.mistake(written.dsn.span().start, error.to_string());
    let mut options = ConnectOptions::parse(written.dsn.get_ref(), environment).map_err(mistake)?;
    let file = written.password_file.clone().map(Password::File);
    if let Some(password) = file.or_else(|| written.password_command.clone().map(Password::Command)) {
        options = options.with_password(password);
    }
    let name = written.name.clone().unwrap_or_else(|| name_of(&options));
    Ok((name, options))
}
