//! `reload`, `status`, `upstreams`: a running gateway asked and told.

use serde_json::Value as Json;

use super::args::{Format, Global, TargetArgs, UpstreamsVerb};
use super::client::{self, ask, escaped};
use super::{Exit, print, say};
use crate::base::control::Tests;

/// Tells the running gateway to load its config again, and says what changed.
pub(super) fn reload(tests: Tests, global: &Global) -> Exit {
    let path = match tests {
        Tests::Run => "/reload?test",
        Tests::Skip => "/reload",
    };
    let answer = match ask(global, "POST", path) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    if global.format == Format::Json {
        print(&format!("{:#}\n", answer.body));
    }
    let text = |key: &str| {
        answer
            .body
            .get(key)
            .and_then(Json::as_str)
            .unwrap_or_default()
    };
    match answer.status {
        200 => {
            if global.format == Format::Human {
                print(&applied(&answer.body));
            }
            Exit::Done
        }
        409 => {
            say("error: the new config needs a restart; the running one was kept");
            let reasons = answer.body.get("reasons").and_then(Json::as_array);
            for reason in reasons.into_iter().flatten().filter_map(Json::as_str) {
                say(&format!("  = note: {reason}"));
            }
            Exit::Findings
        }
        422 => {
            say(text("report").trim_end());
            say("the running config was kept");
            if text("result") == "tests_failed" {
                Exit::Findings
            } else {
                Exit::Config
            }
        }
        _ => Exit::Findings,
    }
}

fn applied(body: &Json) -> String {
    let generation = body.get("generation").and_then(Json::as_u64).unwrap_or(0);
    let changes = body
        .get("changes")
        .and_then(Json::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut out = String::new();
    for change in changes {
        let value = |key: &str| change.get(key).map(ToString::to_string);
        let key = change.get("key").and_then(Json::as_str).unwrap_or_default();
        if let Some(note) = change.get("note").and_then(Json::as_str) {
            out.push_str(&format!("~ {key}: {note}\n"));
        }
        match (value("old"), value("new")) {
            (Some(old), Some(new)) => out.push_str(&format!("~ {key}: {old} -> {new}\n")),
            (Some(old), None) => out.push_str(&format!("- {key}: {old}\n")),
            (None, Some(new)) => out.push_str(&format!("+ {key}: {new}\n")),
            (None, None) => {}
        }
    }
    let restart = body
        .get("needs_restart")
        .and_then(Json::as_array)
        .map_or(&[][..], Vec::as_slice);
    for key in restart.iter().filter_map(Json::as_str) {
        out.push_str(&format!("! {key} takes effect after a restart\n"));
    }
    out.push_str(&format!(
        "generation {generation} is in force, {} changed\n",
        changes.len()
    ));
    out
}

/// Prints what the running gateway says of itself.
pub(super) fn status(global: &Global) -> Exit {
    let answer = match ask(global, "GET", "/status") {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    match global.format {
        Format::Json => print(&format!("{:#}\n", answer.body)),
        Format::Human => print(&told(&answer.body)),
    }
    if answer.status == 200 {
        Exit::Done
    } else {
        Exit::Findings
    }
}

fn told(body: &Json) -> String {
    let text = |json: &Json, key: &str| {
        json.get(key)
            .map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            })
            .unwrap_or_default()
    };
    let list = |key: &str| {
        body.get(key)
            .and_then(Json::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut out = format!(
        "doorward {}, generation {}, {} requests in flight\n",
        text(body, "version"),
        text(body, "generation"),
        text(body, "requests")
    );
    for listener in list("listeners") {
        out.push_str(&format!(
            "  listener {}  {}\n",
            text(&listener, "name"),
            text(&listener, "address")
        ));
    }
    for upstream in list("upstreams") {
        out.push_str(&targets(&upstream));
    }
    out
}

fn targets(upstream: &Json) -> String {
    let name = upstream
        .get("name")
        .and_then(Json::as_str)
        .unwrap_or_default();
    let targets = upstream
        .get("targets")
        .and_then(Json::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut out = String::new();
    for target in targets {
        let text = |key: &str| {
            target
                .get(key)
                .and_then(Json::as_str)
                .unwrap_or("no address")
        };
        let weight = target.get("weight").and_then(Json::as_u64).unwrap_or(1);
        out.push_str(&format!(
            "  upstream {name}  {}  {}  weight {weight}{}\n",
            text("target"),
            text("address"),
            standing(target)
        ));
    }
    out
}

/// What is not as it is by default.
fn standing(target: &Json) -> String {
    let number = |key: &str| target.get(key).and_then(Json::as_u64).filter(|n| *n > 0);
    let mut out = String::new();
    if let Some(priority) = number("priority") {
        out.push_str(&format!("  priority {priority}"));
    }
    if let Some(health) = target.get("health").and_then(Json::as_str) {
        out.push_str(&format!("  {health}"));
    }
    if let Some(seconds) = target.get("ejected_seconds").and_then(Json::as_f64) {
        out.push_str(&format!("  ejected for {seconds:.0} s"));
    }
    if target.get("drained").and_then(Json::as_bool) == Some(true) {
        out.push_str("  drained");
    }
    if let Some(requests) = number("in_flight") {
        out.push_str(&format!("  {requests} in flight"));
    }
    out
}

/// `upstreams`.
pub(super) fn upstreams(verb: &UpstreamsVerb, global: &Global) -> Exit {
    match verb {
        UpstreamsVerb::List => list(global),
        UpstreamsVerb::Drain(target) => set_duty("drain", target, global),
        UpstreamsVerb::Resume(target) => set_duty("resume", target, global),
    }
}

fn set_duty(verb: &str, args: &TargetArgs, global: &Global) -> Exit {
    let (upstream, target) = (escaped(&args.upstream), escaped(&args.target));
    let path = format!("/upstreams/{verb}?upstream={upstream}&target={target}");
    let answer = match client::done(global, "POST", &path) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    if global.format == Format::Json {
        print(&format!("{:#}\n", answer.body));
        return Exit::Done;
    }
    let in_flight = answer.body.get("in_flight").and_then(Json::as_u64);
    let done = if verb == "drain" {
        "drained"
    } else {
        "resumed"
    };
    let (upstream, target) = (&args.upstream, &args.target);
    let in_flight = in_flight.unwrap_or(0);
    print(&format!(
        "{done} {upstream} {target}, {in_flight} requests in flight\n"
    ));
    Exit::Done
}

fn list(global: &Global) -> Exit {
    let answer = match ask(global, "GET", "/upstreams") {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    match global.format {
        Format::Json => print(&format!("{:#}\n", answer.body)),
        Format::Human => match answer.body.as_array().map_or(&[][..], Vec::as_slice) {
            [] => print("no upstreams\n"),
            all => all.iter().for_each(|upstream| print(&targets(upstream))),
        },
    }
    if answer.status == 200 {
        Exit::Done
    } else {
        Exit::Findings
    }
}
