//! `test`: the request tests of the config, without a network.

use serde_json::json;

use super::args::{Format, Global};
use super::{Exit, check, print, report};
use crate::base::clock::SystemClock;
use crate::base::problem::Problems;
use crate::config::Loaded;
use crate::config::source::Environment;
use crate::{flow, plan};

/// One test, and what was not as expected.
struct Ran {
    title: String,
    position: String,
    failures: Vec<String>,
}

/// Runs the request tests.
pub(super) fn run(global: &Global) -> Exit {
    let quiet = Global {
        format: Format::Json,
        ..global.clone()
    };
    let Some((loaded, _)) = check::load(&quiet, &Environment::Process) else {
        return Exit::Config;
    };
    if loaded.problems.any_error() {
        report::problems(&loaded, global);
        return Exit::Config;
    }
    let ran = all(&loaded);
    let failed = ran.iter().filter(|ran| !ran.failures.is_empty()).count();
    match global.format {
        Format::Human => print(&human(&ran, failed)),
        Format::Json => {
            let tests = ran.iter().map(|ran| {
                json!({ "test": ran.title, "place": ran.position, "passed": ran.failures.is_empty(), "failures": ran.failures })
            });
            let tests: Vec<_> = tests.collect();
            print(&format!(
                "{:#}\n",
                json!({ "passed": ran.len() - failed, "failed": failed, "tests": tests })
            ));
        }
    }
    if failed == 0 {
        Exit::Done
    } else {
        Exit::Findings
    }
}

/// Runs each test on a plan of its own: none sees what another one counted.
fn all(loaded: &Loaded) -> Vec<Ran> {
    let document = &loaded.document;
    let tests = document.tests.iter().map(|(place, test)| {
        let plan = plan::compile(document, "doorward-test", &mut Problems::default());
        let failures = match &plan {
            Some(plan) => flow::trial(plan, test, &SystemClock),
            None => vec!["the config does not compile".to_owned()],
        };
        Ran {
            title: test.title().to_owned(),
            position: loaded.position(place),
            failures,
        }
    });
    tests.collect()
}

/// What keeps a config from being taken when its tests have to pass; nothing when they do.
pub(super) fn failures(loaded: &Loaded) -> Option<String> {
    let ran = all(loaded);
    let failed = ran.iter().filter(|ran| !ran.failures.is_empty()).count();
    (failed > 0).then(|| human(&ran, failed))
}

fn human(ran: &[Ran], failed: usize) -> String {
    let mut out = String::new();
    for Ran {
        title,
        position,
        failures,
    } in ran
    {
        let word = if failures.is_empty() { "ok  " } else { "FAIL" };
        out.push_str(&format!("  {word}  {title} ({position})\n"));
        for failure in failures {
            out.push_str(&format!("        {failure}\n"));
        }
    }
    if ran.is_empty() {
        out.push_str("no tests: write some under `tests:`\n");
    }
    out.push_str(&format!("{} passed, {failed} failed\n", ran.len() - failed));
    out
}
