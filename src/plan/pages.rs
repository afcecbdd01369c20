//! Answers of our own to faults: as a problem (RFC 9457), as a page for browsers, as a status for gRPC.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use crate::base::net::{USER_IN_URL, user_of};
use crate::base::problem::{Place, Problem, Problems, suggest};
use crate::config::TYPE_BASE;
use crate::config::document::Errors;
use crate::exchange::Fault;

/// The built-in page.
const PAGE: &str = include_str!("page.html");

/// What to say of each fault.
#[derive(Debug)]
pub struct Pages {
    words: HashMap<Fault, Words>,
    type_base: Box<str>,
    page: Box<str>,
    busy_for: u64,
}

/// When to come back after an overload, where nothing is written: seconds.
const BUSY_FOR: u64 = 5;

#[derive(Debug)]
struct Words {
    title: Box<str>,
    detail: Box<str>,
}

/// The body of an answer to a fault.
#[derive(Debug, Clone)]
pub struct Page {
    /// Status.
    pub status: StatusCode,
    /// Media type.
    pub content_type: &'static str,
    /// Body.
    pub body: Bytes,
}

impl Pages {
    /// Compiles `errors`; `html` is what its file holds. Mistakes are reported.
    pub(super) fn compile(spec: &Errors, html: Option<&Bytes>, problems: &mut Problems) -> Self {
        let place = Place::root().key("errors");
        for code in spec
            .overrides
            .keys()
            .filter(|code| Fault::named(code).is_none())
        {
            let problem = Problem::error(
                "E039",
                place.key("override").key(code),
                format!("no fault is called `{code}`"),
            )
            .at_key();
            let known = || Fault::all().map(Fault::code);
            let hint = suggest(code, known())
                .unwrap_or_else(|| format!("one of {}", known().collect::<Vec<_>>().join(", ")));
            problems.push(problem.hint(hint));
        }
        let base = spec
            .type_base
            .clone()
            .unwrap_or_else(|| TYPE_BASE.to_owned());
        if user_of(&base).is_some() {
            let problem = Problem::error("E039", place.key("type_base"), USER_IN_URL);
            problems.push(problem.hint("take it out: every client gets it"));
        } else if base
            .bytes()
            .any(|byte| byte <= b' ' || byte >= 0x7f || byte == b'"')
            || !base.contains(':')
        {
            let problem = Problem::error(
                "E039",
                place.key("type_base"),
                format!("`{base}` is not the beginning of a URI"),
            );
            problems.push(problem.hint("e.g. `https://errors.example.com/`"));
        }
        let page = html.map(|html| String::from_utf8_lossy(html).into_owned());
        Self {
            words: words(spec),
            type_base: base.into(),
            page: page.unwrap_or_else(|| PAGE.to_owned()).into(),
            busy_for: BUSY_FOR,
        }
    }

    /// The same, and after an overload clients are told to come back after so long.
    pub(super) fn busy(mut self, time: Duration) -> Self {
        self.busy_for = time.as_secs().max(1);
        self
    }

    /// When clients are told to come back after an overload: seconds.
    #[must_use]
    pub const fn busy_for(&self) -> u64 {
        self.busy_for
    }

    /// The answer as a problem.
    #[must_use]
    pub fn problem(&self, fault: Fault, detail: Option<&str>, instance: &str) -> Page {
        let meaning = fault.meaning();
        let (title, words) = self.words(fault);
        let body = json!({
            "type": format!("{}{}", self.type_base, meaning.code),
            "title": title,
            "status": meaning.status.as_u16(),
            "detail": detail.unwrap_or(words),
            "instance": instance,
        });
        Page {
            status: meaning.status,
            content_type: "application/problem+json",
            body: Bytes::from(body.to_string()),
        }
    }

    /// The answer as a page.
    #[must_use]
    pub fn html(&self, fault: Fault, detail: Option<&str>, instance: &str) -> Page {
        let status = fault.meaning().status;
        let (title, words) = self.words(fault);
        let page = self
            .page
            .replace("{status}", status.as_str())
            .replace("{title}", &escape(title))
            .replace("{detail}", &escape(detail.unwrap_or(words)))
            .replace("{instance}", &escape(instance));
        Page {
            status,
            content_type: "text/html; charset=utf-8",
            body: Bytes::from(page),
        }
    }

    /// The sentence for a gRPC client.
    #[must_use]
    pub fn detail(&self, fault: Fault) -> &str {
        self.words(fault).1
    }

    fn words(&self, fault: Fault) -> (&str, &str) {
        self.words
            .get(&fault)
            .map_or(("", ""), |words| (&*words.title, &*words.detail))
    }
}

fn words(spec: &Errors) -> HashMap<Fault, Words> {
    let of = |fault: Fault| {
        let meaning = fault.meaning();
        let other = spec
            .overrides
            .get(meaning.code)
            .cloned()
            .unwrap_or_default();
        let title = other
            .title
            .unwrap_or_else(|| meaning.title.to_owned())
            .into();
        let detail = other
            .detail
            .unwrap_or_else(|| meaning.detail.to_owned())
            .into();
        (fault, Words { title, detail })
    };
    Fault::all().map(of).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
