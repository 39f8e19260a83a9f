//! Authentication of the admin API by its bearer tokens.

use std::fmt;
use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use crate::model::server_proof::{Nonce, Proof, TokenHint};
use crate::model::webhook::{Token, TokenHash};

/// The scheme of the header Authorization that carries a token.
const SCHEME: &[u8] = b"Bearer";

/// The token of `admin.token`, kept by its hash: how long a comparison of hashes takes
/// tells nothing about the token.
#[derive(Clone)]
pub struct BearerToken([u8; 32]);

impl BearerToken {
    /// Admits requests that show `token`.
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Proves to the client that drew `nonce` that the server at `address` holds the token.
    pub fn prove(&self, nonce: Nonce, address: SocketAddr) -> Proof {
        Proof::new(&self.0, nonce, address)
    }

    /// Whether a client with this hint means this token.
    pub fn has_hint(&self, hint: TokenHint) -> bool {
        TokenHint::of(&self.0) == hint
    }

    /// Whether `shown` is the token.
    pub fn is(&self, shown: impl AsRef<[u8]>) -> bool {
        <[u8; 32]>::from(Sha256::digest(shown)) == self.0
    }
}

/// The token that `authorization`, the value of that header, shows (RFC 6750 2.1); `None`: it is of
/// another scheme.
pub fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let shown = authorization.get(SCHEME.len()..).filter(|_| is_bearer(authorization))?;
    Some(shown.trim_ascii())
}

/// The hash of a shown token; `None`: it has not the form of one.
pub fn hash_of(shown: &[u8]) -> Option<TokenHash> {
    std::str::from_utf8(shown).ok().and_then(Token::parse).map(|token| token.hash())
}

/// Whether `authorization`, the value of that header, is of the scheme Bearer.
fn is_bearer(authorization: &[u8]) -> bool {
    let (scheme, rest) = authorization.split_at(authorization.len().min(SCHEME.len()));
    scheme.eq_ignore_ascii_case(SCHEME) && matches!(rest.first(), None | Some(b' '))
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_admitted() {
        let token = BearerToken::new("open-sesame");
        let admits = |shown: &[u8]| bearer(shown).is_some_and(|shown| token.is(shown));
        for shown in ["Bearer open-sesame", "bearer open-sesame", "BEARER  open-sesame "] {
            assert!(admits(shown.as_bytes()), "{shown:?}");
        }
        for shown in [
            "",
            "Bearer",
            "Bearer ",
            "open-sesame",
            "Basic open-sesame",
            "Beareropen-sesame",
            "Bearer open-sesam",
            "Bearer open-sesame x",
        ] {
            assert!(!admits(shown.as_bytes()), "{shown:?}");
        }
        assert!(!admits(b"Bearer \xff"));
        for (shown, expected) in
            [("Bearer", true), ("bearer x", true), ("Basic x", false), ("Bearerx", false)]
        {
            assert_eq!(is_bearer(shown.as_bytes()), expected, "{shown:?}");
        }
    }
}
