//! The query of a request target, in the one form that strict and lenient readers take alike.

use std::borrow::Cow;

/// The query with an escape for every byte that RFC 3986 section 3.4 does not let it hold: browsers send `[`, `|` and others as they
/// are (WHATWG URL section 1.3), and a `%` that begins no escape means itself. To a reader that decodes, nothing changes.
pub(super) fn canonical(raw: &str) -> Cow<'_, str> {
    let bytes = raw.as_bytes();
    let stays = |at: usize, byte: u8| match byte {
        b'%' => is_escape(bytes.get(at + 1..)),
        _ => is_query_char(byte),
    };
    if bytes.iter().enumerate().all(|(at, byte)| stays(at, *byte)) {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len() + 16);
    for (at, byte) in raw.bytes().enumerate() {
        if stays(at, byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 0x0f].map(hex_digit));
        }
    }
    Cow::Owned(out)
}

fn hex_digit(half: u8) -> char {
    char::from_digit(u32::from(half), 16)
        .unwrap_or('0')
        .to_ascii_uppercase()
}

fn is_escape(after: Option<&[u8]>) -> bool {
    matches!(after, Some([high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

const fn is_query_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'
                ..=b',' | b';' | b'=' | b':' | b'@' | b'/' | b'?'
        )
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn what_no_query_may_hold_becomes_an_escape_and_the_rest_stays() {
        for same in ["", "a=b&c=%7e+d", "/?:@!$&'()*+,;=-._~", "%20%C3%a9"] {
            assert_eq!(canonical(same), same);
        }
        for (raw, expected) in [
            ("a[0]=1|2", "a%5B0%5D=1%7C2"),
            ("{\"q\":\"<x>\"}", "%7B%22q%22:%22%3Cx%3E%22%7D"),
            ("a\\b^c`d", "a%5Cb%5Ec%60d"),
            ("100%", "100%25"),
            ("%zz%2", "%25zz%252"),
            ("%%41", "%25%41"),
        ] {
            assert_eq!(canonical(raw), expected);
            assert_eq!(canonical(expected), expected, "once is enough");
        }
    }
}
