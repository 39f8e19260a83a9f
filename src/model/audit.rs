//! The audit: who did what by the admin API, and when.

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::ids::RequestId;
use crate::model::text::prefix;

/// Bytes of an object's name: more than that of a fleet and its project.
const OBJECT_BYTES_MAX: usize = 512;

/// Which entries make room for which: operations are many, and must not push out changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum AuditClass {
    /// Of fleets, webhooks, secrets, projects and tokens; and backups.
    Change,
    /// Of runs; and sign-ins.
    Operation,
}

impl AuditClass {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Change, Self::Operation];
}

/// One thing that was done: a row of `audit`, by class and id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The id of the request; its time orders it.
    pub id: RequestId,
    pub at: Timestamp,
    /// The name of the token.
    pub by: String,
    /// Whether a page did it, in a session that the token had opened.
    pub is_session: bool,
    /// The address of the client.
    pub remote_addr: String,
    /// What was done: `delete fleet`.
    pub action: String,
    /// To what: the name of a fleet with its project, of a secret or of a token; the id of a run. Empty
    /// where the action says all.
    pub object: String,
    pub class: AuditClass,
}

/// `object` as far as it is kept.
pub fn shortened(object: &str) -> String {
    let kept = prefix(object, OBJECT_BYTES_MAX);
    let mark = if kept.len() < object.len() { "…" } else { "" };
    format!("{kept}{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_objects_are_cut_between_letters() {
        assert_eq!(shortened("web/deploy"), "web/deploy");
        let cut = shortened(&"é".repeat(OBJECT_BYTES_MAX));
        assert!(cut.len() <= OBJECT_BYTES_MAX + '…'.len_utf8() && cut.ends_with("é…"), "{cut}");
    }
}
