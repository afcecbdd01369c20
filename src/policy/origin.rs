//! Origins of pages, as browsers write them (RFC 6454 section 6.2), and which of them a clause means.

use std::borrow::Cow;
use std::fmt;

use http::header::{HeaderName, REFERER};
use http::{HeaderMap, HeaderValue};
use regex::Regex;
use schemars::JsonSchema;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Env;
use crate::base::problem::{Place, Problem};

/// How to write one.
const HINT: &str =
    "scheme and host, and the port where it is not the usual one: `https://app.example.com`";

/// One origin or several: `https://app.example.com`, `https://*.example.com`, `*`, or `{ regex: … }` for all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OriginSpec {
    /// As it is written.
    Text(String),
    /// A regular expression.
    Regex(String),
}

impl Serialize for OriginSpec {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => to.serialize_str(text),
            Self::Regex(regex) => {
                let mut map = to.serialize_map(Some(1))?;
                map.serialize_entry("regex", regex)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for OriginSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = OriginSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OriginSpec, E> {
                Ok(OriginSpec::Text(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OriginSpec, A::Error> {
                let mut regex = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "regex" {
                        return Err(A::Error::unknown_field(&key, &["regex"]));
                    }
                    regex = Some(map.next_value()?);
                }
                let regex = regex.ok_or_else(|| A::Error::missing_field("regex"))?;
                Ok(OriginSpec::Regex(regex))
            }
        }
        from.deserialize_any(Written)
    }
}

impl JsonSchema for OriginSpec {
    fn schema_name() -> Cow<'static, str> {
        "Origin".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "object", "additionalProperties": false, "required": ["regex"], "properties": { "regex": { "type": "string" } } },
        ] })
    }
}

/// The origins that a clause means.
#[derive(Debug)]
pub(super) struct Origins {
    /// `*`: all of them.
    any: bool,
    known: Box<[Known]>,
}

#[derive(Debug)]
enum Known {
    /// This one.
    Exact(Box<str>),
    /// Those of the hosts below a name: what they begin with, and what they end in.
    Below(&'static str, Box<str>),
    /// Those that this matches as a whole.
    Regex(Regex),
}

impl Origins {
    /// Compiles the list at `place`; mistakes are reported.
    pub(super) fn compile(list: &[OriginSpec], env: &mut Env<'_>, place: &Place) -> Self {
        let mut known = Vec::with_capacity(list.len());
        let mut any = false;
        for (index, origin) in list.iter().enumerate() {
            let place = place.index(index);
            match origin {
                OriginSpec::Text(text) if text == "*" => any = true,
                OriginSpec::Text(text) => known.extend(Known::parse(text).or_else(|| {
                    env.problem(no_origin(place, text));
                    None
                })),
                OriginSpec::Regex(text) => match Regex::new(&format!("^(?:{text})$")) {
                    Ok(regex) => known.push(Known::Regex(regex)),
                    Err(error) => {
                        let problem = Problem::error(
                            "E036",
                            place.key("regex"),
                            format!("`{text}` is not a regular expression"),
                        );
                        let why = error.to_string();
                        let why = why.lines().last().unwrap_or_default().to_owned();
                        env.problem(problem.hint(why));
                    }
                },
            }
        }
        Self {
            any,
            known: known.into(),
        }
    }

    /// Whether every origin is meant.
    pub(super) const fn any(&self) -> bool {
        self.any
    }

    /// Whether `origin` is one of them.
    pub(super) fn admit(&self, origin: &HeaderValue) -> bool {
        let is = |text| self.known.iter().any(|known| known.is(text));
        self.any || origin.to_str().is_ok_and(is)
    }
}

impl Known {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        for scheme in ["https://", "http://"] {
            if let Some(name) = text.strip_prefix(scheme)
                && let Some(name) = name.strip_prefix("*.")
            {
                let one = format!("{scheme}{name}");
                return is_origin(&one)
                    .then(|| Self::Below(scheme, format!(".{name}").into_boxed_str()));
            }
        }
        is_origin(&text).then(|| Self::Exact(text.into()))
    }

    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *origin,
            Self::Below(scheme, end) => {
                let name = origin.strip_prefix(scheme);
                let labels = name.and_then(|name| name.strip_suffix(&**end));
                labels.is_some_and(|labels| {
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                    !labels.is_empty() && labels.bytes().all(plain)
                })
            }
            Self::Regex(regex) => regex.is_match(origin),
        }
    }
}

/// As a browser writes it (RFC 6454 section 6.2).
pub(super) fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let usual = text.starts_with("https://") && text.ends_with(":443")
        || text.starts_with("http://") && text.ends_with(":80");
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(plain)) && !usual
}

/// What is wrong with an origin that is none.
pub(super) fn no_origin(place: Place, text: &str) -> Problem {
    let hint = if text == "null" {
        "every page in a sandbox is `null`: give the page a host"
    } else {
        HINT
    };
    Problem::error("E030", place, format!("`{text}` is no origin")).hint(hint)
}

/// What a browser says of the page that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// Nothing: no page asks, or none that a browser would tell of.
    Unsaid,
    /// It is of this origin.
    Of(HeaderValue),
    /// It says several things, or what cannot be read.
    Unclear,
}

/// The one value of a header.
fn only(headers: &HeaderMap, name: &HeaderName) -> Page {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Page::Unsaid,
        (Some(one), None) => Page::Of(one.clone()),
        (Some(_), Some(_)) => Page::Unclear,
    }
}

impl Page {
    /// By `Origin`.
    pub(super) fn by_origin(headers: &HeaderMap) -> Self {
        only(headers, &http::header::ORIGIN)
    }

    /// By `Origin`; where there is none, by the origin in `Referer`.
    pub(super) fn by_any(headers: &HeaderMap) -> Self {
        let said = Self::by_origin(headers);
        if said != Self::Unsaid {
            return said;
        }
        let Self::Of(referrer) = only(headers, &REFERER) else {
            return only(headers, &REFERER);
        };
        origin_of(&referrer).map_or(Self::Unclear, Self::Of)
    }
}

/// Scheme, host and port of a URL.
fn origin_of(url: &HeaderValue) -> Option<HeaderValue> {
    let url = url.to_str().ok()?;
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    HeaderValue::from_str(&format!("{scheme}://{authority}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_labels_and_nothing_else() {
        let known = Known::parse("https://*.Example.com").unwrap();
        for (origin, is) in [
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("http://a.example.com", false),
            ("https://a.example.com:8443", false),
            ("https://evil.test#.example.com", false),
            ("https://evil.test/.example.com", false),
            ("https://aexample.com", false),
            ("https://a.example.com.evil.test", false),
        ] {
            assert_eq!(known.is(origin), is, "{origin}");
        }
        let known = Known::parse("http://*.example.com:8080").unwrap();
        assert!(known.is("http://a.example.com:8080"));
        assert!(!known.is("http://a.example.com"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for wrong in [
            "null",
            "",
            "app.example.com",
            "https://",
            "https://*",
            "https://a.*.com",
            "https://app.example.com/",
            "https://app.example.com:443",
            "http://*.example.com:80",
            "ftp://app.example.com",
        ] {
            assert!(Known::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_referrer_speaks_only_where_the_origin_does_not() {
        let page = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            Page::by_any(&headers)
        };
        let of = |origin| Page::Of(HeaderValue::from_static(origin));
        assert_eq!(page(&[]), Page::Unsaid);
        assert_eq!(
            page(&[("referer", "https://a.test/x?y#z")]),
            of("https://a.test")
        );
        let both = [("referer", "https://a.test/"), ("origin", "null")];
        assert_eq!(page(&both), of("null"));
        assert_eq!(page(&[("referer", "about:blank")]), Page::Unclear);
        let twice = [("origin", "https://a.test"), ("origin", "https://b.test")];
        assert_eq!(page(&twice), Page::Unclear);
    }
}
