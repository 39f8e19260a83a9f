//! Senders: whether a request comes from whom it should, over the table of `model/sender`.

mod credential;
pub mod crypto;
pub mod explain;
pub mod fields;
pub mod form;
pub mod handshake;
pub mod presented;
pub mod sample;
pub mod sign;
pub mod signatures;
pub mod signed;
pub mod verify;

#[cfg(test)]
mod tests;

pub use presented::Presented;
pub use verify::{Context, Failure, Outcome, verify};
