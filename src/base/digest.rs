//! SHA-256 digests of secrets: read from the config, and compared in a time that tells nothing about them.

use std::hash::{Hash, Hasher};

use sha2::{Digest as _, Sha256};

/// What a secret is known by.
#[derive(Debug, Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(digest))
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// All of it: 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Enough of it to tell one from another, and nothing to guess a secret by: 12 hexadecimal digits.
    #[must_use]
    pub fn short(&self) -> String {
        let first = self.0.iter().take(6);
        first.map(|byte| format!("{byte:02x}")).collect()
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        let differs = self.0.iter().zip(&other.0);
        differs.fold(0, |sum, (one, two)| sum | (one ^ two)) == 0
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn a_digest_has_64_hexadecimal_digits() {
        let digest = Digest::parse(&"0fA1".repeat(16)).unwrap();
        assert_eq!(digest.bytes()[..2], [0x0f, 0xa1]);
        assert_eq!(digest.short(), "0fa10fa10fa1");
        for text in [
            "",
            "0f",
            &"0fA".repeat(21),
            &"+f".repeat(32),
            &"0g".repeat(32),
            &"é".repeat(32),
        ] {
            assert!(Digest::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn it_is_that_of_the_standard() {
        // FIPS 180-4, `abc`.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc"), Digest::parse(known).unwrap());
        assert_ne!(Digest::of(b"abd"), Digest::parse(known).unwrap());
        assert_eq!(Digest::of(b"abc").hex(), known);
    }
}
