//! Senders: how providers sign, shake hands and number their events. Plain data: a table of presets, schemes
//! of one's own, and what a fleet asks of its sender. `web/senders` verifies requests over it.

pub mod guide;
pub mod handshake;
pub mod preset;

pub mod scheme;
mod serial;
pub mod table;
pub mod template;
pub mod verification;

pub use handshake::Handshake;
pub use preset::{Credential, Preset, PresetOption, Rule};
pub use scheme::{
    Algorithm, Encoding, Form, KeyForm, Place, Scheme, TimestampPlace, TimestampRule, Unit,
};
pub use template::{Piece, Template};
pub use verification::{
    CHECKS_MAX, Check, Method, Options, OwnPlace, OwnScheme, OwnTimestamp, SECRETS_MAX,
    Verification,
};
