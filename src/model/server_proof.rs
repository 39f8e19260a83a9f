//! How a server proves to a client that it holds the token that the client is about to send. The proof
//! is an authentication code of the client's nonce and of the server's own address. Its key is the hash
//! of the token, so a server that keeps only hashes can prove itself. A server has many tokens; the
//! client's hint tells which one it is about to send.
//!
//! The address tells two servers with the same token apart: an impostor can pass a question on to the
//! second server, but the answer names the address of that server.

use std::net::SocketAddr;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::mac;
use crate::model::random::{Random, SystemRandom};

/// Where a server proves itself, on the admin listener.
pub const PATH: &str = "/api/v1/proof";
/// Separates these codes from those of any other use of the key.
const CONTEXT: &[u8] = b"boathook server proof 1\0";
/// The same for hints.
const HINT_CONTEXT: &[u8] = b"boathook token hint 1\0";

/// A number that is used once, so that a recorded answer proves nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        SystemRandom.fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// `text` as a nonce: 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The digits that [`parse`](Self::parse) reads.
    pub fn to_hex(self) -> String {
        HEXLOWER_PERMISSIVE.encode(&self.0)
    }
}

/// Tells a server which of its tokens is meant, and a stranger nothing: 64 bits of an authentication code
/// whose key is the hash of a token of 256 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHint([u8; 8]);

impl TokenHint {
    /// The hint of the token with this SHA-256.
    pub fn of(token_hash: &[u8; 32]) -> Self {
        let code = mac::code(token_hash, &[HINT_CONTEXT]);
        Self(code.first_chunk().copied().unwrap_or_default())
    }

    /// The hint of `token`, whatever it looks like.
    pub fn of_text(token: &str) -> Self {
        Self::of(&Sha256::digest(token.as_bytes()).into())
    }

    /// `text` as a hint: 16 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The digits that [`parse`](Self::parse) reads.
    pub fn to_hex(self) -> String {
        HEXLOWER_PERMISSIVE.encode(&self.0)
    }
}

/// The response of a server.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proof {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The authentication code, in hexadecimal digits.
    pub proof: String,
}

impl Proof {
    /// The proof of the server at `address` that holds the token with this SHA-256.
    pub fn new(token_hash: &[u8; 32], nonce: Nonce, address: SocketAddr) -> Self {
        let text = address.to_string();
        let code = mac::code(token_hash, &[CONTEXT, &nonce.0, text.as_bytes()]);
        Self { address, proof: HEXLOWER_PERMISSIVE.encode(&code) }
    }

    /// Whether it is of a server that holds `token`, and an answer to `nonce`.
    pub fn holds(&self, token: &str, nonce: Nonce) -> bool {
        let Ok(code) = HEXLOWER_PERMISSIVE.decode(self.proof.as_bytes()) else { return false };
        let address = self.address.to_string();
        let key = Sha256::digest(token.as_bytes());
        mac::is_code(&key, &[CONTEXT, &nonce.0, address.as_bytes()], &code)
    }

    /// Whether a connection to `peer` leads to this server itself. A program in between that passes
    /// requests on has another address.
    pub fn is_of(&self, peer: SocketAddr) -> bool {
        let (own, reached) = (self.address.ip().to_canonical(), peer.ip().to_canonical());
        self.address.port() == peer.port() && (own.is_unspecified() || own == reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(token: &str, nonce: Nonce, address: &str) -> Proof {
        Proof::new(&Sha256::digest(token).into(), nonce, address.parse().unwrap())
    }

    #[test]
    fn a_proof_holds_for_one_token_one_nonce_and_one_address() {
        let (nonce, other) = (Nonce::random().unwrap(), Nonce::random().unwrap());
        let mut given = proof("token", nonce, "127.0.0.1:9001");
        assert!(given.holds("token", nonce));
        assert!(!given.holds("tokem", nonce) && !given.holds("token", other));
        given.address = "127.0.0.1:9002".parse().unwrap();
        assert!(!given.holds("token", nonce));
        for proof in [String::new(), "0".repeat(64), "0".repeat(62), "zz".repeat(32)] {
            assert!(!Proof { proof, ..given }.holds("token", nonce));
        }
    }

    #[test]
    fn a_server_is_at_the_address_that_it_names() {
        let nonce = Nonce::random().unwrap();
        for (own, peer, expected) in [
            ("127.0.0.1:9001", "127.0.0.1:9001", true),
            ("127.0.0.1:9001", "[::ffff:127.0.0.1]:9001", true),
            ("0.0.0.0:9001", "192.0.2.7:9001", true),
            ("[::]:9001", "127.0.0.1:9001", true),
            ("127.0.0.1:9001", "[::1]:9001", false),
            ("127.0.0.1:9001", "127.0.0.1:9002", false),
            ("0.0.0.0:9001", "127.0.0.1:9002", false),
        ] {
            let given = proof("token", nonce, own);
            assert_eq!(given.is_of(peer.parse().unwrap()), expected, "{own} {peer}");
        }
    }

    #[test]
    fn hints_tell_tokens_apart() {
        let hint = TokenHint::of_text("token");
        assert_eq!(TokenHint::parse(&hint.to_hex()), Some(hint));
        assert_eq!(TokenHint::of(&Sha256::digest("token").into()), hint);
        assert_ne!(TokenHint::of_text("tokem"), hint);
        for text in ["", "0", &"0".repeat(18), &"g".repeat(16)] {
            assert!(TokenHint::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn nonces_are_64_digits() {
        let nonce = Nonce::random().unwrap();
        assert!(Nonce::parse(&nonce.to_hex()) == Some(nonce));
        assert!(Nonce::parse(&nonce.to_hex().to_uppercase()) == Some(nonce));
        for text in ["", "0", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64)] {
            assert!(Nonce::parse(text).is_none(), "{text}");
        }
    }
}
