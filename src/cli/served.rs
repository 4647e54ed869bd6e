//! The command lines of the two plugins, asked of an agent.

use std::time::Duration;

use anyhow::bail;

use super::AgentArgs;
use super::ask::{Agent, Answer};
use crate::config::USUAL_ADDRESS;

/// Longer than any limit that the agent keeps to.
const LONGEST_ANSWER: Duration = Duration::from_secs(90);
/// The variables by which a server is named as well as by options.
const PLACE: [&str; 7] = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE", "PGPASSWORD"];

/// Takes what is about an agent out of a command line.
///
/// # Errors
///
/// A value is missing.
pub(super) fn take(arguments: Vec<String>) -> anyhow::Result<(AgentArgs, Vec<String>)> {
    let (mut agent, mut rest) = (AgentArgs::default(), Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        if !["--agent", "--agent-ca", "--agent-cert", "--agent-key", "--agent-user", "--agent-password-file"]
            .contains(&name)
        {
            rest.push(argument);
            continue;
        }
        let Some(value) = value.or_else(|| arguments.next()) else { bail!("expected a value after {name}") };
        match name {
            "--agent-ca" => agent.agent_ca = Some(value.into()),
            "--agent-cert" => agent.agent_cert = Some(value.into()),
            "--agent-key" => agent.agent_key = Some(value.into()),
            "--agent-user" => agent.agent_user = Some(value),
            "--agent-password-file" => agent.agent_password_file = Some(value.into()),
            _ => agent.agent = Some(value),
        }
    }
    Ok((agent, rest))
}

/// What an agent answers: the one that is named, else the one at the usual address if nothing names a server; none where we
/// have to ask ourselves.
///
/// # Errors
///
/// The agent that is named does not answer.
pub(super) async fn ask(
    args: &AgentArgs,
    program: &str,
    arguments: &[String],
    names_server: bool,
) -> anyhow::Result<Option<Answer>> {
    if let Some(agent) = Agent::named(args)? {
        return match tokio::time::timeout(LONGEST_ANSWER, agent.run(program, arguments)).await {
            Ok(answer) => answer.map(Some),
            Err(_) => bail!("the agent has not answered within {LONGEST_ANSWER:?}"),
        };
    }
    if names_server || PLACE.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(None);
    }
    let Some(agent) = Agent::open_at(USUAL_ADDRESS).await else { return Ok(None) };
    let answer = tokio::time::timeout(LONGEST_ANSWER, agent.run(program, arguments)).await;
    Ok(answer.ok().and_then(Result::ok).filter(|answer| answer.is_whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_the_agent_is_taken_out_of_the_command_line() {
        let line = ["--action=backends", "--agent", "http://a:1", "-w", "5", "--agent-user=joe", "--agents"];
        let (agent, rest) = take(line.map(str::to_owned).to_vec()).unwrap();
        assert_eq!((agent.agent.as_deref(), agent.agent_user.as_deref()), (Some("http://a:1"), Some("joe")));
        assert_eq!(rest, ["--action=backends", "-w", "5", "--agents"]);
        assert!(take(vec!["--agent".to_owned()]).is_err());
    }
}
