//! Fetching keys from an issuer: where they are is asked first, unless the config says it (OpenID Connect Discovery 1.0,
//! RFC 8414).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value as Json};

use super::super::authenticator::Means;
use super::keys::{KeySet, Source};
use super::source::{KeySource, max_age};
use super::strict;
use crate::base::task::TaskGuard;
use crate::call::{Answer, Remote};
use crate::telemetry::{FetchResult, KeyMetrics};

/// A longer set of keys, or document about an issuer, is none.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// Where the keys are, as the config says it.
#[derive(Debug)]
pub(super) enum Where {
    /// At this URL.
    At(Arc<Remote>),
    /// Where the issuer says: itself, and where it may say so.
    Issuer(Box<str>, Vec<Arc<Remote>>),
}

/// Keeps the keys of one authenticator fresh.
pub(super) struct Keeper {
    pub(super) name: Arc<str>,
    pub(super) source: Arc<KeySource>,
    pub(super) from: Arc<Where>,
    pub(super) means: Means,
    pub(super) metrics: KeyMetrics,
    /// Where the issuer said that its keys are; looked up as long as the guards live.
    pub(super) found: Option<(Arc<Remote>, Vec<TaskGuard>)>,
    pub(super) failures: u32,
}

impl Where {
    /// Where an issuer may say where its keys are.
    ///
    /// # Errors
    /// What is wrong with its URL.
    pub(super) fn issuer(issuer: &str) -> Result<Self, &'static str> {
        let plain = issuer.strip_suffix('/').unwrap_or(issuer);
        let after_scheme = issuer.find("://").map_or(0, |at| at + 3);
        let path = plain.get(after_scheme..).and_then(|rest| rest.find('/'));
        let (origin, path) = match path {
            Some(at) => plain
                .split_at_checked(after_scheme + at)
                .unwrap_or((plain, "")),
            None => (plain, ""),
        };
        if issuer.contains('?') {
            return Err("an issuer has no query");
        }
        let at = |url: String| Remote::parse(&url).map(Arc::new);
        Ok(Self::Issuer(
            issuer.into(),
            vec![
                at(format!("{plain}/.well-known/openid-configuration"))?,
                at(format!(
                    "{origin}/.well-known/oauth-authorization-server{path}"
                ))?,
            ],
        ))
    }

    /// What is asked.
    pub(super) fn remotes(&self) -> &[Arc<Remote>] {
        match self {
            Self::At(remote) => std::slice::from_ref(remote),
            Self::Issuer(_, remotes) => remotes,
        }
    }
}

impl Keeper {
    /// Fetches when it is time, or when somebody needs a key that is not known.
    pub(super) async fn run(mut self) {
        let mut guards = Vec::new();
        for remote in self.from.remotes() {
            guards.extend(
                remote
                    .start(&self.means.names, &self.means.spawner, &self.means.clock)
                    .await,
            );
        }
        loop {
            let clock = Arc::clone(&self.means.clock);
            self.source
                .next(|| clock.unix_millis(), self.failures)
                .await;
            self.source.begins(self.means.clock.unix_millis());
            let fetched = self.fetch().await;
            let now = self.means.clock.unix_millis();
            match fetched {
                Ok(found) => {
                    if self.failures > 0 {
                        log::info!(authenticator:% = self.name; "its keys can be fetched again");
                    }
                    self.failures = 0;
                    self.metrics.fetched(FetchResult::Fetched, now);
                    self.source.ends(now, Some(found));
                }
                Err((result, why)) => {
                    let kept = self.source.current(now).is_some();
                    log::warn!(authenticator:% = self.name, kept, error:% = why; "its keys were not fetched");
                    self.failures = self.failures.saturating_add(1);
                    // The issuer may have moved them.
                    self.found = None;
                    self.metrics.fetched(result, now);
                    self.source.ends(now, None);
                }
            }
        }
    }

    async fn fetch(&mut self) -> Result<(KeySet, Option<Duration>), (FetchResult, String)> {
        let from = Arc::clone(&self.from);
        let remote = match &*from {
            Where::At(remote) => Arc::clone(remote),
            Where::Issuer(issuer, remotes) => match &self.found {
                Some((found, _)) => Arc::clone(found),
                None => {
                    let found = Arc::new(self.discover(issuer, remotes).await?);
                    let guards = found
                        .start(&self.means.names, &self.means.spawner, &self.means.clock)
                        .await;
                    self.found = Some((Arc::clone(&found), guards));
                    found
                }
            },
        };
        let answer = self.get(&remote).await?;
        let fresh = answer.head.headers.get(CACHE_CONTROL);
        let fresh = fresh.and_then(|value| max_age(value.to_str().ok()?));
        let keys = KeySet::parse(&answer.body, Source::Fetched);
        keys.map(|keys| (keys, fresh)).map_err(|why| {
            (
                FetchResult::Invalid,
                format!("{}: {why}", remote.authority()),
            )
        })
    }

    /// Where the issuer says that its keys are.
    async fn discover(
        &self,
        issuer: &str,
        remotes: &[Arc<Remote>],
    ) -> Result<Remote, (FetchResult, String)> {
        let mut last = (FetchResult::Unreachable, "nobody was asked".to_owned());
        for remote in remotes {
            let answer = match self.get(remote).await {
                Ok(answer) => answer,
                Err(why) => {
                    last = why;
                    continue;
                }
            };
            let invalid = |why: &str| {
                (
                    FetchResult::Invalid,
                    format!("{}: {why}", remote.authority()),
                )
            };
            match keys_at(strict::object(&answer.body), issuer, remote) {
                Ok(found) => return Ok(found),
                Err(why) => last = invalid(why),
            }
        }
        Err(last)
    }

    async fn get(&self, remote: &Remote) -> Result<Answer, (FetchResult, String)> {
        let headers = [(ACCEPT, HeaderValue::from_static("application/json"))];
        let question = (Method::GET, Bytes::new());
        let asked = remote
            .ask(&self.means.http, question, &headers, ANSWER_BYTES_MAX)
            .await;
        let at = remote.authority();
        match asked {
            Ok(answer) if answer.head.status == StatusCode::OK => Ok(answer),
            // Also one that says to look elsewhere: whoever could say so could say anything.
            Ok(answer) => {
                let why = format!("{at}: it answered {}", answer.head.status.as_u16());
                Err((FetchResult::Refused, why))
            }
            Err(failed) => Err((FetchResult::Unreachable, format!("{at}: {}", failed.fault))),
        }
    }
}

/// The URL of the keys in what an issuer says of itself.
fn keys_at(
    said: Option<Map<String, Json>>,
    issuer: &str,
    asked: &Remote,
) -> Result<Remote, &'static str> {
    let said = said.ok_or("this is no JSON object without a name twice")?;
    let text = |name: &str| said.get(name).and_then(Json::as_str);
    // Also a slash more is another issuer (RFC 8414 section 3.3).
    if text("issuer") != Some(issuer) {
        return Err("it speaks of another issuer");
    }
    let found = Remote::parse(text("jwks_uri").ok_or("it does not say where its keys are")?)?;
    if asked.is_tls() && !found.is_tls() {
        return Err("its keys would come from somebody who proves nothing");
    }
    // An issuer that the config looks for here may have its keys here.
    if asked.is_local() {
        return Ok(found);
    }
    if found.is_local() {
        return Err("its keys would come from this machine or its link");
    }
    Ok(found.chosen_by_others())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_issuer_is_asked_as_both_standards_have_it() {
        for (issuer, expected) in [
            (
                "https://id.test",
                [
                    "id.test/.well-known/openid-configuration",
                    "id.test/.well-known/oauth-authorization-server",
                ],
            ),
            (
                "https://id.test/a/",
                [
                    "id.test/a/.well-known/openid-configuration",
                    "id.test/.well-known/oauth-authorization-server/a",
                ],
            ),
        ] {
            let from = Where::issuer(issuer).unwrap();
            let shown: Vec<String> = from.remotes().iter().map(|it| it.shown()).collect();
            assert_eq!(shown, expected, "{issuer}");
        }
        assert!(Where::issuer("id.test").is_err());
        assert!(Where::issuer("https://id.test/?a").is_err());
    }

    #[test]
    fn what_an_issuer_says_is_about_itself_and_leads_to_who_proves_it() {
        let asked = Remote::parse("https://id.test/").unwrap();
        let said = |issuer: &str, uri: &str| {
            let said = json!({ "issuer": issuer, "jwks_uri": uri });
            keys_at(said.as_object().cloned(), "https://id.test", &asked).map(|it| it.shown())
        };
        assert_eq!(
            said("https://id.test", "https://keys.test/a").unwrap(),
            "keys.test/a"
        );
        for (issuer, uri) in [
            ("https://id.test/", "https://keys.test/a"),
            ("https://other.test", "https://keys.test/a"),
            ("https://id.test", "http://keys.test/a"),
            ("https://id.test", "https://169.254.169.254/a"),
            ("https://id.test", "https://127.0.0.1/a"),
            ("https://id.test", "https://[::ffff:169.254.169.254]/a"),
            ("https://id.test", "https://[64:ff9b::a9fe:a9fe]/a"),
            ("https://id.test", "https://localhost/a"),
            ("https://id.test", "file:///etc/passwd"),
        ] {
            assert!(said(issuer, uri).is_err(), "{issuer} {uri}");
        }
        assert!(keys_at(None, "https://id.test", &asked).is_err());
        let here = Remote::parse("http://127.0.0.1:8080/").unwrap();
        let said = json!({ "issuer": "a", "jwks_uri": "http://127.0.0.1:8081/a" });
        assert!(keys_at(said.as_object().cloned(), "a", &here).is_ok());
    }
}
