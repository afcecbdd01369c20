//! Which target a request goes to: each method by what it does, and targets that come and go.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::control::reload;
use super::support::{Client, Gate, Gateway, Origin, Reply, scale};

/// A target that takes so long is slow, whatever else the machine does.
const SLOW: Duration = Duration::from_millis(500);

/// An upstream with `keys` in front of these targets, each a flow map.
pub(crate) fn config(keys: &str, targets: &[String]) -> String {
    let targets = targets.join(", ");
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ requests_per_connection: 100000 }} }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ {keys}targets: [{targets}] }} }}\n\
         routes:\n  - {{ name: item, match: {{ path: \"/items/{{id}}\" }}, upstream: o }}\n  - {{ name: all, match: {{ path_prefix: / }}, upstream: o }}\n"
    )
}

pub(crate) fn target(origin: &Origin, more: &str) -> String {
    format!("{{ url: \"{}\"{more} }}", origin.url())
}

pub(crate) fn plain(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| target(origin, "")).collect()
}

/// Origins that answer with their number; what is asked for `/held` waits at the gate.
fn origins<const N: usize>(gate: &Gate) -> [Origin; N] {
    std::array::from_fn(|number| {
        let gate = gate.clone();
        Origin::answer(move |request| {
            let reply = Reply::ok(number.to_string());
            if request.path.starts_with("/held") {
                reply.after(&gate)
            } else {
                reply
            }
        })
    })
}

fn who(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> usize {
    let answer = client.request("GET", path, headers, b"").expect(200);
    answer.text().parse().unwrap()
}

/// Sends a request that is held, on a connection of its own.
fn hold(gateway: &Gateway, gate: &Gate, held: u64, headers: &[(&str, &str)]) -> Client {
    let mut client = gateway.client();
    client.send_request("GET", "/held", headers, b"");
    gate.wait_until_waiting(held);
    client
}

#[test]
fn turns_go_by_weight() {
    let all = origins::<3>(&Gate::new());
    let targets = [
        target(&all[0], ", weight: 3"),
        target(&all[1], ""),
        target(&all[2], ", weight: 2"),
    ];
    let gateway = Gateway::spawn(&config("load_balancing: round_robin, ", &targets));
    let mut client = gateway.client();
    let rounds = scale(500).max(5);
    for _ in 0..rounds * 6 {
        client.get("/").expect(200);
    }
    assert_eq!(all.map(|origin| origin.count() / rounds), [3, 1, 2]);
}

#[test]
fn by_default_requests_go_where_fewer_are_under_way() {
    let gate = Gate::new();
    let all = origins::<2>(&gate);
    let gateway = Gateway::spawn(&config("", &plain(&all)));
    let mut held = hold(&gateway, &gate, 1, &[]);
    let mut client = gateway.client();
    let idle: BTreeSet<usize> = (0..scale(2_000))
        .map(|_| who(&mut client, "/", &[]))
        .collect();
    gate.open();
    let busy: usize = held.response("GET").text().parse().unwrap();
    assert_eq!(idle, BTreeSet::from([1 - busy]));
    // It is free again when its answer is whole.
    while who(&mut client, "/", &[]) != busy {}
}

#[test]
fn chance_asks_nobody_how_busy_they_are() {
    let gate = Gate::new();
    let all = origins::<2>(&gate);
    // One is held for as long as all others take.
    let keys = "load_balancing: random, timeouts: { first_byte: 5m, total: 5m }, ";
    let gateway = Gateway::spawn(&config(keys, &plain(&all)));
    let mut held = hold(&gateway, &gate, 1, &[]);
    let mut client = gateway.client();
    let seen: Vec<usize> = (0..scale(6_000).max(60))
        .map(|_| who(&mut client, "/", &[]))
        .collect();
    gate.open();
    held.response("GET").expect(200);
    assert_eq!(
        seen.iter().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from([0, 1])
    );
    assert!(
        seen.windows(2).any(|two| two[0] == two[1]),
        "by turns: {seen:?}"
    );
}

#[test]
fn who_was_slow_is_left_alone() {
    let gate = Gate::new();
    let all = origins::<2>(&gate);
    let gateway = Gateway::spawn(&config("load_balancing: peak_ewma, ", &plain(&all)));
    let mut held = hold(&gateway, &gate, 1, &[]);
    let mut client = gateway.client();
    // Each of these is faster by far than the one that waits for all of them.
    let began = Instant::now();
    while began.elapsed() < SLOW {
        who(&mut client, "/", &[]);
    }
    gate.open();
    let slow: usize = held.response("GET").text().parse().unwrap();
    // Both are idle now: only how long they took makes the difference.
    let seen: BTreeSet<usize> = (0..scale(2_000))
        .map(|_| who(&mut client, "/", &[]))
        .collect();
    assert_eq!(seen, BTreeSet::from([1 - slow]));
}

#[test]
fn the_same_key_comes_to_the_same_target() {
    for method in ["ring_hash", "maglev"] {
        let all = origins::<3>(&Gate::new());
        let key = format!("load_balancing: {{ {method}: {{ by: \"header:x-tenant\" }} }}, ");
        let gateway = Gateway::spawn(&config(&key, &plain(&all)));
        let mut client = gateway.client();
        let mut seen = BTreeSet::new();
        for tenant in 0..scale(3_000) {
            let tenant = tenant.to_string();
            let headers = [("x-tenant", tenant.as_str())];
            let first = who(&mut client, "/", &headers);
            assert_eq!(
                who(&mut gateway.client(), "/other", &headers),
                first,
                "{method}"
            );
            seen.insert(first);
        }
        assert_eq!(seen.len(), 3, "{method}");
        // Whoever has no key goes by chance.
        let seen: BTreeSet<usize> = (0..60).map(|_| who(&mut client, "/", &[])).collect();
        assert_eq!(seen.len(), 3, "{method}");
    }
}

#[test]
fn every_part_of_a_key_counts() {
    let all = origins::<2>(&Gate::new());
    for (by, same, headers) in [
        ("client_ip", "/", [("x-a", "{}"), ("cookie", "c={}")]),
        ("client_ip/64", "/", [("x-a", "{}"), ("cookie", "c={}")]),
        ("host", "/?q={}", [("x-a", "{}"), ("cookie", "c={}")]),
        ("route", "/items/{}", [("x-a", "{}"), ("cookie", "c={}")]),
        ("header:x-a", "/?q={}", [("x-a", "1"), ("cookie", "c={}")]),
        ("query:q", "/{}?q=1", [("x-a", "{}"), ("cookie", "c={}")]),
        ("cookie:c", "/?q={}", [("x-a", "{}"), ("cookie", "c=1")]),
        (
            "param:id",
            "/items/7?q={}",
            [("x-a", "{}"), ("cookie", "c={}")],
        ),
    ] {
        let key = format!("load_balancing: {{ maglev: {{ by: \"{by}\" }} }}, ");
        let gateway = Gateway::spawn(&config(&key, &plain(&all)));
        let mut client = gateway.client();
        let mut ask = |number: u32, path: &str| {
            let put = |text: &str| text.replace("{}", &number.to_string());
            let [(a, one), (b, other)] = headers;
            who(&mut client, &put(path), &[(a, &put(one)), (b, &put(other))])
        };
        // What is no part of the key changes.
        let seen: BTreeSet<usize> = (0..20).map(|number| ask(number, same)).collect();
        assert_eq!(seen.len(), 1, "{by}");
    }
    // And what is, makes a difference.
    for (by, path, header) in [
        ("header:x-a", "/", "{}"),
        ("query:q", "/?q={}", "1"),
        ("param:id", "/items/{}", "1"),
    ] {
        let key = format!("load_balancing: {{ ring_hash: {{ by: [host, \"{by}\"] }} }}, ");
        let gateway = Gateway::spawn(&config(&key, &plain(&all)));
        let mut client = gateway.client();
        let seen = (0..40).map(|number| {
            let put = |text: &str| text.replace("{}", &number.to_string());
            who(&mut client, &put(path), &[("x-a", &put(header))])
        });
        assert_eq!(seen.collect::<BTreeSet<_>>().len(), 2, "{by}");
    }
}

#[test]
fn a_key_spills_over_when_its_target_has_its_part() {
    let held = |bound: &str| {
        let gate = Gate::new();
        let all = origins::<2>(&gate);
        let key = format!("load_balancing: {{ ring_hash: {{ by: host{bound} }} }}, ");
        let gateway = Gateway::spawn(&config(&key, &plain(&all)));
        let mut clients: Vec<Client> = (1..=8).map(|n| hold(&gateway, &gate, n, &[])).collect();
        let mut counts = all.each_ref().map(Origin::count);
        gate.open();
        for client in &mut clients {
            client.response("GET").expect(200);
        }
        counts.sort_unstable();
        counts
    };
    assert_eq!(held(""), [0, 8]);
    // At most 125 % of its half of eight: five.
    assert_eq!(held(", bounded_load: 125%"), [3, 5]);
}

#[test]
fn a_backup_gets_nothing_while_it_is_not_needed() {
    let all = origins::<2>(&Gate::new());
    let targets = [target(&all[0], ""), target(&all[1], ", priority: 1")];
    let gateway = Gateway::spawn(&config("load_balancing: round_robin, ", &targets));
    let mut client = gateway.client();
    for _ in 0..20 {
        who(&mut client, "/", &[]);
    }
    assert_eq!(all.map(|origin| origin.count()), [20, 0]);
}

#[test]
fn a_target_that_is_new_begins_slowly() {
    let all = origins::<2>(&Gate::new());
    let targets = plain(&all);
    let keys = "load_balancing: round_robin, slow_start: 10h, ";
    let gateway = Gateway::spawn(&config(keys, &targets[..1]));
    let mut client = gateway.client();
    who(&mut client, "/", &[]);
    gateway.write_config(&config(keys, &targets));
    reload(&gateway, 0);
    // A tenth of its weight in the first hour.
    for _ in 0..22 {
        who(&mut client, "/", &[]);
    }
    assert_eq!(all.each_ref().map(Origin::count), [21, 2]);
    // Where nobody asked for it, all of it at once.
    gateway.write_config(&config("load_balancing: round_robin, ", &targets));
    reload(&gateway, 0);
    for _ in 0..20 {
        who(&mut client, "/", &[]);
    }
    assert_eq!(all.map(|origin| origin.count()), [31, 12]);
}
