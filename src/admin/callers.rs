//! `/consumers`, `/keys` and `/tokens`: who may come in, looked at and changed.

use http::{Response, StatusCode};

use super::Admin;
use super::access::Asker;
use super::answer::{problem, to_json};
use super::question::parameter;
use crate::base::control::{CallerList, CallerWish, Fate, NotDone, Revocation};
use crate::base::units::Date;

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    NewConsumer,
    NewKey,
    Consumer(Fate),
    Key(Fate),
    RevokeToken,
    RestoreToken,
}

impl Changed {
    /// What the path says.
    pub(super) fn of(path: &str) -> Option<Self> {
        let fate = |word| match word {
            "suspend" => Some(Fate::Suspend),
            "resume" => Some(Fate::Resume),
            "revoke" => Some(Fate::Revoke),
            _ => None,
        };
        match path.strip_prefix('/')?.split_once('/')? {
            ("consumers", "new") => Some(Self::NewConsumer),
            ("keys", "new") => Some(Self::NewKey),
            ("tokens", "revoke") => Some(Self::RevokeToken),
            ("tokens", "restore") => Some(Self::RestoreToken),
            ("consumers", word) => fate(word).map(Self::Consumer),
            ("keys", word) => fate(word).map(Self::Key),
            _ => None,
        }
    }

    /// The whole wish.
    fn wish(self, query: &str) -> Result<CallerWish, &'static str> {
        let named = |name: &str| parameter(query, name);
        match self {
            Self::NewConsumer => {
                let name = named("name").ok_or("say which: `?name=NAME`")?;
                let groups = named("groups").unwrap_or_default();
                let groups = groups.split(',').filter(|group| !group.is_empty());
                Ok(CallerWish::NewConsumer {
                    name,
                    plan: named("plan").filter(|plan| !plan.is_empty()),
                    groups: groups.map(str::to_owned).collect(),
                })
            }
            Self::NewKey => {
                let consumer = named("consumer").ok_or("say whose: `?consumer=NAME`")?;
                let expires = date(query, "expires");
                let expires = expires.map_err(|()| "`expires` is a date, e.g. `2027-01-01`")?;
                Ok(CallerWish::NewKey { consumer, expires })
            }
            Self::Consumer(fate) => {
                let name = named("name").ok_or("say which: `?name=NAME`")?;
                Ok(CallerWish::Consumer(name, fate))
            }
            Self::Key(fate) => {
                let id = named("id").ok_or("say which: `?id=ID`")?;
                Ok(CallerWish::Key(id, fate))
            }
            Self::RevokeToken => {
                if ["jti", "sub", "sha256", "issuer"]
                    .iter()
                    .all(|name| named(name).is_none())
                {
                    return Err(
                        "say which: `?jti=ID`, `?sub=SUBJECT`, `?sha256=DIGEST` or `?issuer=ISSUER`",
                    );
                }
                let when = |()| "`before` and `expires` are dates, e.g. `2027-01-01`";
                Ok(CallerWish::RevokeToken(Revocation {
                    jti: named("jti"),
                    sub: named("sub"),
                    sha256: named("sha256"),
                    issuer: named("issuer"),
                    before: date(query, "before").map_err(when)?,
                    expires: date(query, "expires").map_err(when)?,
                }))
            }
            Self::RestoreToken => {
                let id = named("id").ok_or("say which: `?id=ID`")?;
                Ok(CallerWish::RestoreToken(id))
            }
        }
    }
}

fn date(query: &str, name: &str) -> Result<Option<Date>, ()> {
    let written = parameter(query, name);
    let date = written.map(|date| date.parse()).transpose();
    date.map_err(drop)
}

impl Admin {
    pub(super) fn callers(&self, list: CallerList) -> Response<Vec<u8>> {
        match self.control.callers(list) {
            Ok(told) => to_json(StatusCode::OK, &told),
            Err(why) => refused(&why),
        }
    }

    pub(super) async fn change_callers(
        &self,
        changed: Changed,
        query: &str,
        asker: &Asker,
    ) -> Response<Vec<u8>> {
        let wish = match changed.wish(query) {
            Ok(wish) => wish,
            Err(why) => return problem(StatusCode::BAD_REQUEST, "question", why),
        };
        let by = asker.to_string();
        match self.control.change_callers(wish, &by).await {
            Ok(told) => to_json(StatusCode::OK, &told),
            Err(why) => refused(&why),
        }
    }
}

fn refused(why: &NotDone) -> Response<Vec<u8>> {
    let (status, code) = match why {
        NotDone::Unknown(_) => (StatusCode::NOT_FOUND, "not_found"),
        NotDone::Refused(_) => (StatusCode::CONFLICT, "refused"),
        NotDone::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "store"),
    };
    problem(status, code, &why.to_string())
}
