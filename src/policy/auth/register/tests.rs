//! What may be done to the register, and what comes of it.
#![expect(
    clippy::string_slice,
    reason = "a test stops at the first thing that is not as expected"
)]

use super::ledger::{Configured, Ledger, Order};
use crate::base::control::{CallerWish, Fate, NotDone};
use crate::base::units::Date;

const NOW: Date = Date::from_unix_millis(1_800_000_000_000);

fn configured(name: &str) -> Option<Configured> {
    match name {
        "file" => Some(Configured { suspended: false }),
        "former" => Some(Configured { suspended: true }),
        _ => None,
    }
}

fn apply_at(
    ledger: &mut Ledger,
    wish: &CallerWish,
    at: Date,
) -> Result<serde_json::Value, NotDone> {
    let order = Order { at, by: "socket" };
    let done = ledger.apply(wish, order, configured)?;
    Ok(done.told)
}

fn apply(ledger: &mut Ledger, wish: &CallerWish) -> Result<serde_json::Value, NotDone> {
    apply_at(ledger, wish, NOW)
}

fn new(name: &str) -> CallerWish {
    CallerWish::NewConsumer {
        name: name.to_owned(),
        groups: vec!["partners".to_owned()],
        plan: None,
    }
}

fn key(consumer: &str, expires: Option<Date>) -> CallerWish {
    CallerWish::NewKey {
        consumer: consumer.to_owned(),
        expires,
    }
}

fn later(millis: i64) -> Date {
    Date::from_unix_millis(NOW.unix_millis() + millis)
}

#[test]
fn a_consumer_has_two_live_keys_and_no_third() {
    let mut ledger = Ledger::default();
    apply(&mut ledger, &new("acme")).unwrap();
    for consumer in ["acme", "file"] {
        apply(&mut ledger, &key(consumer, Some(later(1000)))).unwrap();
        let second = apply(&mut ledger, &key(consumer, None)).unwrap();
        let third = apply(&mut ledger, &key(consumer, None));
        assert!(matches!(third, Err(NotDone::Refused(_))), "{third:?}");
        // One that is over makes room, and so does one that is revoked.
        apply_at(&mut ledger, &key(consumer, None), later(1000)).unwrap();
        let id = second["id"].as_str().unwrap().to_owned();
        apply(&mut ledger, &CallerWish::Key(id, Fate::Revoke)).unwrap();
        apply_at(&mut ledger, &key(consumer, None), later(1000)).unwrap();
    }
    assert_eq!(ledger.keys.len(), 4);
    assert!(matches!(
        apply(&mut ledger, &key("file", Some(NOW))),
        Err(NotDone::Refused(_))
    ));
    assert!(matches!(
        apply(&mut ledger, &key("nobody", None)),
        Err(NotDone::Unknown(_))
    ));
}

#[test]
fn a_key_is_kept_by_its_digest_only() {
    let mut ledger = Ledger::default();
    let told = apply(&mut ledger, &key("file", None)).unwrap();
    let secret = told["key"].as_str().unwrap();
    let written = String::from_utf8(ledger.bytes().unwrap()).unwrap();
    assert!(!written.contains(secret) && !written.contains(&secret[3..20]));
    assert_eq!(Ledger::read(written.as_bytes()).unwrap(), ledger);
}

#[test]
fn what_the_config_says_only_the_config_takes_back() {
    let mut ledger = Ledger::default();
    let mut set = |name: &str, fate| apply(&mut ledger, &CallerWish::Consumer(name.into(), fate));
    assert!(matches!(
        set("file", Fate::Revoke),
        Err(NotDone::Refused(_))
    ));
    assert!(matches!(
        set("former", Fate::Resume),
        Err(NotDone::Refused(_))
    ));
    assert!(matches!(
        set("file", Fate::Resume),
        Err(NotDone::Refused(_))
    ));
    assert_eq!(set("file", Fate::Suspend).unwrap()["suspended"], true);
    assert!(matches!(
        set("file", Fate::Suspend),
        Err(NotDone::Refused(_))
    ));
    assert_eq!(set("file", Fate::Resume).unwrap()["suspended"], false);
    assert!(matches!(
        set("nobody", Fate::Suspend),
        Err(NotDone::Unknown(_))
    ));
    assert!(matches!(
        apply(&mut ledger, &new("file")),
        Err(NotDone::Refused(_))
    ));
}

#[test]
fn whoever_is_revoked_leaves_nothing_behind() {
    let mut ledger = Ledger::default();
    apply(&mut ledger, &new("acme")).unwrap();
    let made = apply(&mut ledger, &key("acme", None)).unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    apply(&mut ledger, &CallerWish::Key(id.clone(), Fate::Suspend)).unwrap();
    assert!(ledger.keys[&id].suspended);
    apply(
        &mut ledger,
        &CallerWish::Consumer("acme".into(), Fate::Suspend),
    )
    .unwrap();
    apply(
        &mut ledger,
        &CallerWish::Consumer("acme".into(), Fate::Revoke),
    )
    .unwrap();
    assert!(ledger.keys.is_empty() && ledger.suspended.is_empty() && ledger.consumers.is_empty());
    let done: Vec<&str> = ledger.history.iter().map(|it| it.done.as_str()).collect();
    let all = [
        "consumer made",
        "key made",
        "key suspended",
        "consumer suspended",
        "consumer revoked",
    ];
    assert_eq!(done, all);
    assert_eq!(ledger.history[1].key.as_deref(), Some(id.as_str()));
}

#[test]
fn names_and_groups_that_say_something_else_are_refused() {
    let mut ledger = Ledger::default();
    for name in ["", "none", "a b", "a/b", "a\n", &"a".repeat(65)] {
        assert!(
            matches!(apply(&mut ledger, &new(name)), Err(NotDone::Refused(_))),
            "{name}"
        );
    }
    for group in ["", "a,b", "a\r"] {
        let wish = CallerWish::NewConsumer {
            name: "acme".to_owned(),
            groups: vec![group.to_owned()],
            plan: None,
        };
        assert!(
            matches!(apply(&mut ledger, &wish), Err(NotDone::Refused(_))),
            "{group}"
        );
    }
}

#[test]
fn what_nobody_wrote_here_is_not_read() {
    let mut ledger = Ledger::default();
    apply(&mut ledger, &new("acme")).unwrap();
    apply(&mut ledger, &key("acme", None)).unwrap();
    let good = String::from_utf8(ledger.bytes().unwrap()).unwrap();
    Ledger::read(good.as_bytes()).unwrap();
    let cut = &good[..good.len() / 2];
    for bad in [
        "",
        cut,
        &good.replace("\"format\": 1", "\"format\": 2"),
        &good.replace("\"partners\"", "\"a,b\""),
        &good.replace("\"acme\": {", "\"a b\": {"),
        &good.replace("\"sha256\": \"", "\"sha256\": \"0"),
        &good.replace("\"format\": 1", "\"format\": 1, \"more\": 1"),
    ] {
        let why = Ledger::read(bad.as_bytes()).unwrap_err();
        assert!(!why.contains("acme"), "{why}");
    }
}
