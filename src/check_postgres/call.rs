//! One run of an action: what it is told, whom it asks, what it says.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::filter::Filter;
use super::options::Options;
use super::output::Output;
use super::report::{Form, Report};
use super::targets::Place;
use super::threshold::{Limits, Wanted};
use super::{Action, End, Outcome, words};
use crate::catalog::Catalog;
use crate::check::Status;
use crate::plugin::{AskError, Asked, Served};
use crate::server::{DsnError, Environment, FailureClass, RowSet};

/// One of the places that are asked, in the order of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(usize);

impl At {
    /// Its number, counted from 1.
    pub fn number(self) -> usize {
        self.0 + 1
    }
}

/// A place, the session there, and what is known of it so far.
#[derive(Debug, Default)]
struct Visited {
    place: Place,
    asked: Option<Asked>,
    /// Perfdata so far.
    perf: String,
    /// How long the last question took.
    took: Option<Duration>,
}

impl Visited {
    fn of(place: Place) -> Self {
        Self { place, ..Self::default() }
    }
}

/// A value for MRTG, by the name it is shown under.
#[derive(Debug)]
struct Stat {
    name: String,
    value: f64,
    shown: String,
    message: Option<String>,
}

/// One run of an action.
#[derive(Debug)]
pub struct Call {
    /// What the command line says.
    pub options: Options,
    /// What is looked at.
    pub filter: Filter,
    /// What the environment says.
    pub environment: Arc<Environment>,
    pub(super) action: &'static Action,
    pub(super) report: Report,
    output: Output,
    catalog: Arc<Catalog>,
    served: Option<Served>,
    visited: Vec<Visited>,
    stats: Vec<Stat>,
    /// Where a place is not, so that nothing has to panic.
    nowhere: Visited,
}

impl Call {
    pub(super) fn new(
        action: &'static Action,
        options: Options,
        output: Output,
        environment: Arc<Environment>,
        catalog: Arc<Catalog>,
        places: Vec<Place>,
        served: Option<Served>,
    ) -> Result<Self, End> {
        Ok(Self {
            filter: Filter::read(&options)?,
            options,
            environment,
            action,
            report: Report::default(),
            output,
            catalog,
            served,
            visited: places.into_iter().map(Visited::of).collect(),
            stats: Vec::new(),
            nowhere: Visited::default(),
        })
    }

    /// Has these places asked in place of all others.
    pub(super) fn visit_instead(&mut self, places: Vec<Place>) {
        self.visited = places.into_iter().map(Visited::of).collect();
    }

    /// The action's name.
    pub fn name(&self) -> &'static str {
        self.action.name
    }

    /// Whether numbers are wanted and no judgement.
    pub fn is_mrtg(&self) -> bool {
        self.output.is_mrtg()
    }

    /// `--perflimit`: how many entries are shown at most.
    pub fn perflimit(&self) -> Option<usize> {
        self.options.number("perflimit").map(|limit| usize::try_from(limit).unwrap_or_default())
    }

    /// The time that all questions to one place share.
    pub fn timeout(&self) -> Duration {
        let seconds = self.options.number("timeout").and_then(|seconds| u64::try_from(seconds).ok());
        Duration::from_secs(seconds.filter(|seconds| *seconds > 0).unwrap_or(super::USUAL_TIMEOUT))
    }

    /// The thresholds of the command line.
    ///
    /// # Errors
    ///
    /// They are not of the form that is wanted.
    pub fn limits(&self, wanted: Wanted) -> Result<Limits, End> {
        wanted.read(&self.options, self.is_mrtg())
    }

    /// All places, in order.
    pub fn places(&self) -> impl Iterator<Item = At> + use<> {
        (0..self.visited.len()).map(At)
    }

    /// A place.
    pub fn place(&self, at: At) -> &Place {
        &self.visit(at).place
    }

    /// The perfdata of a place, to be added to: entries with a blank before each.
    pub fn perf(&mut self, at: At) -> &mut String {
        &mut self.visit_mut(at).perf
    }

    fn visit(&self, at: At) -> &Visited {
        self.visited.get(at.0).unwrap_or(&self.nowhere)
    }

    fn visit_mut(&mut self, at: At) -> &mut Visited {
        self.visited.get_mut(at.0).unwrap_or(&mut self.nowhere)
    }

    /// The rows of a listing or a definition, at every place.
    ///
    /// # Errors
    ///
    /// The first place that does not answer.
    pub async fn rows(&mut self, listing: &str) -> Result<Vec<(At, RowSet)>, End> {
        let mut answers = Vec::new();
        for at in self.places() {
            answers.push((at, self.rows_at(at, listing).await?));
        }
        Ok(answers)
    }

    /// The rows of a listing or a definition, at one place.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn rows_at(&mut self, at: At, listing: &str) -> Result<RowSet, End> {
        let started = Instant::now();
        let answer = match self.asked(at).await {
            Ok(asked) => asked.rows(listing).await,
            Err(error) => Err(error),
        };
        self.visit_mut(at).took = Some(started.elapsed());
        answer.map_err(|error| self.end(at, &error))
    }

    /// The rows of a listing in a session as the role has it, at one place: for what is about the session itself. Nothing else
    /// can be asked there afterwards but the user's own statements.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn rows_as_user_at(&mut self, at: At, listing: &str) -> Result<RowSet, End> {
        let started = Instant::now();
        let answer = match self.asked(at).await {
            Ok(asked) => asked.rows_as_user(listing).await,
            Err(error) => Err(error),
        };
        self.visit_mut(at).took = Some(started.elapsed());
        answer.map_err(|error| self.end(at, &error))
    }

    /// The answer to the user's own statement, at one place. A listing cannot be asked there afterwards.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn sql_at(&mut self, at: At, sql: &str) -> Result<RowSet, End> {
        let started = Instant::now();
        let answer = match self.asked(at).await {
            Ok(asked) => asked.sql(sql).await,
            Err(error) => Err(error),
        };
        self.visit_mut(at).took = Some(started.elapsed());
        answer.map_err(|error| self.end(at, &error))
    }

    /// The answer of `PgBouncer`'s console, at one place.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn console_at(&mut self, at: At, command: &str) -> Result<RowSet, End> {
        let started = Instant::now();
        let answer = match self.opened(at, true).await {
            Ok(asked) => asked.sql(command).await,
            Err(error) => Err(error),
        };
        self.visit_mut(at).took = Some(started.elapsed());
        answer.map_err(|error| self.end(at, &error))
    }

    /// The server's `server_version_num`, such as 150006.
    ///
    /// # Errors
    ///
    /// It does not let us in.
    pub async fn version_at(&mut self, at: At) -> Result<u32, End> {
        let version = self.asked(at).await.map(|asked| asked.version());
        version.map_err(|error| self.end(at, &error))
    }

    /// Whether the server is in recovery.
    ///
    /// # Errors
    ///
    /// It does not let us in.
    pub async fn is_standby_at(&mut self, at: At) -> Result<bool, End> {
        let is_standby = self.asked(at).await.map(|asked| asked.is_standby());
        is_standby.map_err(|error| self.end(at, &error))
    }

    /// The session at a place, opened when there is none yet.
    pub(super) async fn asked(&mut self, at: At) -> Result<&mut Asked, AskError> {
        self.opened(at, false).await
    }

    async fn opened(&mut self, at: At, console: bool) -> Result<&mut Asked, AskError> {
        let (limit, catalog, environment) = (self.timeout(), Arc::clone(&self.catalog), Arc::clone(&self.environment));
        let role = self.options.text("role").map(ToOwned::to_owned);
        let served = self.served.clone();
        let visited = self.visit_mut(at);
        if visited.asked.is_none()
            && let Some(served) = served
        {
            visited.asked = Some(Asked::served(&served, &visited.place.target(), &catalog, limit).await?);
        }
        if visited.asked.is_none() {
            let unusable = |error: DsnError| AskError::Unavailable(words::of_settings(&error));
            let options = visited.place.target().options(&environment).map_err(unusable)?;
            let asked = if console {
                Asked::open_console(&options, &catalog, limit).await?
            } else {
                let mut asked = Asked::open(&options, &catalog, limit).await?;
                if let Some(role) = role {
                    asked.set_role(&role).await?;
                }
                asked
            };
            visited.asked = Some(asked);
        }
        visited.asked.as_mut().ok_or_else(|| AskError::Unavailable("no session".to_owned()))
    }

    fn end(&self, at: At, error: &AskError) -> End {
        let text = match error {
            AskError::Late(_) => {
                format!("Command timed out! Consider boosting --timeout higher than {}", self.timeout().as_secs())
            }
            AskError::Connect(failure) => words::of_connection(failure, self.place(at)),
            AskError::Query(failure) => words::of_query(failure),
            AskError::Unavailable(reason) => reason.clone(),
        };
        let class = match error {
            AskError::Connect(failure) => Some(failure.class),
            AskError::Late(_) => Some(FailureClass::Timeout),
            _ => None,
        };
        End::Refused { text, class }
    }

    /// Says something of a place, with the perfdata of that place so far.
    pub fn say(&mut self, status: Status, at: At, message: impl AsRef<str>) {
        let header = self.place(at).header(self.action.is_clusterwide);
        let perf = self.perf_of(at);
        self.report.add(status, header, message.as_ref(), &perf);
    }

    /// The time that the last question took, and the perfdata so far.
    fn perf_of(&self, at: At) -> String {
        let visited = self.visit(at);
        let has_time = self.action.has_time && self.options.number("showtime").is_none_or(|shown| shown != 0);
        let time = visited.took.filter(|_| has_time).map(|took| format!("time={:.2}s", took.as_secs_f64()));
        let perf = visited.perf.trim_start_matches(' ').to_owned();
        let parts: Vec<String> = time.into_iter().chain((!perf.is_empty()).then_some(perf)).collect();
        parts.join(" ")
    }

    /// Says something of a place in several lines, under a header of its own: the perfdata are followed by `lines`.
    pub fn say_lines(&mut self, status: Status, at: At, header: String, message: &str, lines: &str) {
        let perf = format!("{} {lines}", self.perf_of(at));
        self.report.add_lines(status, header, message, perf.trim_matches(' '));
    }

    /// Says something of no place, with perfdata.
    pub fn say_alone(&mut self, status: Status, message: impl AsRef<str>, perf: &str) {
        self.report.add(status, String::new(), message.as_ref(), perf);
    }

    /// Says how long a place was waited for, where that is not what the last question there took. No time is not shown.
    pub fn waited(&mut self, at: At, time: Duration) {
        self.visit_mut(at).took = Some(time).filter(|time| !time.is_zero());
    }

    /// OK, of a place.
    pub fn ok(&mut self, at: At, message: impl AsRef<str>) {
        self.say(Status::Ok, at, message);
    }

    /// WARNING, of a place.
    pub fn warning(&mut self, at: At, message: impl AsRef<str>) {
        self.say(Status::Warning, at, message);
    }

    /// CRITICAL, of a place.
    pub fn critical(&mut self, at: At, message: impl AsRef<str>) {
        self.say(Status::Critical, at, message);
    }

    /// UNKNOWN, of a place.
    pub fn unknown(&mut self, at: At, message: impl AsRef<str>) {
        self.say(Status::Unknown, at, message);
    }

    /// Says something of no place: without header and perfdata.
    pub fn say_of_none(&mut self, status: Status, message: impl AsRef<str>) {
        self.report.add(status, String::new(), message.as_ref(), "");
    }

    /// The end of an action for MRTG: up to two numbers and a message. `two` is empty where there is but one.
    pub fn mrtg(&self, one: impl Display, two: impl Display, message: impl AsRef<str>) -> End {
        End::Printed(self.output.write(Some(&one.to_string()), &two.to_string(), message.as_ref()))
    }

    /// Keeps a value for MRTG. Of all that are kept the two highest are shown, with the message of the highest, which is
    /// `DB: name` unless there is one.
    pub fn stat(&mut self, name: impl Into<String>, value: f64, message: Option<String>) {
        let shown = super::text::number(value);
        self.stat_as(name, value, shown, message);
    }

    /// The same with the number as it is to be shown.
    pub fn stat_as(&mut self, name: impl Into<String>, value: f64, shown: String, message: Option<String>) {
        let name = name.into();
        self.stats.retain(|stat| stat.name != name);
        self.stats.push(Stat { name, value, shown, message });
    }

    /// The end of an action for MRTG that kept values; `otherwise` says why there are none.
    pub fn mrtg_stats(&mut self, otherwise: impl AsRef<str>) -> End {
        self.stats.sort_by(|one, other| other.value.total_cmp(&one.value));
        if let [highest, rest @ ..] = self.stats.as_slice() {
            let usual = || format!("DB: {}", highest.name);
            let message = highest.message.clone().unwrap_or_else(usual);
            let second = rest.first().map(|stat| stat.shown.clone()).unwrap_or_default();
            return End::Printed(self.output.write(Some(&highest.shown), &second, &message));
        }
        if self.output.reader == super::output::Reader::Simple {
            return End::Printed(self.output.write(None, "", otherwise.as_ref()));
        }
        let stderr = format!("Action {} failed: {}\n", self.name(), otherwise.as_ref());
        End::Printed(Outcome { stdout: String::new(), stderr, code: 3 })
    }

    /// What is printed when the action has come to its end.
    pub(super) fn finish(mut self) -> End {
        if self.is_mrtg() {
            let message = self.report.first_message().unwrap_or_default().to_owned();
            return self.mrtg_stats(message);
        }
        let perf = self.options.number("showperf").is_none_or(|shown| shown != 0);
        let form = Form { perf, quiet: self.options.is_on("quiet") };
        match self.report.status() {
            Some(status) => End::Printed(Outcome {
                stdout: self.report.write(self.name(), form),
                stderr: String::new(),
                code: status.exit_code(),
            }),
            None => End::refused(format!("{} has nothing to say", self.name())),
        }
    }
}
