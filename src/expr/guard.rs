//! What an expression may cost: a scan before the parser sees it, an estimate before a request does.
//!
//! The parser and the evaluator recurse, and the evaluator has no limit of its own: a chain of some thousand
//! operators would overflow the stack, which no `catch_unwind` stops.

use std::iter::Peekable;
use std::ops::Range;
use std::str::Chars;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, operators};

use super::{ErrorKind, ExprError};

/// How long an expression may be, in bytes.
pub(super) const EXPRESSION_BYTES_MAX: usize = 4 * 1024;
/// How deep brackets may nest, and how many `?` there may be.
const DEPTH_MAX: usize = 24;
/// How many operators, dots and calls there may be, `&&` and `||` apart; 1000 fit a stack of 2 MiB.
const OPERATORS_MAX: usize = 250;
/// How deep the tree may be: the evaluator takes up to 9 kB of stack a level.
pub(super) const TREE_DEPTH_MAX: usize = 64;
/// How many steps one evaluation may take at most; about 5 ms.
const STEPS_MAX: u64 = 20_000;
/// How many entries a map of the request (`request.headers`, …) may have when it is used as a whole.
pub(super) const ENTRIES_MAX: usize = 128;

/// Refuses what is too long, too deep or too much to be parsed, and literals that never close.
pub(super) fn scan(text: &str) -> Result<(), ExprError> {
    let whole = 0..text.chars().count();
    if text.len() > EXPRESSION_BYTES_MAX {
        let what = format!("the expression is longer than {EXPRESSION_BYTES_MAX} bytes");
        return Err(ExprError::new(ErrorKind::TooLarge, what).at(whole));
    }
    if text.trim().is_empty() {
        return Err(ExprError::new(ErrorKind::Syntax, "the expression is empty").at(whole));
    }
    let mut scan = Scan {
        chars: text.chars().peekable(),
        at: 0,
        depth: 0,
        operators: 0,
        ternaries: 0,
        word: String::new(),
    };
    scan.run()
}

struct Scan<'t> {
    chars: Peekable<Chars<'t>>,
    at: usize,
    depth: usize,
    operators: usize,
    ternaries: usize,
    /// The letters and digits right before: `r"…"` has no escapes.
    word: String,
}

impl Scan<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.chars.next()?;
        self.at += 1;
        Some(next)
    }

    fn run(&mut self) -> Result<(), ExprError> {
        while let Some(c) = self.next() {
            let start = self.at - 1;
            let before = std::mem::take(&mut self.word);
            match c {
                '"' | '\'' => self.literal(c, &before)?,
                '/' if self.chars.peek() == Some(&'/') => {
                    while self.next().is_some_and(|c| c != '\n') {}
                }
                '(' | '[' | '{' => {
                    self.depth += 1;
                    self.operators += 1;
                }
                ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                '?' => self.ternaries += 1,
                '.' | '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' => {
                    self.operators += 1;
                    if self.chars.peek() == Some(&'=') {
                        self.next();
                    }
                }
                c if c.is_alphanumeric() || c == '_' => {
                    self.word = before;
                    self.word.push(c);
                    // The operator `in`; names that begin so are counted too, which errs to the safe side.
                    self.operators += usize::from(self.word == "in");
                }
                _ => {}
            }
            let over =
                |what: &str| Err(ExprError::new(ErrorKind::TooLarge, what).at(start..start + 1));
            if self.depth > DEPTH_MAX || self.ternaries > DEPTH_MAX {
                return over("the expression is nested too deeply");
            }
            if self.operators > OPERATORS_MAX {
                return over("the expression has too many operators");
            }
        }
        Ok(())
    }

    /// Skips a literal whose opening quote has just been read. What the lexer would refuse is refused here: it would
    /// go on inside the literal and read its text as operators.
    fn literal(&mut self, quote: char, prefix: &str) -> Result<(), ExprError> {
        let start = self.at - 1;
        let raw = match prefix {
            "" | "b" | "B" => false,
            "r" | "R" | "br" | "bR" | "Br" | "BR" => true,
            _ => {
                let error = ExprError::new(
                    ErrorKind::Syntax,
                    "a text cannot follow a name or number directly",
                );
                return Err(error.at(start..start + 1));
            }
        };
        let mut ahead = self.chars.clone();
        let triple = ahead.next() == Some(quote) && ahead.next() == Some(quote);
        if triple {
            self.next();
            self.next();
        }
        let mut quotes = 0;
        while let Some(c) = self.next() {
            match c {
                c if c == quote => {
                    quotes += 1;
                    if !triple || quotes == 3 {
                        return Ok(());
                    }
                    continue;
                }
                '\n' | '\r' if !triple => break,
                '\\' if !raw => self.escape()?,
                _ => {}
            }
            quotes = 0;
        }
        Err(ExprError::new(ErrorKind::Syntax, "the text is not closed")
            .hint(format!("a {quote} is missing"))
            .at(start..start + 1))
    }

    fn escape(&mut self) -> Result<(), ExprError> {
        let start = self.at - 1;
        let (digits, radix) = match self.next() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | '\'' | '"' | '`' | '?') => {
                (0, 16)
            }
            Some('x' | 'X') => (2, 16),
            Some('u') => (4, 16),
            Some('U') => (8, 16),
            Some('0'..='3') => (2, 8),
            _ => return Err(bad_escape(start..self.at)),
        };
        for _ in 0..digits {
            if !self.next().is_some_and(|c| c.is_digit(radix)) {
                return Err(bad_escape(start..self.at));
            }
        }
        Ok(())
    }
}

fn bad_escape(span: Range<usize>) -> ExprError {
    ExprError::new(ErrorKind::Syntax, "no such escape in a text")
        .hint("in a pattern write r\"…\"")
        .at(span)
}

/// The most steps that evaluating `expr` can take, when no map of the request has more than [`ENTRIES_MAX`] entries.
/// `is_map` says which of the bound names are such maps.
pub(super) fn afford(expr: &IdedExpr, is_map: &dyn Fn(&str) -> bool) -> Result<(), ExprError> {
    let mut meter = Meter {
        is_map,
        locals: Vec::new(),
        times: 1,
        steps: 0,
    };
    meter.size(expr);
    if meter.steps <= STEPS_MAX {
        return Ok(());
    }
    let what = format!(
        "the expression may take {} steps for one request, more than {STEPS_MAX}",
        meter.steps
    );
    Err(ExprError::new(ErrorKind::TooLarge, what).hint("loops within loops multiply"))
}

struct Meter<'a> {
    is_map: &'a dyn Fn(&str) -> bool,
    locals: Vec<(&'a str, Size)>,
    times: u64,
    steps: u64,
}

/// How large a value may be: a list or map of `len` entries, each of at most `each` values; or a text that is put
/// together from `len` others.
#[derive(Clone, Copy)]
struct Size {
    len: u64,
    each: u64,
}

impl Size {
    const ONE: Self = Self { len: 1, each: 1 };

    fn total(self) -> u64 {
        self.len.saturating_mul(self.each)
    }

    fn entry(self) -> Self {
        Self {
            len: self.each,
            each: self.each,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            len: self.len.max(other.len),
            each: self.each.max(other.each),
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            len: self.len.saturating_add(other.len),
            each: self.each.max(other.each),
        }
    }
}

impl<'a> Meter<'a> {
    fn spend(&mut self, steps: u64) {
        self.steps = self.steps.saturating_add(self.times.saturating_mul(steps));
    }

    /// How large the result is at most; on the way, counts the steps.
    fn size(&mut self, expr: &'a IdedExpr) -> Size {
        self.spend(1);
        match &expr.expr {
            Expr::Unspecified | Expr::Literal(_) => Size::ONE,
            Expr::Ident(name) => self.named(name),
            Expr::Select(select) => self.size(&select.operand).entry(),
            Expr::Struct(structure) => {
                self.entries(structure.entries.iter().map(|entry| &entry.expr))
            }
            Expr::Map(map) => self.entries(map.entries.iter().map(|entry| &entry.expr)),
            Expr::List(list) => self.list(&list.elements),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(each) => self.each(each),
        }
    }

    fn named(&self, name: &str) -> Size {
        match self.locals.iter().rev().find(|(local, _)| *local == name) {
            Some((_, size)) => *size,
            None if (self.is_map)(name) => Size {
                len: ENTRIES_MAX as u64,
                each: 1,
            },
            None => Size::ONE,
        }
    }

    fn list(&mut self, elements: &'a [IdedExpr]) -> Size {
        let each = elements
            .iter()
            .fold(1, |each, element| self.size(element).total().max(each));
        let size = Size {
            len: elements.len() as u64,
            each,
        };
        self.spend(size.total());
        size
    }

    fn entries(&mut self, entries: impl ExactSizeIterator<Item = &'a EntryExpr>) -> Size {
        let len = entries.len() as u64;
        let each = entries.fold(1, |each: u64, entry| match entry {
            EntryExpr::StructField(field) => self.size(&field.value).total().max(each),
            EntryExpr::MapEntry(entry) => self
                .size(&entry.key)
                .total()
                .max(self.size(&entry.value).total())
                .max(each),
        });
        let size = Size { len, each };
        self.spend(size.total());
        size
    }

    fn call(&mut self, call: &'a CallExpr) -> Size {
        let sizes: Vec<Size> = call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .map(|arg| self.size(arg))
            .collect();
        let largest = sizes.iter().copied().fold(Size::ONE, Size::or);
        match call.func_name.as_str() {
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => Size::ONE,
            operators::CONDITIONAL => largest,
            operators::INDEX => sizes.first().map_or(Size::ONE, |of| of.entry()),
            operators::ADD => {
                let sum = sizes.into_iter().fold(Size { len: 0, each: 1 }, Size::with);
                self.spend(sum.total());
                sum
            }
            // Nothing else makes something larger than what it is given.
            _ => {
                self.spend(largest.total());
                largest
            }
        }
    }

    fn each(&mut self, each: &'a ComprehensionExpr) -> Size {
        let range = self.size(&each.iter_range);
        self.size(&each.accu_init);
        let outer = self.times;
        self.times = outer.saturating_mul(range.len);
        self.locals.push((&each.iter_var, range.entry()));
        self.locals.push((&each.accu_var, Size { len: 0, each: 1 }));
        self.size(&each.loop_cond);
        let step = self.size(&each.loop_step);
        self.size(&each.result);
        self.locals.truncate(self.locals.len() - 2);
        self.times = outer;
        // `map` and `filter` collect what each round gives; `all` and `exists` give one answer.
        if !matches!(each.accu_init.expr, Expr::List(_)) {
            return Size::ONE;
        }
        let size = Size {
            len: range.len.saturating_mul(step.len),
            each: step.each,
        };
        self.spend(size.total());
        size
    }
}
