//! `config`: the effective config, what differs, and the schema.

use std::path::Path;

use serde_json::Value as Json;

use super::args::{ConfigVerb, Format, Global};
use super::client::ask;
use super::{Exit, check, print, report};
use crate::base::control::Change;
use crate::config::source::Environment;
use crate::config::{self, Loaded};

/// Does what the verb says.
pub(super) fn run(verb: &ConfigVerb, global: &Global) -> Exit {
    match verb {
        ConfigVerb::Schema => {
            print(&format!("{:#}\n", config::schema()));
            Exit::Done
        }
        ConfigVerb::Show => match effective(global, config::show) {
            Ok(json) => {
                print(&shown(&json, global.format));
                Exit::Done
            }
            Err(exit) => exit,
        },
        ConfigVerb::Diff { against } => diff(global, against.as_deref()),
    }
}

fn effective(global: &Global, form: impl Fn(&Loaded) -> Json) -> Result<Json, Exit> {
    let (loaded, _) = check::load(global, &Environment::Process).ok_or(Exit::Config)?;
    if loaded.problems.any_error() {
        report::problems(&loaded, global);
        return Err(Exit::Config);
    }
    Ok(form(&loaded))
}

fn shown(json: &Json, format: Format) -> String {
    match format {
        Format::Human => serde_yaml::to_string(json).unwrap_or_default(),
        Format::Json => format!("{json:#}\n"),
    }
}

/// What differs from the running gateway, or from another file.
fn diff(global: &Global, against: Option<&Path>) -> Exit {
    let old = match against {
        None => ask(global, "GET", "/config").map(|answer| answer.body),
        Some(path) => {
            let global = Global {
                config: Some(path.to_owned()),
                ..global.clone()
            };
            effective(&global, config::show)
        }
    };
    let (old, new) = match (old, effective(global, config::compared)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(exit), _) | (_, Err(exit)) => return exit,
    };
    let changes = config::diff(&old, &new);
    match global.format {
        Format::Human => {
            let lines = changes.iter().map(|change| change.line() + "\n");
            print(&lines.collect::<String>());
        }
        Format::Json => {
            let list = changes.iter().map(Change::json).collect();
            print(&format!("{:#}\n", Json::Array(list)));
        }
    }
    if changes.is_empty() {
        Exit::Done
    } else {
        Exit::Findings
    }
}
