//! Cookies by which clients stay with their target, where a secret of the config signs them.

use super::control::reload;
use super::support::{Gateway, Origin, Reply, Setup};

const SECRET: &str = "0123456789abcdef";

fn config(origins: &[Origin; 3], secret: &str) -> String {
    let targets: Vec<String> = origins
        .iter()
        .map(|origin| format!("{{ url: \"{}\" }}", origin.url()))
        .collect();
    let targets = targets.join(", ");
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{targets}], load_balancing: round_robin, sticky: {{ cookie: route{secret} }} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n"
    )
}

fn origins() -> [Origin; 3] {
    [0, 1, 2].map(|number| Origin::answer(move |_| Reply::ok(number.to_string())))
}

/// Who answers, and the cookie that comes along.
fn ask(gateway: &Gateway, cookie: Option<&str>) -> (String, Option<String>) {
    let cookie = cookie.map(|cookie| ("Cookie", cookie));
    let headers: Vec<(&str, &str)> = [("Host", "a.test")].into_iter().chain(cookie).collect();
    let answer = gateway.client().request("GET", "/", &headers, b"");
    let answer = answer.expect(200);
    let set = answer.header("set-cookie");
    let set = set.and_then(|set| Some(set.split_once(';')?.0.to_owned()));
    (answer.text(), set)
}

/// A gateway of its own, whose secret is `written` in a file.
fn with_secret(origins: &[Origin; 3], written: &str) -> Gateway {
    let config = config(origins, ", secret: { file: sticky.secret }");
    Setup::new(&config).file("sticky.secret", written).spawn()
}

/// How many of its answers to this cookie are by `target`, of six.
fn stays(gateway: &Gateway, cookie: &str, target: &str) -> usize {
    let asked = (0..6).map(|_| ask(gateway, Some(cookie)).0);
    asked.filter(|answered| answered == target).count()
}

#[test]
fn a_cookie_holds_at_every_gateway_that_has_its_secret_and_after_a_restart() {
    let origins = origins();
    let first = with_secret(&origins, SECRET);
    let (target, cookie) = ask(&first, None);
    let cookie = cookie.unwrap();
    assert!(!cookie.contains(SECRET));
    assert_eq!(stays(&first, &cookie, &target), 6);
    let beside = with_secret(&origins, &format!("{SECRET}\n"));
    assert_eq!(stays(&beside, &cookie, &target), 6);
    drop(first);
    let after = with_secret(&origins, SECRET);
    assert_eq!(stays(&after, &cookie, &target), 6);
    // Of another secret, or without one, it is as good as none.
    let others = Gateway::spawn(&config(&origins, ""));
    for other in [with_secret(&origins, "fedcba9876543210"), others] {
        assert_eq!(stays(&other, &cookie, &target), 2);
    }
}

#[test]
fn a_secret_that_changes_ends_the_cookies_of_the_one_before() {
    let origins = origins();
    let gateway = with_secret(&origins, SECRET);
    let (target, cookie) = ask(&gateway, None);
    let cookie = cookie.unwrap();
    gateway.write_config(&config(
        &origins,
        ", secret: { file: sticky.secret }, ttl: 2h",
    ));
    reload(&gateway, 0);
    assert_eq!(
        ask(&gateway, Some(&cookie)).0,
        target,
        "a reload alone changes nothing"
    );
    gateway.write_config(&config(&origins, ", secret: fedcba9876543210"));
    reload(&gateway, 0);
    assert_eq!(stays(&gateway, &cookie, &target), 2);
}
