//! Sets of methods, as a rule names them and as an `Allow` header lists them.

use std::fmt;

use http::Method;

/// The methods that have a bit, in the order an `Allow` header lists them.
const NAMES: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY", "CONNECT", "TRACE", "OPTIONS",
];
const GET: u16 = 1;
const HEAD: u16 = 1 << 1;
const OPTIONS: u16 = 1 << 9;
/// Some methods without a bit of their own: they are in the list.
const LISTED: u16 = 1 << 14;
/// Every method without a bit of its own.
const UNNAMED: u16 = 1 << 15;
const ALL: u16 = UNNAMED | ((OPTIONS << 1) - 1);

/// The methods a rule takes. GET brings HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods {
    bits: u16,
    /// Those without a bit of their own, sorted.
    others: Vec<Method>,
}

impl Methods {
    /// Every method there is.
    #[must_use]
    pub fn all() -> Self {
        Self {
            bits: ALL,
            others: Vec::new(),
        }
    }

    /// No method.
    #[must_use]
    pub fn none() -> Self {
        Self {
            bits: 0,
            others: Vec::new(),
        }
    }

    /// These.
    pub fn of(methods: impl IntoIterator<Item = Method>) -> Self {
        let mut set = Self::none();
        for method in methods {
            set.insert(&method);
        }
        set
    }

    /// Whether `method` is one of them.
    #[must_use]
    pub fn takes(&self, method: &Method) -> bool {
        self.bits & bit(method) != 0 || self.others.contains(method)
    }

    /// Whether there are none, so that nothing can match.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits == 0
    }

    /// Whether some method is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let listed = |a: &Self, b: &Self| a.bits & LISTED != 0 && b.bits & UNNAMED != 0;
        self.bits & other.bits & !LISTED != 0
            || listed(self, other)
            || listed(other, self)
            || self.others.iter().any(|m| other.others.contains(m))
    }

    /// Whether every method of `other` is one of these.
    pub(super) fn contains(&self, other: &Self) -> bool {
        let listed = |m| self.bits & UNNAMED != 0 || self.others.contains(m);
        other.bits & !LISTED & !self.bits == 0 && other.others.iter().all(listed)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.bits |= other.bits;
        for method in &other.others {
            self.insert(method);
        }
    }

    pub(super) fn bits(&self) -> u16 {
        self.bits
    }

    fn insert(&mut self, method: &Method) {
        match bit(method) {
            GET => self.bits |= GET | HEAD,
            UNNAMED => {
                self.bits |= LISTED;
                let found = (self.others).binary_search_by(|m| m.as_str().cmp(method.as_str()));
                if let Err(at) = found {
                    self.others.insert(at, method.clone());
                }
            }
            bit => self.bits |= bit,
        }
    }
}

/// The bit of `method`, or [`UNNAMED`].
pub(super) fn bit(method: &Method) -> u16 {
    match *method {
        Method::GET => GET,
        Method::HEAD => HEAD,
        Method::POST => 1 << 2,
        Method::PUT => 1 << 3,
        Method::PATCH => 1 << 4,
        Method::DELETE => 1 << 5,
        Method::QUERY => 1 << 6,
        Method::CONNECT => 1 << 7,
        Method::TRACE => 1 << 8,
        Method::OPTIONS => OPTIONS,
        _ => UNNAMED,
    }
}

/// Whether only the list of a set with `bits` tells if it takes a method whose bit is `wanted`.
pub(super) fn needs_list(bits: u16, wanted: u16) -> bool {
    wanted == UNNAMED && bits & LISTED != 0
}

/// Whether sets with these bits might have a method in common.
pub(super) fn may_overlap(one: u16, two: u16) -> bool {
    one & two != 0 || (one | two) & LISTED != 0
}

/// What an `Allow` header lists: the methods of some rules, and OPTIONS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow(Methods);

impl Allow {
    /// Whether `method` is in it.
    #[must_use]
    pub fn allows(&self, method: &Method) -> bool {
        self.0.takes(method)
    }

    pub(super) fn of(mut methods: Methods) -> Self {
        methods.insert(&Method::OPTIONS);
        Self(methods)
    }
}

/// The value of an `Allow` header, always in the same order.
impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMES.iter().enumerate();
        let named = named.filter(|(at, _)| self.0.bits & (1 << at) != 0);
        let others = self.0.others.iter().map(Method::as_str);
        let mut comma = "";
        for name in named.map(|(_, name)| *name).chain(others) {
            write!(f, "{comma}{name}")?;
            comma = ", ";
        }
        Ok(())
    }
}
