//! Which tokens are refused though they verify: what is kept of them, and how one is found among them.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::base::control::{NotDone, Revocation};
use crate::base::digest::Digest;
use crate::base::units::Date;
use crate::exchange::Identity;

/// So many entries: they are written as a whole with each change.
const ENTRIES_MAX: usize = 50_000;
/// The longest name of a token, a subject or an issuer, in bytes.
const TEXT_MAX: usize = 256;
/// The form of the document.
const FORMAT: u8 = 1;
/// A token may be believed for so long after its end: the longest `clock_skew`, in milliseconds.
const AFTER_END: i64 = 600_000;

/// Everything that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    format: u8,
    /// By id.
    entries: BTreeMap<String, Entry>,
}

/// Tokens that are refused: those of one name, one subject, one text, or one issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// Only those that were made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Date>,
    /// When the last of them ends; then the entry goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Date>,
    at: Date,
    by: String,
}

/// What an entry is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Sign {
    Jti(Box<str>),
    Sub(Box<str>),
    Token(Digest),
    Issuer(Box<str>),
}

/// The list, and where in it to look.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) list: List,
    by_sign: HashMap<Sign, Vec<Entry>, ahash::RandomState>,
}

/// What is known of a token that was verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'t> {
    pub(super) identity: &'t Identity,
    pub(super) digest: &'t Digest,
    /// The digest of the other text that holds where this one does.
    pub(super) twin: Option<&'t Digest>,
}

impl Default for List {
    fn default() -> Self {
        Self {
            format: FORMAT,
            entries: BTreeMap::new(),
        }
    }
}

impl Entry {
    fn sign(&self) -> Option<Sign> {
        match (&self.jti, &self.sub, &self.sha256, &self.issuer) {
            (Some(id), None, None, _) => Some(Sign::Jti(id.as_str().into())),
            (None, Some(subject), None, _) => Some(Sign::Sub(subject.as_str().into())),
            (None, None, Some(digest), None) => Digest::parse(digest).map(Sign::Token),
            (None, None, None, Some(issuer)) => Some(Sign::Issuer(issuer.as_str().into())),
            _ => None,
        }
    }

    /// What it is called: the same for what means the same.
    fn id(&self) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let (jti, sub) = (part(&self.jti), part(&self.sub));
        let (digest, issuer) = (part(&self.sha256), part(&self.issuer));
        Digest::of(format!("{jti}\0{sub}\0{digest}\0{issuer}").as_bytes()).short()
    }

    fn is_live(&self, now: i64) -> bool {
        let until = self.expires.map(|date| date.unix_millis());
        until.is_none_or(|until| now < until.saturating_add(AFTER_END))
    }

    fn means(&self, issuer: Option<&str>, issued: Option<i64>, now: i64) -> bool {
        let theirs = self.issuer.as_deref().is_none_or(|it| issuer == Some(it));
        // Of one that does not say when it was made nobody knows that it is newer.
        let before = self.before.map(Date::unix_millis);
        let old = before.is_none_or(|before| issued.is_none_or(|issued| issued < before));
        theirs && old && self.is_live(now)
    }

    fn tell(&self, id: &str) -> Json {
        let mut told = Map::new();
        told.insert("id".to_owned(), json!(id));
        if let Ok(Json::Object(parts)) = serde_json::to_value(self) {
            told.extend(parts);
        }
        Json::Object(told)
    }
}

impl List {
    /// Reads what was written.
    ///
    /// # Errors
    /// It is not what we write, so that nobody knows what was revoked.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let list: Self = serde_json::from_slice(bytes).map_err(|error| {
            // Its text may quote what stands there.
            let (line, column) = (error.line(), error.column());
            format!("it is not what was written: line {line}, column {column}")
        })?;
        if list.format != FORMAT {
            return Err(format!("it has the form {}", list.format));
        }
        let mut entries = list.entries.iter();
        let good = entries.all(|(id, entry)| entry.sign().is_some() && entry.id() == *id);
        if !good || list.entries.len() > ENTRIES_MAX {
            return Err("it holds what nobody wrote here".to_owned());
        }
        Ok(list)
    }

    /// What is written; none where that cannot be.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec_pretty(self).ok()
    }

    /// Adds an entry, and takes out those whose tokens have ended; what there is then.
    ///
    /// # Errors
    /// What cannot be.
    pub(super) fn revoke(
        &mut self,
        wish: &Revocation,
        at: Date,
        by: &str,
    ) -> Result<Json, NotDone> {
        let refused = |why: &str| Err(NotDone::Refused(why.to_owned()));
        let texts = [&wish.jti, &wish.sub, &wish.sha256, &wish.issuer];
        let good = |text: &&String| {
            !text.is_empty() && text.len() <= TEXT_MAX && !text.chars().any(char::is_control)
        };
        if !texts.into_iter().flatten().all(|text| good(&text)) {
            return refused("what is revoked has 1 to 256 characters");
        }
        let several = wish.sub.is_some() || wish.jti.is_none() && wish.sha256.is_none();
        if !several && wish.before.is_some() {
            return refused("`before` goes with `sub` or `issuer`: one token was made once");
        }
        let entry = Entry {
            jti: wish.jti.clone(),
            sub: wish.sub.clone(),
            sha256: wish.sha256.as_ref().map(|digest| digest.to_lowercase()),
            issuer: wish.issuer.clone(),
            before: several.then(|| wish.before.unwrap_or(at)),
            expires: wish.expires,
            at,
            by: by.to_owned(),
        };
        if entry.sign().is_none() {
            return refused(
                "say which: one of `jti`, `sub` (both with `issuer`, where that counts), `sha256`, or `issuer` alone",
            );
        }
        let now = at.unix_millis();
        if !entry.is_live(now) {
            return refused("such tokens have ended already");
        }
        self.entries.retain(|_, entry| entry.is_live(now));
        let id = entry.id();
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&id) {
            return refused(
                "the list is full: say when tokens end (`expires`), or revoke by `issuer`",
            );
        }
        let told = entry.tell(&id);
        self.entries.insert(id, entry);
        Ok(told)
    }

    /// Takes an entry out; what there was.
    ///
    /// # Errors
    /// There is none of this id.
    pub(super) fn restore(&mut self, id: &str) -> Result<Json, NotDone> {
        let entry = self.entries.remove(id);
        let entry = entry.ok_or_else(|| {
            NotDone::Unknown(format!("nothing has the id `{}`", id.escape_debug()))
        })?;
        Ok(entry.tell(id))
    }

    /// The entries that count, for people.
    pub(super) fn tell(&self, now: i64) -> Json {
        let live = self.entries.iter().filter(|(_, entry)| entry.is_live(now));
        live.map(|(id, entry)| entry.tell(id)).collect()
    }
}

impl Table {
    pub(super) fn new(list: List) -> Self {
        let mut by_sign: HashMap<Sign, Vec<Entry>, ahash::RandomState> = HashMap::default();
        for entry in list.entries.values() {
            if let Some(sign) = entry.sign() {
                by_sign.entry(sign).or_default().push(entry.clone());
            }
        }
        Self { list, by_sign }
    }

    /// Whether the token is refused.
    pub(super) fn has(&self, token: Token<'_>, now: i64) -> bool {
        if self.by_sign.is_empty() {
            return false;
        }
        let claims = &token.identity.claims;
        let text = |name: &str| claims.get(name).and_then(Json::as_str);
        let issuer = text("iss");
        let issued = claims.get("iat").and_then(Json::as_i64);
        let issued = issued.map(|seconds| seconds.saturating_mul(1000));
        let signs = [
            Some(Sign::Token(*token.digest)),
            token.twin.map(|twin| Sign::Token(*twin)),
            text("jti").map(|id| Sign::Jti(id.into())),
            token.identity.subject.clone().map(Sign::Sub),
            issuer.map(|issuer| Sign::Issuer(issuer.into())),
        ];
        let mut entries = signs.into_iter().flatten();
        entries.any(|sign| {
            let entries = self.by_sign.get(&sign).into_iter().flatten();
            let mut entries = entries;
            entries.any(|entry| entry.means(issuer, issued, now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn at(millis: i64) -> Date {
        Date::from_unix_millis(millis)
    }

    fn wish(parts: &[(&str, &str)]) -> Revocation {
        let part = |name: &str| {
            let found = parts.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let date = |name: &str| part(name).map(|text| text.parse().unwrap());
        Revocation {
            jti: part("jti"),
            sub: part("sub"),
            sha256: part("sha256"),
            issuer: part("issuer"),
            before: date("before"),
            expires: date("expires"),
        }
    }

    fn table(wishes: &[&[(&str, &str)]]) -> Table {
        let mut list = List::default();
        for parts in wishes {
            list.revoke(&wish(parts), at(NOW), "test").unwrap();
        }
        Table::new(List::read(&list.bytes().unwrap()).unwrap())
    }

    fn has(table: &Table, claims: &Json, now: i64) -> bool {
        let identity = Identity {
            subject: claims["sub"].as_str().map(Into::into),
            claims: claims.as_object().unwrap().clone(),
            ..Identity::default()
        };
        let digest = Digest::of(claims.to_string().as_bytes());
        let token = Token {
            identity: &identity,
            digest: &digest,
            twin: None,
        };
        table.has(token, now)
    }

    #[test]
    fn a_token_is_found_by_each_of_its_signs() {
        let made = NOW / 1000;
        let text = json!({ "sub": "e" });
        let digest = Digest::of(text.to_string().as_bytes()).hex().to_uppercase();
        let table = table(&[
            &[("jti", "a")],
            &[("jti", "b"), ("issuer", "one")],
            &[("sub", "c")],
            &[("sub", "d"), ("issuer", "one"), ("before", "2026-01-01")],
            &[("sha256", &digest)],
            &[("issuer", "gone"), ("before", "2030-01-01")],
        ]);
        for (claims, revoked) in [
            (json!({ "jti": "a" }), true),
            (json!({ "jti": "a", "iss": "any", "iat": made + 9 }), true),
            (json!({ "jti": "A" }), false),
            (json!({ "sub": "a" }), false),
            (json!({ "jti": "b", "iss": "one" }), true),
            (json!({ "jti": "b", "iss": "two" }), false),
            (json!({ "jti": "b" }), false),
            (json!({ "sub": "c", "iat": made - 1 }), true),
            (json!({ "sub": "c", "iat": made }), false),
            (json!({ "sub": "c" }), true),
            (
                json!({ "sub": "d", "iss": "one", "iat": 1_700_000_000 }),
                true,
            ),
            (json!({ "sub": "d", "iss": "one", "iat": made }), false),
            (
                json!({ "sub": "d", "iss": "two", "iat": 1_700_000_000 }),
                false,
            ),
            (text, true),
            (json!({ "sub": "e", "x": 1 }), false),
            (json!({ "iss": "gone", "sub": "x", "iat": made }), true),
            (json!({ "iss": "gone", "iat": 1_900_000_000 }), false),
            (json!({}), false),
        ] {
            assert_eq!(has(&table, &claims, NOW), revoked, "{claims}");
        }
        assert!(!has(
            &Table::new(List::default()),
            &json!({ "jti": "a" }),
            NOW
        ));
    }

    #[test]
    fn an_entry_goes_when_its_tokens_have_ended() {
        let mut list = List::default();
        let ends = wish(&[("jti", "a"), ("expires", "2027-01-16T00:00:00Z")]);
        list.revoke(&ends, at(NOW), "test").unwrap();
        list.revoke(&wish(&[("jti", "b")]), at(NOW), "test")
            .unwrap();
        let table = Table::new(list.clone());
        let end = ends.expires.unwrap().unix_millis();
        for (now, there) in [
            (NOW, true),
            (end + AFTER_END - 1, true),
            (end + AFTER_END, false),
        ] {
            assert_eq!(has(&table, &json!({ "jti": "a" }), now), there, "{now}");
            assert!(has(&table, &json!({ "jti": "b" }), now));
            assert_eq!(
                list.tell(now).as_array().unwrap().len(),
                1 + usize::from(there)
            );
        }
        let late = at(end + AFTER_END);
        list.revoke(&ends, late, "test").unwrap_err();
        list.revoke(&wish(&[("jti", "c")]), late, "test").unwrap();
        assert_eq!(list.entries.len(), 2);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut list = List::default();
        let long = "x".repeat(TEXT_MAX + 1);
        for wrong in [
            &[][..],
            &[("jti", "")],
            &[("jti", &long)],
            &[("sub", "a\nb")],
            &[("jti", "a"), ("sub", "b")],
            &[("jti", "a"), ("before", "2026-01-01")],
            &[("sha256", "12")],
            &[("before", "2026-01-01")],
            &[("jti", "a"), ("expires", "2020-01-01")],
        ] {
            list.revoke(&wish(wrong), at(NOW), "test").unwrap_err();
        }
        assert_eq!(list, List::default());
        // The same twice is one entry, which can be taken out.
        for _ in 0..2 {
            list.revoke(&wish(&[("jti", "a")]), at(NOW), "test")
                .unwrap();
        }
        let told = list.tell(NOW);
        let id = told[0]["id"].as_str().unwrap();
        list.restore("x").unwrap_err();
        list.restore(id).unwrap();
        assert_eq!(list, List::default());
    }

    #[test]
    fn the_list_is_bounded_and_read_strictly() {
        let mut list = List::default();
        for number in 0..ENTRIES_MAX {
            let entry = Entry {
                jti: Some(number.to_string()),
                sub: None,
                sha256: None,
                issuer: None,
                before: None,
                expires: None,
                at: at(NOW),
                by: "test".to_owned(),
            };
            list.entries.insert(entry.id(), entry);
        }
        list.revoke(&wish(&[("jti", "more")]), at(NOW), "test")
            .unwrap_err();
        list.revoke(&wish(&[("jti", "7")]), at(NOW), "test")
            .unwrap();
        let bytes = list.bytes().unwrap();
        assert!(bytes.len() < crate::store::DOCUMENT_BYTES_MAX);
        assert_eq!(List::read(&bytes), Ok(list));
        for wrong in [
            "",
            "{}",
            r#"{"format":2,"entries":{}}"#,
            r#"{"format":1,"entries":{},"more":1}"#,
            r#"{"format":1,"entries":{"x":{"jti":"a","at":"2026-01-01","by":"t"}}}"#,
            r#"{"format":1,"entries":{"x":{"at":"2026-01-01","by":"t"}}}"#,
        ] {
            List::read(wrong.as_bytes()).unwrap_err();
        }
    }
}
