//! `consumers` and `keys`: who may come in, looked at and changed in a running gateway.

use serde_json::Value as Json;

use super::args::{ConsumersVerb, Format, Global, KeysVerb};
use super::client::{self, escaped};
use super::{Exit, print, say};

/// `consumers`.
pub(super) fn consumers(verb: &ConsumersVerb, global: &Global) -> Exit {
    let set = |word: &str, name: &str| {
        let path = format!("/consumers/{word}?name={}", escaped(name));
        change(&path, global, |told| done(told, "name", word))
    };
    match verb {
        ConsumersVerb::New { name, groups, plan } => {
            let groups: Vec<String> = groups.iter().map(|group| escaped(group)).collect();
            let (name, groups) = (escaped(name), groups.join(","));
            let mut path = format!("/consumers/new?name={name}&groups={groups}");
            if let Some(plan) = plan {
                path.push_str(&format!("&plan={}", escaped(plan)));
            }
            change(&path, global, |told| {
                format!("made {}\n", text(told, "name"))
            })
        }
        ConsumersVerb::List => list("/consumers", "no consumers\n", global, consumer),
        ConsumersVerb::Suspend { name } => set("suspend", name),
        ConsumersVerb::Resume { name } => set("resume", name),
        ConsumersVerb::Revoke { name } => set("revoke", name),
        ConsumersVerb::History => list("/consumers/history", "no changes\n", global, entry),
    }
}

/// `keys`.
pub(super) fn keys(verb: &KeysVerb, global: &Global) -> Exit {
    let set = |word: &str, id: &str| {
        let path = format!("/keys/{word}?id={}", escaped(id));
        change(&path, global, |told| done(told, "id", word))
    };
    match verb {
        KeysVerb::New { consumer, expires } => {
            let mut path = format!("/keys/new?consumer={}", escaped(consumer));
            if let Some(date) = expires {
                path.push_str(&format!("&expires={}", escaped(&date.to_string())));
            }
            change(&path, global, |told| {
                let id = text(told, "id");
                say(&format!("key {id} of {consumer}; it is shown this once"));
                format!("{}\n", text(told, "key"))
            })
        }
        KeysVerb::List => list("/keys", "no keys\n", global, key),
        KeysVerb::Suspend { id } => set("suspend", id),
        KeysVerb::Resume { id } => set("resume", id),
        KeysVerb::Revoke { id } => set("revoke", id),
    }
}

pub(super) fn change(path: &str, global: &Global, line: impl Fn(&Json) -> String) -> Exit {
    let answer = match client::done(global, "POST", path) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    match global.format {
        Format::Json => print(&format!("{:#}\n", answer.body)),
        Format::Human => print(&line(&answer.body)),
    }
    Exit::Done
}

pub(super) fn list(
    path: &str,
    nothing: &str,
    global: &Global,
    line: impl Fn(&Json) -> String,
) -> Exit {
    let answer = match client::done(global, "GET", path) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    match (global.format, answer.body.as_array()) {
        (Format::Json, _) => print(&format!("{:#}\n", answer.body)),
        (Format::Human, Some(items)) if items.is_empty() => print(nothing),
        (Format::Human, items) => {
            for item in items.into_iter().flatten() {
                print(&line(item));
            }
        }
    }
    Exit::Done
}

fn done(told: &Json, named: &str, word: &str) -> String {
    let done = match word {
        "suspend" => "suspended",
        "resume" => "resumed",
        _ => "revoked",
    };
    format!("{done} {}\n", text(told, named))
}

fn consumer(it: &Json) -> String {
    let groups = it.get("groups").and_then(Json::as_array);
    let groups = groups.into_iter().flatten().filter_map(Json::as_str);
    let groups: Vec<&str> = groups.collect();
    let keys = it.get("keys").and_then(Json::as_u64).unwrap_or_default();
    let mut line = format!("{}  {}  keys {keys}", text(it, "name"), text(it, "source"));
    if let Some(plan) = it.get("plan").and_then(Json::as_str) {
        line.push_str(&format!("  plan {plan}"));
    }
    if !groups.is_empty() {
        line.push_str(&format!("  groups {}", groups.join(", ")));
    }
    line + state(it) + "\n"
}

fn key(it: &Json) -> String {
    let expires = it.get("expires").and_then(Json::as_str);
    let expires = expires.map(|date| format!("  expires {date}"));
    let used = it.get("last_used").and_then(Json::as_str);
    let used = used.map(|date| format!("  last used {date}"));
    format!(
        "{}  {}  {}{}{}{}\n",
        text(it, "id"),
        text(it, "consumer"),
        text(it, "source"),
        expires.unwrap_or_default(),
        state(it),
        used.unwrap_or_default()
    )
}

fn state(it: &Json) -> &'static str {
    let is = |key| it.get(key).and_then(Json::as_bool) == Some(true);
    match (is("suspended"), is("expired")) {
        (true, _) => "  suspended",
        (false, true) => "  expired",
        (false, false) => "",
    }
}

fn entry(it: &Json) -> String {
    let key = it.get("key").and_then(Json::as_str);
    let key = key.map(|id| format!(" {id}"));
    format!(
        "{}  {}  {} {}{}\n",
        text(it, "at"),
        text(it, "by"),
        text(it, "done"),
        text(it, "consumer"),
        key.unwrap_or_default()
    )
}

pub(super) fn text<'a>(it: &'a Json, key: &str) -> &'a str {
    it.get(key).and_then(Json::as_str).unwrap_or_default()
}
