//! What the listeners refuse for reasons of their own, beyond what the gate refuses for both.

use std::fmt;

use crate::engine::AcceptError;

/// What refusals are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Not the URL of a webhook.
    UnknownUrl,
    MethodNotAllowed,
    /// Not from an address that may send to this webhook.
    NotAllowed,
    /// More than one address may send, whatever the webhook.
    AddressTooOften,
    /// More than the webhook takes from one address.
    WebhookTooOften,
    QueueFull,
    /// The fleet has its share of the queue.
    FleetQueueFull,
    /// The fleet's runs that have not ended have their share of the disk.
    FleetDiskFull,
    Stopping,
    /// Less free disk space than the floor.
    DiskFull,
    /// The database does not keep up.
    DiskStalled,
    /// What the gate had whole cannot be read back.
    BodyUnreadable,
    /// Without the admin token, or with a wrong one.
    Unauthorized,
    /// From a page, or by a name, that is none of ours.
    Forbidden,
}

impl Denial {
    /// Those of the webhook listener.
    pub const OF_HOOKS: [Self; 12] = [
        Self::UnknownUrl,
        Self::MethodNotAllowed,
        Self::NotAllowed,
        Self::AddressTooOften,
        Self::WebhookTooOften,
        Self::QueueFull,
        Self::FleetQueueFull,
        Self::FleetDiskFull,
        Self::Stopping,
        Self::DiskFull,
        Self::DiskStalled,
        Self::BodyUnreadable,
    ];
    /// Those of the admin listener. What is wrong with a request that may use it is not among them.
    pub const OF_ADMIN: [Self; 2] = [Self::Unauthorized, Self::Forbidden];
}

impl From<&AcceptError> for Denial {
    fn from(error: &AcceptError) -> Self {
        match error {
            AcceptError::QueueFull => Self::QueueFull,
            AcceptError::FleetQueueFull => Self::FleetQueueFull,
            AcceptError::FleetDiskFull => Self::FleetDiskFull,
            AcceptError::Stopping => Self::Stopping,
            AcceptError::DiskFull => Self::DiskFull,
            AcceptError::Stalled => Self::DiskStalled,
            AcceptError::TooLarge { .. } | AcceptError::Incomplete | AcceptError::Read(_) => {
                Self::BodyUnreadable
            }
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownUrl => "unknown_url",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotAllowed => "not_allowed",
            Self::AddressTooOften => "address_too_often",
            Self::WebhookTooOften => "webhook_too_often",
            Self::QueueFull => "queue_full",
            Self::FleetQueueFull => "fleet_queue_full",
            Self::FleetDiskFull => "fleet_disk_full",
            Self::Stopping => "stopping",
            Self::DiskFull => "disk_full",
            Self::DiskStalled => "disk_stalled",
            Self::BodyUnreadable => "body_unreadable",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
        })
    }
}
