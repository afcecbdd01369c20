//! Many at the same time who show tokens of keys that nobody knows: the issuer is asked once for all of them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::time::{Duration, Instant};

use serde_json::json;

use super::control::metric;
use super::support::{Client, DEADLINE, Frames, Gate, Gateway, Origin, Reply, scale};
use super::tokens::{Provider, Signer, claims, config, set};

/// Streams on one connection.
const STREAMS: usize = 100;
/// How long after an attempt the next one comes.
const REST: Duration = Duration::from_secs(30);

/// Everybody of one half has a connection, everybody of the other a stream.
struct Crowd {
    alone: Vec<Client>,
    together: Vec<Frames>,
}

impl Crowd {
    /// Everybody asks, before anybody reads.
    fn ask(&mut self, gateway: &Gateway, tokens: &[String]) {
        let (alone, together) = tokens.split_at(tokens.len() / 2);
        for (at, token) in alone.iter().enumerate() {
            if self.alone.len() <= at {
                self.alone.push(Client::connect(gateway.addr()));
            }
            self.alone[at].send_request("GET", "/", &[("Authorization", token)], b"");
        }
        for (at, tokens) in together.chunks(STREAMS).enumerate() {
            if self.together.len() <= at {
                self.together.push(Frames::connect(gateway.addr()));
            }
            for token in tokens {
                let fields = [
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":authority", "a.test"),
                    (":path", "/"),
                    ("authorization", token),
                ];
                self.together[at].begin(&fields, 1);
            }
        }
    }

    /// How many got each status.
    fn answers(&mut self, tokens: &[String]) -> [(u16, usize); 3] {
        let (alone, together) = tokens.split_at(tokens.len() / 2);
        let mut counts = [(200, 0), (401, 0), (503, 0)];
        let mut count = |status: u16| {
            let found = counts.iter_mut().find(|(known, _)| *known == status);
            found.unwrap().1 += 1;
        };
        for client in self.alone.iter_mut().take(alone.len()) {
            count(client.response("GET").status);
        }
        let mut bodies = Vec::new();
        for (client, tokens) in self.together.iter_mut().zip(together.chunks(STREAMS)) {
            let (mut left, end_stream, data) = (tokens.len(), 1, 0);
            while left > 0 {
                let frame = client.frame().unwrap();
                if frame.kind == data {
                    bodies.extend(&frame.payload);
                }
                // Of a head as of a body; an answer to SETTINGS has no stream.
                if frame.stream > 0 && frame.kind <= 1 && frame.flags & end_stream != 0 {
                    left -= 1;
                }
            }
        }
        let bodies = String::from_utf8(bodies).unwrap();
        for status in [200, 401, 503] {
            let told = bodies.matches(&format!("\"status\":{status}")).count();
            (0..told).for_each(|_| count(status));
        }
        counts
    }
}

fn fetches(gateway: &Gateway, result: &str) -> u64 {
    let name = format!("doorward_key_fetches_total{{authenticator=\"user\",result=\"{result}\"}}");
    metric(gateway, &name).unwrap_or(0)
}

/// Waits until all of them wait for the issuer's answer, or the gateway has waited long enough for it: to send so many requests
/// takes some machines longer, and then they are all answered, whoever comes.
fn wait_until_they_wait(gateway: &Gateway, size: u64) {
    let since = Instant::now();
    loop {
        let there = metric(gateway, "http_server_active_requests");
        let over = fetches(gateway, "unreachable") > 0;
        if over || there.is_some_and(|there| there >= size) {
            return;
        }
        assert!(since.elapsed() < DEADLINE, "{there:?} of {size} are there");
    }
}

/// Waits until the keys are there; where they did not come in time, that is after the rest.
fn wait_until_fetched(gateway: &Gateway) {
    let since = Instant::now();
    while fetches(gateway, "fetched") == 0 {
        let passed = since.elapsed();
        assert!(passed < REST + DEADLINE, "{}", gateway.log());
    }
}

/// J13: nobody can make the gateway ask its issuer more often by asking more.
#[test]
fn many_tokens_of_unknown_keys_at_once_cause_one_fetch() {
    for size in [20, scale(10_000)] {
        let (signer, gate) = (Signer::ed("known"), Gate::new());
        let (provider, origin) = (Provider::start(&[&signer]), Origin::echo());
        let (keys, held) = (set(&[&signer]), gate.clone());
        provider.say(move || Reply::json(200, &keys).after(&held));
        let url = provider.url();
        let strangers = |round: u64| -> Vec<String> {
            let tokens = (0..size).map(|number| {
                let header = json!({ "alg": "EdDSA", "kid": format!("{round}-{number}") });
                let claims = claims(&url, &json!({}));
                let token =
                    signer.raw(header.to_string().as_bytes(), claims.to_string().as_bytes());
                format!("Bearer {token}")
            });
            tokens.collect()
        };
        let (first, second) = (strangers(1), strangers(2));
        let text = config(&origin, &format!("issuer: \"{url}\""), "").replace(
            "protocols: [http1, h2c]",
            "protocols: [http1, h2c], limits: { connections_per_ip: 10000, connection_rate_per_ip: none, request_rate_per_ip: none }",
        );
        let (gateway, since) = (Gateway::spawn(&text), Instant::now());
        // The keys are being fetched, and do not come yet.
        gate.wait_until_waiting(1);
        let mut crowd = Crowd {
            alone: Vec::new(),
            together: Vec::new(),
        };
        crowd.ask(&gateway, &first);
        wait_until_they_wait(&gateway, size);
        gate.open();
        // 503: the gateway waited no longer for its issuer, and nobody could say.
        let [(_, let_in), (_, refused), (_, late)] = crowd.answers(&first);
        assert_eq!((let_in, refused + late), (0, first.len()));
        // Now that they are there, for those who come at once nobody is asked again.
        wait_until_fetched(&gateway);
        crowd.ask(&gateway, &second);
        let [(_, let_in), (_, refused), (_, late)] = crowd.answers(&second);
        assert_eq!((let_in, refused + late), (0, second.len()));
        let most = 1 + usize::try_from(since.elapsed().as_secs() / REST.as_secs()).unwrap();
        assert!(provider.asked() <= most, "{}", provider.asked());
        assert_eq!(origin.count(), 0);
    }
}
