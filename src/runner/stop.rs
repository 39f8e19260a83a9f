//! The signal that asks a running vessel to end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Why a running vessel is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stop {
    /// A person stopped it.
    Requested = 1,
    /// The server stops; the vessel is resumed by the next one.
    Abandon = 2,
}

/// A stop that another thread may raise while a vessel runs. Can be polled with other descriptors.
#[derive(Debug)]
pub struct StopSignal {
    kind: AtomicU8,
    event: OwnedFd,
}

impl StopSignal {
    /// A signal that has not been raised.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> rustix::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { kind: AtomicU8::new(0), event })
    }

    /// Raises the signal. The first kind raised stays.
    pub fn raise(&self, stop: Stop) {
        let _ = self.kind.compare_exchange(0, stop as u8, Ordering::SeqCst, Ordering::SeqCst);
        // A write fails only when the counter is full, and then the eventfd is readable.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// The kind raised, if any.
    pub fn raised(&self) -> Option<Stop> {
        match self.kind.load(Ordering::SeqCst) {
            1 => Some(Stop::Requested),
            2 => Some(Stop::Abandon),
            _ => None,
        }
    }

    /// Makes the signal ready for the next vessel. Not to be called beside [`raise`](Self::raise).
    pub fn reset(&self) {
        if self.kind.swap(0, Ordering::SeqCst) != 0 {
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
        }
    }
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
