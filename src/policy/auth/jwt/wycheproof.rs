//! The vectors of Project Wycheproof for JOSE, those of RFC 7520 among them, by the code that reads tokens.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::keys::{Found, KeySet, Source};
use super::token::Parts;

const FILES: [(&str, &str); 4] = [
    (
        "signature",
        include_str!("../../../../tests/data/wycheproof/json_web_signature_test.json"),
    ),
    (
        "key",
        include_str!("../../../../tests/data/wycheproof/json_web_key_test.json"),
    ),
    (
        "crypto",
        include_str!("../../../../tests/data/wycheproof/json_web_crypto_test.json"),
    ),
    (
        "encryption",
        include_str!("../../../../tests/data/wycheproof/json_web_encryption_test.json"),
    ),
];

/// Where the vectors and this code differ, and why.
const DIFFERENT: [(&str, u64, &str); 10] = [
    ("signature", 346, "the key says PS256, the token PS384"),
    ("signature", 350, "the key says PS256, the token PS384"),
    ("signature", 347, "P-521 is not done"),
    ("signature", 351, "P-521 is not done"),
    ("signature", 367, "the same text as the valid 357"),
    ("signature", 370, "the same text as the valid 357"),
    ("signature", 372, "not in the alphabet, so refused"),
    ("signature", 373, "not in the alphabet, so refused"),
    (
        "key",
        1,
        "a file may hold secrets and public keys: each is bound to its algorithm",
    ),
    (
        "crypto",
        47,
        "a file may hold secrets and public keys: each is bound to its algorithm",
    ),
];

/// Whether a token is signed with a key of the group; what it says is not looked at.
fn verifies(group: &Json, token: &str) -> Result<(), &'static str> {
    let key = match group.get("public") {
        Some(public) => public,
        None => &group["private"],
    };
    let set = match key.get("keys") {
        Some(_) => key.clone(),
        None => json!({ "keys": [key] }),
    };
    let keys = KeySet::parse(set.to_string().as_bytes(), Source::File)?;
    let parts = Parts::read(token)?;
    match keys.find(parts.key_id.as_deref(), parts.algorithm) {
        Found::Key(key) if key.verifies(parts.signed, parts.signature, parts.algorithm) => Ok(()),
        Found::Some(keys)
            if keys
                .iter()
                .any(|key| key.verifies(parts.signed, parts.signature, parts.algorithm)) =>
        {
            Ok(())
        }
        Found::Key(_) | Found::Some(_) => Err("its signature does not hold"),
        Found::Unknown => Err("its key is not known"),
        Found::Unclear => Err("no one key is meant for it"),
    }
}

#[test]
fn tokens_of_wycheproof_and_rfc_7520_are_taken_and_refused_as_they_should_be() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (file, text) in FILES {
        let file_json: Json = serde_json::from_str(text).unwrap();
        for group in file_json["testGroups"].as_array().unwrap() {
            for case in group["tests"].as_array().unwrap() {
                let encrypted = case.get("jwe").is_some();
                let token = case.get("jws").or_else(|| case.get("jwe")).unwrap();
                let token = token
                    .as_str()
                    .map_or_else(|| token.to_string(), str::to_owned);
                let found = verifies(group, &token);
                let valid = case["result"] == "valid";
                let told = match (valid, found) {
                    (true, Ok(())) => format!("{file}: valid, accepted"),
                    (false, Err(_)) => format!("{file}: invalid, refused"),
                    (true, Err(_)) if encrypted => {
                        format!("{file}: encrypted, so not taken here, refused")
                    }
                    (_, found) => {
                        let id = case["tcId"].as_u64().unwrap();
                        let mut known = DIFFERENT.iter();
                        let known = known.find(|(of, number, _)| (*of, *number) == (file, id));
                        if let Some((.., why)) = known {
                            *counts
                                .entry(format!("{file}: not applicable, {why}"))
                                .or_default() += 1;
                            continue;
                        }
                        let what = format!(
                            "{file} {}: {} ({}): {found:?} {token}",
                            case["tcId"], group["comment"], case["comment"]
                        );
                        wrong.push(what);
                        continue;
                    }
                };
                *counts.entry(told).or_default() += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{counts:#?}\n{}", wrong.join("\n"));
    let all = |what: &str| -> usize {
        let counts = counts.iter().filter(|(told, _)| told.contains(what));
        counts.map(|(_, count)| count).sum()
    };
    let told = [
        "valid, accepted",
        "invalid, refused",
        "encrypted",
        "not applicable",
    ]
    .map(all);
    assert_eq!(told, [49, 523, 67, 10], "{counts:#?}");
}
