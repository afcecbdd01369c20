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
        client: args.client,
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

/// One line for what is decided: `route order (doorward.yaml:41) -> request: path /internal/orders/7 -> orders 10.1.0.11:8080 /internal/orders/7`.
fn human(told: &Json) -> String {
    let text = |key: &str| told.get(key).and_then(Json::as_str);
    let mut parts = Vec::new();
    match (text("route"), text("place")) {
        // Whoever finds no route is told so by the last step.
        (Some("not_found"), _) => {}
        (Some(route), Some(place)) => {
            // The line is enough for people.
            let line = place.rsplit_once(':').map_or(place, |(line, _)| line);
            parts.push(format!("route {route} ({line})"));
        }
        _ => {}
    }
    let steps = told.get("steps").and_then(Json::as_array);
    let steps = steps.map_or(&[][..], Vec::as_slice).iter();
    parts.extend(steps.filter_map(|step| part(step, told)));
    parts.push(end(told));
    format!("  {}\n", parts.join(" -> "))
}

/// What becomes of it.
fn end(told: &Json) -> String {
    let text = |key: &str| told.get(key).and_then(Json::as_str);
    let status = told.get("status").and_then(Json::as_u64).unwrap_or(0);
    if let Some(upstream) = text("upstream") {
        let path = text("upstream_path").unwrap_or_default();
        let query = text("upstream_query").map_or_else(String::new, |query| format!("?{query}"));
        let target = text("target").map_or_else(|| one_of(told), str::to_owned);
        let clauses = told.get("called_by").and_then(Json::as_array);
        let clauses = clauses.map_or(&[][..], Vec::as_slice).iter();
        let clauses: Vec<&str> = clauses.filter_map(Json::as_str).collect();
        let called = match clauses.as_slice() {
            [] => String::new(),
            clauses => format!(" (called: {})", clauses.join(", ")),
        };
        let chosen = text("chosen_by").map(|by| format!(" (chosen by {by})"));
        let chosen = chosen.unwrap_or_default();
        let course = course(told);
        return format!("{upstream} {target} {path}{query}{called}{chosen}{course}");
    }
    let mut end = status.to_string();
    for word in [text("error_type"), text("location")].into_iter().flatten() {
        end.push_str(&format!(" {word}"));
    }
    if let Some(allow) = text("allow") {
        end.push_str(&format!(" (allowed: {allow})"));
    }
    end
}

/// What holds where the upstream fails.
fn course(told: &Json) -> String {
    let mut course = String::new();
    let inside = |key: &str, name: &str| told.get(key).and_then(|it| it.get(name));
    if let Some(attempts) = inside("retries", "attempts").and_then(Json::as_u64) {
        course.push_str(&format!(", {attempts} attempts"));
    }
    if let Some(after) = inside("retries", "hedge_after").and_then(Json::as_str) {
        course.push_str(&format!(", a second one beside the first after {after}"));
    }
    if let Some(state) = inside("circuit_breaker", "state").and_then(Json::as_str) {
        course.push_str(&format!(", breaker {}", state.replace('_', " ")));
    }
    if let Some(limit) = inside("concurrency", "limit").and_then(Json::as_u64) {
        course.push_str(&format!(", at most {limit} at a time"));
    }
    if let Some(steps) = inside("fallback", "steps").and_then(Json::as_array) {
        let steps: Vec<&str> = steps.iter().filter_map(Json::as_str).collect();
        course.push_str(&format!(", else: {}", steps.join(", ")));
    }
    course
}

/// The targets whose turn it could be.
fn one_of(told: &Json) -> String {
    let targets = told.get("targets").and_then(Json::as_array);
    let targets = targets.map_or(&[][..], Vec::as_slice).iter();
    let targets: Vec<&str> = targets.filter_map(Json::as_str).collect();
    format!("({})", targets.join(" or "))
}

/// A step that says something: policies always, everything else only when it decided, or changed who or where it is.
fn part(step: &Json, told: &Json) -> Option<String> {
    let text = |key: &str| step.get(key).and_then(Json::as_str);
    let clause = text("clause")?;
    let detail = text("detail");
    let decision = text("decision")?;
    match (clause, decision) {
        (_, "forwarded") => None,
        ("match", "answered" | "refused") => Some(no_route(told)),
        ("match", _) => detail.map(str::to_owned),
        // They hold for every request, and say something only when they refuse one.
        ("body_limits" | "timeouts", "passed") => None,
        ("trusted_proxies", "passed") => detail
            .filter(|detail| detail.contains("behind"))
            .map(str::to_owned),
        ("hosts" | "via" | "http", "passed") => None,
        (_, "passed") => Some(format!("{clause}: {}", detail.unwrap_or("ok"))),
        (_, "answered") => {
            Some(detail.map_or_else(|| clause.to_owned(), |detail| format!("{clause}: {detail}")))
        }
        _ => Some(match detail {
            Some(detail) => format!("{clause}: refused ({detail})"),
            None => format!("{clause}: refused"),
        }),
    }
}

/// No route at all, or none for the method.
fn no_route(told: &Json) -> String {
    let text = |key: &str| told.get(key).and_then(Json::as_str);
    match (text("allow"), text("method")) {
        (Some(_), Some(method)) => format!("no route for {method}"),
        _ => "no route".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
version: 1
listeners:
  public: { address: "127.0.0.1:8080", hosts: ["*.test", a.example.com], trusted_proxies: [10.0.0.0/8] }
upstreams:
  one: { targets: [{ url: "http://10.1.0.11:8080" }] }
  two: { targets: [{ url: "http://10.1.0.12:8080" }, { url: "http://10.1.0.13:8080" }] }
environments:
  staging: { hosts: { a.example.com: staging.test }, upstreams: { one: two } }
routes:
  - { name: order, match: { hosts: [a.example.com], path: "/orders/{id}", methods: [GET] }, request: { path: "/o/{id}" }, upstream: one }
  - { name: plain, match: { path: /plain }, upstream: two }
  - { name: headers, match: { path: /headers }, request: { headers: { remove: [cookie] } }, upstream: one }
  - { name: moved, match: { path_prefix: /old }, redirect: { path: "/new{path}" } }
  - { name: ping, match: { path: /ping }, respond: { text: pong } }
  - { name: closed, match: { path: /closed }, maintenance: { message: "Back at noon." }, upstream: one }
  - { name: shut, match: { path: /shut }, maintenance: {}, upstream: one }
  - { name: gone, match: { path: /gone }, lifecycle: { sunset: "2020-01-01" }, upstream: one }
  - { name: going, match: { path: /going }, lifecycle: { sunset: "2999-01-01" }, upstream: one }
"#;

    #[test]
    fn every_end_reads_well_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doorward.yaml");
        std::fs::write(&path, CONFIG).unwrap();
        let loaded = crate::config::load(&path, &Environment::Process);
        let (loaded, plan) = check::compile(loaded);
        let plan = plan.unwrap();
        assert!(!loaded.problems.any_error());
        let asked = |method: &str, url: &str, headers: &[&str]| WrittenQuestion {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: headers.iter().map(|&line| line.to_owned()).collect(),
            listener: None,
            client: Some("10.0.0.9".parse().unwrap()),
            at: None,
        };
        let via = format!("via: {}", ["1.1 doorward-x"; 9].join(", "));
        let mut lines = String::new();
        for (method, url, header) in [
            ("GET", "http://a.example.com/orders/7?a=b", ""),
            ("GET", "http://staging.test/orders/7", ""),
            ("GET", "http://x.test/plain", "x-forwarded-for: 192.0.2.1"),
            ("GET", "http://x.test/headers", ""),
            ("GET", "http://x.test/old/a", ""),
            ("GET", "http://x.test/ping", ""),
            ("GET", "http://x.test/closed", ""),
            ("GET", "http://x.test/shut", ""),
            ("GET", "http://x.test/gone", ""),
            ("GET", "http://x.test/going", ""),
            ("GET", "http://x.test/nowhere", ""),
            ("PUT", "http://a.example.com/orders/7", ""),
            ("OPTIONS", "http://a.example.com/orders/7", ""),
            ("OPTIONS", "*", "host: x.test"),
            ("GET", "http://elsewhere.net/", ""),
            ("GET", "http://x.test/%2F", ""),
            ("GET", "http://x.test/plain", &via),
        ] {
            let headers: Vec<&str> = [header].into_iter().filter(|h| !h.is_empty()).collect();
            let question = asked(method, url, &headers).question().unwrap();
            let told = flow::explain(&plan, &question, &[], &SystemClock, Mode::Offline).unwrap();
            let path = format!("{}/", folder.path().display());
            lines += &format!("{method} {url}\n{}", human(&told).replace(&path, ""));
        }
        insta::assert_snapshot!(lines);
    }
}
