//! What a vessel writes, while it writes it and afterwards.

use std::sync::Arc;

/// The output of one attempt, shared between the worker that captures it and those who follow.
#[derive(Debug, Default)]
pub struct LiveOutput {
    _private: (),
}

/// What is left of an attempt's output when it has ended.
#[derive(Debug, Default)]
pub struct CapturedOutput {
    /// Bytes the attempt wrote, kept or not.
    pub bytes: u64,
    pub kept: Kept,
}

/// Where the kept part of captured output is.
#[derive(Debug, Default)]
pub enum Kept {
    #[default]
    Nothing,
    /// Small enough to be stored with the settle.
    Inline(Vec<u8>),
    /// In a file, synced.
    File,
}

/// A handle for those who follow.
pub type SharedOutput = Arc<LiveOutput>;
