//! HMAC-SHA-256 (RFC 2104).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The authentication code of `message`, a text in pieces, under `key`.
pub fn code(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    begun(key, message).map_or([0; 32], |mac| mac.finalize().into_bytes().into())
}

/// Whether `code` is that of `message` under `key`; the comparison takes the same time for all.
pub fn is_code(key: &[u8], message: &[&[u8]], code: &[u8]) -> bool {
    begun(key, message).is_some_and(|mac| mac.verify_slice(code).is_ok())
}

fn begun(key: &[u8], message: &[&[u8]]) -> Option<Hmac<Sha256>> {
    // HMAC takes keys of any length: this is always there.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for piece in message {
        mac.update(piece);
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn codes_agree_with_the_examples_of_the_standard() {
        let message: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        let code = code(b"Jefe", &message);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&code),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert!(is_code(b"Jefe", &message, &code));
        assert!(!is_code(b"Jeff", &message, &code) && !is_code(b"Jefe", &message, &code[..31]));
    }
}
