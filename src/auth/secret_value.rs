//! Values of secrets: how one is drawn, and what stands for one where it may not be shown.

use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::api_key::Pepper;

/// Digits and letters.
pub const ALPHANUMERIC: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Hexadecimal digits.
pub const HEX: &[u8] = b"0123456789abcdef";
/// Digits, letters and signs.
pub const SYMBOLS: &[u8] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#%+,-.:=@^_~";

/// As many characters of an alphabet, each as likely as any other. `fill` gives random bytes.
///
/// The alphabet has 1 to 256 characters; of another nothing is drawn.
pub fn draw(alphabet: &[u8], length: usize, mut fill: impl FnMut(&mut [u8])) -> Zeroizing<Vec<u8>> {
    let mut drawn = Zeroizing::new(Vec::with_capacity(length));
    if alphabet.is_empty() || alphabet.len() > 256 {
        return drawn;
    }
    // Bytes beyond the last whole multiple would favour the first characters.
    let whole = 256 - 256 % alphabet.len();
    let mut random = Zeroizing::new([0; 64]);
    while drawn.len() < length {
        fill(random.as_mut());
        let chosen = random.iter().map(|byte| usize::from(*byte));
        let chosen = chosen.filter(|n| *n < whole);
        let chosen = chosen.filter_map(|n| alphabet.get(n % alphabet.len()));
        let missing = length - drawn.len();
        drawn.extend(chosen.take(missing));
    }
    drawn
}

impl Pepper {
    /// Sixteen hex digits that tell the values of an entry apart. Without the pepper nobody can find
    /// out by trying whether a value is a certain one, nor whether two entries hold the same.
    pub fn value_fingerprint(&self, secret: Uuid, entry: &str, value: &[u8]) -> String {
        let (entry, value) = (Sha256::digest(entry), Sha256::digest(value));
        let parts: [&[u8]; 3] = [secret.as_bytes(), &entry, &value];
        let mut hex = self.proof(b"zenop/secret-value/1", &parts).to_hex();
        hex.truncate(16);
        hex
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Every byte in turn: what a fair source gives in the long run.
    fn every_byte() -> impl FnMut(&mut [u8]) {
        let mut next = 0_u8;
        move |bytes| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_add(1);
            }
        }
    }

    #[test]
    fn every_character_is_as_likely_as_any_other() {
        for alphabet in [ALPHANUMERIC, HEX, SYMBOLS] {
            let rounds = 256 / alphabet.len();
            let drawn = draw(alphabet, alphabet.len() * rounds, every_byte());
            let mut seen: HashMap<u8, usize> = HashMap::new();
            for character in drawn.iter() {
                *seen.entry(*character).or_default() += 1;
            }
            assert_eq!(seen.len(), alphabet.len());
            assert!(seen.values().all(|n| *n == rounds), "{seen:?}");
        }
    }

    #[test]
    fn a_fingerprint_is_of_one_value_of_one_entry_of_one_secret_of_one_server() {
        let (one, other) = (Pepper::new([1; 32]), Pepper::new([2; 32]));
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let all = [
            one.value_fingerprint(a, "k", b"v"),
            other.value_fingerprint(a, "k", b"v"),
            one.value_fingerprint(b, "k", b"v"),
            one.value_fingerprint(a, "kv", b""),
            one.value_fingerprint(a, "k", b"w"),
        ];
        for (n, print) in all.iter().enumerate() {
            assert_eq!(print.len(), 16);
            assert!(!all[..n].contains(print), "{all:?}");
        }
        assert_eq!(all[0], one.value_fingerprint(a, "k", b"v"));
    }

    proptest! {
        #[test]
        fn as_long_as_asked_and_of_the_alphabet_alone(
            length in 0_usize..2000, alphabet in prop::collection::vec(any::<u8>(), 1..256)
        ) {
            let drawn = draw(&alphabet, length, every_byte());
            prop_assert_eq!(drawn.len(), length);
            prop_assert!(drawn.iter().all(|c| alphabet.contains(c)));
        }
    }
}
