//! Binds the names of a parsed expression: each becomes a slot that is filled per request, anything unknown is refused.

use std::ops::Range;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use cel::common::types::CelBool;
use regex::{Regex, RegexBuilder};

use super::functions::{OPERATORS, Style, known_function};
use super::guard::TREE_DEPTH_MAX;
use super::scope::root_error;
use super::{ClaimPath, ErrorKind, ExprError, Name, Vocabulary};

/// How large a compiled pattern may be, in bytes.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// What is filled in per request before an expression runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// One value.
    One(Name),
    /// `params` as a whole, by its names.
    Params(Box<[Box<str>]>),
    /// `request.headers` as a whole.
    Headers,
    /// `request.query` as a whole.
    Query,
    /// `request.cookies` as a whole.
    Cookies,
    /// `response.headers` as a whole.
    ResponseHeaders,
    /// `auth.claims` as a whole.
    Claims,
    /// One of `auth.claims`, of whatever type it is.
    Claim(ClaimPath),
    /// `consumer.groups`
    Groups,
}

/// What an expression needs besides its tree.
pub(super) struct Bound {
    pub(super) slots: Vec<Slot>,
    pub(super) patterns: Vec<Regex>,
}

/// The identifier of a slot or pattern; `@` cannot be written in CEL.
const SLOT: &str = "@v";
const PATTERN: &str = "@p";

/// Which slot an identifier stands for.
pub(super) fn slot_index(ident: &str) -> Option<usize> {
    ident.strip_prefix(SLOT)?.parse().ok()
}

/// Which pattern an identifier stands for.
pub(super) fn pattern_index(ident: &str) -> Option<usize> {
    ident.strip_prefix(PATTERN)?.parse().ok()
}

/// Rewrites `expr` so that it names only slots, patterns and its own loop variables.
pub(super) fn bind(
    expr: &mut IdedExpr,
    info: &SourceInfo,
    vocabulary: &Vocabulary<'_>,
) -> Result<Bound, ExprError> {
    let bound = Bound {
        slots: Vec::new(),
        patterns: Vec::new(),
    };
    let mut binder = Binder {
        vocabulary,
        info,
        bound,
        locals: Vec::new(),
        depth: 0,
    };
    binder.visit(expr)?;
    if let Some(what) = never_bool(expr, &binder.bound.slots) {
        return Err(ExprError::new(
            ErrorKind::Type,
            format!("the expression gives {what}, not yes or no"),
        )
        .hint("compare it, e.g. with `==`")
        .at(0..info.source.chars().count()));
    }
    Ok(binder.bound)
}

struct Binder<'v> {
    vocabulary: &'v Vocabulary<'v>,
    info: &'v SourceInfo,
    bound: Bound,
    locals: Vec<String>,
    depth: usize,
}

/// A name spelt out: `request.headers["x"]` is root `request` and steps `headers`, `x`.
struct Trail {
    root: String,
    steps: Vec<String>,
    /// `has(…)` and `"x" in …` ask whether it is there.
    test: bool,
    span: Range<usize>,
}

impl Binder<'_> {
    fn visit(&mut self, expr: &mut IdedExpr) -> Result<(), ExprError> {
        if let Some(trail) = self.trail(expr) {
            expr.expr = self
                .name(&trail, expr.id)
                .map_err(|error| error.at(trail.span))?;
            return Ok(());
        }
        let span = self.span(expr.id);
        if self.depth == TREE_DEPTH_MAX {
            return Err(
                ExprError::new(ErrorKind::TooLarge, "the expression is nested too deeply").at(span),
            );
        }
        self.depth += 1;
        match &mut expr.expr {
            Expr::Unspecified => {
                return Err(ExprError::new(ErrorKind::Syntax, "cannot be read").at(span));
            }
            // Not a trail, so it is a variable of a loop.
            Expr::Literal(_) | Expr::Ident(_) => {}
            Expr::Select(select) => self.visit(&mut select.operand)?,
            Expr::List(list) => list
                .elements
                .iter_mut()
                .try_for_each(|element| self.visit(element))?,
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    match &mut entry.expr {
                        EntryExpr::StructField(field) => self.visit(&mut field.value)?,
                        EntryExpr::MapEntry(entry) => {
                            self.visit(&mut entry.key)?;
                            self.visit(&mut entry.value)?;
                        }
                    }
                }
            }
            Expr::Struct(structure) => {
                let what = format!("unknown type `{}`", structure.type_name);
                return Err(ExprError::new(ErrorKind::Unknown, what).at(span));
            }
            Expr::Call(call) => {
                self.call(call, &span)?;
            }
            Expr::Comprehension(each) => {
                self.visit(&mut each.iter_range)?;
                self.visit(&mut each.accu_init)?;
                if root_is_taken(&each.iter_var) {
                    let what = format!("`{}` cannot be the variable of a loop", each.iter_var);
                    return Err(ExprError::new(ErrorKind::Syntax, what)
                        .hint("it is a name already")
                        .at(span));
                }
                let outer = self.locals.len();
                self.locals
                    .extend([each.iter_var.clone(), each.accu_var.clone()]);
                self.locals.extend(each.iter_var2.clone());
                self.visit(&mut each.loop_cond)?;
                self.visit(&mut each.loop_step)?;
                self.visit(&mut each.result)?;
                self.locals.truncate(outer);
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// The name that `expr` spells out, if it is one.
    fn trail(&self, expr: &IdedExpr) -> Option<Trail> {
        let mut steps = Vec::new();
        let mut test = false;
        // A node's own place is its dot or bracket. `has` has that of the call: its field follows its operand.
        let (mut node, mut end, mut tested) = (expr, None, 0);
        loop {
            let (start, stop) = self.bytes(node.id);
            node = match &node.expr {
                Expr::Ident(name) if self.locals.contains(name) || name.starts_with('@') => {
                    return None;
                }
                Expr::Ident(name) => {
                    steps.reverse();
                    let span = self.chars(start, end.unwrap_or(stop) + tested);
                    return Some(Trail {
                        root: name.clone(),
                        steps,
                        test,
                        span,
                    });
                }
                Expr::Select(select) if !select.test || steps.is_empty() => {
                    if select.test {
                        test = true;
                        tested = 1 + select.field.len();
                    } else {
                        end = end.or(Some(stop + select.field.len()));
                    }
                    steps.push(select.field.clone());
                    &select.operand
                }
                Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                    (operators::INDEX, [of, key]) => {
                        steps.push(literal_text(key)?.to_owned());
                        end = end.or_else(|| Some(self.bytes(key.id).1 + 1));
                        of
                    }
                    (operators::IN, [key, of]) if steps.is_empty() => {
                        let mut trail = self
                            .trail(of)
                            .filter(|trail| !trail.test && is_map(trail))?;
                        trail.steps.push(literal_text(key)?.to_owned());
                        return Some(Trail {
                            test: true,
                            ..trail
                        });
                    }
                    _ => return None,
                },
                Expr::Unspecified
                | Expr::Comprehension(_)
                | Expr::List(_)
                | Expr::Literal(_)
                | Expr::Map(_)
                | Expr::Select(_)
                | Expr::Struct(_) => return None,
            };
        }
    }

    /// What stands for a map as a whole.
    fn whole(&self, root: &str, steps: &[&str]) -> Option<Slot> {
        match (root, steps) {
            ("params", []) => Some(Slot::Params(
                self.vocabulary
                    .params()
                    .iter()
                    .map(|name| (*name).into())
                    .collect(),
            )),
            ("request", ["headers"]) => Some(Slot::Headers),
            ("request", ["query"]) => Some(Slot::Query),
            ("request", ["cookies"]) => Some(Slot::Cookies),
            ("response", ["headers"]) => Some(Slot::ResponseHeaders),
            ("auth", ["claims"]) => Some(Slot::Claims),
            _ => None,
        }
    }

    /// What stands for a name in the bound tree.
    fn name(&mut self, trail: &Trail, id: u64) -> Result<Expr, ExprError> {
        let steps: Vec<&str> = trail.steps.iter().map(String::as_str).collect();
        let whole = self.whole(&trail.root, &steps);
        let slot = match (whole, steps.as_slice()) {
            (Some(slot), _) => {
                Name::root_is_known(&trail.root, self.vocabulary)?;
                if trail.test {
                    return Ok(Expr::Literal(LiteralValue::Boolean(CelBool::TRUE)));
                }
                slot
            }
            (None, ["claims", path @ ..]) if trail.root == "auth" => {
                // That it may stand here is the same for each of them.
                let path = path.join(".");
                Name::of("auth", "claims", Some(&path), self.vocabulary)?;
                Slot::Claim(ClaimPath::new(&path))
            }
            (None, ["groups"]) if trail.root == "consumer" => {
                Name::of("consumer", "groups", None, self.vocabulary)?;
                Slot::Groups
            }
            (None, [field]) => Slot::One(Name::of(&trail.root, field, None, self.vocabulary)?),
            (None, [field, key]) => {
                Slot::One(Name::of(&trail.root, field, Some(key), self.vocabulary)?)
            }
            (None, []) => return Err(root_error(&trail.root, self.vocabulary)),
            (None, [field, key, ..]) => {
                Name::of(&trail.root, field, Some(key), self.vocabulary)?;
                let what = format!(
                    "`{}.{field}.{key}` is one value: it has no fields",
                    trail.root
                );
                return Err(ExprError::new(ErrorKind::Unknown, what));
            }
        };
        let known = self.bound.slots.iter().position(|other| *other == slot);
        let index = known.unwrap_or_else(|| {
            self.bound.slots.push(slot);
            self.bound.slots.len() - 1
        });
        let ident = Expr::Ident(format!("{SLOT}{index}"));
        if !trail.test {
            return Ok(ident);
        }
        // A missing value is `null`, so that comparing it is no error; being there is being something else.
        let args = vec![
            IdedExpr { id, expr: ident },
            IdedExpr {
                id,
                expr: Expr::Literal(LiteralValue::Null),
            },
        ];
        Ok(Expr::Call(CallExpr {
            func_name: operators::NOT_EQUALS.to_owned(),
            target: None,
            args,
        }))
    }

    fn call(&mut self, call: &mut CallExpr, span: &Range<usize>) -> Result<(), ExprError> {
        let name = call.func_name.as_str();
        if !OPERATORS.contains(&name) {
            let style = if call.target.is_some() {
                Style::Of
            } else {
                Style::Free
            };
            known_function(name, style, call.args.len()).map_err(|error| error.at(span.clone()))?;
        }
        if name == "matches" {
            return self.pattern(call, span);
        }
        call.target
            .iter_mut()
            .try_for_each(|target| self.visit(target))?;
        call.args.iter_mut().try_for_each(|arg| self.visit(arg))
    }

    /// `text.matches(pattern)`: the pattern is compiled here and never for a request.
    fn pattern(&mut self, call: &mut CallExpr, span: &Range<usize>) -> Result<(), ExprError> {
        let Some(mut pattern) = call.args.pop() else {
            return Ok(());
        };
        let place = self.span(pattern.id);
        let Some(source) = literal_text(&pattern) else {
            return Err(ExprError::new(
                ErrorKind::Type,
                "the pattern of `matches` must be written out",
            )
            .hint("a text in quotes, not a value of the request")
            .at(span.clone()));
        };
        let regex = RegexBuilder::new(source)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| {
                let error = error.to_string();
                let last = error
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                ExprError::new(
                    ErrorKind::Type,
                    "the pattern of `matches` cannot be compiled",
                )
                .hint(last)
                .at(place)
            })?;
        pattern.expr = Expr::Ident(format!("{PATTERN}{}", self.bound.patterns.len()));
        self.bound.patterns.push(regex);
        call.args.extend(call.target.take().map(|target| *target));
        call.args.iter_mut().try_for_each(|arg| self.visit(arg))?;
        call.args.push(pattern);
        Ok(())
    }

    fn span(&self, id: u64) -> Range<usize> {
        let (start, stop) = self.bytes(id);
        self.chars(start, stop)
    }

    /// First and last byte of a node, as the parser tells them.
    fn bytes(&self, id: u64) -> (usize, usize) {
        let (start, stop) = self.info.offset_for(id).unwrap_or((0, 0));
        (
            usize::try_from(start).unwrap_or(0),
            usize::try_from(stop).unwrap_or(0),
        )
    }

    fn chars(&self, start: usize, stop: usize) -> Range<usize> {
        let count = |end: usize| {
            self.info
                .source
                .char_indices()
                .take_while(|(at, _)| *at < end)
                .count()
        };
        let start = count(start);
        start..count(stop + 1).max(start + 1)
    }
}

fn is_map(trail: &Trail) -> bool {
    let steps: Vec<&str> = trail.steps.iter().map(String::as_str).collect();
    matches!(
        (trail.root.as_str(), steps.as_slice()),
        ("params", [])
            | ("request", ["headers" | "query" | "cookies"])
            | ("response", ["headers"])
            | ("auth", ["claims"])
    )
}

fn literal_text(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        Expr::Literal(_)
        | Expr::Unspecified
        | Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => None,
    }
}

fn root_is_taken(name: &str) -> bool {
    matches!(
        name,
        "request" | "params" | "client" | "route" | "response" | "auth" | "consumer"
    )
}

/// What an expression gives when that can never be yes or no.
fn never_bool(expr: &IdedExpr, slots: &[Slot]) -> Option<&'static str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::Boolean(_)) => None,
        Expr::Literal(_) => Some("a fixed value"),
        Expr::List(_) => Some("a list"),
        Expr::Map(_) => Some("a map"),
        Expr::Ident(name) => match slots.get(slot_index(name)?)? {
            Slot::One(_) => Some("a value of the request"),
            Slot::Params(_)
            | Slot::Headers
            | Slot::Query
            | Slot::Cookies
            | Slot::Claims
            | Slot::ResponseHeaders => Some("a map"),
            Slot::Groups => Some("a list"),
            // It may be `true`.
            Slot::Claim(_) => None,
        },
        Expr::Call(call) => match call.func_name.as_str() {
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | "size"
            | "int"
            | "uint"
            | "double" => Some("a number or a text"),
            "string" | "lowerAscii" | "upperAscii" | "trim" => Some("a text"),
            _ => None,
        },
        Expr::Unspecified | Expr::Comprehension(_) | Expr::Select(_) | Expr::Struct(_) => None,
    }
}
