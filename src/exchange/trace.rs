//! The place of a request in a trace (W3C Trace Context, level 1).

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Trace, the span that called us, and the span that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    sampled: bool,
    continued: bool,
}

impl TraceContext {
    /// Continues the trace that `headers` name, or starts one where they name none that can be read.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let given = match (lines.next(), lines.next()) {
            (Some(line), None) => parse(line),
            _ => None,
        };
        let (trace, sampled) = given.unwrap_or_else(|| (Uuid::new_v4().as_u128(), false));
        let (span, _) = Uuid::new_v4().as_u64_pair();
        Self {
            trace,
            span: span.max(1),
            sampled,
            continued: given.is_some(),
        }
    }

    /// The trace's id; as a text it has 32 hexadecimal digits.
    #[must_use]
    pub const fn id(&self) -> u128 {
        self.trace
    }

    /// Whether the trace began before us; else a `tracestate` that came along belongs to nothing.
    #[must_use]
    pub const fn is_continued(&self) -> bool {
        self.continued
    }

    /// Writes `traceparent` for the upstream behind `out`.
    pub fn write(&self, out: &mut String) {
        out.push_str("00-");
        hex(out, &self.trace.to_be_bytes());
        out.push('-');
        hex(out, &self.span.to_be_bytes());
        out.push_str(if self.sampled { "-01" } else { "-00" });
    }
}

/// Writes two digits for each byte.
fn hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |number: u8| char::from(DIGITS.get(usize::from(number)).map_or(b'0', |it| *it));
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
}

/// `00-TRACE-SPAN-FLAGS`, lower case; versions to come may have more after it, `ff` is none.
fn parse(line: &HeaderValue) -> Option<(u128, bool)> {
    let line = line.to_str().ok()?;
    let mut parts = line.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let good =
        hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    if !good || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    u64::from_str_radix(span, 16)
        .ok()
        .filter(|span| *span != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((id, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> TraceContext {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_str(line).unwrap());
        TraceContext::of(&headers)
    }

    #[test]
    fn a_good_trace_is_continued_with_a_span_of_our_own() {
        let context = of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(context.id(), 0x4bf92f3577b34da6a3ce929d0e0e4736);
        let mut header = String::new();
        context.write(&mut header);
        assert!(
            header.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && header.ends_with("-01"),
            "{header}"
        );
        assert!(!header.contains("00f067aa0ba902b7"));
        let span = format!("{:016x}", context.span);
        assert_eq!(
            header,
            format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01")
        );
    }

    #[test]
    fn what_cannot_be_read_starts_a_new_trace() {
        for line in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            let context = of(line);
            assert!(!context.is_continued(), "{line}");
            assert_ne!(context.id(), 0x4bf92f3577b34da6a3ce929d0e0e4736);
        }
    }
}
