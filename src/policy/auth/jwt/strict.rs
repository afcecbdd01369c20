//! JSON without two readings: a name that stands twice in one object is refused, at any depth.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};

/// Reads an object; whatever else it is, or is not, there is none.
pub(in crate::policy::auth) fn object(bytes: &[u8]) -> Option<Map<String, Json>> {
    // The parser has a depth of its own, beyond which it gives up.
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(Json::Object(map))) => Some(map),
        Ok(_) | Err(_) => None,
    }
}

struct Strict(Json);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Json;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E: de::Error>(self, yes: bool) -> Result<Json, E> {
                Ok(Json::Bool(yes))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Json, E> {
                Ok(Json::Number(number.into()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Json, E> {
                Ok(Json::Number(number.into()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Json, E> {
                let number = Number::from_f64(number);
                number
                    .map(Json::Number)
                    .ok_or_else(|| E::custom("no number"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Json, E> {
                Ok(Json::String(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Json::Array(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
                let mut map = Map::new();
                while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
                    if map.insert(key, value).is_some() {
                        return Err(de::Error::custom("a name stands twice"));
                    }
                }
                Ok(Json::Object(map))
            }
        }
        from.deserialize_any(Form).map(Strict)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::object;

    #[test]
    fn a_name_stands_once_at_any_depth() {
        let good = br#"{"a": [1, {"b": "x"}], "c": {"a": null, "d": 1.5, "e": -2, "f": true}}"#;
        let expected =
            json!({"a": [1, {"b": "x"}], "c": {"a": null, "d": 1.5, "e": -2, "f": true}});
        assert_eq!(object(good).unwrap(), *expected.as_object().unwrap());
        for wrong in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
            "[]",
            "1",
            "",
            r#"{"a":1} {"a":1}"#,
            r#"{"a":1"#,
        ] {
            assert!(object(wrong.as_bytes()).is_none(), "{wrong}");
        }
        let deep = [
            b"{\"a\":".repeat(10_000),
            b"1".to_vec(),
            b"}".repeat(10_000),
        ]
        .concat();
        assert!(object(&deep).is_none());
    }
}
