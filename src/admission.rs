//! Who and how much is let in, as pure decisions: where a request really comes from
//! ([`client_address`]), whether its sender may send another one now ([`limit`]), and which proxies
//! have shown themselves ([`forwarding`]). Takes the time as an argument;
//! reads no socket and answers nobody.

pub mod client_address;
pub mod forwarding;
pub mod limit;
