//! A document into a plan: what is served where, what is inherited, and that nothing is refused twice.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::problem::{Problem, Problems};
use crate::base::task::Spawner;
use crate::config::source::Environment;
use crate::config::{Loaded, load_text};
use crate::plan::{Action, Plan, Site, compile};
use crate::telemetry::Telemetry;
use crate::upstream::{Found, NameError, Names};

const LISTENERS: &str = "version: 1\nlisteners:\n  public: { address: \"127.0.0.1:0\", PUBLIC }\n  internal: { address: \"127.0.0.1:0\" }\n\
    upstreams:\n  app: { targets: [{ url: \"http://127.0.0.1:1\" }] }\n  next: { targets: [{ url: \"http://127.0.0.1:2\" }] }\n";

fn config(public: &str, rest: &str) -> String {
    LISTENERS.replace(", PUBLIC", public) + rest
}

fn compiled(text: &str) -> (Loaded, Option<Plan>, Vec<String>) {
    let mut loaded = load_text("t", text, &Environment::Fixed(Default::default()));
    let mut problems = std::mem::take(&mut loaded.problems);
    let plan = compile(&loaded.document, "via", &mut problems);
    let told = told(&problems);
    (loaded, plan, told)
}

fn told(problems: &Problems) -> Vec<String> {
    let told = |problem: &Problem| format!("{} {}: {}", problem.code, problem.place, problem.what);
    problems.list().iter().map(told).collect()
}

fn plan(text: &str) -> Plan {
    let (_, plan, told) = compiled(text);
    plan.unwrap_or_else(|| panic!("{told:?}"))
}

/// The routes of a site, each with the policies that run on it.
fn routes(site: &Site) -> Vec<String> {
    let names = |route: &crate::plan::Route| {
        let chain = format!("{:?}", route.chain);
        let ran = ["Maintenance", "Lifecycle", "Request", "Response"];
        let ran = ran
            .into_iter()
            .filter(|policy| chain.contains(&format!("{policy}({policy}")));
        format!("{} {}", route.name, ran.collect::<Vec<_>>().join("+"))
    };
    site.routes.iter().map(names).collect()
}

#[test]
fn a_route_is_served_on_the_listeners_that_it_names() {
    let plan = plan(&config(
        "",
        "routes:\n  - { name: everywhere, match: { path: /a }, respond: {} }\n  \
         - { name: inside, match: { path: /b, listeners: [internal] }, respond: {} }\n  \
         - { name: apps, match: { path: /c }, upstream: app }\n  - { name: nexts, match: { path: /d }, upstream: next }\n",
    ));
    let sites: Vec<Vec<String>> = plan
        .listeners
        .iter()
        .map(|listener| routes(&listener.site))
        .collect();
    assert_eq!(
        sites[0],
        [
            "everywhere ",
            "apps Response",
            "nexts Response",
            "not_found "
        ]
    );
    assert_eq!(
        sites[1],
        [
            "everywhere ",
            "inside ",
            "apps Response",
            "nexts Response",
            "not_found "
        ]
    );
    for listener in &plan.listeners {
        let last = listener.site.route(listener.site.not_found());
        assert!(matches!(
            last.map(|route| &route.action),
            Some(Action::NotFound)
        ));
    }
}

#[test]
fn the_nearest_clause_holds_as_a_whole_and_none_turns_it_off() {
    let plan = plan(&config(
        ", defaults: { maintenance: { message: listener } }",
        "defaults: { routes: { maintenance: { message: all }, request: { host: a } } }\nroutes:\n  \
         - { name: inherits, match: { path: /a }, upstream: app }\n  \
         - { name: own, match: { path: /b }, maintenance: { message: own }, upstream: app }\n  \
         - { name: off, match: { path: /c }, maintenance: none, request: none, upstream: next }\n",
    ));
    let message = |listener: usize, route: usize| {
        let chain = format!("{:?}", plan.listeners[listener].site.routes[route].chain);
        ["listener", "all", "own"]
            .into_iter()
            .find(|message| chain.contains(&format!("message: Some(\"{message}\")")))
    };
    assert_eq!(
        (message(0, 0), message(1, 0)),
        (Some("listener"), Some("all"))
    );
    assert_eq!((message(0, 1), message(1, 1)), (Some("own"), Some("own")));
    assert_eq!((message(0, 2), message(1, 2)), (None, None));
    // Requests that fall under no route inherit too.
    assert_eq!(
        (message(0, 3), message(1, 3)),
        (Some("listener"), Some("all"))
    );
    let site = routes(&plan.listeners[1].site);
    assert_eq!(site[0], "inherits Maintenance+Request+Response");
    assert_eq!(site[2], "off Response");
}

#[test]
fn an_environment_swaps_upstreams_for_one_host() {
    let plan = plan(&config(
        "",
        "environments: { staging: { hosts: { API.example.com: s.example.com }, upstreams: { app: next } } }\n\
         routes: [{ name: a, match: { hosts: [api.example.com], path: / }, upstream: app }]\n",
    ));
    let hosts = &plan.listeners[0].site.environments;
    let staging = hosts.get("s.example.com").expect("the environment");
    assert_eq!(&*staging.host, "api.example.com");
    let names: Vec<(usize, &str)> = staging
        .upstreams
        .iter()
        .map(|(from, to)| (*from, &**to.name()))
        .collect();
    assert_eq!(names, [(0, "next")]);
    assert_eq!(hosts.len(), 1);
}

#[test]
fn a_wildcard_of_routes_may_have_an_environment() {
    let text = config(
        "",
        "environments: { staging: { hosts: { a.example.com: s.example.org }, upstreams: { app: next } } }\n\
         routes: [{ name: a, match: { hosts: [\"*.example.com\"], path: / }, upstream: app }]\n",
    );
    assert!(compiled(&text).1.is_some());
    let other = text.replace("*.example.com", "*.example.net");
    let (_, plan, told) = compiled(&other);
    assert!(plan.is_none());
    assert_eq!(
        told,
        ["E019 environments.staging.hosts.a.example.com: no route is for the host `a.example.com`"]
    );
}

#[test]
fn what_is_wrong_on_every_listener_is_told_once() {
    let (_, plan, told) = compiled(&config(
        "",
        "routes:\n  - { name: a, match: { path: /a }, upstream: nowhere }\n  - { name: b, match: { path: /b }, respond: { text: \"{x}\" } }\n  \
         - { name: c, match: { path: /c }, upstream: app }\n  - { name: d, match: { path: /c }, upstream: next }\n",
    ));
    assert!(plan.is_none());
    assert_eq!(
        told,
        [
            "E031 routes[0].upstream: unknown upstream `nowhere`",
            "E032 routes[1].respond.text: unknown path parameter `x`",
            "E021 routes[3].match: route `d` ties with `c` for the same path",
        ]
    );
}

#[test]
fn a_route_that_no_listener_serves_is_looked_at_too() {
    let (_, _, told) = compiled(&config(
        "",
        "routes:\n  - { name: a, match: { path: /a, listeners: [extern] }, upstream: nowhere }\n  - { name: b, match: { path: b }, upstream: nowhere2 }\n",
    ));
    assert_eq!(
        told,
        [
            "E035 routes[1].match.path: path `b` does not begin with `/`",
            "E031 routes[0].match.listeners[0]: unknown listener `extern`",
            "E031 routes[0].upstream: unknown upstream `nowhere`",
            "E031 routes[1].upstream: unknown upstream `nowhere2`",
        ]
    );
}

#[test]
fn a_version_in_the_path_is_a_rule_of_its_own() {
    let text = config(
        "",
        "routes:\n  - { name: a, match: { path: /x, version: { path: true, any_of: [v1, v2] } }, upstream: app }\n  \
         - { name: b, match: { path: /v2/x }, upstream: next }\n",
    );
    let (_, plan, told) = compiled(&text);
    assert!(plan.is_none());
    assert_eq!(
        told,
        ["E021 routes[1].match: route `b` ties with `a` for the same path"]
    );
    let apart = text.replace("[v1, v2]", "[v1]");
    assert!(compiled(&apart).1.is_some());
}

#[test]
fn an_unused_upstream_is_a_warning_and_the_plan_stands() {
    let (_, plan, told) = compiled(&config(
        "",
        "routes: [{ name: a, match: { path: / }, upstream: app }]\n",
    ));
    assert!(plan.is_some());
    assert_eq!(
        told,
        ["W010 upstreams.next: no route uses the upstream `next`"]
    );
}

#[test]
fn threads_and_addresses_reach_the_plan() {
    let plan = plan(&config(
        ", hosts: [\"*.example.com\"], trusted_proxies: [10.0.0.0/8]",
        "runtime: { threads: 3 }\nroutes: [{ name: a, match: { path: / }, upstream: app }, { name: b, match: { path: /b }, upstream: next }]\n",
    ));
    assert_eq!(plan.threads, Some(3));
    assert_eq!(&*plan.via, "via");
    let public = &plan.listeners[0];
    assert_eq!((public.addresses.len(), public.hosts.len()), (1, 1));
    assert!(
        public
            .trusted
            .contains("10.1.2.3".parse().expect("an address"))
    );
    assert!(
        !plan.listeners[1]
            .trusted
            .contains("10.1.2.3".parse().expect("an address"))
    );
}

/// A plan with these listeners, and what else stands at the top.
fn served(listeners: &str, rest: &str) -> Plan {
    plan(&format!(
        "version: 1\nlisteners: {listeners}\n{rest}routes: [{{ name: a, match: {{ path: / }}, respond: {{}} }}]\n"
    ))
}

#[test]
fn a_listener_keeps_its_number_also_when_it_is_gone() {
    let plan = |listeners: &str| served(listeners, "");
    let old = plan("{ one: { address: \"127.0.0.1:1\" }, two: { address: \"127.0.0.1:2\" } }");
    let mut new =
        plan("{ three: { address: \"127.0.0.1:2\" }, two: { address: \"127.0.0.1:4\" } }");
    assert_eq!(new.succeed(&old), Ok(()));
    let known = |plan: &Plan| -> Vec<(String, bool, usize)> {
        let each = plan.listeners.iter();
        each.map(|it| (it.name.to_string(), it.retired, it.addresses.len()))
            .collect()
    };
    let is = |name: &str, retired, addresses| (name.to_owned(), retired, addresses);
    assert_eq!(
        known(&new),
        [
            is("one", true, 0),
            is("two", false, 1),
            is("three", false, 1)
        ]
    );
    let mut back = plan("{ one: { address: \"127.0.0.1:1\" } }");
    assert_eq!(back.succeed(&new), Ok(()));
    assert_eq!(
        known(&back),
        [
            is("one", false, 1),
            is("two", true, 0),
            is("three", true, 0)
        ]
    );
}

#[test]
fn the_admin_interface_changes_by_a_restart_only() {
    let listeners = "{ one: { address: \"127.0.0.1:1\" } }";
    let old = served(listeners, "admin: { socket: a.sock }\n");
    let succeed = |admin: &str| served(listeners, admin).succeed(&old);
    assert_eq!(succeed("admin: { socket: a.sock }\n"), Ok(()));
    for admin in ["", "admin: { socket: b.sock }\n"] {
        let told = succeed(admin);
        assert_eq!(told, Err(vec!["`admin` is different".to_owned()]));
    }
}

#[test]
fn sockets_keep_their_listener_in_whatever_order_it_is_written() {
    let [a, b] = [
        "a: { address: \"127.0.0.1:1\" }",
        "b: { address: \"127.0.0.1:2\" }",
    ];
    let old = served(&format!("{{ {a}, {b} }}"), "");
    let mut new = served(&format!("{{ {b}, {a} }}"), "");
    assert_eq!(new.succeed(&old), Ok(()));
    let names = |plan: &Plan| -> Vec<String> {
        plan.listeners
            .iter()
            .map(|listener| listener.name.to_string())
            .collect()
    };
    assert_eq!(names(&new), names(&old));
}

#[test]
fn generations_are_counted_and_the_name_stays() {
    let listeners = "{ one: { address: \"127.0.0.1:1\" } }";
    let mut old = served(listeners, "");
    old.via = "the-first".into();
    let mut new = served(listeners, "");
    assert_eq!(new.succeed(&old), Ok(()));
    assert_eq!((old.generation, new.generation), (1, 2));
    assert_eq!(&*new.via, "the-first");
    let mut next = served(listeners, "");
    assert_eq!(next.succeed(&new), Ok(()));
    assert_eq!(next.generation, 3);
}

/// Everybody is at 127.0.0.9.
struct Nine;

#[async_trait]
impl Names for Nine {
    async fn look_up(&self, _: &str) -> Result<Found, NameError> {
        let addresses = vec![[127, 0, 0, 9].into()];
        let ttl = Duration::from_secs(3600);
        Ok(Found { addresses, ttl })
    }
}

#[tokio::test]
async fn addresses_of_names_are_taken_over() {
    let upstreams = |name: &str| {
        plan(&format!(
            "version: 1\nlisteners: {{ one: {{ address: \"127.0.0.1:1\" }} }}\nupstreams:\n  {name}: {{ targets: [{{ url: \"http://app.test:8080\" }}, {{ url: \"http://127.0.0.1:2\" }}] }}\n\
             routes: [{{ name: a, match: {{ path: / }}, upstream: {name} }}]\n"
        ))
    };
    let address = |plan: &Plan| {
        let mut targets = plan.upstreams[0].targets();
        targets.find_map(|target| (target.authority == "app.test:8080").then_some(target.address))
    };
    let known = Some(Some("127.0.0.9:8080".parse().expect("an address")));
    let (old, spawner) = (
        upstreams("app"),
        Spawner::new(tokio::runtime::Handle::current()),
    );
    let (names, telemetry): (Arc<dyn Names>, _) = (
        Arc::new(Nine),
        Telemetry::new(&Default::default()).expect("metrics"),
    );
    let clock: crate::base::clock::SharedClock = Arc::new(crate::base::clock::SystemClock);
    let http = crate::call::Http::new(&pingora::server::configuration::ServerConf::default());
    let means = crate::policy::auth::Means {
        names,
        spawner,
        clock,
        http: Arc::new(http),
    };
    let _tasks = old.start(&means, &telemetry).await;
    assert_eq!(address(&old), known);

    let mut same = upstreams("app");
    assert_eq!(address(&same), Some(None));
    assert_eq!(same.succeed(&old), Ok(()));
    assert_eq!(address(&same), known);

    let mut other = upstreams("other");
    assert_eq!(other.succeed(&old), Ok(()));
    assert_eq!(address(&other), Some(None));
}
