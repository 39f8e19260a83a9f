//! Who is told by e-mail how a fleet or a vessel ended, as the fleet's file has it. What is sent,
//! and through which server, is not decided here.

use serde::{Deserialize, Serialize};

/// The `notifications` of a fleet or of one vessel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailNotifications {
    /// In the order in which they were written; none comes twice.
    pub emails: Vec<String>,
    /// After an end as Errored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_error: bool,
    /// After every end of a run that was started on demand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_on_demand: bool,
}
