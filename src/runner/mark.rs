//! The marks by which the processes of a vessel run, or of a notification, are recognised.
//!
//! A mark is given to a program twice. Two variables of its environment name the server and the
//! vessel run. And its limit of file locks, which Linux has not enforced since 2.4.25, is set to a
//! number made of the two: programs that start others with a cleaned environment (`env -i`,
//! `sudo`, `su -`) leave that limit as it is, it passes to every descendant, and unlike an
//! environment it can be read of any user's process (proc_pid_limits(5)).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;

use rustix::process::{Pid, Rlimit};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::environment::Environment;
use crate::model::ids::{InstanceId, VesselRunId};

/// Bytes of a process's environment that are looked at: more than Linux lets a program start with
/// (execve(2): three quarters of 8 MiB at the most).
const PROCESS_ENVIRONMENT_BYTES_MAX: u64 = 8 << 20;

/// The variable that tells which server started a process.
pub(super) const INSTANCE_VARIABLE: &str = "BOATHOOK_INSTANCE";
/// The variable that tells which vessel run a process belongs to.
const VESSEL_RUN_VARIABLE: &str = "SHIPYARD_LOG_ID";
/// The variable that tells which notification a process delivers.
pub(super) const NOTIFICATION_VARIABLE: &str = "BOATHOOK_NOTIFICATION_ID";

/// Set in the number of every mark, and not set: far from the limits that people set, and not
/// infinite, which is all bits.
const ALWAYS: u64 = 1 << 62;
const NEVER: u64 = 1 << 63;

/// Recognises the processes of one vessel run, whatever the attempt, or of one notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Mark(u64);

/// The marks that are searched for.
pub(super) type Marks = HashSet<Mark>;

impl Mark {
    pub fn of_vessel_run(instance: InstanceId, vessel_run: VesselRunId) -> Self {
        let (instance, vessel_run) = (instance.to_string(), vessel_run.to_string());
        Self::of(instance.as_bytes(), VESSEL_RUN_VARIABLE, vessel_run.as_bytes())
    }

    pub fn of_notification(instance: InstanceId, notification: &str) -> Self {
        let instance = instance.to_string();
        Self::of(instance.as_bytes(), NOTIFICATION_VARIABLE, notification.as_bytes())
    }

    fn of(instance: &[u8], variable: &str, id: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [instance, b"\0", variable.as_bytes(), b"\0", id] {
            hash.update(part);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        Self(u64::from_be_bytes(first) & !NEVER | ALWAYS)
    }

    /// The mark of a program that is started in this environment.
    pub fn in_environment(environment: &Environment) -> Option<Self> {
        Self::in_variables(|name| environment.get(name).map(str::as_bytes))
    }

    fn in_variables<'a>(value_of: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Self> {
        let instance = value_of(INSTANCE_VARIABLE)?;
        [VESSEL_RUN_VARIABLE, NOTIFICATION_VARIABLE]
            .into_iter()
            .find_map(|variable| Some(Self::of(instance, variable, value_of(variable)?)))
    }

    /// The limit of file locks that carries the mark. A program has it from its first instruction on.
    pub fn limit(self) -> Rlimit {
        Rlimit { current: Some(self.0), maximum: None }
    }

    /// The marks that a process carries: by its limit, and by the environment that its program was
    /// started in. A zombie has no environment, and another user's cannot be read.
    pub fn of_process(process: Pid) -> impl Iterator<Item = Self> {
        let by_limit = limits_of(process).and_then(|limits| Self::in_limits(&limits));
        let by_environment = move || Self::in_variables_of(&environment_of(process)?);
        by_limit.into_iter().chain(std::iter::once_with(by_environment).flatten())
    }

    /// The mark in a list of limits (proc_pid_limits(5)).
    fn in_limits(limits: &str) -> Option<Self> {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
        let current: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        (current & (ALWAYS | NEVER) == ALWAYS).then_some(Self(current))
    }

    /// The mark in an environment (proc_pid_environ(5)).
    fn in_variables_of(environment: &[u8]) -> Option<Self> {
        Self::in_variables(|name| {
            let mut variables = environment.split(|byte| *byte == 0);
            variables
                .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        })
    }
}

fn limits_of(process: Pid) -> Option<String> {
    fs::read_to_string(format!("/proc/{}/limits", process.as_raw_pid())).ok()
}

fn environment_of(process: Pid) -> Option<Vec<u8>> {
    let mut environment = Vec::new();
    let file = File::open(format!("/proc/{}/environ", process.as_raw_pid())).ok()?;
    file.take(PROCESS_ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment).ok()?;
    Some(environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;
    use crate::model::ids::RunIds;

    #[test]
    fn an_environment_is_read_exactly() {
        let instance = InstanceId::random();
        let ids = RunIds::after(None).next(Timestamp::from_millis(1_700_000_000_000), 4);
        let (mine, mark) = (ids.vessel_run(0), Mark::of_vessel_run(instance, ids.vessel_run(0)));
        let read = |text: &str| Mark::in_variables_of(text.as_bytes());
        let both = format!("A=1\0BOATHOOK_INSTANCE={instance}\0SHIPYARD_LOG_ID={mine}\0");
        assert_eq!(read(&both), Some(mark));
        assert_ne!(read(&both), Some(Mark::of_vessel_run(instance, ids.vessel_run(1))));
        assert_ne!(read(&both), Some(Mark::of_vessel_run(InstanceId::random(), mine)));
        assert_eq!(read(&both.replace("BOATHOOK_", "XBOATHOOK_")), None);
        assert_eq!(read(&format!("BOATHOOK_INSTANCE={instance}\0")), None);
        assert_eq!(read(""), None);
        let helper = format!("BOATHOOK_NOTIFICATION_ID=msg_1_0\0BOATHOOK_INSTANCE={instance}\0");
        assert_eq!(read(&helper), Some(Mark::of_notification(instance, "msg_1_0")));
        assert_ne!(read(&helper), Some(Mark::of_notification(instance, "msg_1_01")));
        assert_eq!(read(&helper.replace("INSTANCE", "INSTANT")), None);
        let pairs =
            [(INSTANCE_VARIABLE, instance.to_string()), (VESSEL_RUN_VARIABLE, mine.to_string())];
        assert_eq!(Mark::in_environment(&Environment::from_iter(pairs.clone())), Some(mark));
        let [instance, _] = pairs;
        assert_eq!(Mark::in_environment(&Environment::from_iter([instance])), None);
    }

    #[test]
    fn a_limit_that_somebody_has_set_is_no_mark() {
        let line = |value: &str| {
            let limits = format!(
                "Limit  Soft\nMax file locks            {value}   unlimited   locks     \n"
            );
            Mark::in_limits(&limits)
        };
        let mark = Mark::of(b"instance", VESSEL_RUN_VARIABLE, b"id");
        assert_eq!(line(&mark.0.to_string()), Some(mark));
        for other in ["unlimited", "0", "100", &u64::MAX.to_string(), &NEVER.to_string()] {
            assert_eq!(line(other), None, "{other}");
        }
        assert_eq!(Mark::in_limits("Max open files   1   1   files"), None);
    }
}
