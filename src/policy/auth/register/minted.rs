//! Keys that are made here: a prefix that tools look for, chance, and a checksum that tells a misread one from an unknown one.

/// What every key begins with, so that it is recognised where it should not be.
const PREFIX: &str = "dw_";
/// 62^32: 190 bits of chance.
const CHANCE_LENGTH: usize = 32;
/// 62^6 holds every CRC-32.
const CHECKSUM_LENGTH: usize = 6;
/// Letters and digits: a double click takes all of a key.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The first byte that would make some digits likelier than others.
const FAIR: u8 = 248;

/// A new key; none where the machine has no chance to give.
pub(super) fn mint() -> Option<String> {
    let mut key = PREFIX.to_owned();
    let mut drawn = [0; 2 * CHANCE_LENGTH];
    while key.len() < PREFIX.len() + CHANCE_LENGTH {
        openssl::rand::rand_bytes(&mut drawn).ok()?;
        let fair = drawn.iter().filter(|byte| **byte < FAIR);
        let digits = fair.filter_map(|byte| DIGITS.get(usize::from(byte % 62)));
        let missing = PREFIX.len() + CHANCE_LENGTH - key.len();
        key.extend(digits.take(missing).map(|digit| char::from(*digit)));
    }
    let checksum = checksum(&key);
    key.push_str(&checksum);
    Some(key)
}

/// Whether `key` may be one of ours.
pub(super) fn has_form(key: &str) -> bool {
    let length = PREFIX.len() + CHANCE_LENGTH + CHECKSUM_LENGTH;
    let ours = key.len() == length && key.starts_with(PREFIX);
    let halves = key.split_at_checked(length - CHECKSUM_LENGTH);
    ours && halves.is_some_and(|(body, sum)| checksum(body) == sum)
}

fn checksum(body: &str) -> String {
    let mut left = usize::try_from(crc32fast::hash(body.as_bytes())).unwrap_or_default();
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS.get(left % 62).copied().unwrap_or(b'0');
        left /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_misread_is_none() {
        let key = mint().unwrap();
        assert!(has_form(&key), "{key}");
        assert_ne!(mint().unwrap(), key);
        for at in 0..key.len() {
            let mut other = key.clone().into_bytes();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            let other = String::from_utf8(other).unwrap();
            assert!(!has_form(&other), "{other}");
        }
        let cut = key.trim_start_matches('d');
        for other in ["", "dw_", cut, &format!("{key}x"), &"é".repeat(20)] {
            assert!(!has_form(other), "{other}");
        }
    }

    #[test]
    fn its_checksum_is_crc_32() {
        // The check value of CRC-32/ISO-HDLC: cbf43926 of `123456789`, in base 62.
        assert_eq!(checksum("123456789"), "3jZRME");
    }
}
