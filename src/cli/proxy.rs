//! `proxy`: one address to another, without a config file.

use std::sync::Arc;

use super::args::{Global, ProxyArgs};
use super::{Exit, check, messages, run, say};
use crate::config;
use crate::config::source::Environment;

/// Runs the gateway on a config of one route.
pub(super) fn run(args: &ProxyArgs, global: &Global) -> Exit {
    messages::to_stderr(&crate::telemetry::LogSpec::default());
    let to = if args.to.contains("://") {
        args.to.clone()
    } else {
        format!("http://{}", args.to)
    };
    if !to.starts_with("http://") {
        say("error: `--to` takes a host and port, or an http:// URL");
        return Exit::Usage;
    }
    let quoted = |text: &str| serde_json::Value::String(text.to_owned()).to_string();
    let text = format!(
        "version: 1\nlisteners: {{ proxy: {{ address: {} }} }}\nupstreams: {{ to: {{ targets: [{{ url: {} }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: to }}]\n",
        quoted(&args.listen),
        quoted(&to),
    );
    let load = move || {
        let environment = Environment::Fixed(Default::default());
        check::compile(config::load_text("proxy", &text, &environment))
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
    let exit = run::serve(&loaded, plan, global, sources, |_| {});
    if exit == Exit::Config {
        Exit::Usage
    } else {
        exit
    }
}
