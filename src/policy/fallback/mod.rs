//! What a client gets where its upstream fails, after the retries: another upstream, the last good answer, a fixed one.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::respond::{Respond, Response};
use super::{Env, Hooks, Stage};
use crate::base::problem::{Problem, suggest};
use crate::base::units::Span;
use crate::upstream::{Condition, Conditions, Upstream};

/// More steps than this make nothing better.
const STEPS_MAX: usize = 8;
/// When the ladder is taken, where nothing is written: whenever there is no good answer. That somebody cannot prove who it is
/// stays an error, unless it is written.
const USUAL: [Condition; 9] = [
    Condition::ConnectFailure,
    Condition::Reset,
    Condition::RefusedStream,
    Condition::Timeout,
    Condition::ProtocolError,
    Condition::Class(5),
    Condition::CircuitOpen,
    Condition::NoTarget,
    Condition::Overload,
];

/// A ladder of answers for when the upstream gives none: the steps are tried in order, after the retries. What was served is told by
/// `Gateway-Fallback`, and by `decided_by` in the log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// After which failures. Default: `connect_failure`, `reset`, `refused_stream`, `timeout`, `protocol_error`, `http_5xx`,
    /// `circuit_open`, `no_target`, `overload`.
    #[serde(default = "usual")]
    when: Vec<Condition>,
    /// What is tried, 1 to 8 steps; when none of them has an answer, the client gets the failure.
    steps: Vec<StepSpec>,
}

fn usual() -> Vec<Condition> {
    USUAL.to_vec()
}

/// One step of the ladder.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StepSpec {
    /// The same request to this upstream, with its own retries; where the body is still there to be sent, and where nobody got it
    /// so far or doing it twice is doing it once (the method, or `Idempotency-Key`).
    Upstream(String),
    /// The last good answer, where it is no older than this. There is none until answers are cached.
    Stale(Span),
    /// This answer; `file` is not answered here.
    Respond(Box<Respond>),
}

/// An upstream by its name, for steps that name one; none where it was refused.
#[derive(Debug)]
pub struct UpstreamNamed(pub Option<Arc<Upstream>>);

/// The ladder of a route.
#[derive(Debug)]
pub struct Fallback {
    when: Conditions,
    rungs: Box<[Rung]>,
}

/// One step, ready to be taken.
#[derive(Debug)]
pub enum Rung {
    /// Another upstream.
    Upstream(Arc<Upstream>),
    /// An answer that is no older than this.
    Stale(Span),
    /// A fixed one.
    Respond(Box<Response>),
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Upstream(upstream) => write!(f, "upstream {}", upstream.name()),
            Self::Stale(age) => write!(f, "stale {age}"),
            Self::Respond(_) => f.write_str("respond"),
        }
    }
}

impl Spec {
    /// The upstreams that it names.
    pub fn upstreams(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            StepSpec::Upstream(name) => Some(name.as_str()),
            StepSpec::Stale(_) | StepSpec::Respond(_) => None,
        })
    }

    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Fallback> {
        let place = env.place.key("steps");
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            let what = format!("{} steps", self.steps.len());
            let hint = "1 to 8; to have no fallback, take the clause out";
            env.problem(Problem::error("E030", place.clone(), what).hint(hint));
        }
        if self.when.is_empty() {
            let what = "it would never be taken";
            let problem = Problem::error("E030", env.place.key("when"), what);
            env.problem(problem.hint("name a condition, or take `when` out"));
        }
        let last = self.steps.len().saturating_sub(1);
        let mut rungs = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            let place = place.index(at);
            if at < last && matches!(step, StepSpec::Respond(_)) {
                let what = "no step after this one is ever taken";
                let problem = Problem::error("E030", place.clone(), what);
                env.problem(problem.hint("a fixed answer is the last step"));
            }
            rungs.push(step.compile(env, &place));
        }
        Some(Fallback {
            when: Conditions::of(&self.when),
            rungs: rungs.into_iter().collect::<Option<_>>()?,
        })
    }
}

impl StepSpec {
    fn compile(&self, env: &mut Env<'_>, place: &crate::base::problem::Place) -> Option<Rung> {
        match self {
            Self::Stale(span) => Some(Rung::Stale(*span)),
            Self::Upstream(name) => {
                if let Some(UpstreamNamed(known)) = env.names.get::<UpstreamNamed>(name) {
                    return known.clone().map(Rung::Upstream);
                }
                let known = env.names.names::<UpstreamNamed>();
                let hint = suggest(name, known);
                let hint = hint.unwrap_or_else(|| "name one of `upstreams`".to_owned());
                let what = format!("unknown upstream `{name}`");
                let problem = Problem::error("E031", place.key("upstream"), what);
                let problem = problem.label("no upstream has this name");
                env.problem(problem.hint(hint));
                None
            }
            Self::Respond(spec) => {
                let place = place.key("respond");
                if spec.file.is_some() {
                    let what = "a file cannot be answered here";
                    let problem = Problem::error("E030", place.key("file"), what);
                    env.problem(problem.hint("write it out as `text` or `json`"));
                }
                let mut env = Env {
                    names: env.names,
                    route: env.route,
                    place: &place,
                    problems: env.problems,
                };
                let response = Response::compile(spec, None, &mut env)?;
                Some(Rung::Respond(Box::new(response)))
            }
        }
    }
}

impl Fallback {
    /// After which failures it is taken.
    #[must_use]
    pub const fn when(&self) -> &Conditions {
        &self.when
    }

    /// Its steps.
    #[must_use]
    pub const fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// The upstream of the step with this number.
    #[must_use]
    pub fn upstream(&self, step: u8) -> Option<&Arc<Upstream>> {
        match self.rungs.get(usize::from(step))? {
            Rung::Upstream(upstream) => Some(upstream),
            Rung::Stale(_) | Rung::Respond(_) => None,
        }
    }

    /// The numbers of its upstreams.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.rungs.iter().filter_map(|rung| match rung {
            Rung::Upstream(upstream) => Some(upstream.number()),
            Rung::Stale(_) | Rung::Respond(_) => None,
        })
    }
}

impl Hooks for Fallback {
    const STAGE: Stage = Stage::Act;
    const ON_REQUEST: bool = false;

    fn fallback(&self) -> Option<&Self> {
        Some(self)
    }
}
