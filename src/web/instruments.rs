//! What the listeners count and measure.

use std::sync::Arc;

use crate::listener;
use crate::model::metrics::{Counters, Histogram, LATENCY_BOUNDS};
use crate::web::denial::Denial;

/// Shared by both listeners: the admin listener shows those of either.
#[derive(Debug)]
pub struct Instruments {
    /// What the gates see.
    pub hooks: Arc<listener::Counters>,
    pub admin: Arc<listener::Counters>,
    /// What the handlers refuse.
    pub hooks_denied: Counters<Denial>,
    pub admin_denied: Counters<Denial>,
    /// From the last byte of a webhook's request until its run is durable.
    pub accepting: Histogram,
}

impl Default for Instruments {
    fn default() -> Self {
        Self {
            hooks: Arc::default(),
            admin: Arc::default(),
            hooks_denied: Counters::of(&Denial::OF_HOOKS),
            admin_denied: Counters::of(&Denial::OF_ADMIN),
            accepting: Histogram::of_durations(&LATENCY_BOUNDS),
        }
    }
}
