//! The JSON Schema of the config, generated from the types (draft-07, which editors read).

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value as Json, json};

use super::document::{
    Admin, Environment, Errors, GeoIp, Listener, Match, Redirect, Respond, Runtime,
};
use super::request_test::RequestTest;
use crate::policy::Specs;
use crate::policy::auth::{AuthenticatorSpec, ConsumerSpec, KeysSpec, UsagePlanSpec};
use crate::store::StoreSpec;
use crate::{telemetry, upstream};

/// The schema of a whole config.
#[must_use]
pub fn schema() -> Json {
    let mut generator = SchemaSettings::draft07().into_generator();
    let clauses = clauses(&mut generator);
    let listener = with_defaults(&mut generator, &clauses);
    let route = route(&mut generator, &clauses);
    let upstream = sub::<upstream::Spec>(&mut generator);
    let defaults = upstream::Defaults::json_schema(&mut generator).to_value();
    let upstream_defaults = defaults.get("properties").cloned().unwrap_or_default();
    let mut root = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Doorward",
        "description": "The config of the Doorward API gateway.",
        "type": "object",
        "additionalProperties": false,
        "required": ["version"],
        "properties": {
            "version": { "const": 1, "description": "The version of this language." },
            "runtime": sub::<Runtime>(&mut generator),
            "listeners": { "type": "object", "description": "Where clients connect, by name.", "additionalProperties": listener },
            "defaults": {
                "type": "object", "description": "What routes and upstreams inherit.", "additionalProperties": false,
                "properties": {
                    "routes": { "type": "object", "description": "Any route clause.", "additionalProperties": false, "properties": clauses },
                    "upstreams": { "type": "object", "description": "Any clause of an upstream.", "additionalProperties": false, "properties": upstream_defaults },
                },
            },
            "authenticators": { "type": "object", "description": "Ways of finding out who is calling, by name.", "additionalProperties": sub::<AuthenticatorSpec>(&mut generator) },
            "plans": { "type": "object", "description": "What several consumers may have, by name.", "additionalProperties": sub::<UsagePlanSpec>(&mut generator) },
            "consumers": { "type": "object", "description": "Who is known, by name.", "additionalProperties": sub::<ConsumerSpec>(&mut generator) },
            "stores": { "type": "object", "description": "Where something is kept that outlives the process, by name.", "additionalProperties": sub::<StoreSpec>(&mut generator) },
            "keys": { "anyOf": [sub::<KeysSpec>(&mut generator), { "const": "none" }] },
            "environments": { "type": "object", "description": "Routes served again at other hosts, by name.", "additionalProperties": sub::<Environment>(&mut generator) },
            "upstreams": { "type": "object", "description": "Where requests go, by name.", "additionalProperties": upstream },
            "routes": { "type": "array", "description": "Which requests are answered, and how.", "items": route },
            "errors": sub::<Errors>(&mut generator),
            "geoip": sub::<GeoIp>(&mut generator),
            "telemetry": sub::<telemetry::Spec>(&mut generator),
            "admin": sub::<Admin>(&mut generator),
            "tests": { "type": "array", "description": "Requests that `doorward test` tries without a network.", "items": sub::<RequestTest>(&mut generator) },
        },
    });
    let definitions = generator.take_definitions(true);
    if let Some(root) = root.as_object_mut().filter(|_| !definitions.is_empty()) {
        root.insert(
            "definitions".to_owned(),
            Json::Object(definitions.into_iter().collect()),
        );
    }
    as_read(&mut root);
    root
}

/// What serde reads is not quite what a person may write: `key:` with nothing behind it is refused, and where a number
/// or `true` belongs, a variable may give it.
fn as_read(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(as_read),
        Json::Object(map) => {
            map.values_mut().for_each(as_read);
            if map.get("default") == Some(&Json::Null) {
                map.remove("default");
            }
            if let Some(Json::Array(types)) = map.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    map.insert("type".to_owned(), one);
                }
            }
            if let Some(Json::Array(forms)) = map.get_mut("anyOf") {
                forms.retain(|form| form.get("type").is_none_or(|kind| kind != "null"));
            }
            if matches!(
                map.get("type").and_then(Json::as_str),
                Some("integer" | "number" | "boolean")
            ) {
                let description = map.remove("description");
                let typed = Json::Object(std::mem::take(map));
                map.extend(description.map(|text| ("description".to_owned(), text)));
                let variable = json!({ "type": "string", "pattern": "\\$\\{" });
                map.insert("anyOf".to_owned(), json!([typed, variable]));
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn sub<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Every clause, or the word `none`.
fn clauses(generator: &mut SchemaGenerator) -> Map<String, Json> {
    let clause = |(key, schema): (&str, Schema)| {
        (
            key.to_owned(),
            json!({ "anyOf": [schema, { "const": "none" }] }),
        )
    };
    Specs::schemas(generator).into_iter().map(clause).collect()
}

fn with_defaults(generator: &mut SchemaGenerator, clauses: &Map<String, Json>) -> Json {
    let mut listener = Listener::json_schema(generator).to_value();
    if let Some(properties) = listener.get_mut("properties").and_then(Json::as_object_mut) {
        let description =
            "Route clauses for what arrives here: between `defaults.routes` and the route's own.";
        let defaults = json!({ "type": "object", "description": description, "additionalProperties": false, "properties": clauses });
        properties.insert("defaults".to_owned(), defaults);
    }
    listener
}

fn route(generator: &mut SchemaGenerator, clauses: &Map<String, Json>) -> Json {
    let mut properties = Map::new();
    properties.insert(
        "name".to_owned(),
        json!({ "type": "string", "description": "The route's own name." }),
    );
    properties.insert("match".to_owned(), sub::<Match>(generator).to_value());
    properties.insert(
        "upstream".to_owned(),
        json!({ "type": "string", "description": "Sends requests to this upstream." }),
    );
    properties.insert("redirect".to_owned(), sub::<Redirect>(generator).to_value());
    properties.insert("respond".to_owned(), sub::<Respond>(generator).to_value());
    properties.extend(clauses.clone());
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "match"],
        "oneOf": [{ "required": ["upstream"] }, { "required": ["redirect"] }, { "required": ["respond"] }],
        "properties": properties,
    })
}
