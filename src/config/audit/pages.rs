//! What is looked at in clauses about pages of other origins, and in credentials.

use regex::Regex;

use super::Findings;
use super::rules::is_private;
use crate::base::net::TargetUrl;
use crate::base::problem::Place;
use crate::config::document::Named;
use crate::config::tree::Node;
use crate::upstream::{CredentialsSpec, Spec};

/// No page is of this origin (RFC 6761 section 6.4).
const NOBODY: &str = "https://nobody.invalid";

impl Findings<'_> {
    /// A secret of ours goes where tokens come from.
    pub(super) fn token_url(&mut self, upstream: &Named<Spec>) {
        let Some(CredentialsSpec::ClientCredentials(tokens)) = &upstream.spec.credentials else {
            return;
        };
        let plain = tokens.token_url.strip_prefix("http://");
        let authority = plain.and_then(|rest| rest.split('/').next());
        let url = authority.and_then(|it| format!("http://{it}").parse::<TargetUrl>().ok());
        if let Some(url) = url.filter(|url| !is_private(url.ip(), url.host())) {
            let place = upstream.place.key("credentials").key("client_credentials");
            let what = format!("our secret goes to `{}` without TLS", url.host());
            self.add("A007", &place.key("token_url"), what);
        }
    }

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
