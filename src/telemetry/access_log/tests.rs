//! The rules of the access log: one line a request, secrets hidden, requests never wait, what is lost is counted.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use prometheus::IntCounter;
use proptest::prelude::*;

use super::redact::Hidden;
use super::{AccessLog, Fields, Form, OWN_FIELDS, Record};

const PATIENCE: Duration = Duration::from_secs(30);

fn counter() -> IntCounter {
    IntCounter::new("dropped", "dropped").unwrap()
}

fn json(record: &Record<'_>) -> serde_json::Value {
    serde_json::from_slice(&record.json(&Hidden::default())).unwrap()
}

#[test]
fn secrets_in_a_query_are_hidden() {
    let cases = [
        ("a=1&token=s3cret", "a=1&token=***"),
        ("access_token=s3cret&b", "access_token=***&b"),
        ("%74oken=s3cret", "%74oken=***"),
        ("API_KEY=s3cret", "API_KEY=***"),
        ("key=s3cret&monkey=1", "key=***&monkey=1"),
        ("page=2", "page=2"),
    ];
    for (query, hidden) in cases {
        let record = Record {
            query: Some(query),
            ..Record::default()
        };
        assert_eq!(json(&record)["url.query"], hidden, "{query}");
        assert!(
            !String::from_utf8(record.clf(&Hidden::default()))
                .unwrap()
                .contains("s3cret"),
            "{query}"
        );
    }
}

#[test]
fn secrets_in_a_referer_are_hidden() {
    let record = Record {
        referer: Some("https://a.test/cb?code=s3cret&page=2"),
        ..Record::default()
    };
    assert_eq!(
        json(&record)["http.request.header.referer"],
        "https://a.test/cb?code=***&page=2"
    );
    let clf = String::from_utf8(record.clf(&Hidden::default())).unwrap();
    assert!(clf.contains("cb?code=***&page=2"), "{clf}");
    for (referer, shown) in [
        ("https://a.test/b", "https://a.test/b"),
        ("https://joe:s3cret@a.test/b", "https://***@a.test/b"),
        ("https://joe:s3@cret@a.test?x=1", "https://***@a.test?x=1"),
        ("https://a.test/@b", "https://a.test/@b"),
        ("//joe:s3cret@a.test/", "//***@a.test/"),
        ("https://a.test/b#access_token=s3cret", "https://a.test/b"),
        ("joe:s3cret@a.test/", "***@a.test/"),
    ] {
        let record = Record {
            referer: Some(referer),
            ..Record::default()
        };
        let field = &json(&record)["http.request.header.referer"];
        assert_eq!(field, shown, "{referer}");
    }
}

#[test]
fn headers_that_carry_secrets_are_known() {
    let hidden = Hidden::new(&["X-Email".to_owned()]);
    for name in [
        "Authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "x-auth-token",
        "X-EMAIL",
    ] {
        assert!(hidden.hides_header(name), "{name}");
    }
    for name in [
        "x-tenant",
        "x-country-code",
        "x-keyboard",
        "accept",
        "x-cache",
    ] {
        assert!(!hidden.hides_header(name), "{name}");
    }
    assert!(!Hidden::default().hides_header("x-email"));
}

/// Fields of a route, in any number.
#[derive(Debug)]
struct Own(Vec<(&'static str, String)>);

impl Fields for Own {
    fn each(&self, add: &mut dyn FnMut(&str, &str)) {
        for (name, value) in &self.0 {
            add(name, value);
        }
    }
}

#[test]
fn every_field_of_a_record_is_kept_for_it() {
    let own = Own(vec![("tenant", "a \"b\"\n".to_owned())]);
    let record = Record {
        id: "i",
        trace_id: Some(7),
        client: Some(std::net::IpAddr::from([127, 0, 0, 1])),
        method: "GET",
        host: "a.test",
        path: "/",
        query: Some("a"),
        route: "a",
        upstream: Some("o"),
        target: Some("t"),
        consumer: Some("c"),
        refusal: Some("no credential is shown"),
        attempts: 1,
        error_type: Some("reset"),
        user_agent: Some("x"),
        referer: Some("y"),
        protocol: "1.1",
        fields: Some(&own),
        ..Record::default()
    };
    let json = json(&record);
    assert_eq!(json["tenant"], "a \"b\"\n");
    assert_eq!(json["consumer"], "c");
    assert_eq!(json["refusal"], "no credential is shown");
    assert_eq!(json["trace_id"], format!("{:032x}", 7));
    let others = json
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| *name != "tenant");
    for name in others {
        assert!(OWN_FIELDS.contains(&name.as_str()), "{name}");
    }
    let clf = String::from_utf8(record.clf(&Hidden::default())).unwrap();
    assert!(!clf.contains("tenant"), "{clf}");
}

#[test]
fn names_of_the_config_are_hidden_too() {
    let hidden = Hidden::new(&["User-Agent".to_owned(), "page".to_owned()]);
    let record = Record {
        query: Some("page=7&size=2"),
        user_agent: Some("Mozilla"),
        referer: Some("https://a.test/"),
        ..Record::default()
    };
    let json: serde_json::Value = serde_json::from_slice(&record.json(&hidden)).unwrap();
    assert_eq!(json["url.query"], "page=***&size=2");
    assert_eq!(json["user_agent.original"], "***");
    assert_eq!(json["http.request.header.referer"], "https://a.test/");
}

proptest! {
    #[test]
    fn whatever_a_client_sends_is_one_bounded_line(agent in "\\PC{0,2000}|[\\x00-\\x7f]{0,200}", path in "[ -~]{0,3000}") {
        let record = Record { path: &path, user_agent: Some(&agent), method: "GET", protocol: "1.1", ..Record::default() };
        for line in [record.json(&Hidden::default()), record.clf(&Hidden::default())] {
            prop_assert!(line.len() <= 16 * 1024, "{}", line.len());
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(line.last(), Some(&b'\n'));
        }
        prop_assert!(json(&record).is_object());
    }
}

/// A reader that takes nothing until it is let.
struct Stalled(Receiver<()>, SyncSender<usize>);

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().unwrap_or_default();
        self.1.try_send(bytes.len()).unwrap_or_default();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_reader_costs_records_never_time() {
    let (go, wait) = sync_channel(0);
    let (wrote, _seen) = sync_channel(1000);
    let dropped = counter();
    let log = AccessLog::start(Form::Json, &[], dropped.clone(), Stalled(wait, wrote)).unwrap();
    let path = "x".repeat(200);
    let record = Record {
        path: &path,
        ..Record::default()
    };
    for _ in 0..30_000 {
        log.push(&record);
    }
    assert!(dropped.get() > 10_000, "{}", dropped.get());
    assert!(
        !log.flush(Duration::from_millis(100)),
        "nothing can be written"
    );
    drop(go);
}

/// A disk that is full.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

#[test]
fn a_full_disk_is_counted() {
    let dropped = counter();
    let log = AccessLog::start(Form::Json, &[], dropped.clone(), Full).unwrap();
    for _ in 0..10 {
        log.push(&Record::default());
    }
    assert!(log.flush(PATIENCE));
    assert_eq!(dropped.get(), 10);
}

#[test]
fn what_was_pushed_before_the_end_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::file(Form::Clf, &[], counter(), &path).unwrap();
    for _ in 0..100 {
        log.push(&Record {
            method: "GET",
            path: "/",
            protocol: "1.1",
            ..Record::default()
        });
    }
    assert!(log.flush(PATIENCE));
    #[expect(clippy::disallowed_methods, reason = "a test reads what was written")]
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 100);
    assert!(text.starts_with("- - - ["), "{text}");
}

#[test]
fn a_line_of_the_combined_form_has_its_fields_whatever_is_missing() {
    let clf = |record: &Record<'_>| String::from_utf8(record.clf(&Hidden::default())).unwrap();
    let refused = Record {
        status: 400,
        ..Record::default()
    };
    assert!(
        clf(&refused).contains("] \"-\" 400 0 "),
        "{}",
        clf(&refused)
    );
    let unanswered = Record {
        method: "GET",
        path: "/x",
        protocol: "1.1",
        ..Record::default()
    };
    let line = clf(&unanswered);
    assert!(line.contains("] \"GET /x HTTP/1.1\" 000 0 "), "{line}");
}

#[test]
fn records_of_many_threads_are_whole_lines_or_counted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let dropped = counter();
    let log = AccessLog::file(Form::Json, &[], dropped.clone(), file.path()).unwrap();
    let push = |thread: u64| {
        for number in 0..5_000 {
            log.push(&Record {
                received: thread,
                sent: number,
                ..Record::default()
            });
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|it| drop(scope.spawn(move || push(it)))));
    assert!(log.flush(PATIENCE));
    let text = String::from_utf8(std::fs::read(file.path()).unwrap()).unwrap();
    let mut last = [None; 4];
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| record[name].as_u64().unwrap();
        let of = usize::try_from(number("http.request.body.size")).unwrap();
        let at = Some(number("http.response.body.size"));
        assert!(last[of] < at, "a thread's records keep their order");
        last[of] = at;
    }
    let written = u64::try_from(text.lines().count()).unwrap();
    assert_eq!(written + dropped.get(), 20_000);
}
