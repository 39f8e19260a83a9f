//! Schemes: how one kind of signature is read, made and compared.

use std::time::Duration;

use super::template::Template;

/// Tolerance for clocks where a scheme of one's own does not say any: what most providers recommend.
pub const TOLERANCE_DEFAULT: Duration = Duration::from_secs(300);

/// How a provider signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme<'a> {
    /// The header with the signature.
    pub header: &'a str,
    pub form: Form<'a>,
    pub signed: Template<'a>,
    pub algorithm: Algorithm,
    pub encoding: Encoding,
    pub key: KeyForm,
    pub timestamp: Option<TimestampRule<'a>>,
    /// The header whose text stands for `{id}`.
    pub id: Option<&'a str>,
}

/// How signatures stand in their header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// One signature after a prefix, which may be empty.
    Prefixed(&'a str),
    /// Parts `key divider value`, several of one key allowed.
    Parts { separator: char, divider: char, key: &'a str },
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    HmacSha1,
    HmacSha256,
    HmacSha512,
    Ed25519,
    EcdsaP256,
}

impl Algorithm {
    /// The words of the fleet file.
    pub const WORDS: [(&str, Self); 5] = [
        ("sha256", Self::HmacSha256),
        ("sha1", Self::HmacSha1),
        ("sha512", Self::HmacSha512),
        ("ed25519", Self::Ed25519),
        ("ecdsa-p256", Self::EcdsaP256),
    ];

    /// Whether the secret is a public key.
    pub fn is_asymmetric(self) -> bool {
        matches!(self, Self::Ed25519 | Self::EcdsaP256)
    }

    /// Bytes of a signature; `None`: it varies.
    pub fn signature_bytes(self) -> Option<usize> {
        match self {
            Self::HmacSha1 => Some(20),
            Self::HmacSha256 => Some(32),
            Self::HmacSha512 | Self::Ed25519 => Some(64),
            Self::EcdsaP256 => None,
        }
    }
}

/// How the bytes of a signature are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Hex,
    Base64,
}

impl Encoding {
    /// The words of the fleet file.
    pub const WORDS: [(&str, Self); 2] = [("hex", Self::Hex), ("base64", Self::Base64)];
}

/// How a secret becomes a key. Public keys are told by their form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// The bytes of its text.
    Text,
    /// Base64, after `whsec_` if that is there.
    Base64,
    Hex,
}

impl KeyForm {
    /// The words of the fleet file.
    pub const WORDS: [(&str, Self); 3] =
        [("text", Self::Text), ("base64", Self::Base64), ("hex", Self::Hex)];
}

/// When a request was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampRule<'a> {
    pub place: TimestampPlace<'a>,
    pub unit: Unit,
    /// How far it may lie from the server's clock, either way; `None`: the provider recommends no bound.
    pub tolerance: Option<Duration>,
}

/// The place of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampPlace<'a> {
    Header(&'a str),
    /// The part with this key of the signature's header.
    Part(&'a str),
    /// A field of the JSON in the body.
    Body(&'a str),
}

/// The unit of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Millis,
    Rfc3339,
}

impl Unit {
    /// The words of the fleet file.
    pub const WORDS: [(&str, Self); 3] =
        [("s", Self::Seconds), ("ms", Self::Millis), ("rfc3339", Self::Rfc3339)];
}

/// The place of an event's id or type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    Header(&'a str),
    /// Keys with dots between them that lead to a field of the JSON in the body.
    Body(&'a str),
}

/// The word of `value` in `words`.
pub fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| *word)
}
