//! `audit`: settings that are valid and risky, the worst first.

use serde_json::json;

use super::args::{Format, Global};
use super::{Exit, check, print, report};
use crate::base::clock::{Clock as _, SystemClock};
use crate::config::audit::{Finding, Risk, audit};
use crate::config::source::Environment;

/// Looks at the config.
pub(super) fn run(global: &Global) -> Exit {
    let Some((loaded, _)) = check::load(global, &Environment::Process) else {
        return Exit::Config;
    };
    if loaded.problems.any_error() {
        report::problems(&loaded, global);
        return Exit::Config;
    }
    let findings = audit(&loaded, SystemClock.unix_millis());
    match global.format {
        Format::Human => {
            let list = findings.iter();
            let list = list.map(|finding| (&finding.problem, finding.risk.as_str()));
            report::findings(&loaded, &list.collect::<Vec<_>>(), global);
            print(&format!("{}\n", summary(&findings)));
        }
        Format::Json => {
            let veil = loaded.veil();
            let list: Vec<_> = findings
                .iter()
                .map(|finding| {
                    report::json((&loaded, &veil), &finding.problem, finding.risk.as_str())
                })
                .collect();
            print(&format!(
                "{}\n",
                json!({ "ok": list.is_empty(), "findings": list })
            ));
        }
    }
    if findings.is_empty() {
        Exit::Done
    } else {
        Exit::Findings
    }
}

fn summary(findings: &[Finding]) -> String {
    let counts = [Risk::High, Risk::Medium, Risk::Low]
        .into_iter()
        .map(|risk| {
            let count = findings.iter().filter(|finding| finding.risk == risk);
            (risk, count.count())
        });
    let counts: Vec<String> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(risk, count)| format!("{count} {risk}"))
        .collect();
    match findings.len() {
        0 => "  ok  no findings".to_owned(),
        1 => format!("1 finding: {}", counts.join(", ")),
        many => format!("{many} findings: {}", counts.join(", ")),
    }
}
