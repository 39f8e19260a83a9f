//! The confinement of a vessel: limits of its resources, its niceness and its umask. Its fleet names the
//! user that it runs as.

use serde::{Deserialize, Serialize};

use crate::model::defaults::is_default;

/// Attributes that the server sets before a vessel's program starts. By default it sets none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// Niceness, -20 (first served) to 19 (nice(2)); `None`: the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// The permission bits that new files do not get; `None`: 022.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
}

/// Limits of a vessel, soft and hard ones alike (getrlimit(2)). `None`: the server's own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of address space of each of its processes (RLIMIT_AS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Seconds of processor time of each of its processes (RLIMIT_CPU). The kernel then sends SIGXCPU, and
    /// SIGKILL to a process that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_time: Option<u64>,
    /// Open files of each of its processes (RLIMIT_NOFILE).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Processes and threads of its user, also those of other vessels (RLIMIT_NPROC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Bytes of a file that it may write (RLIMIT_FSIZE).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
}
