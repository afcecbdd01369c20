//! What no answer of the gateway may tell: what made it, what stands behind it, and where its files are.

use std::net::SocketAddr;

use super::Response;

/// Headers that exist to tell what made an answer.
const NAMES: [&str; 2] = ["server", "x-powered-by"];
/// What names a program or its version; in small letters.
const PROGRAMS: [&str; 6] = [
    "pingora",
    "openssl",
    "hyper/",
    "rustc",
    "doorward/",
    "doorward 0.",
];
/// Where files are; in small letters.
const PATHS: [&str; 10] = [
    "/root/", "/home/", "/usr/", "/tmp/", "/etc/", "/var/", "/run/", "/proc/", "src/", ".rs:",
];
/// How an address of this machine begins; all origins of the tests have one.
const ADDRESSES: [&str; 3] = ["127.0.0.1:", "[::1]:", "unix:"];

/// What an answer of the gateway at `own` tells and should not; `asked` is what was sent to it, which may come back.
pub(crate) fn telltales(response: &Response, own: SocketAddr, asked: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in &response.headers {
        if NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            found.push(format!("{name}: {value}"));
        }
        found.extend(in_text(value, own, asked).map(|what| format!("{what} in {name}: {value}")));
    }
    // What an upstream says in a body is its own affair; what the gateway says by itself is a problem or a page.
    if response.header("content-type") == Some("application/problem+json") {
        let body = response.text();
        found.extend(in_text(&body, own, asked).map(|what| format!("{what} in {body}")));
    }
    found
}

/// What a text tells.
fn in_text(text: &str, own: SocketAddr, asked: &str) -> impl Iterator<Item = String> {
    let plain = move |text: &str| text.to_ascii_lowercase().replace(&own.to_string(), "");
    let text = plain(text);
    let known = PROGRAMS.iter().chain(&PATHS).chain(&ADDRESSES);
    // Much may have been asked on one connection: it is looked through only when something was found.
    let told = known.filter(move |what| text.contains(**what) && !plain(asked).contains(**what));
    told.map(|what| (*what).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Response, telltales};

    fn answer(name: &str, value: &str, body: &str) -> Vec<String> {
        let headers = [(name, value), ("Content-Type", "application/problem+json")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let response = Response {
            status: 502,
            reason: String::new(),
            headers: headers.to_vec(),
            body: body.as_bytes().to_vec(),
            interim: Vec::new(),
        };
        let asked = "GET /tmp/a HTTP/1.1\r\nHost: 127.0.0.1:80\r\n";
        telltales(&response, "127.0.0.1:80".parse().unwrap(), asked)
    }

    #[test]
    fn whatever_an_answer_tells_is_found() {
        for (name, value, body) in [
            ("Server", "x", ""),
            ("x-powered-by", "x", ""),
            ("Location", "http://127.0.0.1:3000/", ""),
            ("Location", "http://[::1]:3000/", ""),
            ("Via", "1.1 Pingora", ""),
            ("X-A", "doorward/0.1.0", ""),
            ("X-A", "b", "connection to 127.0.0.1:3000 refused"),
            ("X-A", "b", "cannot read /etc/doorward/a.key"),
            ("X-A", "b", "panicked at src/gateway/mod.rs:3"),
            ("X-A", "b", "OpenSSL: no shared cipher"),
        ] {
            assert!(
                !answer(name, value, body).is_empty(),
                "{name}: {value} {body}"
            );
        }
        for (name, value, body) in [
            ("Location", "http://127.0.0.1:80/", "http://127.0.0.1:80/"),
            ("Via", "1.1 doorward-0123", "/tmp/ was asked for"),
        ] {
            assert_eq!(answer(name, value, body), [""; 0], "{name}: {value} {body}");
        }
    }
}
