//! Heads as one map of headers: Pingora keeps how their names were spelt in a second one, and every change has to be made in both.

use std::mem;

use http::{HeaderMap, Request, Response, Uri, request, response};

use super::{RequestHead, ResponseHead};

/// Names are spelt in small letters from here on: they mean the same (RFC 9110 section 5.1).
pub fn unspell(head: &mut RequestHead) {
    if head.has_case() {
        edit_request(head, |_| ());
    }
}

/// Lets `work` change a request's head, of which no name is spelt in a way of its own afterwards.
pub fn edit_request<T>(head: &mut RequestHead, work: impl FnOnce(&mut request::Parts) -> T) -> T {
    let target = unlike_its_uri(head);
    let nothing = RequestHead::from(Request::new(()).into_parts().0);
    let mut parts: request::Parts = mem::replace(head, nothing).into();
    let done = work(&mut parts);
    let kept = target.filter(|(uri, _)| *uri == parts.uri);
    *head = parts.into();
    if let Some((_, target)) = kept {
        // It was one before.
        drop(head.set_raw_path(&target));
    }
    done
}

/// A target that Pingora keeps beside the head's address, with that address; such never comes from a client.
fn unlike_its_uri(head: &RequestHead) -> Option<(Uri, Box<[u8]>)> {
    let target = head.raw_path();
    let path = head.uri.path_and_query().map(|path| path.as_str());
    let same = path.is_some_and(|path| path.as_bytes() == target);
    let whole = path.is_none() && head.uri.authority().is_some();
    (!same && !whole).then(|| (head.uri.clone(), target.into()))
}

/// The same for the headers of an answer.
pub fn edit_answer<T>(head: &mut ResponseHead, work: impl FnOnce(&mut HeaderMap) -> T) -> T {
    let usual = head.status.canonical_reason();
    let reason = head.get_reason_phrase().filter(|it| Some(*it) != usual);
    let reason = reason.map(str::to_owned);
    let nothing = ResponseHead::from(Response::new(()).into_parts().0);
    let mut parts: response::Parts = mem::replace(head, nothing).into();
    let done = work(&mut parts.headers);
    *head = parts.into();
    if reason.is_some() {
        let _always = head.set_reason_phrase(reason.as_deref());
    }
    done
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::VIA;

    use super::*;

    #[test]
    fn all_but_the_spelling_of_names_stays() {
        let mut head = RequestHead::build("GET", b"/a?b=c", None).unwrap();
        head.append_header("X-One", "1").unwrap();
        head.append_header("x-oNE", "2").unwrap();
        edit_request(&mut head, |parts| {
            parts
                .headers
                .insert(VIA, HeaderValue::from_static("1.1 me"));
        });
        let mut sent = Vec::new();
        head.header_to_h1_wire(&mut sent);
        assert_eq!(sent, b"x-one: 1\r\nx-one: 2\r\nvia: 1.1 me\r\n");
        assert_eq!(
            (head.method.as_str(), head.raw_path()),
            ("GET", &b"/a?b=c"[..])
        );
    }

    #[test]
    fn a_target_that_is_kept_beside_the_head_stays() {
        for target in [&b"http://a.test/b"[..], b"a.test:443", b"*", b"/\xff"] {
            let mut head = RequestHead::build("GET", target, None).unwrap();
            unspell(&mut head);
            assert_eq!(head.raw_path(), target);
            let other = Uri::from_static("/other");
            edit_request(&mut head, |parts| parts.uri = other);
            assert_eq!(head.raw_path(), b"/other");
        }
    }

    #[test]
    fn words_for_a_status_stay() {
        let mut head = ResponseHead::build(404, None).unwrap();
        head.append_header("X-One", "1").unwrap();
        head.set_reason_phrase(Some("Gone Fishing")).unwrap();
        edit_answer(&mut head, |headers| drop(headers.remove(VIA)));
        assert_eq!(head.get_reason_phrase(), Some("Gone Fishing"));
        assert!(!head.has_case() && head.headers.contains_key("x-one"));
    }
}
