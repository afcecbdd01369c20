//! The other text of a token that is signed by ECDSA: with `s`, the order of the curve less `s` holds as well.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::digest::Digest;

/// The order of P-256 (FIPS 186-5), the first byte first.
const P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// The order of P-384.
const P384: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf,
    0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// The digest of the token's twin, where its signature is as long as one of ES256 or ES384; of another that is as long nobody
/// ever shows the twin.
pub(in crate::policy::auth) fn twin(text: &str) -> Option<Digest> {
    let (signed, signature) = text.rsplit_once('.')?;
    let mut signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let order: &[u8] = match signature.len() {
        64 => &P256,
        96 => &P384,
        _ => return None,
    };
    let (_r, s) = signature.split_at_mut_checked(order.len())?;
    turn(s, order)?;
    let signature = URL_SAFE_NO_PAD.encode(signature);
    Some(Digest::of(format!("{signed}.{signature}").as_bytes()))
}

/// Makes `s` the `order` less `s`; nothing, where it is greater, and no signature.
fn turn(s: &mut [u8], order: &[u8]) -> Option<()> {
    let mut borrowed = 0;
    for (byte, of_order) in s.iter_mut().zip(order).rev() {
        let less = i16::from(*of_order) - i16::from(*byte) - borrowed;
        borrowed = i16::from(less < 0);
        *byte = u8::try_from(less.rem_euclid(256)).unwrap_or(0);
    }
    (borrowed == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_twin_of_its_twin() {
        for (order, low) in [(&P256[..], 0x51), (&P384[..], 0x73)] {
            let mut s = vec![0; order.len()];
            *s.last_mut().unwrap() = low;
            turn(&mut s, order).unwrap();
            assert_eq!(*s.last().unwrap(), 0);
            assert_eq!(s[..order.len() - 1], order[..order.len() - 1]);
            let text = |s: &[u8]| {
                let signature = [&vec![7; order.len()], s].concat();
                format!("a.b.{}", URL_SAFE_NO_PAD.encode(signature))
            };
            let first = text(&s);
            turn(&mut s, order).unwrap();
            let second = text(&s);
            assert_ne!(first, second);
            assert_eq!(twin(&first), Some(Digest::of(second.as_bytes())));
            assert_eq!(twin(&second), Some(Digest::of(first.as_bytes())));
            assert_eq!(twin(&text(&vec![0xff; order.len()])), None);
        }
        for none in ["", "a.b.c", "a.b.", "no-token", "a.b.!"] {
            assert_eq!(twin(none), None, "{none}");
        }
    }
}
