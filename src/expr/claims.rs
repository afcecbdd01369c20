//! What was said of the caller, as templates and expressions quote it: any JSON, reached by its names.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

/// Which claim is meant: one of this name, else the way to it, name by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimPath(Box<str>);

impl ClaimPath {
    /// Reads `tenant` or `realm_access.roles`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The claim. A name with dots in it, such as a URL, comes before the way through its parts.
    #[must_use]
    pub fn of<'c>(&self, claims: &'c Map<String, Json>) -> Option<&'c Json> {
        if let Some(found) = claims.get(&*self.0) {
            return Some(found);
        }
        let mut names = self.0.split('.');
        let mut found = claims.get(names.next()?)?;
        for name in names {
            found = found.as_object()?.get(name)?;
        }
        Some(found)
    }
}

/// A claim as text: words as they are, several of them with commas, anything larger as JSON. `null` is nothing.
#[must_use]
pub fn claim_text(claim: &Json) -> Option<Cow<'_, str>> {
    match claim {
        Json::Null => None,
        Json::String(text) => Some(Cow::Borrowed(text)),
        Json::Bool(_) | Json::Number(_) | Json::Object(_) => Some(Cow::Owned(claim.to_string())),
        Json::Array(items) => {
            let word = |item: &Json| match item {
                // A comma within one would make two of it.
                Json::String(text) => (!text.contains(',')).then(|| text.clone()),
                Json::Bool(_) | Json::Number(_) => Some(item.to_string()),
                Json::Null | Json::Array(_) | Json::Object(_) => None,
            };
            let words: Option<Vec<String>> = items.iter().map(word).collect();
            Some(Cow::Owned(
                words.map_or_else(|| claim.to_string(), |words| words.join(",")),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_found_by_its_name_or_by_the_way_to_it() {
        let claims =
            json!({ "a": { "b": 1 }, "https://x.test/r": "url", "a.b": 2, "c": { "d": 3 } });
        let claims = claims.as_object().unwrap();
        let of = |path: &str| ClaimPath::new(path).of(claims).cloned();
        assert_eq!(of("a.b"), Some(json!(2)));
        assert_eq!(of("c.d"), Some(json!(3)));
        assert_eq!(of("https://x.test/r"), Some(json!("url")));
        assert_eq!(of("a.c"), None);
        assert_eq!(of("c.d.e"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_list_of_words_is_one_text_and_no_word_becomes_two() {
        let text = |claim: Json| claim_text(&claim).map(Cow::into_owned);
        assert_eq!(text(json!(["a", "b", 1, true])).unwrap(), "a,b,1,true");
        assert_eq!(text(json!(["a,b"])).unwrap(), r#"["a,b"]"#);
        assert_eq!(text(json!([{ "a": 1 }])).unwrap(), r#"[{"a":1}]"#);
        assert_eq!(text(json!("x")).unwrap(), "x");
        assert_eq!(text(Json::Null), None);
    }
}
