//! `breakers`: the circuit breakers of a running gateway, looked at and set by hand.

use serde_json::Value as Json;

use super::args::{BreakersVerb, Format, Global};
use super::client::{done, escaped};
use super::{Exit, print};

/// Does what `verb` says.
pub(super) fn run(verb: &BreakersVerb, global: &Global) -> Exit {
    let (method, path) = match verb {
        BreakersVerb::List => ("GET", "/breakers".to_owned()),
        BreakersVerb::Open { name } => ("POST", set(name, "open")),
        BreakersVerb::Close { name } => ("POST", set(name, "close")),
        BreakersVerb::Auto { name } => ("POST", set(name, "auto")),
    };
    let answer = match done(global, method, &path) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    match global.format {
        Format::Json => print(&format!("{:#}\n", answer.body)),
        Format::Human => match answer.body.as_array() {
            Some(all) if all.is_empty() => print("no circuit breakers\n"),
            Some(all) => all.iter().for_each(|breaker| print(&line(breaker))),
            None => print(&line(&answer.body)),
        },
    }
    Exit::Done
}

fn set(name: &str, state: &str) -> String {
    format!("/breakers/set?name={}&state={state}", escaped(name))
}

fn line(breaker: &Json) -> String {
    let text = |key: &str| breaker.get(key).and_then(Json::as_str).unwrap_or_default();
    let number = |key: &str| breaker.get(key).and_then(Json::as_u64);
    let count = |key: &str| number(key).unwrap_or(0);
    let left = number("half_open_in_seconds").map(|left| format!(", half open in {left}s"));
    let forced = if text("mode") == "forced" {
        " (by hand)"
    } else {
        ""
    };
    format!(
        "  breaker {}  {}{forced}{}  {} requests, {} errors, {} slow in the window\n",
        text("name"),
        text("state"),
        left.unwrap_or_default(),
        count("requests"),
        count("errors"),
        count("slow"),
    )
}
