//! Conditions: CEL expressions that answer yes or no about one request; whatever goes wrong is a no.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::common::ast::IdedExpr;
use cel::common::traits::Zeroer;
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, Kind, STRING_TYPE,
    Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, ParseErrors, Value, extensions};
use regex::Regex;
use serde_json::{Map, Value as Json};
use smallvec::SmallVec;

use super::bind::{Slot, bind, pattern_index, slot_index};
use super::fields::{cookie_pairs, header_pairs};
use super::guard::{ENTRIES_MAX, afford, scan};
use super::{ErrorKind, ExprError, Name, Scope, Vocabulary};
use crate::base::canon::{decode_segment, query_pairs};

/// How long one value of the request may be to be looked at; what is longer is an error, so the condition does not hold.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// A compiled condition.
pub struct Condition {
    source: Box<str>,
    expr: IdedExpr,
    slots: Box<[Slot]>,
    patterns: Box<[Pattern]>,
    env: Arc<Env>,
}

impl Condition {
    /// Reads `text`, resolves its names and functions, compiles its patterns and bounds its work.
    ///
    /// # Errors
    /// When it cannot be read, quotes what does not exist, or could take too much work for one request.
    pub fn compile(text: &str, vocabulary: &Vocabulary<'_>) -> Result<Self, ExprError> {
        scan(text)?;
        let env = language();
        // The parser has reachable panics (vouch#885).
        let parsed = catch_unwind(AssertUnwindSafe(|| env.compile(text)));
        let whole = 0..text.chars().count();
        let unreadable =
            || ExprError::new(ErrorKind::Syntax, "the expression cannot be read").at(whole.clone());
        let program = match parsed {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => return Err(syntax_error(text, &errors).unwrap_or_else(unreadable)),
            Err(panic) => {
                drop(panic);
                return Err(unreadable());
            }
        };
        let mut expr = program.expression().clone();
        let bound = bind(&mut expr, program.source_info(), vocabulary)?;
        let is_map = |ident: &str| {
            let slot = slot_index(ident).and_then(|index| bound.slots.get(index));
            slot.is_some_and(|slot| !matches!(slot, Slot::One(_)))
        };
        afford(&expr, &is_map).map_err(|error| error.at(whole.clone()))?;
        Ok(Self {
            source: text.into(),
            expr,
            slots: bound.slots.into(),
            patterns: bound
                .patterns
                .into_iter()
                .map(|regex| Pattern(Arc::new(regex)))
                .collect(),
            env: Arc::new(env),
        })
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it holds for this request. An error is a no, whatever the expression would have made of it.
    #[must_use]
    pub fn holds(&self, scope: &dyn Scope) -> bool {
        self.check(scope) == Ok(true)
    }

    /// Whether it holds for this request, or why it has no answer.
    ///
    /// # Errors
    /// Says in words what went wrong, for `explain`; may quote values of the request.
    pub fn check(&self, scope: &dyn Scope) -> Result<bool, String> {
        let values = Values::fill(&self.slots, &self.patterns, scope)?;
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.set_variable_resolver(&values);
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            // Not `resolve_val`: inlined into an unoptimised build of ours, it takes 40 kB of stack a level.
            match Value::resolve(&self.expr, &context) {
                Ok(Value::Bool(answer)) => Ok(answer),
                Ok(other) => Err(format!(
                    "the result is of type {}, not bool",
                    other.type_of()
                )),
                Err(error) => Err(error.to_string()),
            }
        }));
        evaluated.unwrap_or_else(|panic| {
            drop(panic);
            Err("the evaluator gave up".to_owned())
        })
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

/// The functions and types of the language: the standard ones, those on texts, and `matches` with a compiled pattern.
#[expect(
    clippy::expect_used,
    reason = "start-up: the three names are declared once, on an environment made here"
)]
fn language() -> Env {
    let mut env = Env::stdlib().with_optional_support(false);
    env.add_extension(extensions::strings)
        .expect("the extension is added once");
    let args = vec![STRING_TYPE, pattern_type()];
    env.add_overload("matches", "matches_compiled", args, matches_compiled)
        .expect("no such overload yet");
    env
}

/// The first error of the parser, at its place.
fn syntax_error(text: &str, errors: &ParseErrors) -> Option<ExprError> {
    let first = errors.errors.iter().min_by_key(|error| error.pos)?;
    let (line, column) = (
        usize::try_from(first.pos.0).ok()?,
        usize::try_from(first.pos.1).ok()?,
    );
    let before: usize = text
        .split('\n')
        .take(line.saturating_sub(1))
        .map(|line| line.chars().count() + 1)
        .sum();
    let length = text.chars().count();
    let start = (before + column.saturating_sub(1)).min(length);
    let span: Range<usize> = start..(start + 1).min(length).max(start);
    // The parser lists all tokens it could have gone on with; nobody reads that.
    let message = first.msg.trim_start_matches("Syntax error: ");
    let message = message
        .split(" expecting ")
        .next()
        .unwrap_or(message)
        .replace("'<EOF>'", "the end")
        .replace('\'', "`");
    Some(
        ExprError::new(
            ErrorKind::Syntax,
            format!("the expression cannot be read: {message}"),
        )
        .at(span),
    )
}

/// The values of one request, as far as the expression quotes them.
struct Values<'s> {
    slots: SmallVec<[SlotValue<'s>; 4]>,
    patterns: &'s [Pattern],
}

enum SlotValue<'s> {
    Missing(Absent),
    Text(CelString<'s>),
    Number(CelInt),
    Map(CelMap<'s>),
    Json(Box<dyn Val + 's>),
}

impl<'s> Values<'s> {
    fn fill(
        slots: &'s [Slot],
        patterns: &'s [Pattern],
        scope: &'s dyn Scope,
    ) -> Result<Self, String> {
        let slots = slots
            .iter()
            .map(|slot| fill(slot, scope))
            .collect::<Result<_, _>>()?;
        Ok(Self { slots, patterns })
    }
}

impl VariableResolver for Values<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(index) = pattern_index(variable) {
            return self
                .patterns
                .get(index)
                .map(|pattern| CowVal::Borrowed(pattern));
        }
        Some(match self.slots.get(slot_index(variable)?)? {
            SlotValue::Missing(null) => CowVal::Borrowed(null),
            SlotValue::Text(text) => CowVal::Borrowed(text),
            SlotValue::Number(number) => CowVal::Borrowed(number),
            SlotValue::Map(map) => CowVal::Borrowed(map),
            SlotValue::Json(value) => CowVal::Borrowed(&**value),
        })
    }
}

fn fill<'s>(slot: &'s Slot, scope: &'s dyn Scope) -> Result<SlotValue<'s>, String> {
    let map = match slot {
        Slot::One(Name::ResponseStatus) => {
            let status = scope
                .response_status()
                .map(|status| SlotValue::Number(i64::from(status).into()));
            return Ok(status.unwrap_or(SlotValue::Missing(Absent(CelNull))));
        }
        Slot::One(name) => {
            let Some(value) = name.value(scope) else {
                return Ok(SlotValue::Missing(Absent(CelNull)));
            };
            return Ok(SlotValue::Text(bounded(value)?.into()));
        }
        Slot::Params(names) => {
            let pairs = names.iter().enumerate();
            collect(pairs.filter_map(|(index, name)| {
                Some((Cow::Borrowed(&**name), decode_segment(scope.param(index)?)))
            }))?
        }
        Slot::Headers => collect(scope.headers().into_iter().flat_map(header_pairs))?,
        Slot::ResponseHeaders => {
            collect(scope.response_headers().into_iter().flat_map(header_pairs))?
        }
        Slot::Query => collect(scope.raw_query().into_iter().flat_map(query_pairs))?,
        Slot::Claims => {
            let mut entries = ENTRIES_MAX;
            let claims = scope.claims();
            return claims.map_or(Ok(SlotValue::Missing(Absent(CelNull))), |claims| {
                Ok(SlotValue::Map(object(claims, &mut entries)?))
            });
        }
        Slot::Claim(path) => {
            let mut entries = ENTRIES_MAX;
            let claim = scope.claims().and_then(|claims| path.of(claims));
            return claim.map_or(Ok(SlotValue::Missing(Absent(CelNull))), |claim| {
                Ok(SlotValue::Json(value(claim, &mut entries)?))
            });
        }
        Slot::Groups => {
            let groups = scope.consumer_groups().unwrap_or_default().iter();
            let texts = groups.map(|group| {
                let text: CelString<'s> = Cow::Borrowed(&**group).into();
                Box::new(text) as Box<dyn Val + 's>
            });
            let texts: Vec<_> = texts.take(ENTRIES_MAX + 1).collect();
            if texts.len() > ENTRIES_MAX {
                return Err(too_many());
            }
            let list: CelList<'s> = texts.into();
            return Ok(SlotValue::Json(Box::new(list)));
        }
        Slot::Cookies => collect(scope.headers().into_iter().flat_map(cookie_pairs))?,
    };
    Ok(SlotValue::Map(map))
}

fn too_many() -> String {
    format!("a map or list of the request has more than {ENTRIES_MAX} entries")
}

/// JSON as values of the language; all of its entries together are as many as one map may have.
fn value<'s>(json: &'s Json, entries: &mut usize) -> Result<Box<dyn Val + 's>, String> {
    Ok(match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(yes) => Box::new(CelBool::from(*yes)),
        Json::String(text) => {
            let text: CelString<'s> = bounded(Cow::Borrowed(text.as_str()))?.into();
            Box::new(text)
        }
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Box::new(CelInt::from(whole)),
            None => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::Array(items) => {
            *entries = entries.checked_sub(items.len()).ok_or_else(too_many)?;
            let items: Result<Vec<_>, _> = items.iter().map(|item| value(item, entries)).collect();
            let list: CelList<'s> = items?.into();
            Box::new(list)
        }
        Json::Object(map) => Box::new(object(map, entries)?),
    })
}

fn object<'s>(map: &'s Map<String, Json>, entries: &mut usize) -> Result<CelMap<'s>, String> {
    *entries = entries.checked_sub(map.len()).ok_or_else(too_many)?;
    let mut found: HashMap<CelMapKey<'s>, Box<dyn Val + 's>> = HashMap::new();
    for (key, json) in map {
        let key = CelMapKey::String(bounded(Cow::Borrowed(key.as_str()))?.into());
        found.insert(key, value(json, entries)?);
    }
    Ok(found.into())
}

fn collect<'s>(
    pairs: impl Iterator<Item = (Cow<'s, str>, Cow<'s, str>)>,
) -> Result<CelMap<'s>, String> {
    let mut map: HashMap<CelMapKey<'s>, Box<dyn Val + 's>> = HashMap::new();
    for (key, value) in pairs {
        if map.len() == ENTRIES_MAX {
            return Err(too_many());
        }
        let value: CelString<'s> = bounded(value)?.into();
        // The first of several is the one that counts, as for a single name.
        map.entry(CelMapKey::String(bounded(key)?.into()))
            .or_insert_with(|| Box::new(value));
    }
    Ok(map.into())
}

fn bounded(text: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    if text.len() <= VALUE_BYTES_MAX {
        return Ok(text);
    }
    Err(format!(
        "a value of the request is longer than {VALUE_BYTES_MAX} bytes"
    ))
}

/// What is not there. It equals `null`, and nothing else: of two things that are missing nobody can say that they are the same, and
/// a rule such as `request.headers["x-tenant"] == auth.claims.tenant` must not let in who has neither.
#[derive(Debug, Clone)]
struct Absent(CelNull);

/// One for all of them, by which they are told from a `null`.
static ABSENT: Type = Type::simple_type(Kind::NullType, "null_type");

impl Val for Absent {
    fn get_type(&self) -> &Type {
        &ABSENT
    }

    fn cel_type() -> &'static Type {
        &ABSENT
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<CelNull>().is_some()
            && !std::ptr::eq(other.get_type(), &raw const ABSENT)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        self.0.as_zeroer()
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    /// As a `null`, so that one on the left equals it, too.
    fn as_any(&self) -> Option<&dyn Any> {
        Some(&self.0)
    }
}

impl StaticVal for Absent {}

/// A compiled pattern as a value of the language; it cannot be written there.
#[derive(Debug, Clone)]
struct Pattern(Arc<Regex>);

const fn pattern_type() -> Type {
    Type::simple_type(Kind::Opaque, "pattern")
}

const PATTERN: &Type = &pattern_type();

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        PATTERN
    }

    fn cel_type() -> &'static Type {
        PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

#[expect(clippy::needless_pass_by_value, reason = "the form of an overload")]
fn matches_compiled<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let found = match args.as_slice() {
        [text, pattern] => text
            .downcast_ref::<CelString<'_>>()
            .zip(pattern.downcast_ref::<Pattern>())
            .map(|(text, pattern)| pattern.0.is_match(text.inner())),
        _ => None,
    };
    let found = found
        .ok_or_else(|| ExecutionError::function_error("matches", "not a text and a pattern"))?;
    Ok(CowVal::owned(CelBool::from(found)))
}
