//! What says the same again: an origin for calls of gRPC and for WebSockets, and clients that keep WebSockets busy.
//!
//! `echo serve H2C_PORT WEBSOCKET_PORT` answers until it is ended; `echo ask HOST:PORT CONNECTIONS SECONDS` sends a message on
//! each connection as soon as the last one came back, and prints how many did.

#![expect(
    clippy::disallowed_methods,
    reason = "a program of its own: its tasks end with it"
)]

mod client;
mod origin;

use std::io::Write as _;
use std::process::ExitCode;

use tokio::runtime::Builder;

/// Nobody measures with more.
const CONNECTIONS_MAX: usize = 1024;
const SECONDS_MAX: f64 = 300.0;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(run(&words)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            drop(writeln!(std::io::stderr(), "echo: {what}"));
            ExitCode::from(2)
        }
    }
}

async fn run(words: &[&str]) -> Result<(), String> {
    match *words {
        ["serve", calls, sockets] => {
            let port = |word: &str| {
                word.parse::<u16>()
                    .map_err(|_error| format!("{word}: no port"))
            };
            origin::serve(port(calls)?, port(sockets)?)
                .await
                .map_err(|error| error.to_string())
        }
        ["ask", addr, connections, seconds] => {
            let connections = connections.parse().unwrap_or(0);
            let seconds = seconds.parse().unwrap_or(0.0);
            if !(1..=CONNECTIONS_MAX).contains(&connections)
                || !(0.0..=SECONDS_MAX).contains(&seconds)
            {
                return Err(format!(
                    "1 to {CONNECTIONS_MAX} connections, up to {SECONDS_MAX} seconds"
                ));
            }
            let seen = client::ask(addr, connections, seconds).await;
            let line = format!(
                "{} messages, {} connections failed\n",
                seen.messages, seen.failed
            );
            std::io::stdout()
                .write_all(line.as_bytes())
                .map_err(|error| error.to_string())
        }
        _ => Err("serve H2C_PORT WEBSOCKET_PORT, or ask HOST:PORT CONNECTIONS SECONDS".to_owned()),
    }
}
