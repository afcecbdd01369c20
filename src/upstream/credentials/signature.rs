//! Signatures as AWS wants them: Signature Version 4, in `Authorization`.

use std::fmt;

use chrono::DateTime;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use pingora::http::RequestHeader;
use sha2::{Digest as _, Sha256};

use super::spec::SigV4Spec;
use super::{NoCredential, secret, unsendable};
use crate::base::problem::{Place, Problem, Problems};

const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const AMZ_CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const AMZ_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// The body of a request that is signed.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// It comes piece by piece, when the head is gone already.
    Streamed,
}

/// Signs requests.
pub struct Signer {
    region: String,
    service: String,
    key_id: String,
    key: String,
    session: Option<HeaderValue>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn compile(
        spec: &SigV4Spec,
        place: &Place,
        problems: &mut Problems,
    ) -> Option<Self> {
        for (key, text) in [
            ("region", &spec.region),
            ("service", &spec.service),
            ("access_key_id", &spec.access_key_id),
        ] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if text.is_empty() || !text.bytes().all(plain) {
                let what = format!("`{}` cannot be signed with", text.escape_debug());
                let problem = Problem::error("E030", place.key(key), what);
                problems.push(problem.hint("letters, digits and `-`, e.g. `eu-central-1`"));
                return None;
            }
        }
        let session = match &spec.session_token {
            None => None,
            Some(token) => match secret(token) {
                Some(token) => Some(token),
                None => {
                    problems.push(unsendable(&place.key("session_token")));
                    return None;
                }
            },
        };
        Some(Self {
            region: spec.region.clone(),
            service: spec.service.clone(),
            key_id: spec.access_key_id.clone(),
            key: spec.secret_access_key.clone(),
            session,
        })
    }

    /// Signs a request at that time.
    pub(super) fn sign(
        &self,
        head: &mut RequestHeader,
        unix_millis: i64,
        payload: Payload<'_>,
    ) -> Result<(), NoCredential> {
        let time = DateTime::from_timestamp_millis(unix_millis).ok_or(NoCredential)?;
        let time = time.format("%Y%m%dT%H%M%SZ").to_string();
        let content = match payload {
            Payload::Whole(body) => hex(&Sha256::digest(body)),
            Payload::Streamed => "UNSIGNED-PAYLOAD".to_owned(),
        };
        let put = |head: &mut RequestHeader, name: HeaderName, value: HeaderValue| {
            head.insert_header(name, value)
                .map_err(|_error| NoCredential)
        };
        put(head, AMZ_DATE, value(&time)?)?;
        put(head, AMZ_CONTENT, value(&content)?)?;
        head.remove_header(&AMZ_TOKEN);
        if let Some(token) = &self.session {
            put(head, AMZ_TOKEN, token.clone())?;
        }
        // Whoever checks it wants every word to the service covered, also those that the client brought.
        let covered = |name: &HeaderName| {
            [HOST, CONTENT_TYPE].contains(name) || name.as_str().starts_with("x-amz-")
        };
        let signed = head.headers.keys().filter(|name| covered(name));
        let mut signed: Vec<HeaderName> = signed.cloned().collect();
        signed.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        let header = self.authorization(head, &signed, &time, &content)?;
        put(head, AUTHORIZATION, secret(&header).ok_or(NoCredential)?)
    }

    /// The value of `Authorization`; `signed` are the names of headers, in order.
    fn authorization(
        &self,
        head: &RequestHeader,
        signed: &[HeaderName],
        time: &str,
        content: &str,
    ) -> Result<String, NoCredential> {
        let names: Vec<&str> = signed.iter().map(HeaderName::as_str).collect();
        let names = names.join(";");
        let mut request = format!(
            "{}\n{}\n{}\n",
            head.method,
            self.path(head.uri.path()),
            query(head.uri.query().unwrap_or_default())
        );
        for name in signed {
            let lines = head.headers.get_all(name).iter().map(plain);
            let lines: Vec<String> = lines.collect::<Option<_>>().ok_or(NoCredential)?;
            request.push_str(&format!("{name}:{}\n", lines.join(",")));
        }
        request.push_str(&format!("\n{names}\n{content}"));
        let day = time.get(..8).ok_or(NoCredential)?;
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let digest = hex(&Sha256::digest(request.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let mut key = hmac(format!("AWS4{}", self.key).as_bytes(), day)?;
        for part in [&self.region, &self.service, "aws4_request", &text] {
            key = hmac(&key, part)?;
        }
        let id = &self.key_id;
        let signature = hex(&key);
        Ok(format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
        ))
    }

    /// S3 takes a path as it is, all others encode it once more.
    fn path(&self, path: &str) -> String {
        let path = if path.is_empty() { "/" } else { path };
        let again = self.service != "s3";
        path.bytes()
            .fold(String::with_capacity(path.len()), |mut out, byte| {
                if byte == b'/' || (byte == b'%' && !again) {
                    out.push(char::from(byte));
                } else {
                    encode(byte, &mut out);
                }
                out
            })
    }
}

/// A line as it is signed: without blanks around it, and with one between words.
fn plain(line: &HeaderValue) -> Option<String> {
    let words: Vec<&str> = line.to_str().ok()?.split_ascii_whitespace().collect();
    Some(words.join(" "))
}

fn value(text: &str) -> Result<HeaderValue, NoCredential> {
    HeaderValue::from_str(text).map_err(|_error| NoCredential)
}

fn hmac(key: &[u8], text: &str) -> Result<[u8; 32], NoCredential> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_error| NoCredential)?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut out, byte| {
            out.push_str(&format!("{byte:02x}"));
            out
        })
}

fn encode(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("%{byte:02X}"));
    }
}

/// The parameters, each encoded in one way, in order.
fn query(text: &str) -> String {
    let again = |text: &str| {
        let bytes = decoded(text);
        bytes.into_iter().fold(String::new(), |mut out, byte| {
            encode(byte, &mut out);
            out
        })
    };
    let parts = text.split('&').filter(|part| !part.is_empty());
    let mut pairs: Vec<(String, String)> = parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (again(name), again(value))
        })
        .collect();
    pairs.sort();
    let lines: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    lines.join("&")
}

fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let mut ahead = bytes.clone();
        let pair = digit(ahead.next()).zip(digit(ahead.next()));
        match pair.filter(|_| byte == b'%') {
            Some((high, low)) => {
                bytes = ahead;
                out.push(u8::try_from(high * 16 + low).unwrap_or(byte));
            }
            None => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(service: &str, key_id: &str, key: &str) -> Signer {
        Signer {
            region: "us-east-1".to_owned(),
            service: service.to_owned(),
            key_id: key_id.to_owned(),
            key: key.to_owned(),
            session: None,
        }
    }

    fn head(target: &str, host: &str) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        head.insert_header("host", host).unwrap();
        head
    }

    /// The examples of the manual of S3 ("Signature Calculations for the Authorization Header").
    #[test]
    fn requests_are_signed_as_the_manual_has_it() {
        let signer = signer(
            "s3",
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        );
        for (target, signature) in [
            (
                "/?lifecycle",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "/?max-keys=2&prefix=J",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let mut head = head(target, "examplebucket.s3.amazonaws.com");
            // 24 May 2013, midnight.
            signer
                .sign(&mut head, 1_369_353_600_000, Payload::Whole(b""))
                .unwrap();
            let shown = head.headers["authorization"].to_str().unwrap();
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                 SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}"
            );
            assert_eq!(shown, expected, "{target}");
        }
    }

    /// Of the test suite of Signature Version 4, which signs fewer headers.
    #[test]
    fn requests_are_signed_as_the_test_suite_has_it() {
        let signer = signer(
            "service",
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        );
        let nothing = hex(&Sha256::digest(b""));
        for (target, signature) in [
            (
                "/",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let mut head = head(target, "example.amazonaws.com");
            let time = "20150830T123600Z";
            head.insert_header(AMZ_DATE, time).unwrap();
            let shown = signer.authorization(&head, &[HOST, AMZ_DATE], time, &nothing);
            assert!(shown.unwrap().ends_with(signature), "{target}");
        }
    }

    /// `get-header-key-duplicate` and `get-header-value-trim` of that suite.
    #[test]
    fn lines_are_signed_as_the_test_suite_has_it() {
        let id = "AKIDEXAMPLE";
        let signer = signer("service", id, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let nothing = hex(&Sha256::digest(b""));
        for (lines, signature) in [
            (
                [
                    ("my-header1", "value2"),
                    ("my-header1", "value2"),
                    ("my-header1", "value1"),
                ],
                "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
            ),
            (
                [
                    ("my-header1", " value1"),
                    ("my-header2", " \"a   b   c\""),
                    ("x", ""),
                ],
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
        ] {
            let (mut head, time) = (head("/", "example.amazonaws.com"), "20150830T123600Z");
            head.insert_header(AMZ_DATE, time).unwrap();
            let mut signed = vec![HOST];
            for (name, line) in lines {
                head.append_header(name, line).unwrap();
                let name = HeaderName::from_static(name);
                if name != "x" && !signed.contains(&name) {
                    signed.push(name);
                }
            }
            signed.push(AMZ_DATE);
            let shown = signer
                .authorization(&head, &signed, time, &nothing)
                .unwrap();
            assert!(shown.ends_with(signature), "{shown}");
        }
    }

    #[test]
    fn what_a_client_says_to_the_service_is_signed_too() {
        let signer = signer("s3", "id", "key");
        let shown = |acl: &str| {
            let mut head = head("/a", "h");
            head.insert_header("x-amz-acl", acl.to_owned()).unwrap();
            head.insert_header("content-type", "text/plain").unwrap();
            head.insert_header("x-amz-security-token", "forged")
                .unwrap();
            signer.sign(&mut head, 0, Payload::Whole(b"")).unwrap();
            head.headers["authorization"].to_str().unwrap().to_owned()
        };
        let names = "SignedHeaders=content-type;host;x-amz-acl;x-amz-content-sha256;x-amz-date,";
        assert!(shown("private").contains(names), "{}", shown("private"));
        assert_ne!(shown("private"), shown("public-read"));
        assert_eq!(shown("public  read"), shown("public read"));
    }

    #[test]
    fn a_streamed_body_is_not_signed() {
        let mut head = head("/a", "h");
        let mut signer = signer("s3", "id", "key");
        signer.session = secret("session");
        signer.sign(&mut head, 0, Payload::Streamed).unwrap();
        assert_eq!(head.headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
        let shown = head.headers["authorization"].to_str().unwrap();
        let names = "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,";
        assert!(shown.contains(names), "{shown}");
    }

    #[test]
    fn paths_and_queries_are_encoded_in_one_way() {
        let other = signer("execute-api", "id", "key");
        assert_eq!(other.path("/a%20b/c"), "/a%2520b/c");
        assert_eq!(signer("s3", "id", "key").path("/a%20b/c~"), "/a%20b/c~");
        assert_eq!(query("b=2&a=%7e&a=1+1&c"), "a=1%2B1&a=~&b=2&c=");
        assert_eq!(query("a=%zz%4"), "a=%25zz%254");
    }
}
