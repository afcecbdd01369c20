//! Answers in a content coding that the client takes: smaller on the way, the same in the end.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Hooks, Stage};
use crate::base::problem::Problem;
use crate::base::units::ByteSize;
use crate::compress::{Coding, choose};
use crate::exchange::{DIGESTS, Exchange, Headers as _, RequestHead, ResponseHead, weaken};

/// Compresses answers for clients that take it. Never: gRPC, event streams, what is encoded already, parts, answers to HEAD, and
/// where somebody says `no-transform`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which codings, the best first: that order decides where a client likes two the same. Default `[zstd, br, gzip]`.
    #[serde(default = "all")]
    #[schemars(length(min = 1))]
    encodings: Vec<Coding>,
    /// The shortest body that is worth it; one whose length is not known is. Default `1KiB`.
    #[serde(default = "one_kibibyte")]
    min_size: ByteSize,
    /// Media types, e.g. `application/json`, `text/*`, or `+json` for all that end so. Default: text, JSON, XML, JavaScript, YAML
    /// and WebAssembly.
    #[serde(default = "texts")]
    #[schemars(length(min = 1))]
    types: Vec<String>,
}

fn all() -> Vec<Coding> {
    vec![Coding::Zstd, Coding::Br, Coding::Gzip]
}

const fn one_kibibyte() -> ByteSize {
    ByteSize::from_kib(1)
}

fn texts() -> Vec<String> {
    const TYPES: &[&str] = &[
        "text/*",
        "+json",
        "+xml",
        "application/json",
        "application/xml",
        "application/javascript",
        "application/yaml",
        "application/x-ndjson",
        "application/wasm",
    ];
    TYPES.iter().map(|&kind| kind.to_owned()).collect()
}

/// The same, ready to be asked.
#[derive(Debug)]
pub struct Compression {
    encodings: Box<[Coding]>,
    min_size: u64,
    types: Box<[Kind]>,
}

#[derive(Debug)]
enum Kind {
    /// This one.
    Exact(Box<str>),
    /// All that begin so.
    Prefix(Box<str>),
    /// All that end so.
    Suffix(Box<str>),
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Compression> {
        for (key, empty) in [
            ("encodings", self.encodings.is_empty()),
            ("types", self.types.is_empty()),
        ] {
            if empty {
                let problem = Problem::error("E011", env.place.key(key), "an empty list");
                env.problem(problem.hint("write `compression: none` to compress nothing"));
            }
        }
        let mut types = Vec::with_capacity(self.types.len());
        for (index, text) in self.types.iter().enumerate() {
            let Some(kind) = Kind::parse(text) else {
                let place = env.place.key("types").index(index);
                let problem =
                    Problem::error("E030", place, format!("`{text}` is not a media type"));
                env.problem(problem.hint("e.g. `application/json`, `text/*`, or `+json`"));
                continue;
            };
            types.push(kind);
        }
        Some(Compression {
            encodings: self.encodings.clone().into(),
            min_size: self.min_size.bytes(),
            types: types.into(),
        })
    }
}

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        let is_token = |text: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
            !text.is_empty() && text.bytes().all(good)
        };
        let text = text.to_ascii_lowercase();
        if text.starts_with('+') {
            return is_token(&text).then(|| Self::Suffix(text.into()));
        }
        let (kind, subtype) = text.split_once('/')?;
        match subtype {
            "*" if is_token(kind) => Some(Self::Prefix(format!("{kind}/").into())),
            _ if is_token(kind) && is_token(subtype) => Some(Self::Exact(text.into())),
            _ => None,
        }
    }

    fn matches(&self, kind: &str) -> bool {
        match self {
            Self::Exact(exact) => kind.eq_ignore_ascii_case(exact),
            Self::Prefix(prefix) => kind
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
            Self::Suffix(suffix) => kind
                .len()
                .checked_sub(suffix.len())
                .and_then(|from| kind.get(from..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
        }
    }
}

impl Hooks for Compression {
    const STAGE: Stage = Stage::Shape;
    const ON_REQUEST: bool = false;
    const ON_RESPONSE: bool = true;

    fn on_response(&self, head: &RequestHead, answer: &mut ResponseHead, ex: &mut Exchange) {
        if !self.may(head, answer) {
            return;
        }
        vary(answer);
        if answer.status == StatusCode::NOT_MODIFIED {
            return;
        }
        let lines = head.headers.get_all(ACCEPT_ENCODING).iter();
        let mut lines = lines.filter_map(|line| line.to_str().ok());
        let Some(coding) = choose(&mut lines, &self.encodings) else {
            return;
        };
        answer.set(&CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        // How long it becomes is known at its end.
        for name in DIGESTS.iter().chain(&[CONTENT_LENGTH, ACCEPT_RANGES]) {
            answer.remove(name);
        }
        weaken(answer);
        // HEAD is told what GET would be, and has no body (RFC 9110 section 9.3.2).
        if head.method != Method::HEAD {
            ex.coding = Some(coding);
            answer.set(&TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }

    fn on_reply(&self, head: &RequestHead, answer: &mut ResponseHead, ex: &mut Exchange) {
        self.on_response(head, answer, ex);
    }
}

impl Compression {
    /// Whether the answer comes in a coding for clients that take one.
    fn may(&self, asked: &RequestHead, answer: &ResponseHead) -> bool {
        let (status, headers) = (answer.status, &answer.headers);
        if status == StatusCode::NOT_MODIFIED {
            return true;
        }
        // An old client may take no chunks, and no coding it did not learn of.
        let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
        if bodiless || asked.version == Version::HTTP_10 {
            return false;
        }
        let encoded = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let part = status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE);
        let as_it_is = is_as_it_is(headers) || is_as_it_is(&asked.headers);
        if encoded || part || as_it_is || !self.is_of_kind(headers) {
            return false;
        }
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        length.is_none_or(|length| length >= self.min_size.max(1))
    }

    fn is_of_kind(&self, headers: &HeaderMap) -> bool {
        let kind = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or("");
        let kind = kind.trim();
        let begins = |start: &str| {
            let first = kind.get(..start.len());
            first.is_some_and(|first| first.eq_ignore_ascii_case(start))
        };
        let streams = begins("text/event-stream") || begins("application/grpc");
        !streams && self.types.iter().any(|known| known.matches(kind))
    }
}

/// Whether nobody between the two ends may change the body (RFC 9111 section 5.2.2.6).
fn is_as_it_is(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let mut words = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// Another client may get other bytes: whoever keeps the answer has to know (RFC 9110 section 12.5.5).
fn vary(answer: &mut ResponseHead) {
    let known = answer.headers.get_all(VARY).iter().any(|line| {
        let mut names = line.as_bytes().split(|byte| *byte == b',');
        names.any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")
        })
    });
    if !known {
        answer.add(&VARY, HeaderValue::from_static(NAME));
    }
}

const NAME: &str = "accept-encoding";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read_strictly_and_compared_loosely() {
        for wrong in [
            "", "json", "a/", "/b", "*/*", "a/b;c=d", "a b/c", "a/b*", "*/json",
        ] {
            assert!(Kind::parse(wrong).is_none(), "{wrong}");
        }
        for (written, kind, matches) in [
            ("text/*", "text/html", true),
            ("text/*", "TEXT/HTML", true),
            ("text/*", "texts/html", false),
            ("text/*", "text", false),
            ("+json", "application/problem+json", true),
            ("+json", "application/json", false),
            ("+json", "json", false),
            ("Application/JSON", "application/json", true),
            ("application/json", "application/jsonl", false),
        ] {
            let read = Kind::parse(written);
            assert_eq!(
                read.map(|it| it.matches(kind)),
                Some(matches),
                "{written} {kind}"
            );
        }
    }
}
