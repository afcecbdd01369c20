//! Addresses that are listened on once.

use std::collections::HashMap;

use crate::base::problem::{Place, Problem, Problems};
use crate::config::document::Document;

/// Reports addresses that two listeners want.
pub(super) fn check(document: &Document, problems: &mut Problems) {
    let mut seen: HashMap<String, Place> = HashMap::new();
    for listener in &document.listeners {
        for (index, address) in listener.spec.address.0.iter().enumerate() {
            let text = address.to_string();
            let whole = listener.place.key("address");
            let place = if listener.spec.address.0.len() > 1 {
                whole.index(index)
            } else {
                whole
            };
            let any_port = address.tcp().is_some_and(|address| address.port() == 0);
            if let Some(first) = seen.get(&text).filter(|_| !any_port) {
                let problem = Problem::error(
                    "E018",
                    place.clone(),
                    format!("`{text}` is listened on twice"),
                );
                problems.push(
                    problem
                        .also(first.clone(), "the first")
                        .hint("give each listener an address of its own"),
                );
            }
            seen.insert(text, place);
        }
    }
}
