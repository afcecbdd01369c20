//! The verbs, their flags, and their help.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::tokens::TokensVerb;
use crate::base::units::Date;

/// An API gateway: one entry point in front of many services.
#[derive(Debug, Parser)]
#[command(
    name = "doorward",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
#[command(after_help = "Examples:\n  doorward demo\n  doorward run --config doorward.yaml")]
pub(super) struct Args {
    /// What every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// What every verb takes.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Global {
    /// The config file; else $DOORWARD_CONFIG, ./doorward.yaml, /etc/doorward/doorward.yaml
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// For people, or for programs
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Colours in reports (NO_COLOR is honoured)
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// The admin socket of a running gateway: a path, or host:port
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub admin: Option<String>,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gateway in the foreground
    #[command(
        after_help = "Examples:\n  doorward run\n  doorward run --config /etc/doorward/doorward.yaml --watch"
    )]
    Run(RunArgs),
    /// Proxy one address to another with no config file
    #[command(
        after_help = "Examples:\n  doorward proxy --to localhost:3000\n  doorward proxy --to http://10.0.0.5:8080 --listen 0.0.0.0:80"
    )]
    Proxy(ProxyArgs),
    /// Run the gateway on a built-in sample configuration with built-in sample services
    #[command(
        after_help = "Examples:\n  doorward demo\n  doorward demo --print-config > doorward.yaml"
    )]
    Demo(DemoArgs),
    /// Write a commented starter config
    #[command(after_help = "Examples:\n  doorward init\n  doorward init --output - | less")]
    Init(InitArgs),
    /// Validate the config: opens no socket, contacts nothing, runs the same code as `run`
    #[command(
        after_help = "Examples:\n  doorward check\n  doorward check --config new.yaml --deny-warnings"
    )]
    Check(CheckArgs),
    /// Run the request tests in the config
    #[command(
        after_help = "Examples:\n  doorward test\n  doorward test --config new.yaml --format json"
    )]
    Test,
    /// Show every decision a request would meet, from the config file; `--live` asks the running gateway and changes nothing
    #[command(
        after_help = "Examples:\n  doorward explain GET http://127.0.0.1:8080/v1/orders/7 -H 'authorization: Bearer ...'\n  doorward explain --live GET http://127.0.0.1:8080/v1/orders/7"
    )]
    Explain(ExplainArgs),
    /// List risky settings by severity; exits with 1 when there are any
    #[command(
        after_help = "Examples:\n  doorward audit\n  doorward audit --config new.yaml --format json"
    )]
    Audit,
    /// Show the effective config, compare it, or print its JSON Schema
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward config show\n  doorward config diff"
    )]
    Config(ConfigVerb),
    /// Load the new config: waits, prints the difference; on an error the old one stays and the exit code says so
    #[command(
        after_help = "Examples:\n  doorward reload\n  doorward reload --admin /run/doorward/admin.sock"
    )]
    Reload {
        /// Wait until the new config is in force (it always does; units say so)
        #[arg(long)]
        wait: bool,
        /// Refuse a config whose request tests fail
        #[arg(long)]
        test: bool,
    },
    /// Version, config generation, listeners, upstreams of the running gateway
    #[command(after_help = "Examples:\n  doorward status\n  doorward status --format json")]
    Status,
    /// Look at the targets of the running gateway, drain them and let them in again
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward upstreams list\n  doorward upstreams list --format json"
    )]
    Upstreams(UpstreamsVerb),
    /// Look at the circuit breakers of the running gateway, open or close them by hand
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward breakers list\n  doorward breakers open orders"
    )]
    Breakers(BreakersVerb),
    /// Who may come in: consumers of the config, and those that are made while the gateway runs
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward consumers new acme --group partners\n  doorward consumers suspend acme"
    )]
    Consumers(ConsumersVerb),
    /// API keys of consumers, made and taken back while the gateway runs
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward keys new acme --expires 2027-01-01\n  doorward keys revoke 9f86d081884c"
    )]
    Keys(KeysVerb),
    /// Tokens that are refused though they verify, also after a restart (`runtime.state_dir`)
    #[command(
        subcommand,
        after_help = "Examples:\n  doorward tokens revoke --jti 7f3c --expires 2027-01-01\n  doorward tokens list"
    )]
    Tokens(TokensVerb),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  doorward completions bash > /usr/share/bash-completion/completions/doorward\n  doorward completions zsh > _doorward"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them
    #[command(
        after_help = "Examples:\n  doorward man | man -l -\n  doorward man --dir /usr/share/man/man1"
    )]
    Man {
        /// Write one page a verb into this directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// `run`
#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    /// Load the config again when one of its files changes
    #[arg(long)]
    pub watch: bool,
}

/// `proxy`
#[derive(Debug, ClapArgs)]
pub(super) struct ProxyArgs {
    /// Where requests go: host:port, or a URL
    #[arg(long, value_name = "ADDRESS")]
    pub to: String,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: String,
}

/// `demo`
#[derive(Debug, ClapArgs)]
pub(super) struct DemoArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Print the sample configuration and stop
    #[arg(long)]
    pub print_config: bool,
}

/// `init`
#[derive(Debug, ClapArgs)]
pub(super) struct InitArgs {
    /// The file to write; `-` for standard output. A file that is there already is never overwritten
    #[arg(long, value_name = "PATH", default_value = "doorward.yaml")]
    pub output: PathBuf,
}

/// `check`
#[derive(Debug, ClapArgs)]
pub(super) struct CheckArgs {
    /// Let a variable that is not set stand for any value
    #[arg(long)]
    pub no_env: bool,
    /// Exit with 1 when there are warnings
    #[arg(long)]
    pub deny_warnings: bool,
}

/// `explain`
#[derive(Debug, ClapArgs)]
pub(super) struct ExplainArgs {
    /// The method
    pub method: String,
    /// The URL: http://HOST:PORT/PATH
    pub url: String,
    /// A header of the request, as often as there are headers
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Ask the running gateway, whose counters are read and never changed
    #[arg(long)]
    pub live: bool,
    /// The listener it comes in by; else the one with the URL's port, else the first
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// The address of the client; else 127.0.0.1, or none where the listener is a socket of the file system
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<std::net::IpAddr>,
    /// The time of day, e.g. 2027-03-01T12:00:00Z; else now
    #[arg(long, value_name = "TIME")]
    pub at: Option<Date>,
}

/// `config`
#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Print the effective config: merged, inherited, with defaults, secrets hidden
    #[command(
        after_help = "Examples:\n  doorward config show\n  doorward config show --format json"
    )]
    Show,
    /// Print what differs from the running gateway, or from another file; exits with 1 when something does
    #[command(
        after_help = "Examples:\n  doorward config diff --against old.yaml\n  doorward config diff --config new.yaml --against /etc/doorward/doorward.yaml"
    )]
    Diff {
        /// Another config file, instead of the running gateway
        #[arg(long, value_name = "PATH")]
        against: Option<PathBuf>,
    },
    /// Print the JSON Schema of the config
    #[command(
        after_help = "Examples:\n  doorward config schema > schema.json\n  doorward config schema | jq .properties"
    )]
    Schema,
}

/// `upstreams`
#[derive(Debug, Subcommand)]
pub(super) enum UpstreamsVerb {
    /// List the upstreams with their targets and the addresses in use
    #[command(
        after_help = "Examples:\n  doorward upstreams list\n  doorward upstreams list --format json"
    )]
    List,
    /// Send no new requests to a target; those under way go on to their end
    #[command(
        after_help = "Examples:\n  doorward upstreams drain orders 10.1.0.11:8080\n  doorward upstreams drain orders users.internal:80 --format json"
    )]
    Drain(TargetArgs),
    /// Send requests to a drained target again
    #[command(
        after_help = "Examples:\n  doorward upstreams resume orders 10.1.0.11:8080\n  doorward upstreams resume orders users.internal:80 --format json"
    )]
    Resume(TargetArgs),
}

/// One target of a running gateway.
#[derive(Debug, clap::Args)]
pub(super) struct TargetArgs {
    /// The upstream, by name
    pub(super) upstream: String,
    /// Host and port, as `upstreams list` prints them
    pub(super) target: String,
}

/// `breakers`
#[derive(Debug, Subcommand)]
pub(super) enum BreakersVerb {
    /// List the breakers with their states
    #[command(
        after_help = "Examples:\n  doorward breakers list\n  doorward breakers list --format json"
    )]
    List,
    /// Open one: nothing is sent any more
    #[command(
        after_help = "Examples:\n  doorward breakers open orders\n  doorward breakers open order/orders"
    )]
    Open {
        /// The upstream, or ROUTE/UPSTREAM where the route has a breaker of its own
        name: String,
    },
    /// Close one: everything is sent, whatever fails
    #[command(
        after_help = "Examples:\n  doorward breakers close orders\n  doorward breakers close order/orders"
    )]
    Close {
        /// The upstream, or ROUTE/UPSTREAM where the route has a breaker of its own
        name: String,
    },
    /// Leave one to itself again; it begins closed
    #[command(
        after_help = "Examples:\n  doorward breakers auto orders\n  doorward breakers auto order/orders"
    )]
    Auto {
        /// The upstream, or ROUTE/UPSTREAM where the route has a breaker of its own
        name: String,
    },
}

/// `consumers`
#[derive(Debug, Subcommand)]
pub(super) enum ConsumersVerb {
    /// Make one
    #[command(
        after_help = "Examples:\n  doorward consumers new acme\n  doorward consumers new acme --group partners --group eu --plan gold"
    )]
    New {
        /// Its name: letters, digits, `-`, `_` and `.`
        name: String,
        /// A group it is in; may be given several times
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// Its plan, one of `plans` in the config; without one every route that trusts its key is open to it
        #[arg(long, value_name = "PLAN")]
        plan: Option<String>,
    },
    /// List them, those of the config too
    #[command(
        after_help = "Examples:\n  doorward consumers list\n  doorward consumers list --format json"
    )]
    List,
    /// Refuse everything it shows, at once, until it is resumed
    #[command(
        after_help = "Examples:\n  doorward consumers suspend acme\n  doorward consumers suspend courier --admin /run/doorward/admin.sock"
    )]
    Suspend {
        /// The consumer, by name
        name: String,
    },
    /// Let a suspended one in again
    #[command(
        after_help = "Examples:\n  doorward consumers resume acme\n  doorward consumers resume acme --format json"
    )]
    Resume {
        /// The consumer, by name
        name: String,
    },
    /// Take one that was made at run time out for good, with its keys
    #[command(
        after_help = "Examples:\n  doorward consumers revoke acme\n  doorward consumers revoke acme --format json"
    )]
    Revoke {
        /// The consumer, by name
        name: String,
    },
    /// What was changed, by whom and when
    #[command(
        after_help = "Examples:\n  doorward consumers history\n  doorward consumers history --format json"
    )]
    History,
}

/// `keys`
#[derive(Debug, Subcommand)]
pub(super) enum KeysVerb {
    /// Make one, and print it: it is shown this once
    #[command(
        after_help = "Examples:\n  doorward keys new acme\n  doorward keys new acme --expires 2027-01-01"
    )]
    New {
        /// The consumer, by name
        consumer: String,
        /// From when on it is refused, e.g. 2027-01-01
        #[arg(long, value_name = "DATE")]
        expires: Option<Date>,
    },
    /// List them by their ids, those of the config too
    #[command(after_help = "Examples:\n  doorward keys list\n  doorward keys list --format json")]
    List,
    /// Refuse one, at once, until it is resumed
    #[command(
        after_help = "Examples:\n  doorward keys suspend 9f86d081884c\n  doorward keys suspend 9f86d081884c --format json"
    )]
    Suspend {
        /// Its id, as `keys list` prints it
        id: String,
    },
    /// Let a suspended one in again
    #[command(
        after_help = "Examples:\n  doorward keys resume 9f86d081884c\n  doorward keys resume 9f86d081884c --format json"
    )]
    Resume {
        /// Its id, as `keys list` prints it
        id: String,
    },
    /// Take one back for good
    #[command(
        after_help = "Examples:\n  doorward keys revoke 9f86d081884c\n  doorward keys revoke 9f86d081884c --format json"
    )]
    Revoke {
        /// Its id, as `keys list` prints it
        id: String,
    },
}
