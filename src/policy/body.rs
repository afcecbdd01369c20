//! Changes to JSON bodies as `request.body` and `response.body` write them.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Env;
use crate::base::problem::{Place, Problem};
use crate::expr::{Moment, Scope};
use crate::link::JsonTemplate;
use crate::shape::{Path, Shape, Unreadable};

/// Changes to a JSON body; they are made in this order: `pick`, `omit`, `rename`, `set`. Paths have dots (`total.amount`) and go
/// through lists item by item; a dot that is part of a name is written `\.`. What is not named stays as it is, to the digit.
/// A route with such a clause is called, not streamed: both bodies are read as a whole, 10 MiB at most where `body_limits` says
/// nothing else. A request that is not JSON gets 415, one that cannot be read 400, an answer that cannot be read 502; answers
/// other than 2xx, and those that are not JSON, pass as they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BodySpec {
    /// Paths to keep; everything else goes. Default: everything stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pick: Option<Vec<String>>,
    /// Paths to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    omit: Vec<String>,
    /// Path and new name, e.g. `cust_no: customer_id`: what it names stays where it is, and whatever had the new name goes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rename: BTreeMap<String, String>,
    /// Path and value, e.g. `source: gateway`; texts may be templates. What is missing on the way is made; a value that is
    /// missing takes away what was there.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    set: serde_json::Map<String, Json>,
}

/// The same changes, ready to be made.
#[derive(Debug)]
pub struct BodyChanges {
    shape: Shape,
    set: Vec<JsonTemplate>,
}

impl BodySpec {
    /// Compiles the changes that stand at `place`; mistakes are reported.
    pub(super) fn compile(
        &self,
        env: &mut Env<'_>,
        place: &Place,
        moment: Moment,
    ) -> Option<BodyChanges> {
        let mut shape = Shape::default();
        if self.pick.as_ref().is_some_and(Vec::is_empty) {
            let problem = Problem::error("E011", place.key("pick"), "nothing is picked");
            env.problem(problem.hint("name what stays, or take `pick` out"));
            return None;
        }
        for (index, text) in self.pick.iter().flatten().enumerate() {
            let place = place.key("pick").index(index);
            shape.pick(&path(env, place, text)?);
        }
        for (index, text) in self.omit.iter().enumerate() {
            let place = place.key("omit").index(index);
            shape.omit(&path(env, place, text)?);
        }
        self.renames(env, place, &mut shape)?;
        let mut set = Vec::with_capacity(self.set.len());
        for (text, value) in &self.set {
            let place = place.key("set").key(text);
            shape.set(&path(env, place.clone(), text)?, set.len());
            set.push(JsonTemplate::compile(value, &place, env, moment)?);
        }
        self.check_inside(env, place)?;
        if shape.is_empty() {
            let problem = Problem::error("E011", place.clone(), "no change to the body");
            env.problem(problem.hint("one of `pick`, `omit`, `rename`, `set`, or no `body`"));
            return None;
        }
        Some(BodyChanges { shape, set })
    }

    fn renames(&self, env: &mut Env<'_>, place: &Place, shape: &mut Shape) -> Option<()> {
        let mut taken = BTreeSet::new();
        for (old, new) in &self.rename {
            let place = place.key("rename").key(old);
            let old = path(env, place.clone(), old)?;
            let new = path(env, place.clone(), new)?;
            let (beside, _) = old.split();
            let (parents, name) = new.split();
            if !parents.is_empty() && parents != beside {
                let problem = Problem::error("E030", place, "a new name in another place");
                env.problem(
                    problem.hint(format!("what is renamed stays where it is: write `{name}`")),
                );
                return None;
            }
            if !taken.insert((beside.to_vec(), name.to_owned())) {
                let what = format!("two become `{name}`");
                env.problem(
                    Problem::error("E030", place, what).hint("give each a name of its own"),
                );
                return None;
            }
            shape.rename(&old, name);
        }
        Some(())
    }

    /// What is set below something that is set too would be lost.
    fn check_inside(&self, env: &mut Env<'_>, place: &Place) -> Option<()> {
        let read = |text: &String| Some((Path::parse(text).ok()?, text.clone()));
        let paths: Vec<(Path, String)> = self.set.keys().filter_map(read).collect();
        for (inner, text) in &paths {
            let above = paths.iter().find(|(outer, _)| {
                outer.names().len() < inner.names().len()
                    && inner.names().starts_with(outer.names())
            });
            if let Some((_, outer)) = above {
                let what = format!("`{outer}` is set as a whole");
                let problem = Problem::error("E030", place.key("set").key(text), what).at_key();
                env.problem(problem.hint("set the whole, or its parts"));
                return None;
            }
        }
        Some(())
    }
}

fn path(env: &mut Env<'_>, place: Place, text: &str) -> Option<Path> {
    match Path::parse(text) {
        Ok(path) => Some(path),
        Err(error) => {
            let problem = Problem::error("E030", place, error.to_string());
            env.problem(problem.hint("names with dots between them, e.g. `total.amount`"));
            None
        }
    }
}

impl BodyChanges {
    /// The body in its new shape.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn apply(&self, body: &[u8], scope: &dyn Scope) -> Result<Vec<u8>, Unreadable> {
        let set = self
            .set
            .iter()
            .map(|value| Some(value.fill(scope)?.to_string()));
        let set: Vec<Option<String>> = set.collect();
        self.shape.apply(body, &set)
    }
}
