//! The question of `POST /explain`, read from its body.

use std::net::IpAddr;
use std::time::Duration;

use http::{Response, StatusCode};
use pingora::protocols::http::ServerSession;
use serde::{Deserialize, Serialize};

use super::answer::problem;
use crate::base::control::Question;
use crate::base::units::Date;

/// How long a question may take.
const READ_TIME_MAX: Duration = Duration::from_secs(10);
/// The largest question.
const BYTES_MAX: usize = 64 * 1024;

/// A question as it is sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// `GET`
    pub method: String,
    /// `http://127.0.0.1:8080/v1/orders/7`
    pub url: String,
    /// `name: value`, as curl takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// The listener, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The time of day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Date>,
}

impl Written {
    /// The question.
    ///
    /// # Errors
    /// A header that is none.
    pub fn question(self) -> Result<Question, String> {
        let mut headers = Vec::with_capacity(self.headers.len());
        for line in &self.headers {
            let (name, value) = line.split_once(':').ok_or_else(|| {
                format!(
                    "`{}` is not a header: write `name: value`",
                    line.escape_debug()
                )
            })?;
            headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Ok(Question {
            method: self.method,
            url: self.url,
            headers,
            listener: self.listener,
            client: self.client,
            unix_millis: self.at.map(Date::unix_millis),
        })
    }
}

/// Reads the question of a request, or answers what is wrong with it.
pub(super) async fn read(session: &mut ServerSession) -> Result<Question, Response<Vec<u8>>> {
    let refused = |status, why: &str| problem(status, "question", why);
    let read = tokio::time::timeout(READ_TIME_MAX, body(session)).await;
    let body = read.unwrap_or(Err((
        StatusCode::REQUEST_TIMEOUT,
        "the body did not arrive in time",
    )));
    let body = body.map_err(|(status, why)| refused(status, why))?;
    let written: Written = serde_json::from_slice(&body)
        .map_err(|error| refused(StatusCode::BAD_REQUEST, &error.to_string()))?;
    written
        .question()
        .map_err(|why| refused(StatusCode::BAD_REQUEST, &why))
}

async fn body(session: &mut ServerSession) -> Result<Vec<u8>, (StatusCode, &'static str)> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(_) => return Err((StatusCode::BAD_REQUEST, "the body broke off")),
        }
        if body.len() > BYTES_MAX {
            let why = "a question has 64 KiB at most";
            return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
        }
    }
}

/// The value of `name` in a query, decoded; none where it is missing or cannot be read.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let mut bytes = value.bytes();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}
