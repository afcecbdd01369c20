//! Verbs and flags that later versions bring: refused by name, never "unrecognized".

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The verbs.
const VERBS: &[&str] = &[
    "upgrade",
    "top",
    "tap",
    "cache",
    "usage",
    "billing",
    "openapi",
    "functions",
];
/// The flags.
const FLAGS: &[&str] = &["--config-key"];

/// The word of a later version that a command line has.
pub(super) fn word(error: &Error) -> Option<String> {
    let known = [
        (
            ErrorKind::InvalidSubcommand,
            ContextKind::InvalidSubcommand,
            VERBS,
        ),
        (ErrorKind::UnknownArgument, ContextKind::InvalidArg, FLAGS),
    ];
    let (_, context, words) = known.iter().find(|(kind, ..)| *kind == error.kind())?;
    let ContextValue::String(word) = error.get(*context)? else {
        return None;
    };
    words.contains(&word.as_str()).then(|| word.clone())
}
