//! The fields of a header as expressions see them: one text a name, and cookies one by one.

use std::borrow::Cow;

use http::header::{COOKIE, HeaderMap, HeaderName};

/// All lines of one field as one text. RFC 9110 §5.3: joined with a comma; a second line must not go unseen.
pub(super) fn header_text<'m>(map: &'m HeaderMap, name: &HeaderName) -> Option<Cow<'m, str>> {
    let mut lines = map
        .get_all(name)
        .iter()
        .map(|line| String::from_utf8_lossy(line.as_bytes()));
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(first);
    };
    let mut all = first.into_owned();
    for line in std::iter::once(second).chain(lines) {
        all.push_str(", ");
        all.push_str(&line);
    }
    Some(Cow::Owned(all))
}

/// The fields of a header, each once, in no order.
pub(super) fn header_pairs(map: &HeaderMap) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    map.keys()
        .filter_map(|name| Some((Cow::Borrowed(name.as_str()), header_text(map, name)?)))
}

/// Names and values of all cookies, in order.
pub(super) fn cookie_pairs(
    headers: &HeaderMap,
) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let lines = headers.get_all(COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| {
            let mut halves = pair.trim_ascii().splitn(2, |byte| *byte == b'=');
            let (key, value) = (halves.next()?, halves.next()?);
            Some((
                String::from_utf8_lossy(key.trim_ascii()),
                String::from_utf8_lossy(value.trim_ascii()),
            ))
        })
}
