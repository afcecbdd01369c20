//! What a person types.

mod args;
mod audit;
mod breakers;
mod callers;
mod check;
mod client;
mod config;
mod control;
mod demo;
mod explain;
mod init;
mod later;
mod messages;
mod proxy;
mod report;
mod run;
mod shell;
mod test;
mod tokens;

use std::process::ExitCode;

use clap::Parser;

use crate::base::control::Tests;
use args::{Args, Command};
pub use report::{json_report, plain as plain_report};

/// How a command ended; the numbers are part of the contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Findings, or a difference; or the work could not be done.
    Findings,
    /// The words of the command are off.
    Usage,
    /// The admin socket cannot be reached.
    Unreachable,
    /// It took too long; nothing was changed.
    TimedOut,
    /// The configuration is invalid.
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Findings => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 69,
            Exit::TimedOut => 75,
            Exit::Config => 78,
        })
    }
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            if let Some(word) = later::word(&error) {
                say(&format!(
                    "error: `{word}` is not in this version\n  = hint: a later version of doorward brings it"
                ));
                return Exit::Usage.into();
            }
            // Help goes to standard output and is no mistake.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let exit = match &args.command {
        Command::Run(run) => run::run(run, &args.global),
        Command::Proxy(proxy) => proxy::run(proxy, &args.global),
        Command::Demo(demo) => demo::run(demo, &args.global),
        Command::Init(init) => init::run(init),
        Command::Check(check) => check::run(check, &args.global),
        Command::Test => test::run(&args.global),
        Command::Explain(explain) => explain::run(explain, &args.global),
        Command::Audit => audit::run(&args.global),
        Command::Config(verb) => config::run(verb, &args.global),
        Command::Reload { wait: _, test } => {
            let tests = if *test { Tests::Run } else { Tests::Skip };
            control::reload(tests, &args.global)
        }
        Command::Status => control::status(&args.global),
        Command::Upstreams(verb) => control::upstreams(verb, &args.global),
        Command::Breakers(verb) => breakers::run(verb, &args.global),
        Command::Consumers(verb) => callers::consumers(verb, &args.global),
        Command::Keys(verb) => callers::keys(verb, &args.global),
        Command::Tokens(verb) => tokens::tokens(verb, &args.global),
        Command::Completions { shell } => shell::completions(*shell),
        Command::Man { dir } => shell::man(dir.as_deref()),
    };
    exit.into()
}

/// Prints a line for the person at the terminal.
fn say(line: &str) {
    use std::io::Write as _;
    // Nobody may read on: that is no mistake either.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Prints what was asked for. What cannot be written, as on a full disk, is never taken for written.
#[expect(clippy::exit, reason = "nothing can be done without its output")]
fn print(text: &str) {
    use std::io::{ErrorKind, Write as _};
    if let Err(error) = std::io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that has seen enough closes the pipe: that is no mistake.
        if error.kind() != ErrorKind::BrokenPipe {
            say(&format!("error: cannot write: {error}"));
            std::process::exit(1);
        }
    }
}
