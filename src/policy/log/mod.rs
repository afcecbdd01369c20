//! What the access log says of the requests of a route: how many of them it has, and which fields of the route's own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Hooks, Stage};
use crate::base::problem::{Place, Problem};
use crate::base::units::Share;
use crate::exchange::Facts;
use crate::expr::{Encoding, Moment, Name, Template};
use crate::telemetry::{Fields, Hidden, OWN_FIELDS, Recording, Sample};

/// Under this name clauses find what never stands in a record.
pub const HIDDEN: &str = "access_log";

/// More fields than this make a record that nobody reads.
const FIELDS_MAX: usize = 16;
/// The longest name of a field, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest value of a field, in bytes; what is longer is cut.
const VALUE_BYTES_MAX: usize = 256;

/// The records of a route.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which share of the route's good requests is recorded, e.g. `10%`; those that fail always are. Default: that of
    /// `telemetry.access_log`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sample: Option<Share>,
    /// Fields of the JSON record, at most 16: name and value, e.g. `tenant: "{request.headers.x-tenant}"`. The value may
    /// quote the answer too; one that is missing leaves the field out. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, String>,
}

/// The same, ready to be used.
#[derive(Debug)]
pub struct Log {
    wanted: bool,
    sample: Option<Sample>,
    fields: Box<[(Box<str>, Template)]>,
}

/// The fields of one request.
#[derive(Clone, Copy)]
pub struct RequestFields<'a> {
    fields: &'a [(Box<str>, Template)],
    facts: Facts<'a>,
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Log> {
        let place = env.place.key("fields");
        if self.fields.len() > FIELDS_MAX {
            let what = format!("{} fields in a record", self.fields.len());
            env.problem(
                Problem::error("E012", place.clone(), what)
                    .hint(format!("at most {FIELDS_MAX}"))
                    .at_key(),
            );
        }
        let mut fields = Vec::with_capacity(self.fields.len());
        for (name, value) in &self.fields {
            let place = place.key(name);
            check_name(env, &place, name);
            if let Some(template) = env.template(value, &place, Moment::Response) {
                check_value(env, &place, &template);
                fields.push((name.as_str().into(), template));
            }
        }
        Some(Log {
            wanted: true,
            sample: self.sample.map(Sample::new),
            fields: fields.into(),
        })
    }
}

/// A name that a reader of the log can tell from every other.
fn check_name(env: &mut Env<'_>, place: &Place, name: &str) {
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-')
    };
    let (what, hint) = if OWN_FIELDS.contains(&name) {
        let what = format!("`{name}` is a field of every record");
        (what, "take another name".to_owned())
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.bytes().all(plain)
        || name.len() > NAME_BYTES_MAX
    {
        let what = format!("`{name}` is not a field's name");
        let hint = format!(
            "a small letter, then small letters, digits, `_`, `.` and `-`, at most {NAME_BYTES_MAX}"
        );
        (what, hint)
    } else {
        return;
    };
    env.problem(
        Problem::error("E014", place.clone(), what)
            .hint(hint)
            .at_key(),
    );
}

/// What is hidden elsewhere in the log cannot come in by a field.
fn check_value(env: &mut Env<'_>, place: &Place, template: &Template) {
    let always = Hidden::default();
    let hidden = env.names.get::<Hidden>(HIDDEN).unwrap_or(&always);
    let secret = template.names().find_map(|name| match name {
        Name::Header(name) | Name::ResponseHeader(name) if hidden.hides_header(name.as_str()) => {
            Some(format!("the header `{name}`"))
        }
        Name::Query(name) if hidden.hides_parameter(name) => {
            Some(format!("the query parameter `{name}`"))
        }
        Name::Cookie(name) => Some(format!("the cookie `{name}`")),
        Name::RawQuery => Some("the whole query".to_owned()),
        Name::Param(index) => {
            let name = env.route.params.get(*index)?;
            let named = hidden.hides_parameter(name);
            named.then(|| format!("the path parameter `{name}`"))
        }
        Name::Header(_)
        | Name::ResponseHeader(_)
        | Name::Query(_)
        | Name::RequestId
        | Name::Method
        | Name::Scheme
        | Name::Host
        | Name::Path
        | Name::ClientIp
        | Name::RouteName
        | Name::AuthMethod
        | Name::AuthSub
        | Name::Claim(_)
        | Name::ConsumerName
        | Name::ConsumerPlan
        | Name::ConsumerGroups
        | Name::ResponseStatus => None,
    });
    if let Some(what) = secret {
        let what = format!("{what} may carry a secret, and never stands in the log");
        env.problem(
            Problem::error("E042", place.clone(), what).hint(
                "quote something else; `url.query` is in every record, with its secrets hidden",
            ),
        );
    }
}

impl Hooks for Log {
    const STAGE: Stage = Stage::Record;
    const ON_REQUEST: bool = false;

    fn on_record(&self) -> Option<&Log> {
        Some(self)
    }
}

impl Log {
    /// `none`: there is no record.
    #[must_use]
    pub fn off() -> Self {
        Self {
            wanted: false,
            sample: None,
            fields: Box::default(),
        }
    }

    /// Which requests are recorded.
    #[must_use]
    pub fn recording(&self) -> Recording<'_> {
        match &self.sample {
            _ if !self.wanted => Recording::Off,
            Some(sample) => Recording::Sampled(sample),
            None => Recording::Usual,
        }
    }

    /// The fields of one request.
    #[must_use]
    pub fn fields<'a>(&'a self, facts: Facts<'a>) -> RequestFields<'a> {
        RequestFields {
            fields: &self.fields,
            facts,
        }
    }
}

impl std::fmt::Debug for RequestFields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestFields").finish_non_exhaustive()
    }
}

impl Fields for RequestFields<'_> {
    fn each(&self, add: &mut dyn FnMut(&str, &str)) {
        for (name, template) in self.fields {
            let Some(value) = template.render(&self.facts, Encoding::Text) else {
                continue;
            };
            let mut end = value.len().min(VALUE_BYTES_MAX);
            while !value.is_char_boundary(end) {
                end -= 1;
            }
            match value.get(..end) {
                Some(cut) if end < value.len() => add(name, &format!("{cut}…")),
                _ => add(name, &value),
            }
        }
    }
}
