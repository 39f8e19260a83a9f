//! Authentication of the admin API by its bearer token.

use std::fmt;
use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use crate::model::server_proof::{Nonce, Proof};

/// The scheme of the header Authorization that carries a token.
const SCHEME: &[u8] = b"Bearer";

/// The token that opens the admin API, kept by its hash: how long a comparison of hashes takes
/// tells nothing about the token.
#[derive(Clone)]
pub struct BearerToken([u8; 32]);

impl BearerToken {
    /// Admits requests that show `token`.
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether `authorization`, the value of that header, shows the token (RFC 6750 2.1).
    pub fn admits(&self, authorization: &[u8]) -> bool {
        is_bearer(authorization)
            && authorization.get(SCHEME.len()..).is_some_and(|shown| self.is(shown.trim_ascii()))
    }

    /// Proves to the client that drew `nonce` that the server at `address` holds the token.
    pub fn prove(&self, nonce: Nonce, address: SocketAddr) -> Proof {
        Proof::new(&self.0, nonce, address)
    }

    /// Whether `shown` is the token.
    pub fn is(&self, shown: impl AsRef<[u8]>) -> bool {
        <[u8; 32]>::from(Sha256::digest(shown)) == self.0
    }
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
        for shown in ["Bearer open-sesame", "bearer open-sesame", "BEARER  open-sesame "] {
            assert!(token.admits(shown.as_bytes()), "{shown:?}");
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
            assert!(!token.admits(shown.as_bytes()), "{shown:?}");
        }
        assert!(!token.admits(b"Bearer \xff"));
        for (shown, expected) in
            [("Bearer", true), ("bearer x", true), ("Basic x", false), ("Bearerx", false)]
        {
            assert_eq!(is_bearer(shown.as_bytes()), expected, "{shown:?}");
        }
    }
}
