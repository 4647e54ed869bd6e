//! `/check_postgres` and `/check_pgactivity`: the command lines of the two plugins, answered by the agent.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::{EXIT_CODE, Faces, Parameters, refuse};
use crate::check_pgactivity::{self, Surroundings};
use crate::check_postgres::{self, Invocation};
use crate::judge::Judge;
use crate::plugin::Served;
use crate::server::Environment;

/// The header that says at which byte what is for stderr follows what is for stdout.
pub const STDERR: HeaderName = HeaderName::from_static("pgvitals-stderr");
/// A command line has no more arguments.
const MOST_ARGUMENTS: usize = 200;

pub(super) async fn check_postgres(
    State(faces): State<Faces>,
    action: Option<Path<String>>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let judge = Arc::clone(&faces.judges.borrow());
    let first = action.map(|Path(action)| format!("--action={action}"));
    let (arguments, served) = match read(&faces, &judge, first, parameters) {
        Ok(read) => read,
        Err(reason) => return refuse(StatusCode::BAD_REQUEST, &reason),
    };
    let invocation = Invocation {
        program: "check_postgres.pl".to_owned(),
        path: PathBuf::new(),
        arguments,
        folder: PathBuf::from("/"),
        environment: Environment::new(|_| None),
        catalog: Arc::clone(judge.agent().catalog()),
        served: Some(served.clone()),
    };
    let ended = check_postgres::run(invocation).await;
    answer(&served, ended.stdout, &ended.stderr, ended.code)
}

pub(super) async fn check_pgactivity(
    State(faces): State<Faces>,
    service: Option<Path<String>>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let judge = Arc::clone(&faces.judges.borrow());
    let first = service.map(|Path(service)| format!("--service={service}"));
    let (arguments, served) = match read(&faces, &judge, first, parameters) {
        Ok(read) => read,
        Err(reason) => return refuse(StatusCode::BAD_REQUEST, &reason),
    };
    let surroundings = Surroundings {
        catalog: Arc::clone(judge.agent().catalog()),
        environment: Environment::new(|_| None),
        program: None,
        served: Some(served.clone()),
    };
    let ended = check_pgactivity::run(&arguments, surroundings).await;
    answer(&served, ended.stdout, &ended.stderr, ended.code)
}

/// `arg=` for each argument, and `server=` for the server that is meant where several are watched.
fn read(
    faces: &Faces,
    judge: &Judge,
    first: Option<String>,
    parameters: Parameters,
) -> Result<(Vec<String>, Served), String> {
    let (mut arguments, mut server): (Vec<String>, _) = (first.into_iter().collect(), None);
    for (name, value) in parameters {
        match name.as_str() {
            "arg" => arguments.push(value),
            "server" => {
                let known = judge.agent().servers().into_iter().find(|known| **known == *value);
                server = Some(known.ok_or_else(|| format!("no server {value:?} is watched"))?);
            }
            _ => return Err(format!("unknown parameter {name:?}, expected arg or server")),
        }
    }
    if arguments.len() > MOST_ARGUMENTS {
        return Err(format!("expected {MOST_ARGUMENTS} arguments at most"));
    }
    Ok((arguments, Served::new(Arc::clone(judge.agent()), server, Arc::clone(&faces.recalled))))
}

/// What the program would print, and its exit code. What only a session of one's own can answer has another status.
fn answer(served: &Served, stdout: String, stderr: &str, code: u8) -> Response {
    let status = if served.has_refused() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (EXIT_CODE, HeaderValue::from(u16::from(code))),
        (STDERR, HeaderValue::from(stdout.len())),
    ];
    (status, headers, stdout + stderr).into_response()
}
