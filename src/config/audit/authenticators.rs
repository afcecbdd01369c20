//! What is looked at in authenticators and stores: whether those who are asked can be taken for somebody else, and who may read
//! the secrets of others.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value as Json;

use super::Findings;
use super::rules::{OTHERS, OTHERS_WRITE, is_private};
use crate::base::net::TargetUrl;
use crate::base::problem::Place;
use crate::config::tree::Node;
use crate::policy::auth::Proof;
use crate::store::StoreSpec;

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
                    self.add("A023", &place, what);
                }
            }
        }
    }

    /// Who has no plan may call what those with one may not.
    pub(super) fn unplanned(&mut self) {
        let document = &self.loaded.document;
        if !document.usage_plans.iter().any(|it| it.spec.names_routes()) {
            return;
        }
        for item in document.consumers.iter().filter(|it| !it.spec.has_plan()) {
            self.add("A027", &item.place, format!("`{}` has no plan", item.name));
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

    /// What is in a URL is written down by everybody it passes.
    pub(super) fn in_urls(&mut self) {
        let loaded = self.loaded;
        let what = || "the credential stands in the URL of each request".to_owned();
        for item in &loaded.document.authenticators {
            let key = item.place.key("api_key").key("query");
            if loaded.tree.at(&key).is_some() {
                self.add("A026", &key, what());
            }
            for kind in ["jwt", "introspection"] {
                let place = item.place.key(kind).key("from");
                let items = loaded.tree.at(&place).map_or(&[][..], Node::items);
                for (index, from) in items.iter().enumerate() {
                    if from.text().is_some_and(|from| from.starts_with("query:")) {
                        self.add("A026", &place.index(index), what());
                    }
                }
            }
        }
    }

    /// What passes unencrypted can be read, and changed, on the way.
    pub(super) fn stores(&mut self) {
        for item in &self.loaded.document.stores {
            let StoreSpec::Redis(redis) = &item.spec else {
                continue;
            };
            let Some(rest) = redis.url.strip_prefix("redis://") else {
                continue;
            };
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            let url = format!("http://{host}").parse::<TargetUrl>().ok();
            let here = url.as_ref().is_some_and(|url| {
                let local = url.ip().is_some_and(|ip| ip.is_loopback());
                local || url.host() == "localhost"
            });
            if !here {
                let place = item.place.key("redis").key("url");
                self.add(
                    "A022",
                    &place,
                    "a Redis of another machine is reached without TLS".to_owned(),
                );
            }
        }
    }

    /// What is kept in a folder is believed: who comes in, and who does not any more.
    pub(super) fn folders(&mut self) {
        let document = &self.loaded.document;
        let files = document.stores.iter().filter_map(|item| match item.spec {
            StoreSpec::File(_) => Some(item.place.key("file").key("path")),
            StoreSpec::Redis(_) => None,
        });
        let state = Place::root().key("runtime").key("state_dir");
        for place in files.chain(std::iter::once(state)) {
            let Some(path) = document.paths.get(&place) else {
                continue;
            };
            let mode = std::fs::metadata(path).map(|folder| folder.permissions().mode());
            if mode.is_ok_and(|mode| mode & OTHERS_WRITE != 0) {
                let what = "everybody on this machine may put documents of their own there";
                self.add("A024", &place, what.to_owned());
            }
            if let Some(name) = readable(path) {
                let what = format!("everybody on this machine may use `{name}` in it");
                self.add("A002", &place, what);
            }
        }
    }

    /// Whoever reads a shared secret signs as its owner.
    pub(super) fn shared_secrets(&mut self) {
        let document = &self.loaded.document;
        for item in &document.authenticators {
            let Some((place, name)) = item.spec.file(&item.place) else {
                continue;
            };
            let (bytes, path) = (document.files.get(&place), document.paths.get(&place));
            let (Some(bytes), Some(path)) = (bytes, path) else {
                continue;
            };
            let mode = std::fs::metadata(path).map(|file| file.permissions().mode());
            if holds_secret(bytes) && mode.is_ok_and(|mode| mode & OTHERS != 0) {
                let what = format!("everybody on this machine may use the secrets in `{name}`");
                self.add("A002", &place, what);
            }
        }
    }
}

/// A document of this folder that is not its owner's and group's alone.
fn readable(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let mode = entry.metadata().ok()?.permissions().mode();
        (name.ends_with(".json") && mode & OTHERS != 0).then_some(name)
    });
    names.min()
}

/// Whether a set of keys has one that two share (RFC 7518 section 6.4).
fn holds_secret(bytes: &[u8]) -> bool {
    let set: Option<Json> = serde_json::from_slice(bytes).ok();
    let keys = set.as_ref().and_then(|set| set.get("keys")?.as_array());
    let mut keys = keys.into_iter().flatten();
    keys.any(|key| key.get("kty").is_some_and(|kind| kind == "oct"))
}
