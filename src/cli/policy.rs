//! `pgvitals policy`: what is watched, from where on it is a problem and what is done then, for those who agree on it.

use std::process::ExitCode;

use super::{Agreed, PolicyArgs, PolicyFormat, print};
use crate::catalog::Catalog;
use crate::check::{IGNORE, Rule, Terms};
use crate::config::{CheckSection, Loaded};
use crate::plan::{checks_in_force, load_catalog};
use crate::sink::policy;

/// What is found wanting ends it with this.
const EXIT_WANTING: u8 = 1;

pub(super) fn run(args: &PolicyArgs) -> anyhow::Result<ExitCode> {
    let loaded = Loaded::read(args.catalog.config.as_deref())?;
    let catalog = load_catalog(&loaded.config)?;
    let checks = checks_in_force(&loaded, &catalog)?;
    let Some(asked) = &args.lint else {
        print(&match args.format {
            PolicyFormat::Csv => policy::csv(&checks),
            PolicyFormat::Md => policy::markdown(&checks),
        });
        return Ok(ExitCode::SUCCESS);
    };
    let wanting = lint(&loaded, &catalog, asked);
    if wanting.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    print(&(wanting.join("\n") + "\n"));
    Ok(ExitCode::from(EXIT_WANTING))
}

/// What is not agreed on, one line each with the file and the line of the rule; who chooses another level or none at all has a
/// reason of their own.
fn lint(loaded: &Loaded, catalog: &Catalog, asked: &[Agreed]) -> Vec<String> {
    let mut wanting = Vec::new();
    for (file, line, rule) in catalog.rules() {
        let terms = terms_of(loaded, rule);
        let lacking = asked.iter().filter(|agreed| !agreed.is_said(&terms)).map(|agreed| agreed.as_str());
        let lacking = lacking.collect::<Vec<_>>().join(", ");
        if !lacking.is_empty() {
            wanting.push(format!("{}:{line}: rule `{}`: no {lacking}", file.display(), rule.name()));
        }
    }
    for (name, section) in loaded.config.check.iter().filter(|_| asked.contains(&Agreed::Reason)) {
        let ignored = section.action.as_ref().filter(|action| action.get_ref() == IGNORE);
        let changed = [(&section.warning, "another level"), (&section.critical, "another level")].into_iter();
        let changed = changed.filter_map(|(level, what)| Some((level.as_ref()?, what)));
        let mut changed = changed.chain(ignored.map(|action| (action, "ignored")));
        if let (Some((place, what)), None) = (changed.next(), &section.reason) {
            let reason = format!("check `{name}`: {what}, and no reason");
            wanting.push(loaded.mistake(place.span().start, reason).to_string());
        }
    }
    wanting
}

fn terms_of(loaded: &Loaded, rule: &Rule) -> Terms {
    let section = loaded.config.check.get(rule.name());
    section.map(CheckSection::terms).unwrap_or_default().or(rule.terms())
}

impl Agreed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Importance => "importance",
            Self::Every => "every",
            Self::Action => "action",
            Self::Owner => "owner",
            Self::Reason => "reason",
        }
    }

    /// Whether it is said. Every rule has a reason, without which it is refused.
    fn is_said(self, terms: &Terms) -> bool {
        match self {
            Self::Importance => terms.importance.is_some(),
            Self::Every => terms.every.is_some(),
            Self::Action => terms.action.is_some(),
            Self::Owner => terms.owner.is_some(),
            Self::Reason => true,
        }
    }
}
