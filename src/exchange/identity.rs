//! Who is calling, once an authenticator knows.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

/// What several consumers may have, by the name that the config gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsagePlan {
    /// The name in `plans`.
    pub name: Arc<str>,
    /// Its number among them.
    pub number: usize,
}

/// Whose credential it is: somebody known by name, whatever they show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consumer {
    /// The name in the config, or the one it was made with.
    pub name: Arc<str>,
    /// Its plan, where it has one.
    pub plan: Option<Arc<UsagePlan>>,
    /// The groups it is in.
    pub groups: Box<[Box<str>]>,
    /// Whether everything it shows is refused for now.
    pub suspended: bool,
}

/// What an authenticator made of a credential. Shared: a cached one is handed out as it is.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// The kind of authenticator, by its key in the config, e.g. `jwt`; `anonymous` where nobody showed anything.
    pub method: &'static str,
    /// The authenticator's name.
    pub authenticator: Arc<str>,
    /// Who it is, in the words of whoever vouches for it.
    pub subject: Option<Box<str>>,
    /// What else was said of it.
    pub claims: Map<String, Json>,
    /// What it may do, in the words of whoever vouches for it.
    pub scopes: Box<[Box<str>]>,
    /// Whose credential it is, where that is known.
    pub consumer: Option<Arc<Consumer>>,
    /// What tells this credential from the consumer's others; never the credential itself.
    pub credential: Box<str>,
}

impl Identity {
    /// Nobody in particular, taken for `consumer`.
    #[must_use]
    pub fn anonymous(consumer: Arc<Consumer>) -> Self {
        Self {
            method: "anonymous",
            consumer: Some(consumer),
            ..Self::default()
        }
    }
}
