//! What never stands in a log: values of query parameters that carry secrets.

use std::borrow::Cow;

/// Names, or ends of names, of parameters that carry secrets.
const SECRET: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "pwd",
    "apikey",
    "api_key",
    "api-key",
    "signature",
    "sig",
    "credential",
    "code",
    "assertion",
    "jwt",
    "session",
    "auth",
];

/// Names whose values are hidden: those of the config, besides those that always are.
#[derive(Debug, Default)]
pub struct Hidden(Vec<String>);

impl Hidden {
    /// Hides `names` too.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// What stands for the value of the header `name`.
    pub(super) fn header<'v>(&self, name: &str, value: Option<&'v str>) -> Option<&'v str> {
        let hidden = value.is_some() && self.0.iter().any(|known| known == name);
        if hidden { Some("***") } else { value }
    }

    /// What stands for the URL in the header `name`: its query is one too.
    pub(super) fn url<'v>(&self, name: &str, value: Option<&'v str>) -> Option<Cow<'v, str>> {
        let value = self.header(name, value)?;
        let Some((address, query)) = value.split_once('?') else {
            return Some(Cow::Borrowed(value));
        };
        let mut clean = format!("{address}?");
        self.push_query(&mut clean, query);
        Some(Cow::Owned(clean))
    }

    /// Adds `query` to `out`, with the values of secret names hidden.
    pub(super) fn push_query(&self, out: &mut String, query: &str) {
        for (at, pair) in query.split('&').enumerate() {
            if at > 0 {
                out.push('&');
            }
            match pair.split_once('=') {
                Some((name, _)) if self.is_secret(name) => {
                    out.push_str(name);
                    out.push_str("=***");
                }
                _ => out.push_str(pair),
            }
        }
    }

    /// Compared as decoded and in lower case: `%74oken` is a token too.
    fn is_secret(&self, name: &str) -> bool {
        let decoded = crate::base::canon::decode_segment(name).to_ascii_lowercase();
        let always = SECRET.iter().any(|secret| decoded.ends_with(secret)) || decoded == "key";
        always || self.0.contains(&decoded)
    }
}
