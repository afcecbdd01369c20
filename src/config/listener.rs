//! One of `listeners` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clients::{ClientTimesSpec, LimitsSpec};
use super::later::Part;
use super::section::{Section, value_not_yet, without_later};
use super::tree::{Entry, Node, Value};
use crate::base::list::OneOrMany;
use crate::base::net::{ListenAddress, Net};
use crate::base::problem::{Place, Problem, Problems};
use crate::policy::Specs;
use crate::tls;

/// Where clients connect.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// One address or a list, e.g. `[::]:8080` or `unix:/run/doorward/http.sock`.
    pub address: OneOrMany<ListenAddress>,
    /// What is spoken here. Default `[http1]`, with `tls` `[http1, http2]`.
    #[serde(default)]
    pub protocols: Vec<Protocol>,
    /// Hosts that are answered here, e.g. `*.example.com`; every other gets 421. Default: any.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Networks of peers whose `Forwarded` and `X-Forwarded-*` are read, right to left. Default: nobody.
    #[serde(default)]
    pub trusted_proxies: Vec<Net>,
    /// Load balancers that say whose connection they pass on (PROXY protocol, versions 1 and 2). Default: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Certificates, and what else it takes to speak TLS. Default: none is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Spec>,
    /// What its clients may have.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// How long its clients may take.
    #[serde(default)]
    pub timeouts: ClientTimesSpec,
    /// Route clauses for what arrives here: between `defaults.routes` and the route's own.
    #[serde(skip)]
    pub defaults: Specs,
}

/// Whose word is taken on whose connection it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Networks of those who may say it; from everybody else it is no header. A unix socket is always one of them. At least one.
    pub from: Vec<Net>,
    /// Whether nobody gets in without saying it. Default true.
    #[serde(default = "yes")]
    pub required: bool,
}

const fn yes() -> bool {
    true
}

/// A protocol that clients may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 (and 1.0).
    Http1,
    /// HTTP/2 over TLS, agreed upon by ALPN.
    Http2,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// Reads one of `listeners`; mistakes are reported.
pub(super) fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Listener> {
    let mut node = node.clone();
    let written = node.child("protocols").is_some();
    let refused = refuse_acme(&mut node, place, problems);
    let defaults = node.child("defaults").map(|node| {
        let mut section = Section::new(node, place.key("defaults"), Part::Route, problems);
        let specs = Specs::take(&mut section);
        section.finish();
        specs
    });
    let section = Section::new(&node, place.clone(), Part::Listener, problems);
    let mut listener: Listener = section.rest(&["defaults"])?;
    if written && listener.protocols.is_empty() {
        let place = place.key("protocols");
        let problem = Problem::error("E012", place, "a listener that speaks nothing");
        problems.push(problem.hint("write `[http1]`, or take the key out"));
    }
    if !written {
        listener.protocols = match &listener.tls {
            Some(_) => vec![Protocol::Http1, Protocol::Http2],
            None => vec![Protocol::Http1],
        };
    }
    for (index, protocol) in listener.protocols.iter().enumerate() {
        let (what, hint) = match (protocol, &listener.tls) {
            (Protocol::Http2, None) => (
                "`http2` is spoken over TLS",
                "add `tls`, or write `h2c` for HTTP/2 without it",
            ),
            (Protocol::H2c, Some(_)) => (
                "`h2c` is spoken without TLS",
                "write `http2`, or take `tls` out",
            ),
            (Protocol::Http1, _) | (Protocol::Http2, Some(_)) | (Protocol::H2c, None) => continue,
        };
        let place = place.key("protocols").index(index);
        problems.push(Problem::error("E054", place, what).hint(hint));
    }
    if let Some(said) = &listener.proxy_protocol
        && said.from.is_empty()
    {
        let place = place.key("proxy_protocol").key("from");
        let problem = Problem::error("E012", place, "nobody may say whose connection it is");
        problems.push(problem.hint("name the networks of the load balancers, e.g. `10.0.0.0/8`"));
    }
    listener.defaults = defaults.unwrap_or_default();
    Some(listener).filter(|_| !refused)
}

/// Reports certificates that a later version gets by itself; each is replaced, so that the others keep their places.
fn refuse_acme(node: &mut Node, place: &Place, problems: &mut Problems) -> bool {
    let Some(tls) = child(node, "tls") else {
        return false;
    };
    let place = place.key("tls");
    *tls = without_later(tls, &place, Part::ListenerTls, &[], problems);
    let place = place.key("certificates");
    let mut refused = false;
    let items = list(tls, "certificates").into_iter().flatten();
    for (index, item) in items.enumerate() {
        if item.child("acme").is_none() {
            continue;
        }
        // The whole item, so that what it needs instead is no further mistake.
        problems.push(value_not_yet(place.index(index), "acme"));
        refused = true;
        let entries = ["cert_file", "key_file"].map(|key| Entry {
            key: key.to_owned(),
            key_mark: item.mark,
            node: Node {
                value: Value::Text(String::new()),
                ..Node::empty_map(item.mark)
            },
        });
        item.value = Value::Map(entries.into());
    }
    refused
}

fn child<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Value::Map(entries) = &mut node.value else {
        return None;
    };
    let entry = entries.iter_mut().find(|entry| entry.key == key)?;
    Some(&mut entry.node)
}

fn list<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Vec<Node>> {
    match &mut child(node, key)?.value {
        Value::List(items) => Some(items),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => None,
    }
}
