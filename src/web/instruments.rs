//! What the listeners count and measure.

use std::sync::Arc;

use crate::listener;
use crate::model::metrics::{Histogram, LATENCY_BOUNDS};

/// Shared by both listeners: the admin listener shows those of either.
#[derive(Debug)]
pub struct Instruments {
    /// What the listeners and their handlers count.
    pub hooks: Arc<listener::Counters>,
    pub admin: Arc<listener::Counters>,
    /// From the last byte of a webhook's request until its run is durable.
    pub accepting: Histogram,
}

impl Default for Instruments {
    fn default() -> Self {
        Self {
            hooks: Arc::default(),
            admin: Arc::default(),
            accepting: Histogram::of_durations(&LATENCY_BOUNDS),
        }
    }
}
