//! `init`: a commented starter config.

use std::fs::OpenOptions;
use std::io::Write as _;

use super::args::InitArgs;
use super::{Exit, print, say};

/// The starter config.
const STARTER: &str = include_str!("../../conf/doorward.yaml");

/// Writes the starter config; a file that is there already stays.
pub(super) fn run(args: &InitArgs) -> Exit {
    if args.output.as_os_str() == "-" {
        print(STARTER);
        return Exit::Done;
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&args.output)
        .and_then(|mut file| file.write_all(STARTER.as_bytes()));
    let path = args.output.display();
    match written {
        Ok(()) => {
            say(&format!(
                "wrote {path}; try `doorward check --config {path}`, then `doorward run --config {path}`"
            ));
            Exit::Done
        }
        Err(error) => {
            say(&format!(
                "error: cannot write {path}: {error}\n  = hint: name another file with `--output`"
            ));
            Exit::Findings
        }
    }
}
