//! What is looked at in authenticators: whether those who are asked can be taken for somebody else.

use super::Findings;
use super::rules::is_private;
use crate::base::net::TargetUrl;

impl Findings<'_> {
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
