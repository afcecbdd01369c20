//! What is looked at in clauses about pages of other origins.

use regex::Regex;

use super::Findings;
use crate::base::problem::Place;
use crate::config::tree::Node;

/// No page is of this origin (RFC 6761 section 6.4).
const NOBODY: &str = "https://nobody.invalid";

impl Findings<'_> {
    /// The clauses about pages in the section at `place`.
    pub(super) fn pages(&mut self, section: &Node, place: &Place) {
        let origins = section.child("cors").and_then(|cors| cors.child("origins"));
        let items = origins.map(Node::items).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let regex = item.child("regex").and_then(Node::text);
            let regex = regex.and_then(|text| Regex::new(&format!("^(?:{text})$")).ok());
            if item.text() == Some("*") || regex.is_some_and(|regex| regex.is_match(NOBODY)) {
                let place = place.key("cors").key("origins").index(index);
                self.add(
                    "A021",
                    &place,
                    "every page may read what is served here".to_owned(),
                );
            }
        }
    }
}
