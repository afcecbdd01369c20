//! `explain`: every decision that a request would meet, from the file or by the running gateway.

use serde_json::Value as Json;

use super::args::{ExplainArgs, Format, Global};
use super::client::ask_with;
use super::{Exit, check, print, report, say};
use crate::admin::WrittenQuestion;
use crate::base::clock::SystemClock;
use crate::config::source::Environment;
use crate::exchange::Mode;
use crate::flow;

/// Explains one request.
pub(super) fn run(args: &ExplainArgs, global: &Global) -> Exit {
    let asked = WrittenQuestion {
        method: args.method.clone(),
        url: args.url.clone(),
        headers: args.headers.clone(),
        listener: args.listener.clone(),
        client: Some(args.client),
        at: args.at,
    };
    let told = if args.live {
        live(&asked, global)
    } else {
        offline(asked, global)
    };
    let told = match told {
        Ok(told) => told,
        Err(exit) => return exit,
    };
    match global.format {
        Format::Json => print(&format!("{told:#}\n")),
        Format::Human => print(&human(&told)),
    }
    Exit::Done
}

fn live(asked: &WrittenQuestion, global: &Global) -> Result<Json, Exit> {
    let body = serde_json::to_string(asked).unwrap_or_default();
    let answer = ask_with(global, "POST", "/explain", &body)?;
    Ok(answer.body)
}

fn offline(asked: WrittenQuestion, global: &Global) -> Result<Json, Exit> {
    let usage = |why: String| {
        say(&format!("error: {why}"));
        Exit::Usage
    };
    let question = asked.question().map_err(usage)?;
    let quiet = Global {
        format: Format::Json,
        ..global.clone()
    };
    let Some((loaded, plan)) = check::load(&quiet, &Environment::Process) else {
        return Err(Exit::Config);
    };
    let Some(plan) = plan.filter(|_| !loaded.problems.any_error()) else {
        report::problems(&loaded, global);
        return Err(Exit::Config);
    };
    flow::explain(&plan, &question, &[], &SystemClock, Mode::Offline).map_err(usage)
}

/// One line for what is decided: `route order (doorward.yaml:41:5) -> request: path /internal/orders/7 -> orders 10.1.0.11:8080`.
fn human(told: &Json) -> String {
    let text = |key: &str| told.get(key).and_then(Json::as_str);
    let status = told.get("status").and_then(Json::as_u64).unwrap_or(0);
    let mut parts = Vec::new();
    let named = text("route").filter(|_| text("place").is_some());
    if let Some(route) = named.filter(|route| *route != "not_found") {
        let place = text("place").unwrap_or_default();
        parts.push(format!("route {route} ({place})"));
    }
    let steps = told.get("steps").and_then(Json::as_array);
    parts.extend(steps.map_or(&[][..], Vec::as_slice).iter().filter_map(part));
    let end = match (text("upstream"), text("error_type"), text("location")) {
        (Some(upstream), ..) => {
            let target = text("target").unwrap_or("one of its targets");
            let path = text("upstream_path").unwrap_or_default();
            format!("{upstream} {target} {path}")
        }
        (None, Some(fault), _) => format!("{status} {fault}"),
        (None, None, Some(location)) => format!("{status} {location}"),
        (None, None, None) => format!("{status}"),
    };
    parts.push(end);
    format!("{}\n", parts.join(" -> "))
}

/// A step that says something: policies always, everything else only when it decided.
fn part(step: &Json) -> Option<String> {
    let text = |key: &str| step.get(key).and_then(Json::as_str);
    let clause = text("clause")?;
    let detail = text("detail");
    let quiet = matches!(clause, "trusted_proxies" | "hosts" | "via" | "match");
    match text("decision")? {
        "forwarded" => None,
        "passed" if quiet => detail
            .filter(|_| clause != "trusted_proxies")
            .map(|detail| format!("{clause}: {detail}")),
        "passed" => Some(format!("{clause}: {}", detail.unwrap_or("ok"))),
        "answered" if quiet => None,
        _ if clause == "match" => Some("no route".to_owned()),
        "answered" => Some(format!("{clause}: answers")),
        _ => Some(match detail {
            Some(detail) => format!("{clause}: refuses ({detail})"),
            None => format!("{clause}: refuses"),
        }),
    }
}
