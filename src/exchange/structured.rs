//! Dictionaries in headers (RFC 9651), without two readings: what another reader could take for something else is refused.

use http::{HeaderMap, HeaderName};
use sfv::{Dictionary, InnerList, Item, ListEntry, Parser, SerializeValue as _};

/// The lines of a header, in order, as one value (RFC 9110 section 5.2); nothing where one of them is no text.
#[must_use]
pub fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut all = String::new();
    for (index, line) in headers.get_all(name).iter().enumerate() {
        if index > 0 {
            all.push_str(", ");
        }
        all.push_str(line.to_str().ok()?.trim_matches([' ', '\t']));
    }
    Some(all)
}

/// The dictionary that stands in a header; `Ok(None)`: the header is not there.
///
/// # Errors
/// It is none, or not in the form in which it would be written: a key stands there twice, of which another reader may take
/// the other.
pub fn dictionary(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<Option<Dictionary>, &'static str> {
    const NONE: &str = "a header with a signature cannot be read in one way only";
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let text = joined(headers, name).ok_or(NONE)?;
    let read = Parser::parse_dictionary(text.as_bytes()).map_err(|_error| NONE)?;
    let again = read.serialize_value().map_err(|_error| NONE)?;
    // The parser takes the last of two that are called the same; written again, the first is gone.
    if without_blanks(&text).eq(without_blanks(&again)) {
        Ok(Some(read))
    } else {
        Err(NONE)
    }
}

/// An item as it is written.
#[must_use]
pub fn item_text(item: &Item) -> Option<String> {
    item.serialize_value().ok()
}

/// An inner list as it is written, with its parameters.
#[must_use]
pub fn list_text(list: &InnerList) -> Option<String> {
    vec![ListEntry::InnerList(list.clone())]
        .serialize_value()
        .ok()
}

/// The member of a dictionary as it is written.
#[must_use]
pub fn member_text(member: &ListEntry) -> Option<String> {
    match member {
        ListEntry::Item(item) => item_text(item),
        ListEntry::InnerList(list) => list_text(list),
    }
}

/// Blanks mean something between quotes only.
fn without_blanks(text: &str) -> impl Iterator<Item = char> {
    let (mut quoted, mut escaped) = (false, false);
    text.chars().filter(move |char| {
        let kept = quoted || !matches!(char, ' ' | '\t');
        match char {
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && !escaped && *char == '\\';
        kept
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NAME: HeaderName = HeaderName::from_static("x-dictionary");

    fn read(lines: &[&str]) -> Result<Option<usize>, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(NAME, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        dictionary(&headers, &NAME).map(|found| found.map(|it| it.len()))
    }

    #[test]
    fn a_dictionary_has_one_reading() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["a=1"]), Ok(Some(1)));
        assert_eq!(read(&["a=1,\tb=2 ,  c=( 1  \"x y\" );d"]), Ok(Some(3)));
        assert_eq!(read(&["a=\"x \\\" , a=1\"", "b=:AA==:"]), Ok(Some(2)));
        for wrong in [
            &["a=1, a=2"][..],
            &["a=1", "a=1"],
            &["a=1;b=1;b=2"],
            &["a=(\"x\";p;p)"],
            &["a=:AB==:"],
            &["a=:AA:"],
            &["a=01"],
            &["a=1,"],
            &["A=1"],
            &["a=\u{e9}"],
        ] {
            read(wrong).unwrap_err();
        }
    }
}
