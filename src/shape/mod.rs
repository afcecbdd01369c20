//! JSON in another shape: fields picked, left out, renamed and set, as a body is copied once for each kind of change.
//!
//! Everything else stays as it was written, to the digit: a body never becomes a tree of values, so that its numbers lose
//! nothing and a hostile one costs no more memory than its length.

mod path;
mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashSet;

use path::Tree;
pub use path::{Path, PathError};
use scan::Scan;

/// How many names one object may have where it is looked into.
const NAMES_MAX: usize = 64 * 1024;
/// So many names are compared with each other without a set.
const FEW: usize = 16;

/// A body that cannot be read: it is no JSON, nested too deeply, too long for what was asked, or says one thing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not JSON that can be read")]
pub struct Unreadable;

/// Changes to JSON, made in this order: what is picked, what is left out, what is renamed, what is set.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    pick: Option<Tree<()>>,
    omit: Option<Tree<()>>,
    rename: Option<Tree<String>>,
    set: Option<Tree<usize>>,
}

impl Default for Tree<()> {
    fn default() -> Self {
        Self::new()
    }
}

impl Shape {
    /// Keeps what is at `path`, and at the other paths that are picked.
    pub fn pick(&mut self, path: &Path) {
        let tree = self.pick.get_or_insert_with(Tree::new);
        tree.insert(path.names(), ());
    }

    /// Leaves out what is at `path`.
    pub fn omit(&mut self, path: &Path) {
        let tree = self.omit.get_or_insert_with(Tree::new);
        tree.insert(path.names(), ());
    }

    /// Gives what is at `path` the name `new`, where it is; whatever had that name is gone.
    pub fn rename(&mut self, path: &Path, new: &str) {
        let tree = self.rename.get_or_insert_with(Tree::new);
        tree.insert(path.names(), new.to_owned());
    }

    /// Puts the value number `index` of those that [`Shape::apply`] gets at `path`; what is missing on the way is made.
    pub fn set(&mut self, path: &Path, index: usize) {
        let tree = self.set.get_or_insert_with(Tree::new);
        tree.insert(path.names(), index);
    }

    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pick.is_none() && self.omit.is_none() && self.rename.is_none() && self.set.is_none()
    }

    /// The body in its new shape. `values` are what is set, as JSON; `None` takes away what was there.
    ///
    /// # Errors
    /// The body cannot be read.
    pub fn apply(&self, body: &[u8], values: &[Option<String>]) -> Result<Vec<u8>, Unreadable> {
        let text = std::str::from_utf8(body).map_err(|_error| Unreadable)?;
        let mut text = Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text));
        if let Some(tree) = &self.pick {
            text = Cow::Owned(rewritten(&text, &|value, out| pick(tree, value, out))?);
        }
        if let Some(tree) = &self.omit {
            text = Cow::Owned(rewritten(&text, &|value, out| omit(tree, value, out))?);
        }
        if let Some(tree) = &self.rename {
            text = Cow::Owned(rewritten(&text, &|value, out| rename(tree, value, out))?);
        }
        if let Some(tree) = &self.set {
            text = Cow::Owned(rewritten(&text, &|value, out| {
                set(tree, values, value, out)
            })?);
        }
        Ok(text.into_owned().into_bytes())
    }
}

/// Changes the one value that `text` is; `false` of the change: nothing is left of it.
fn rewritten(
    text: &str,
    change: &dyn Fn(&str, &mut String) -> Result<bool, Unreadable>,
) -> Result<String, Unreadable> {
    let mut scan = Scan::new(text);
    let value = scan.value()?;
    if !scan.ends() {
        return Err(Unreadable);
    }
    let mut out = String::with_capacity(text.len());
    if !change(value, &mut out)? {
        out.push_str("null");
    }
    Ok(out)
}

/// One name of an object with its value, as written.
struct Member<'a> {
    /// With its quotes.
    written: &'a str,
    name: Cow<'a, str>,
    value: &'a str,
}

/// What a value is, as far as changes go.
enum Value<'a> {
    Object(Vec<Member<'a>>),
    List(Scan<'a>),
    Scalar,
}

/// Looks into `value`, which was read before as a whole.
fn look(value: &str) -> Result<Value<'_>, Unreadable> {
    let mut scan = Scan::new(value);
    match scan.peek() {
        Some(b'{') => members(&mut scan).map(Value::Object),
        Some(b'[') => {
            scan.expect(b'[')?;
            Ok(Value::List(scan))
        }
        _ => Ok(Value::Scalar),
    }
}

fn members<'a>(scan: &mut Scan<'a>) -> Result<Vec<Member<'a>>, Unreadable> {
    let mut members = Vec::new();
    scan.expect(b'{')?;
    if scan.step(b'}') {
        return Ok(members);
    }
    loop {
        let written = scan.string()?;
        scan.expect(b':')?;
        let value = scan.value()?;
        members.push(Member {
            written,
            name: name(written)?,
            value,
        });
        if members.len() > NAMES_MAX {
            return Err(Unreadable);
        }
        if !scan.step(b',') {
            break;
        }
    }
    scan.expect(b'}')?;
    // What stands there twice, two readers may read differently.
    if has_twice(&members) {
        return Err(Unreadable);
    }
    Ok(members)
}

/// The name between the quotes.
fn name(written: &str) -> Result<Cow<'_, str>, Unreadable> {
    if written.contains('\\') {
        let name = serde_json::from_str::<String>(written).map_err(|_error| Unreadable)?;
        return Ok(Cow::Owned(name));
    }
    let inner = written
        .strip_prefix('"')
        .and_then(|it| it.strip_suffix('"'));
    inner.map(Cow::Borrowed).ok_or(Unreadable)
}

fn has_twice(members: &[Member<'_>]) -> bool {
    if members.len() <= FEW {
        let mut rest = members;
        while let Some((first, others)) = rest.split_first() {
            if others.iter().any(|other| other.name == first.name) {
                return true;
            }
            rest = others;
        }
        return false;
    }
    let mut seen: HashSet<&str, ahash::RandomState> = HashSet::default();
    !members.iter().all(|member| seen.insert(&member.name))
}

/// Writes an object, name by name.
struct Object<'o> {
    out: &'o mut String,
    is_first: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut String) -> Self {
        out.push('{');
        Self {
            out,
            is_first: true,
        }
    }

    /// Writes a name; `value` writes what it has. `false` of it: there is nothing, also no name.
    fn entry(
        &mut self,
        written: &str,
        value: impl FnOnce(&mut String) -> Result<bool, Unreadable>,
    ) -> Result<(), Unreadable> {
        let before = self.out.len();
        if !self.is_first {
            self.out.push(',');
        }
        self.out.push_str(written);
        self.out.push(':');
        if value(self.out)? {
            self.is_first = false;
        } else {
            self.out.truncate(before);
        }
        Ok(())
    }

    fn end(self) {
        self.out.push('}');
    }
}

/// Writes a list, each of whose items `item` writes, or leaves out.
fn list<'a>(
    scan: &mut Scan<'a>,
    out: &mut String,
    item: &dyn Fn(&'a str, &mut String) -> Result<bool, Unreadable>,
) -> Result<bool, Unreadable> {
    out.push('[');
    let mut is_first = true;
    while scan.peek() != Some(b']') {
        let before = out.len();
        if !is_first {
            out.push(',');
        }
        if item(scan.value()?, out)? {
            is_first = false;
        } else {
            out.truncate(before);
        }
        if !scan.step(b',') {
            break;
        }
    }
    out.push(']');
    Ok(true)
}

fn copy(value: &str, out: &mut String) -> bool {
    out.push_str(value);
    true
}

/// What has no names has nothing that could be picked.
fn pick(tree: &Tree<()>, value: &str, out: &mut String) -> Result<bool, Unreadable> {
    if tree.end.is_some() {
        return Ok(copy(value, out));
    }
    match look(value)? {
        Value::Scalar => Ok(false),
        Value::List(mut items) => list(&mut items, out, &|item, out| pick(tree, item, out)),
        Value::Object(members) => {
            let mut object = Object::begin(out);
            for member in &members {
                if let Some(below) = tree.get(&member.name) {
                    object.entry(member.written, |out| pick(below, member.value, out))?;
                }
            }
            object.end();
            Ok(true)
        }
    }
}

fn omit(tree: &Tree<()>, value: &str, out: &mut String) -> Result<bool, Unreadable> {
    if tree.end.is_some() {
        return Ok(false);
    }
    match look(value)? {
        Value::Scalar => Ok(copy(value, out)),
        Value::List(mut items) => list(&mut items, out, &|item, out| omit(tree, item, out)),
        Value::Object(members) => {
            let mut object = Object::begin(out);
            for member in &members {
                object.entry(member.written, |out| match tree.get(&member.name) {
                    Some(below) => omit(below, member.value, out),
                    None => Ok(copy(member.value, out)),
                })?;
            }
            object.end();
            Ok(true)
        }
    }
}

/// All names are those from before: two may change places.
fn rename(tree: &Tree<String>, value: &str, out: &mut String) -> Result<bool, Unreadable> {
    match look(value)? {
        Value::Scalar => Ok(copy(value, out)),
        Value::List(mut items) => list(&mut items, out, &|item, out| rename(tree, item, out)),
        Value::Object(members) => {
            let has_new_name =
                |member: &&Member<'_>| tree.get(&member.name).and_then(|below| below.end.as_ref());
            let taken: Vec<&String> = members.iter().filter_map(|m| has_new_name(&m)).collect();
            let mut object = Object::begin(out);
            for member in &members {
                let below = tree.get(&member.name);
                let new = below.and_then(|below| below.end.as_ref());
                let gone = new.is_none() && taken.iter().any(|new| ***new == *member.name);
                if gone {
                    continue;
                }
                let written = new.map(|new| quoted(new));
                let written = written.as_deref().unwrap_or(member.written);
                object.entry(written, |out| match below {
                    Some(below) if !below.below.is_empty() => rename(below, member.value, out),
                    _ => Ok(copy(member.value, out)),
                })?;
            }
            object.end();
            Ok(true)
        }
    }
}

fn set(
    tree: &Tree<usize>,
    values: &[Option<String>],
    value: &str,
    out: &mut String,
) -> Result<bool, Unreadable> {
    match look(value)? {
        Value::Scalar => Ok(copy(value, out)),
        Value::List(mut items) => list(&mut items, out, &|item, out| set(tree, values, item, out)),
        Value::Object(members) => {
            let mut object = Object::begin(out);
            for member in &members {
                object.entry(member.written, |out| match tree.get(&member.name) {
                    Some(below) => put(below, values, Some(member.value), out),
                    None => Ok(copy(member.value, out)),
                })?;
            }
            let is_new = |name: &str| members.iter().all(|member| member.name != name);
            for (name, below) in tree.below.iter().filter(|(name, _)| is_new(name)) {
                object.entry(&quoted(name), |out| put(below, values, None, out))?;
            }
            object.end();
            Ok(true)
        }
    }
}

/// Puts what `tree` says in the place of `before`.
fn put(
    tree: &Tree<usize>,
    values: &[Option<String>],
    before: Option<&str>,
    out: &mut String,
) -> Result<bool, Unreadable> {
    if let Some(index) = tree.end {
        let value = values.get(index).and_then(Option::as_deref);
        return Ok(value.is_some_and(|value| copy(value, out)));
    }
    let nested = before.filter(|value| value.starts_with(['{', '[']));
    // What has no names becomes something that has: what is set is there in any case.
    set(tree, values, nested.unwrap_or("{}"), out)
}

fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}
