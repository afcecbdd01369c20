//! Asks a running gateway by its admin socket or address.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use super::args::Global;
use super::{Exit, report, say};
use crate::config::document::Admin;
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

/// Asks for something to be done; a refusal is said.
pub(super) fn done(global: &Global, method: &str, path: &str) -> Result<Answer, Exit> {
    let answer = ask(global, method, path)?;
    if answer.status == 200 {
        return Ok(answer);
    }
    let why = answer.body.get("detail").and_then(Json::as_str);
    say(&format!("error: {}", why.unwrap_or("it was refused")));
    Err(Exit::Findings)
}

/// Asks with a body in JSON.
pub(super) fn ask_with(
    global: &Global,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Answer, Exit> {
    let address = address(global)?;
    let answer = send(&address, method, path, body).map_err(|error| {
        let place = address.strip_prefix("unix:").unwrap_or(&address);
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            let seconds = PATIENCE.as_secs();
            say(&format!("error: {place} did not answer within {seconds} s"));
            return Exit::TimedOut;
        }
        say(&format!(
            "error: no answer from {place}: {error}\n  = hint: is the gateway running?"
        ));
        Exit::Unreachable
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

/// `--admin`, else what the config says. A config that is too broken to say it is what has to be mended first.
fn address(global: &Global) -> Result<String, Exit> {
    if let Some(address) = &global.admin {
        return Ok(address.clone());
    }
    if let Some(path) = global.config.clone().or_else(crate::config::source::search) {
        let mut loaded = crate::config::load(&path, &Environment::Opaque);
        if let Some(address) = loaded.document.admin.take().and_then(door) {
            return Ok(address);
        }
        if loaded.problems.any_error() {
            report::problems(&loaded, global);
            say("where the gateway is asked cannot be read\n  = hint: name it with `--admin`");
            return Err(Exit::Config);
        }
    }
    say(
        "error: no admin socket is known\n  = hint: name one with `--admin`, or set `admin: { socket: … }` in the config",
    );
    Err(Exit::Unreachable)
}

fn door(admin: Admin) -> Option<String> {
    let socket = admin.socket.map(|path| format!("unix:{path}"));
    socket.or_else(|| admin.address.map(|address| address.to_string()))
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

/// As it stands in a query.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let each = text.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    each.collect()
}
