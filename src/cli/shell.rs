//! `completions` and `man`: what a shell and a manual reader need.

use std::path::Path;

use clap::CommandFactory as _;

use super::args::Args;
use super::{Exit, print, say};

/// Prints a completion script.
pub(super) fn completions(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "doorward", &mut script);
    print(&String::from_utf8_lossy(&script));
    Exit::Done
}

/// Prints the manual page, or writes one a verb into `dir`.
pub(super) fn man(dir: Option<&Path>) -> Exit {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        if let Err(error) = clap_mangen::Man::new(Args::command()).render(&mut page) {
            say(&format!("error: {error}"));
            return Exit::Findings;
        }
        print(&String::from_utf8_lossy(&page));
        return Exit::Done;
    };
    let made = std::fs::create_dir_all(dir);
    match made.and_then(|()| clap_mangen::generate_to(Args::command(), dir)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            say(&format!(
                "error: cannot write to {}: {error}",
                dir.display()
            ));
            Exit::Findings
        }
    }
}
