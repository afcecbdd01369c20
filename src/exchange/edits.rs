//! Changes to headers that are decided now and made later.

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// One change.
#[derive(Debug, Clone)]
pub enum Edit {
    /// This header, once, with this value.
    Set(HeaderName, HeaderValue),
    /// One more line of this header.
    Add(HeaderName, HeaderValue),
    /// The values of the first under the name of the second.
    Rename(HeaderName, HeaderName),
    /// Not this header.
    Remove(HeaderName),
}

/// Changes in the order they are made.
#[derive(Debug, Clone, Default)]
pub struct HeaderEdits(SmallVec<[Edit; 4]>);

/// A head whose headers can be changed: Pingora's request and response heads keep a second map beside the first.
pub trait Headers {
    /// The headers as they are.
    fn map(&self) -> &HeaderMap;
    /// Replaces all lines of `name`.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
    /// Adds a line.
    fn add(&mut self, name: &HeaderName, value: HeaderValue);
    /// Removes all lines of `name`.
    fn remove(&mut self, name: &HeaderName);
}

impl HeaderEdits {
    /// Adds a change.
    pub fn push(&mut self, edit: Edit) {
        self.0.push(edit);
    }

    /// Makes the changes.
    pub fn apply(&self, head: &mut impl Headers) {
        for edit in &self.0 {
            match edit {
                Edit::Set(name, value) => head.set(name, value.clone()),
                Edit::Add(name, value) => head.add(name, value.clone()),
                Edit::Remove(name) => head.remove(name),
                Edit::Rename(from, to) => {
                    let values: SmallVec<[HeaderValue; 2]> =
                        head.map().get_all(from).iter().cloned().collect();
                    if values.is_empty() {
                        continue;
                    }
                    head.remove(from);
                    head.remove(to);
                    for value in values {
                        head.add(to, value);
                    }
                }
            }
        }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Headers for HeaderMap {
    fn map(&self) -> &HeaderMap {
        self
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        drop(self.insert(name, value));
    }
    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        self.append(name, value);
    }
    fn remove(&mut self, name: &HeaderName) {
        drop(Self::remove(self, name));
    }
}

impl Headers for pingora::http::RequestHeader {
    fn map(&self) -> &HeaderMap {
        &self.headers
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        // Fails only for a name that is none, and this one is.
        drop(self.insert_header(name, value));
    }
    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        drop(self.append_header(name, value));
    }
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }
}

impl Headers for pingora::http::ResponseHeader {
    fn map(&self) -> &HeaderMap {
        &self.headers
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        drop(self.insert_header(name, value));
    }
    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        drop(self.append_header(name, value));
    }
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }
}
