//! What is looked at in authenticators: whether those who are asked can be taken for somebody else.

use std::collections::HashSet;

use super::Findings;
use super::rules::is_private;
use crate::base::net::TargetUrl;
use crate::policy::auth::Proof;

impl Findings<'_> {
    /// Where several vouch for names of one kind, a name is worth what the least of them is.
    pub(super) fn vouching(&mut self) {
        let document = &self.loaded.document;
        let authenticators = |proof: Proof| {
            let kinds = document.authenticators.iter();
            kinds
                .filter(move |item| item.spec.proof() == Some(proof))
                .count()
        };
        // Whose certificates are good is said by the hosts, each for itself.
        let listeners = document.listeners.iter();
        let hosts = listeners.filter_map(|item| item.spec.tls.as_ref());
        let files: HashSet<&str> = hosts
            .flat_map(|tls| tls.client_auth.values())
            .map(|host| host.ca_file.as_str())
            .collect();
        for item in &document.consumers {
            for (place, proof) in item.spec.anybodys(&item.place) {
                let several = match proof {
                    Proof::Claim | Proof::User => authenticators(proof),
                    Proof::Certificate => files.len(),
                };
                if several > 1 {
                    let who = match proof {
                        Proof::Claim | Proof::User => "authenticators",
                        Proof::Certificate => "files of client CAs",
                    };
                    let what = format!("{several} {who} can say that somebody is `{}`", item.name);
                    self.add("A022", &place, what);
                }
            }
        }
    }

    /// Whoever stands between may give keys of its own, or say that any token holds.
    pub(super) fn authenticators(&mut self) {
        for item in &self.loaded.document.authenticators {
            let Some((kind, key, url)) = item.spec.asks() else {
                continue;
            };
            let plain = url.strip_prefix("http://");
            let authority = plain.and_then(|rest| rest.split('/').next());
            let url = authority.and_then(|it| format!("http://{it}").parse::<TargetUrl>().ok());
            if let Some(url) = url.filter(|url| !is_private(url.ip(), url.host())) {
                let what = format!("`{}` is believed without TLS", url.host());
                self.add("A007", &item.place.key(kind).key(key), what);
            }
        }
    }
}
