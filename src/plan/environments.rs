//! Which hosts serve the routes of another host again.

use std::collections::HashSet;

use crate::base::canon;
use crate::base::problem::{Place, Problem, Problems, suggest};
use crate::config::document::Document;
use crate::router::HostPattern;

/// One host of an environment.
pub(super) struct Twin {
    /// The number of the environment.
    pub(super) environment: usize,
    /// The host whose routes are served again.
    pub(super) host: String,
    /// Where they are.
    pub(super) at: String,
}

/// Reads `hosts` of every environment.
pub(super) fn twins(document: &Document, problems: &mut Problems) -> Vec<Twin> {
    let mut twins: Vec<Twin> = Vec::new();
    let routed: HashSet<&str> = document
        .routes
        .iter()
        .flat_map(|route| &route.matches.hosts)
        .map(String::as_str)
        .collect();
    for (environment, item) in document.environments.iter().enumerate() {
        for (written, at) in &item.spec.hosts {
            let place = item.place.key("hosts").key(written);
            let host = exact(written);
            if host.is_none() {
                problems.push(not_exact(&place, written).at_key());
            } else if !is_routed(document, written) {
                problems.push(not_routed(&place, written, &routed));
            }
            let Some(at) = exact(at) else {
                problems.push(not_exact(&place, at));
                continue;
            };
            let Some(host) = host else { continue };
            if routed.contains(at.as_str()) {
                let what = format!("`{at}` is a host of routes too");
                let hint = "an environment's host serves the routes of another host only";
                problems.push(Problem::error("E019", place, what).hint(hint));
            } else if twins.iter().any(|known| known.at == at) {
                let what = format!("`{at}` stands for two hosts");
                problems.push(Problem::error("E019", place, what).hint("keep one of them"));
            } else {
                twins.push(Twin {
                    environment,
                    host,
                    at,
                });
            }
        }
    }
    twins
}

fn exact(text: &str) -> Option<String> {
    let host = canon::canonical_host(text).ok()?;
    Some(host.into_owned())
}

fn not_exact(place: &Place, text: &str) -> Problem {
    Problem::error("E019", place.clone(), format!("`{text}` is not a host"))
        .hint("an exact name, e.g. `api.staging.example.com`")
}

/// Whether a route is for this host.
fn is_routed(document: &Document, host: &str) -> bool {
    if !document.refused.routes.is_empty() {
        // One of those may be for it.
        return true;
    }
    let host = host.to_ascii_lowercase();
    document.routes.iter().any(|route| {
        let hosts = &route.matches.hosts;
        hosts.is_empty()
            || hosts.iter().any(|pattern| {
                HostPattern::parse(pattern).is_err()
                    || match pattern.to_ascii_lowercase().strip_prefix('*') {
                        Some(ending) => host.ends_with(ending),
                        None => pattern.eq_ignore_ascii_case(&host),
                    }
            })
    })
}

fn not_routed(place: &Place, host: &str, routed: &HashSet<&str>) -> Problem {
    let mut known: Vec<&str> = routed.iter().copied().collect();
    known.sort_unstable();
    let hint = suggest(host, known.iter().copied())
        .unwrap_or_else(|| format!("one of {}", super::compile::listed(known.into_iter())));
    Problem::error(
        "E019",
        place.clone(),
        format!("no route is for the host `{host}`"),
    )
    .hint(hint)
    .at_key()
}
