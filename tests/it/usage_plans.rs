//! Plans: which routes their consumers may call, however they are known, of the config and made at run time.

use super::auth::sha256;
use super::control::{at_socket, reload};
use super::support::{Gateway, Origin, Response, Setup, run_cli};

const ROUTES: &str = "routes:\n\
    \x20 - { name: menus, match: { path_prefix: /menus }, auth: { any: [partner], anonymous: guest }, identity: { headers: { x-plan: \"{consumer.plan}\" } }, upstream: o }\n\
    \x20 - { name: orders, match: { path_prefix: /orders }, auth: [partner], identity: { headers: { x-plan: \"{consumer.plan}\" } }, upstream: o }\n\
    \x20 - { name: golden, match: { path_prefix: /golden }, auth: [partner], authorize: { expr: 'consumer.plan == \"gold\"' }, upstream: o }\n\
    \x20 - { name: free, match: { path_prefix: /free }, upstream: o }\n";

fn config(origin: &Origin, plans: &str) -> String {
    let key = |name: &str| {
        let digest = sha256(&format!("key-of-{name}"));
        format!("api_keys: [{{ sha256: {digest} }}]")
    };
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         authenticators: {{ partner: {{ api_key: {{}} }} }}\nplans: {{ {plans} }}\n\
         consumers: {{ courier: {{ plan: small, {} }}, acme: {{ plan: gold, {} }}, nobody: {{ {} }}, guest: {{ plan: small }} }}\n\
         stores: {{ local: {{ file: {{ path: state }} }} }}\nkeys: {{ store: local }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n{ROUTES}",
        key("courier"),
        key("acme"),
        key("nobody"),
        origin.url(),
    )
}

const PLANS: &str = "small: { routes: [menus] }, gold: {}, unused: { routes: [orders] }";

fn ask(gateway: &Gateway, target: &str, key: &str) -> Response {
    let shown = [("X-Api-Key", key), ("X-Plan", "forged")];
    let shown = if key.is_empty() {
        &shown[1..]
    } else {
        &shown[..]
    };
    gateway.client().request("GET", target, shown, b"")
}

#[test]
fn a_consumer_calls_the_routes_of_its_plan_and_no_other() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&config(&origin, PLANS));
    for (target, key, status, plan) in [
        ("/menus", "key-of-courier", 200, Some("small")),
        ("/menus", "", 200, Some("small")),
        ("/orders/7", "key-of-courier", 403, None),
        ("/golden", "key-of-courier", 403, None),
        // Nobody is asked for there, and nobody says what others are told of callers.
        ("/free", "key-of-courier", 200, None),
        ("/menus", "key-of-acme", 200, Some("gold")),
        ("/orders/7", "key-of-acme", 200, Some("gold")),
        ("/golden", "key-of-acme", 200, None),
        // Without a plan every route is open, and nothing is told of one.
        ("/orders/7", "key-of-nobody", 200, None),
        ("/golden", "key-of-nobody", 403, None),
    ] {
        let before = origin.count();
        let answer = ask(&gateway, target, key).expect(status);
        assert_eq!(
            origin.count() - before,
            u64::from(status == 200),
            "{target}"
        );
        if status == 200 {
            assert_eq!(origin.last().header("x-plan"), plan, "{target} {key}");
        } else {
            assert_eq!(answer.json()["type"], "urn:doorward:error:forbidden");
        }
    }
    // Records of several connections come in no certain order.
    let parts = ["in the consumer's plan", "\"http.route\":\"orders\""];
    let line = gateway.process().wait_line("a refusal by plan", |line| {
        let all = parts.iter().all(|part| line.contains(part));
        all.then(|| line.to_owned())
    });
    assert!(line.contains("\"decided_by\":\"auth\""), "{line}");
}

#[test]
fn who_asks_is_told_of_the_plan() {
    let origin = Origin::echo();
    let tests = "tests:\n\
        - { request: GET http://a.test/orders, as: { consumer: courier }, expect: { status: 403, decided_by: auth, calls: { o: 0 } } }\n\
        - { request: GET http://a.test/orders, as: { consumer: acme }, expect: { status: 200 } }\n";
    let setup = Setup::new(&format!("{}{tests}", config(&origin, PLANS)));
    let tried = run_cli(&["test"], setup.dir());
    assert_eq!(tried.code, 0, "{}{}", tried.stdout, tried.stderr);
    let explained = |key: &str| {
        let header = format!("x-api-key: {key}");
        let args = ["explain", "-H", &header, "GET", "http://a.test/orders"];
        run_cli(&args, setup.dir()).stdout
    };
    let refused = explained("key-of-courier");
    assert!(refused.contains("not in the consumer's plan"), "{refused}");
    let passed = explained("key-of-acme");
    assert!(passed.contains("consumer acme (plan gold)"), "{passed}");
}

#[test]
fn consumers_that_are_made_at_run_time_have_plans_too() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&config(&origin, PLANS));
    let cli = |args: &[&str]| run_cli(args, gateway.dir());
    let made = cli(&["consumers", "new", "rider", "--plan", "small"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let unknown = cli(&["consumers", "new", "other", "--plan", "smal"]);
    assert_eq!(unknown.code, 1, "{}", unknown.stdout);
    assert!(
        unknown.stderr.contains("unknown plan `smal`"),
        "{}",
        unknown.stderr
    );
    let key = cli(&["keys", "new", "rider"]).stdout.trim_end().to_owned();
    ask(&gateway, "/menus", &key).expect(200);
    assert_eq!(origin.last().header("x-plan"), Some("small"));
    ask(&gateway, "/orders", &key).expect(403);
    let listed = cli(&["consumers", "list", "--format", "human"]).stdout;
    for line in [
        "acme  config  keys 1  plan gold",
        "rider  store  keys 1  plan small",
    ] {
        assert!(listed.contains(line), "{listed}");
    }
    let told = at_socket(&gateway, "/consumers");
    assert!(told.contains("\"plan\": \"small\""), "{told}");
    // What the plan has changes with the config, for those who are there as well.
    let wider = PLANS.replace("[menus]", "[menus, orders]");
    gateway.write_config(&config(&origin, &wider));
    drop(reload(&gateway, 0));
    ask(&gateway, "/orders", &key).expect(200);
    // Nobody knows what a plan has that is not there any more.
    let gone = config(&origin, "gold: {}").replace("plan: small", "plan: gold");
    gateway.write_config(&gone);
    drop(reload(&gateway, 0));
    for target in ["/menus", "/orders"] {
        ask(&gateway, target, &key).expect(403);
    }
    ask(&gateway, "/orders", "key-of-courier").expect(200);
}
