//! JSON as configs write it, whose texts may be templates.

use serde_json::Value as Json;

use super::{Env, expression_problem};
use crate::base::problem::Place;
use crate::expr::{Encoding, Moment, Scope, Template, Vocabulary};

/// JSON whose texts may be templates.
#[derive(Debug)]
pub enum JsonTemplate {
    /// Quotes nothing.
    Fixed(Json),
    /// A text that does.
    Text(Template),
    /// A list, some of whose items do.
    List(Vec<Self>),
    /// An object likewise.
    Map(Vec<(String, Self)>),
}

impl JsonTemplate {
    /// Compiles what stands at `place`; mistakes are reported and give `None`.
    pub fn compile(json: &Json, place: &Place, env: &mut Env<'_>, moment: Moment) -> Option<Self> {
        Some(match json {
            Json::Null | Json::Bool(_) | Json::Number(_) => Self::Fixed(json.clone()),
            Json::String(text) => {
                let params = env.route.params.iter().map(String::as_str);
                let vocabulary = Vocabulary::new(params, moment);
                match Template::compile(text, &vocabulary) {
                    Ok(template) => match template.literal() {
                        Some(text) => Self::Fixed(Json::String(text.to_owned())),
                        None => Self::Text(template),
                    },
                    Err(error) => {
                        env.problem(expression_problem(place, &error));
                        return None;
                    }
                }
            }
            Json::Array(items) => {
                let compile = |(index, item): (usize, &Json)| {
                    Self::compile(item, &place.index(index), env, moment)
                };
                // Every item is looked at, also after one that is wrong.
                let items: Vec<Option<Self>> = items.iter().enumerate().map(compile).collect();
                Self::collapse_list(items.into_iter().collect::<Option<_>>()?)
            }
            Json::Object(map) => {
                let compile = |(key, item): (&String, &Json)| {
                    Some((
                        key.clone(),
                        Self::compile(item, &place.key(key), env, moment)?,
                    ))
                };
                let entries: Vec<Option<(String, Self)>> = map.iter().map(compile).collect();
                Self::collapse_map(entries.into_iter().collect::<Option<_>>()?)
            }
        })
    }

    /// What quotes nothing is made once.
    fn collapse_list(items: Vec<Self>) -> Self {
        let fixed: Option<Vec<Json>> = items.iter().map(Self::fixed).collect();
        fixed.map_or(Self::List(items), |items| Self::Fixed(Json::Array(items)))
    }

    fn collapse_map(entries: Vec<(String, Self)>) -> Self {
        let fixed: Option<serde_json::Map<String, Json>> = entries
            .iter()
            .map(|(key, item)| Some((key.clone(), item.fixed()?)))
            .collect();
        fixed.map_or(Self::Map(entries), |map| Self::Fixed(Json::Object(map)))
    }

    /// The JSON of one that quotes nothing.
    #[must_use]
    pub fn fixed(&self) -> Option<Json> {
        match self {
            Self::Fixed(json) => Some(json.clone()),
            Self::Text(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The JSON for one request. `None`: a value is missing, and its key goes.
    #[must_use]
    pub fn fill(&self, scope: &dyn Scope) -> Option<Json> {
        match self {
            Self::Fixed(json) => Some(json.clone()),
            Self::Text(template) => Some(Json::String(
                template.render(scope, Encoding::Text)?.into_owned(),
            )),
            Self::List(items) => Some(Json::Array(
                items.iter().filter_map(|item| item.fill(scope)).collect(),
            )),
            Self::Map(entries) => Some(Json::Object(
                entries
                    .iter()
                    .filter_map(|(key, item)| Some((key.clone(), item.fill(scope)?)))
                    .collect(),
            )),
        }
    }
}
