//! Who may do what: everything on the unix socket; on loopback everything that no web page can ask for; else by token.

use http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::answer::problem;
use crate::base::digest::Digest;
use crate::config::document::Role;

/// A header that no form and no simple request of a page can send.
const INTENT: &str = "doorward-admin";

/// By which door a request comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The unix socket: who may open it is decided by the file system.
    Socket,
    /// An address.
    Address,
}

/// What a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    /// Nothing: health.
    Nobody,
    /// Looking.
    View,
    /// Changing what runs.
    Operate,
    /// Looking at who may come in: for nobody who proves nothing.
    Know,
    /// Changing who may come in: likewise.
    Admit,
}

/// Who may do what behind one door.
#[derive(Debug)]
pub struct Access {
    door: Door,
    tokens: Vec<([u8; 32], Role)>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asker {
    /// Somebody at the socket.
    Socket,
    /// Somebody on this machine.
    Local,
    /// Whoever holds the token whose digest begins so.
    Token(String),
}

impl std::fmt::Display for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket => f.write_str("socket"),
            Self::Local => f.write_str("local"),
            Self::Token(digest) => write!(f, "token:{digest}"),
        }
    }
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `Host` is a name that somebody else could make point here.
    Host,
    /// A change without the header that says it is meant.
    Intent,
    /// No token, or an unknown one.
    Token,
    /// A token that is good for less.
    Role,
    /// There are no tokens, and this needs one.
    Door,
}

impl Access {
    /// The access behind `door`, with the digests of the tokens.
    #[must_use]
    pub const fn new(door: Door, tokens: Vec<([u8; 32], Role)>) -> Self {
        Self { door, tokens }
    }

    /// Whether a request with these headers has the right; who it is, for records.
    pub(super) fn check(&self, headers: &HeaderMap, right: Right) -> Result<Asker, Refusal> {
        if self.door == Door::Socket {
            return Ok(Asker::Socket);
        }
        if self.tokens.is_empty() {
            return without_tokens(headers, right).map(|()| Asker::Local);
        }
        let needed = match right {
            Right::Nobody => return Ok(Asker::Local),
            Right::View | Right::Know => Role::Viewer,
            Right::Operate => Role::Operator,
            Right::Admit => Role::Admin,
        };
        let (role, token) = self.role(headers).ok_or(Refusal::Token)?;
        if role >= needed {
            Ok(Asker::Token(token))
        } else {
            Err(Refusal::Role)
        }
    }

    /// What the token is good for, and the begin of its digest.
    fn role(&self, headers: &HeaderMap) -> Option<(Role, String)> {
        let value = headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return None;
        }
        let digest = digest(token);
        // Every digest is looked at, each to its end: time tells nothing.
        let role = self.tokens.iter().fold(None, |found, (known, role)| {
            let differs = known
                .iter()
                .zip(digest)
                .fold(0u8, |acc, (a, b)| acc | (a ^ b));
            if differs == 0 { Some(*role) } else { found }
        })?;
        Some((role, Digest::of(token).short()))
    }
}

/// Where nobody has to prove anything, nothing may be asked for by a page that somebody here looks at. A token needs
/// no such care: a page has none, and cannot send one unasked.
fn without_tokens(headers: &HeaderMap, right: Right) -> Result<(), Refusal> {
    if !is_local_name(headers.get(HOST)) {
        return Err(Refusal::Host);
    }
    match right {
        Right::Operate if !headers.contains_key(INTENT) => Err(Refusal::Intent),
        Right::Nobody | Right::View | Right::Operate => Ok(()),
        // Whoever may make a key may come in everywhere.
        Right::Know | Right::Admit => Err(Refusal::Door),
    }
}

fn digest(token: &[u8]) -> [u8; 32] {
    Digest::of(token).bytes()
}

/// `localhost` or an address: a name could be made to point here by whoever owns it (DNS rebinding).
fn is_local_name(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let Ok(authority) = crate::base::canon::parse_authority(host) else {
        return false;
    };
    let name = authority.canonical_host();
    name == "localhost" || matches!(authority.host(), crate::base::canon::Host::Ip(_))
}

impl Refusal {
    pub(super) fn answer(&self) -> Response<Vec<u8>> {
        match self {
            Self::Host => problem(
                StatusCode::MISDIRECTED_REQUEST,
                "host",
                "ask for localhost or an address",
            ),
            Self::Intent => problem(
                StatusCode::FORBIDDEN,
                "intent",
                "a change needs the header `doorward-admin: 1`",
            ),
            Self::Door => problem(
                StatusCode::FORBIDDEN,
                "door",
                "consumers, keys and tokens need the admin socket, or a token",
            ),
            Self::Role => problem(StatusCode::FORBIDDEN, "role", "this token may not do that"),
            Self::Token => {
                let mut answer = problem(
                    StatusCode::UNAUTHORIZED,
                    "token",
                    "a bearer token is needed",
                );
                answer.headers_mut().insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"doorward\""),
                );
                answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[(&str, Role)] = &[];
    const ROLES: &[(&str, Role)] = &[
        ("viewer", Role::Viewer),
        ("operator", Role::Operator),
        ("admin", Role::Admin),
    ];

    /// A request with these headers, at an address with these tokens.
    fn check(
        tokens: &[(&str, Role)],
        headers: &[(&str, &str)],
        right: Right,
    ) -> Result<(), Refusal> {
        let tokens = tokens
            .iter()
            .map(|(token, role)| (digest(token.as_bytes()), *role));
        let access = Access::new(Door::Address, tokens.collect());
        access.check(&map(headers), right).map(drop)
    }

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn the_socket_may_do_everything() {
        let access = Access::new(Door::Socket, vec![(digest(b"secret"), Role::Admin)]);
        let elsewhere = map(&[("host", "evil.example")]);
        for right in [Right::Operate, Right::Know, Right::Admit] {
            for headers in [&HeaderMap::new(), &elsewhere] {
                assert_eq!(access.check(headers, right), Ok(Asker::Socket));
            }
        }
    }

    #[test]
    fn who_may_come_in_is_for_those_who_prove_who_they_are() {
        let meant = [("host", "localhost"), ("doorward-admin", "1")];
        for right in [Right::Know, Right::Admit] {
            assert_eq!(check(NONE, &meant, right), Err(Refusal::Door));
            assert_eq!(check(ROLES, &meant, right), Err(Refusal::Token));
        }
        for (token, admits) in [
            ("Bearer viewer", Err(Refusal::Role)),
            ("Bearer operator", Err(Refusal::Role)),
            ("Bearer admin", Ok(())),
        ] {
            let headers = [("authorization", token)];
            assert_eq!(check(ROLES, &headers, Right::Know), Ok(()), "{token}");
            assert_eq!(check(ROLES, &headers, Right::Admit), admits, "{token}");
        }
        let access = Access::new(Door::Address, vec![(digest(b"admin"), Role::Admin)]);
        let asker = access.check(&map(&[("authorization", "Bearer admin")]), Right::Admit);
        // The begin of SHA-256 of `admin`.
        assert_eq!(asker.unwrap().to_string(), "token:8c6976e5b541");
    }

    #[test]
    fn a_name_that_others_own_is_refused() {
        for host in [
            "localhost",
            "LOCALHOST:9901",
            "127.0.0.1",
            "[::1]:9901",
            "10.0.0.1",
        ] {
            assert_eq!(
                check(NONE, &[("host", host)], Right::View),
                Ok(()),
                "{host}"
            );
        }
        let others = [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a b",
        ];
        for host in others {
            for right in [Right::Nobody, Right::View, Right::Operate] {
                let headers = [("host", host), ("doorward-admin", "1")];
                assert_eq!(check(NONE, &headers, right), Err(Refusal::Host), "{host}");
            }
        }
        assert_eq!(check(NONE, &[], Right::View), Err(Refusal::Host));
    }

    #[test]
    fn a_change_without_tokens_must_be_meant() {
        let host = ("host", "localhost");
        assert_eq!(check(NONE, &[host], Right::Operate), Err(Refusal::Intent));
        let meant = [host, ("doorward-admin", "1")];
        assert_eq!(check(NONE, &meant, Right::Operate), Ok(()));
    }

    #[test]
    fn a_token_is_good_for_its_role() {
        let cases = [
            ("Bearer viewer", Ok(()), Err(Refusal::Role)),
            ("bearer operator", Ok(()), Ok(())),
            ("BEARER admin", Ok(()), Ok(())),
            ("Bearer  admin", Err(Refusal::Token), Err(Refusal::Token)),
            ("Bearer admi", Err(Refusal::Token), Err(Refusal::Token)),
            ("Bearer ", Err(Refusal::Token), Err(Refusal::Token)),
            ("Basic admin", Err(Refusal::Token), Err(Refusal::Token)),
            ("x", Err(Refusal::Token), Err(Refusal::Token)),
        ];
        for (value, view, operate) in cases {
            let headers = [("authorization", value), ("host", "gateway.internal")];
            assert_eq!(check(ROLES, &headers, Right::View), view, "{value}");
            assert_eq!(check(ROLES, &headers, Right::Operate), operate, "{value}");
        }
        assert_eq!(check(ROLES, &[], Right::Operate), Err(Refusal::Token));
        assert_eq!(check(ROLES, &[], Right::Nobody), Ok(()));
    }
}
