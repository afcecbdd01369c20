//! What never stands in a log: values of query parameters that carry secrets.

use std::borrow::Cow;

/// Names, or ends of names, of parameters that carry secrets; those whose last letter, as a small one, is `last`, so that
/// most names of a query are compared with none.
const fn secrets(last: u8) -> &'static [&'static str] {
    match last {
        b'n' => &["token", "assertion", "session", "authorization"],
        b't' => &["secret", "jwt"],
        b'd' => &["password", "passwd", "pwd"],
        b'y' => &["apikey", "api_key", "api-key"],
        b'e' => &["signature", "code", "cookie"],
        b'g' => &["sig"],
        b'l' => &["credential"],
        b'h' => &["auth"],
        _ => &[],
    }
}

/// The same for names of headers, of which more end in `-code` or `-session` than carry secrets.
const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "apikey",
    "api-key",
    "-key",
    "signature",
    "credential",
    "credentials",
    "assertion",
    "jwt",
    "auth",
    "client-cert",
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

    /// What stands for the URL in the header `name`: without name and password, its query as any other.
    pub(super) fn url<'v>(&self, name: &str, value: Option<&'v str>) -> Option<Cow<'v, str>> {
        let value = self.header(name, value)?;
        if !value.bytes().any(|byte| matches!(byte, b'#' | b'@')) {
            let (address, query) = cut(value, b'?');
            let Some(query) = query else {
                return Some(Cow::Borrowed(value));
            };
            let mut clean = String::with_capacity(value.len());
            clean.push_str(address);
            clean.push('?');
            self.push_query(&mut clean, query);
            return Some(Cow::Owned(clean));
        }
        let after_scheme = value.find("//").map_or(0, |at| at + 2);
        let (scheme, rest) = value.split_at_checked(after_scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // What stands before the host is a name and a password (RFC 3986 section 3.2.1).
        let user = rest.get(..end).and_then(|authority| authority.rfind('@'));
        if user.is_none() && !value.contains(['?', '#']) {
            return Some(Cow::Borrowed(value));
        }
        let rest = user.and_then(|at| rest.get(at + 1..)).unwrap_or(rest);
        // Fragments stay with the client; one that was sent may be a token (RFC 6749 section 4.2.2).
        let rest = rest.split('#').next().unwrap_or_default();
        let mut clean = String::with_capacity(value.len());
        clean.push_str(scheme);
        if user.is_some() {
            clean.push_str("***@");
        }
        match rest.split_once('?') {
            None => clean.push_str(rest),
            Some((address, query)) => {
                clean.push_str(address);
                clean.push('?');
                self.push_query(&mut clean, query);
            }
        }
        Some(Cow::Owned(clean))
    }

    /// Adds `query` to `out`, with the values of secret names hidden.
    pub(super) fn push_query(&self, out: &mut String, query: &str) {
        let mut rest = query;
        loop {
            let (pair, more) = cut(rest, b'&');
            match cut(pair, b'=') {
                (name, Some(_)) if self.hides_parameter(name) => {
                    out.push_str(name);
                    out.push_str("=***");
                }
                _ => out.push_str(pair),
            }
            let Some(more) = more else { return };
            out.push('&');
            rest = more;
        }
    }

    /// Whether the value of a header of this name never stands in a record.
    #[must_use]
    pub fn hides_header(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        SECRET_HEADERS.iter().any(|secret| name.ends_with(secret)) || self.0.contains(&name)
    }

    /// Whether the value of a parameter of this name never stands in a record. Compared as decoded and in lower case:
    /// `%74oken` is a token too.
    #[must_use]
    pub fn hides_parameter(&self, name: &str) -> bool {
        let decoded = crate::base::canon::decode_segment(name);
        let decoded: &str = &decoded;
        let last = decoded.as_bytes().last().map_or(0, u8::to_ascii_lowercase);
        let ends = |secret: &&str| {
            let at = decoded.len().checked_sub(secret.len());
            let end = at.and_then(|at| decoded.as_bytes().get(at..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(secret.as_bytes()))
        };
        let is = |known: &str| decoded.eq_ignore_ascii_case(known);
        is("key") || secrets(last).iter().any(ends) || self.0.iter().any(|known| is(known))
    }
}

/// What stands before and behind the first `mark`, which is ASCII. The texts are short: looking at each byte is the fastest.
fn cut(text: &str, mark: u8) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == mark) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::secrets;

    #[test]
    fn secrets_stand_under_their_last_letter() {
        let mut count = 0;
        for last in 0..=u8::MAX {
            for secret in secrets(last) {
                assert_eq!(secret.as_bytes().last(), Some(&last), "{secret}");
                count += 1;
            }
        }
        assert_eq!(count, 18);
    }
}
