//! Asks a running gateway by its admin socket or address.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use super::args::Global;
use super::{Exit, say};
use crate::config::source::Environment;

/// How long an answer may take: a reload waits for names.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// An answer of the admin interface.
#[derive(Debug)]
pub(super) struct Answer {
    /// Status.
    pub(super) status: u16,
    /// Body.
    pub(super) body: Json,
}

/// Asks; what keeps it from being asked is said.
pub(super) fn ask(global: &Global, method: &str, path: &str) -> Result<Answer, Exit> {
    ask_with(global, method, path, "")
}

/// Asks with a body in JSON.
pub(super) fn ask_with(
    global: &Global,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Answer, Exit> {
    let Some(address) = address(global) else {
        say(
            "error: no admin socket is known\n  = hint: name one with `--admin`, or set `admin: { socket: … }` in the config",
        );
        return Err(Exit::Unreachable);
    };
    let answer = send(&address, method, path, body).map_err(|error| {
        say(&format!(
            "error: no answer from {address}: {error}\n  = hint: is the gateway running?"
        ));
        if matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ) {
            Exit::TimedOut
        } else {
            Exit::Unreachable
        }
    })?;
    let Some(answer) = read(&answer) else {
        say(&format!(
            "error: {address} does not speak like a gateway's admin interface"
        ));
        return Err(Exit::Unreachable);
    };
    // These are what a reload may come to; any other status answers nothing.
    if matches!(answer.status, 200 | 409 | 422) {
        return Ok(answer);
    }
    let detail = answer.body.get("detail").and_then(Json::as_str);
    say(&format!(
        "error: the gateway answered {}: {}",
        answer.status,
        detail.unwrap_or_default()
    ));
    Err(Exit::Findings)
}

/// `--admin`, else what the config says.
fn address(global: &Global) -> Option<String> {
    if let Some(address) = &global.admin {
        return Some(address.clone());
    }
    let path = global
        .config
        .clone()
        .or_else(crate::config::source::search)?;
    let loaded = crate::config::load(&path, &Environment::Opaque);
    let admin = loaded.document.admin?;
    admin
        .socket
        .or_else(|| admin.address.map(|address| address.to_string()))
}

fn send(address: &str, method: &str, path: &str, body: &str) -> std::io::Result<Vec<u8>> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nDoorward-Admin: 1\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let path = address.strip_prefix("unix:");
    let path =
        path.or_else(|| (address.contains('/') || Path::new(address).exists()).then_some(address));
    if let Some(path) = path {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    } else {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    }
    Ok(answer)
}

/// Our own server answers with a `Content-Length` and closes: the rest is the body.
fn read(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end)?;
    let head = std::str::from_utf8(head).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = body.get(4..)?;
    let body = serde_json::from_slice(body)
        .unwrap_or_else(|_| Json::String(String::from_utf8_lossy(body).into_owned()));
    Some(Answer { status, body })
}
