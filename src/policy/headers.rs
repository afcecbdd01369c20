//! Changes to headers as `request.headers` and `response.headers` write them.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Env;
use crate::base::problem::{self, Place, Problem};
use crate::exchange::{Edit, HeaderEdits};
use crate::expr::{Encoding, Moment, Scope, Template};

/// Changes to headers; they are made in this order: `remove`, `rename`, `set`, `add`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadersSpec {
    /// Header and value, e.g. `x-consumer: "{consumer.name}"`; takes the place of what was there. A value that is missing
    /// takes the header away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    set: BTreeMap<String, HeaderText>,
    /// Header and value; one more line beside what was there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    add: BTreeMap<String, HeaderText>,
    /// Old and new name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rename: BTreeMap<String, String>,
    /// Headers to take away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    remove: Vec<String>,
}

/// A header's value: a text with templates; in the file also a secret (`{ env: X }`, `{ file: path }`, `{ credential: name }`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct HeaderText(String);

impl HeaderText {
    /// Whether its template quotes what is known of the caller.
    pub(super) fn quotes_caller(&self) -> bool {
        ["{auth.", "{consumer."]
            .iter()
            .any(|name| self.0.contains(name))
    }
}

impl JsonSchema for HeaderText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HeaderText".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let secret = |key: &str| serde_json::json!({ "type": "object", "additionalProperties": false, "required": [key], "properties": { key: { "type": "string" } } });
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, secret("env"), secret("file"), secret("credential")] })
    }
}

/// The same changes, ready to be made.
#[derive(Debug, Default)]
pub(super) struct HeaderChanges {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Fixed(Edit),
    Set(HeaderName, Template),
    Add(HeaderName, Template),
}

impl HeadersSpec {
    /// Compiles the changes that stand at `place`; mistakes are reported.
    pub(super) fn compile(
        &self,
        env: &mut Env<'_>,
        place: &Place,
        moment: Moment,
    ) -> HeaderChanges {
        let mut steps = Vec::new();
        for (index, name) in self.remove.iter().enumerate() {
            if let Some(name) = header_name(env, &place.key("remove").index(index), name) {
                steps.push(Step::Fixed(Edit::Remove(name)));
            }
        }
        for (from, to) in &self.rename {
            let place = place.key("rename").key(from);
            if let (Some(from), Some(to)) =
                (header_name(env, &place, from), header_name(env, &place, to))
            {
                steps.push(Step::Fixed(Edit::Rename(from, to)));
            }
        }
        for (name, value) in &self.set {
            steps.extend(value.compile(env, &place.key("set"), name, moment).map(
                |(name, template)| match fixed(&template) {
                    Some(value) => Step::Fixed(Edit::Set(name, value)),
                    None => Step::Set(name, template),
                },
            ));
        }
        for (name, value) in &self.add {
            steps.extend(value.compile(env, &place.key("add"), name, moment).map(
                |(name, template)| match fixed(&template) {
                    Some(value) => Step::Fixed(Edit::Add(name, value)),
                    None => Step::Add(name, template),
                },
            ));
        }
        HeaderChanges { steps }
    }
}

/// Compiles headers that are set, in a map that stands at `place`; mistakes are reported.
pub(super) fn compile_set(
    set: &BTreeMap<String, HeaderText>,
    env: &mut Env<'_>,
    place: &Place,
    moment: Moment,
) -> HeaderChanges {
    let mut steps = Vec::with_capacity(set.len());
    for (name, value) in set {
        let compiled = value.compile(env, place, name, moment);
        steps.extend(compiled.map(|(name, template)| Step::Set(name, template)));
    }
    HeaderChanges { steps }
}

fn fixed(template: &Template) -> Option<HeaderValue> {
    HeaderValue::from_str(template.literal()?).ok()
}

impl HeaderText {
    fn compile(
        &self,
        env: &mut Env<'_>,
        place: &Place,
        name: &str,
        moment: Moment,
    ) -> Option<(HeaderName, Template)> {
        let place = place.key(name);
        let name = header_name(env, &place, name)?;
        Some((name, env.template(&self.0, &place, moment)?))
    }
}

impl HeaderChanges {
    /// Whether nothing changes.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The headers that change.
    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.steps.iter().map(|step| match step {
            Step::Fixed(
                Edit::Set(name, _)
                | Edit::Add(name, _)
                | Edit::Remove(name)
                | Edit::Rename(_, name),
            )
            | Step::Set(name, _)
            | Step::Add(name, _) => name,
        })
    }

    /// The changes for one exchange, added to `edits`.
    pub(super) fn render(&self, scope: &dyn Scope, edits: &mut HeaderEdits) {
        for step in &self.steps {
            let value = |template: &Template| {
                let text = template.render(scope, Encoding::Raw)?;
                HeaderValue::from_str(&text).ok()
            };
            match step {
                Step::Fixed(edit) => edits.push(edit.clone()),
                Step::Set(name, template) => edits.push(match value(template) {
                    Some(value) => Edit::Set(name.clone(), value),
                    None => Edit::Remove(name.clone()),
                }),
                Step::Add(name, template) => {
                    if let Some(value) = value(template) {
                        edits.push(Edit::Add(name.clone(), value));
                    }
                }
            }
        }
    }
}

/// A name that may be changed: one that decides where a message ends or who reads it is the gateway's own.
fn header_name(env: &mut Env<'_>, place: &Place, name: &str) -> Option<HeaderName> {
    const OURS: &[&str] = &[
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "expect",
        "host",
        "via",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-real-ip",
        "x-request-id",
    ];
    let is_key = matches!(place.steps().last(), Some(problem::Step::Key(key)) if key == name);
    let problem = |what: String| {
        let problem = Problem::error("E033", place.clone(), what);
        if is_key { problem.at_key() } else { problem }
    };
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        let what = format!("`{name}` is not a header's name");
        env.problem(problem(what).hint("letters, digits and dashes, e.g. `x-tenant`"));
        return None;
    };
    if OURS.contains(&parsed.as_str()) {
        let hint = match parsed.as_str() {
            "host" => "write `request.host`",
            _ => "the gateway writes it itself",
        };
        env.problem(problem(format!("`{name}` cannot be changed")).hint(hint));
        return None;
    }
    if parsed.as_str().contains('_') {
        let problem = problem(format!("`{name}` has an underscore"));
        env.problem(problem.hint(format!("write `{}`", parsed.as_str().replace('_', "-"))));
        return None;
    }
    Some(parsed)
}
