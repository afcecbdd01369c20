//! Headers that a client could forge: nobody behind the gateway gets them as the client wrote them.

/// Headers that only a gateway may write: upstreams take them for the truth.
const OURS: &[&str] = &[
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
    "x-remote-ip",
    "x-remote-addr",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-request-id",
    "x-attempt",
    "x-host",
    "client-cert",
    "client-cert-chain",
    "x-ssl-client-cert",
    "x-client-cert",
    "x-client-verify",
    "x-remote-user",
    "remote-user",
    "x-anonymous-consumer",
];

/// The same by their beginning.
const OUR_PREFIXES: &[&str] = &[
    "x-forwarded-",
    "x-user-",
    "x-consumer-",
    "x-auth-request-",
    "x-authenticated-",
    "x-credential-",
    "x-ssl-client-",
];

/// Whether only a gateway may write this header; `name` in small letters. Metadata of gRPC that is no text (`…-bin`) says no less.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    // Most headers begin with another letter than any of ours.
    matches!(
        name.as_bytes().first(),
        Some(b'c' | b'f' | b'r' | b't' | b'x')
    ) && is_listed(name.strip_suffix("-bin").unwrap_or(name))
}

fn is_listed(name: &str) -> bool {
    OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || OURS.contains(&name)
}
