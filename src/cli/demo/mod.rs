//! `demo`: the gateway on a sample config, with sample services in the same process.

mod services;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::args::{DemoArgs, Global};
use super::{Exit, check, messages, print, run, say};
use crate::config;
use crate::config::source::Environment;

/// The sample config.
const CONFIG: &str = include_str!("../../../conf/demo.yaml");

/// Runs the demo until a signal ends it.
pub(super) fn run(args: &DemoArgs, global: &Global) -> Exit {
    if args.print_config {
        print(CONFIG);
        return Exit::Done;
    }
    messages::to_stderr(&crate::telemetry::LogSpec::default());
    let services = match services::start() {
        Ok(services) => services,
        Err(error) => {
            say(&format!("error: cannot start the sample services: {error}"));
            return Exit::Findings;
        }
    };
    let mut variables: BTreeMap<String, String> =
        BTreeMap::from([("LISTEN".to_owned(), args.listen.clone())]);
    for (name, address) in services.addresses() {
        variables.insert(name.to_ascii_uppercase(), address.to_string());
    }
    let load = move || {
        let environment = Environment::Fixed(variables.clone());
        check::compile(config::load_text("conf/demo.yaml", CONFIG, &environment))
    };
    let (loaded, plan) = load();
    let loader = Arc::new(move |tests| {
        let (loaded, plan) = load();
        run::candidate(&loaded, plan, tests)
    });
    let sources = run::Sources {
        loader,
        files: None,
    };
    let exit = run::serve(&loaded, plan, global, sources, |addresses| {
        let url = addresses.first().map_or("", |(_, url)| url.as_str());
        say(&greeting(url));
    });
    drop(services);
    exit
}

fn greeting(url: &str) -> String {
    format!(
        "\nThe demo is up. In another terminal:\n\n  curl {url}/\n  curl {url}/v1/users/7\n  curl {url}/v1/orders/42\n  \
         curl -i {url}/v2/orders/42\n  curl -i {url}/old/orders/42\n  curl -i {url}/nothing-here\n\n\
         Its config: doorward demo --print-config\nCtrl-C ends it."
    )
}

/// A free address on this machine.
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
