//! Keys, codes and signatures. The only module that knows ring: it has all algorithms that providers use, and
//! is in the tree through rustls. Comparisons take the same time whatever differs (`subtle`, as in rustls).

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::{digest, hmac as mac, signature};
use subtle::ConstantTimeEq;

use crate::model::sender::{Algorithm, Encoding, KeyForm};

/// Bytes of content that a public key verifies: ring takes it in one piece. SendGrid's batches, the largest,
/// have up to 768 KiB.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// DER in front of the point of a P-256 public key (RFC 5480, section 2).
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// DER in front of an Ed25519 public key (RFC 8410, section 4).
const ED25519_PREFIX: &[u8] =
    &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a signature is verified with. Has no `Debug`, so that nothing prints it.
#[derive(Clone)]
pub enum Key {
    Mac(mac::Key),
    Public(Algorithm, Vec<u8>),
}

/// Takes the signed content piece by piece.
pub enum Verifying {
    Mac(Box<mac::Context>),
    /// The content itself, and whether it has grown too long.
    Public {
        algorithm: Algorithm,
        key: Vec<u8>,
        message: Vec<u8>,
        is_too_long: bool,
    },
}

/// Why content was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    Differs,
    TooLong,
}

impl Key {
    /// The key that `secret` is for `algorithm`.
    ///
    /// # Errors
    /// What its form should be. Never quotes the secret.
    pub fn new(algorithm: Algorithm, form: KeyForm, secret: &str) -> Result<Self, &'static str> {
        match mac_algorithm(algorithm) {
            Some(algorithm) => {
                let bytes = match form {
                    KeyForm::Text => secret.as_bytes().to_vec(),
                    KeyForm::Base64 => {
                        base64(secret.strip_prefix("whsec_").unwrap_or(secret).trim())
                            .ok_or("is not base64, after `whsec_` or without it")?
                    }
                    KeyForm::Hex => HEXLOWER_PERMISSIVE
                        .decode(secret.trim().as_bytes())
                        .map_err(|_| "is not hex")?,
                };
                if bytes.is_empty() {
                    return Err("is empty");
                }
                Ok(Self::Mac(mac::Key::new(algorithm, &bytes)))
            }
            None => public_key(algorithm, secret).map(|key| Self::Public(algorithm, key)),
        }
    }

    /// Begins to verify.
    pub fn begin(&self) -> Verifying {
        match self {
            Self::Mac(key) => Verifying::Mac(Box::new(mac::Context::with_key(key))),
            Self::Public(algorithm, key) => Verifying::Public {
                algorithm: *algorithm,
                key: key.clone(),
                message: Vec::new(),
                is_too_long: false,
            },
        }
    }
}

impl Verifying {
    /// Adds content.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Mac(context) => context.update(bytes),
            Self::Public { message, is_too_long, .. } => {
                *is_too_long |= message.len() + bytes.len() > MESSAGE_BYTES_MAX;
                if !*is_too_long {
                    message.extend_from_slice(bytes);
                }
            }
        }
    }

    /// Which of `signatures` is one of the content: its place among them.
    ///
    /// # Errors
    /// When none is.
    pub fn verify(self, signatures: &[Vec<u8>]) -> Result<usize, Mismatch> {
        let found = match self {
            Self::Mac(context) => {
                let code = context.sign();
                signatures.iter().position(|given| is_same(code.as_ref(), given))
            }
            Self::Public { is_too_long: true, .. } => return Err(Mismatch::TooLong),
            Self::Public { algorithm, key, message, .. } => {
                let key = signature::UnparsedPublicKey::new(public_algorithm(algorithm), key);
                signatures.iter().position(|given| key.verify(&message, given).is_ok())
            }
        };
        found.ok_or(Mismatch::Differs)
    }

    /// The code of the content; `None` for a public key, which cannot sign.
    pub fn sign(self) -> Option<Vec<u8>> {
        match self {
            Self::Mac(context) => Some(context.sign().as_ref().to_vec()),
            Self::Public { .. } => None,
        }
    }
}

/// Whether two secrets are the same. Neither their lengths nor the first byte that differs change how long it
/// takes.
pub fn is_same_secret(left: &[u8], right: &[u8]) -> bool {
    let hashed = |bytes| digest::digest(&digest::SHA256, bytes);
    is_same(hashed(left).as_ref(), hashed(right).as_ref())
}

fn is_same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// The SHA-256 of what is fed to it.
pub struct Digest(digest::Context);

impl Default for Digest {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Digest {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// In lower-case hex.
    pub fn finish(self) -> String {
        HEXLOWER.encode(self.0.finish().as_ref())
    }
}

/// The HMAC-SHA-256 of `message` in lower-case hex, as Zoom's handshake wants it.
pub fn hmac_sha256_hex(secret: &str, message: &str) -> String {
    let key = mac::Key::new(mac::HMAC_SHA256, secret.as_bytes());
    HEXLOWER.encode(mac::sign(&key, message.as_bytes()).as_ref())
}

/// The bytes of a signature. Hex is lower case, and base64 has its padding: another spelling of the same
/// bytes is another text.
pub fn decode(encoding: Encoding, text: &[u8]) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Hex => HEXLOWER.decode(text).ok(),
        // The library takes padded pieces one after the other as well.
        Encoding::Base64 => {
            BASE64.decode(text).ok().filter(|bytes| BASE64.encode(bytes).as_bytes() == text)
        }
    }
}

/// The text of a signature.
pub fn encode(encoding: Encoding, bytes: &[u8]) -> String {
    match encoding {
        Encoding::Hex => HEXLOWER.encode(bytes),
        Encoding::Base64 => BASE64.encode(bytes),
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.as_bytes()).or_else(|_| BASE64_NOPAD.decode(text.as_bytes())).ok()
}

fn mac_algorithm(algorithm: Algorithm) -> Option<mac::Algorithm> {
    match algorithm {
        Algorithm::HmacSha1 => Some(mac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        Algorithm::HmacSha256 => Some(mac::HMAC_SHA256),
        Algorithm::HmacSha512 => Some(mac::HMAC_SHA512),
        Algorithm::Ed25519 | Algorithm::EcdsaP256 => None,
    }
}

fn public_algorithm(algorithm: Algorithm) -> &'static dyn signature::VerificationAlgorithm {
    match algorithm {
        Algorithm::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
        _ => &signature::ED25519,
    }
}

/// A public key: hex, base64 (after `whpk_` if that is there), of the bare key or of its DER, PEM lines around
/// it or none.
fn public_key(algorithm: Algorithm, secret: &str) -> Result<Vec<u8>, &'static str> {
    let (prefix, bytes, wrong) = match algorithm {
        Algorithm::EcdsaP256 => (P256_PREFIX, 65, "is no P-256 public key in base64 or hex"),
        _ => (ED25519_PREFIX, 32, "is no Ed25519 public key in hex or base64"),
    };
    let lines = secret.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let text: String = lines.collect();
    let text = text.strip_prefix("whpk_").unwrap_or(&text);
    let decoded = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().or_else(|| base64(text));
    let decoded = decoded.ok_or(wrong)?;
    let key = decoded.strip_prefix(prefix).unwrap_or(&decoded);
    if key.len() == bytes { Ok(key.to_vec()) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_the_forms_in_which_owners_copy_them() {
        let ed25519 = |text: &str| match Key::new(Algorithm::Ed25519, KeyForm::Text, text) {
            Ok(Key::Public(_, key)) => Ok(key),
            Ok(Key::Mac(_)) => panic!("a public key"),
            Err(why) => Err(why),
        };
        let key = [7_u8; 32];
        let (hex, base64) = (HEXLOWER.encode(&key), BASE64.encode(&key));
        let der = BASE64.encode(&[ED25519_PREFIX, &key].concat());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        for text in [&hex, &hex.to_uppercase(), &base64, &format!("whpk_{base64}"), &der, &pem] {
            assert_eq!(ed25519(text), Ok(key.to_vec()), "{text}");
        }
        for text in ["", "x", "0102", &hex[2..]] {
            assert!(ed25519(text).is_err(), "{text}");
        }
        let mac = |form, text| Key::new(Algorithm::HmacSha256, form, text).map(|_| ());
        assert_eq!(mac(KeyForm::Base64, "whsec_AAAA"), Ok(()));
        assert_eq!(
            mac(KeyForm::Base64, "whsec_A*"),
            Err("is not base64, after `whsec_` or without it")
        );
        assert_eq!(mac(KeyForm::Hex, "zz"), Err("is not hex"));
        assert_eq!(mac(KeyForm::Text, ""), Err("is empty"));
    }

    #[test]
    fn secrets_of_other_lengths_are_other_secrets() {
        assert!(is_same_secret(b"abc", b"abc"));
        assert!(!is_same_secret(b"abc", b"abcd") && !is_same_secret(b"", b"a"));
    }
}
