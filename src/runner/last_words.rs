//! The line that a failed vessel's log gets when the cause may lie outside of the vessel: the
//! kernel's out-of-memory killer, the sandbox of the service, or git's check of a repository's
//! owner. The line about the sandbox is the same for every vessel: `boathook doctor` knows the
//! fleet and the unit, explains, and writes the drop-in.

use super::HowEnded;

/// Bytes at the end of the output that are searched: the last messages, or a stack of calls.
pub(super) const LAST_WORDS_BYTES: usize = 8 * 1024;

const OUT_OF_MEMORY: &str = "out of memory: the kernel ended a process of this vessel; let it take \
                             less (with `limits: {memory: SIZE}` its allocations fail instead), \
                             lower `workers`, or give the service more (MemoryMax= in its unit)";

/// See the module.
const SANDBOX: &str = "the sandbox of the service may forbid this: `boathook doctor` \
                                  tells what it keeps from vessels, and how to allow it";

/// Messages, in lower case, of programs that a sandbox stops.
const SANDBOX_PHRASES: [&str; 9] = [
    // EROFS, EACCES, EPERM.
    "read-only file system",
    "permission denied",
    "operation not permitted",
    // sudo and su.
    "no new privileges",
    "effective uid is not 0",
    "must be setuid",
    // bwrap, Chromium.
    "no permissions to creat",
    "no usable sandbox",
    // V8 without memory that may become code.
    "# fatal error in",
];

/// The line for a vessel that ended like `how`; `last_words` reads the end of its output.
/// `is_service`: systemd runs the server.
pub(super) fn explanation(
    how: &HowEnded,
    last_words: impl FnOnce() -> Vec<u8>,
    is_service: bool,
) -> Option<String> {
    match how {
        HowEnded::OutOfMemory { .. } => return Some(OUT_OF_MEMORY.to_owned()),
        HowEnded::Exited(1..) | HowEnded::Signaled(_) => {}
        _ => return None,
    }
    let last_words = last_words();
    if let Some(command) = safe_directory_command(&last_words) {
        let why = "git's own advice does not help, since each run has a HOME of its own";
        return Some(format!("{why}: `sudo {command}`"));
    }
    let text = String::from_utf8_lossy(&last_words);
    (is_service && suggests_sandbox(&text)).then(|| SANDBOX.to_owned())
}

/// The line for a vessel that could not be started. A sandbox hides paths as well.
pub(super) fn of_start_error(reason: &str, is_service: bool) -> Option<&'static str> {
    let is_likely = suggests_sandbox(reason) || reason.contains("No such file");
    (is_service && is_likely).then_some(SANDBOX)
}

/// Whether `text` contains a message of a program that a sandbox stops.
fn suggests_sandbox(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SANDBOX_PHRASES.iter().any(|phrase| text.contains(phrase))
}

/// The command that makes git accept a repository of another owner, when git has just refused one.
/// The command that git shows has no effect on vessels: it writes to the run's own HOME, and git
/// takes this setting from no environment.
pub(super) fn safe_directory_command(output: &[u8]) -> Option<String> {
    let output = String::from_utf8_lossy(output);
    if !output.contains("dubious ownership") {
        return None;
    }
    let shown = output.lines().find_map(|line| line.trim().strip_prefix("git config --global "));
    let setting = shown.unwrap_or("--add safe.directory DIRECTORY");
    Some(format!("git config --system {setting}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(how: HowEnded, words: &str, is_service: bool) -> Option<String> {
        explanation(&how, || words.as_bytes().to_vec(), is_service)
    }

    #[test]
    fn failures_that_a_sandbox_may_cause_name_doctor_in_a_service_only() {
        for words in [
            "touch: cannot touch '/srv/site/x': Read-only file system",
            "Error: EROFS: read-only file system, open '/srv/x'",
            "OSError: [Errno 30] Read-only file system: '/srv/x'",
            "Load key \"/home/me/.ssh/id\": Permission denied",
            "unshare: unshare failed: Operation not permitted",
            "sudo: The \"no new privileges\" flag is set",
            "sudo: effective uid is not 0, is /usr/bin/sudo on a file system with nosuid?",
            "# Fatal error in , line 0",
        ] {
            let line = of(HowEnded::Exited(1), words, true);
            assert!(line.is_some_and(|line| line.contains("`boathook doctor`")), "{words}");
            assert_eq!(of(HowEnded::Exited(1), words, false), None, "{words}");
        }
    }

    #[test]
    fn a_vessel_that_succeeded_or_was_ended_gets_no_line() {
        let words = "touch: cannot touch '/proc/x': Read-only file system";
        assert_eq!(of(HowEnded::Exited(0), words, true), None);
        assert_eq!(of(HowEnded::CutOff, words, true), None);
        assert_eq!(of(HowEnded::Exited(1), "just failed", true), None);
    }

    #[test]
    fn a_repository_of_another_owner_is_named_in_a_command_that_works() {
        let words = "fatal: detected dubious ownership in repository at '/srv/my site'\n\
                     To add an exception for this directory, call:\n\n\
                     \tgit config --global --add safe.directory '/srv/my site'\n";
        let line = of(HowEnded::Exited(128), words, false).unwrap();
        assert!(line.ends_with("--add safe.directory '/srv/my site'`"), "{line}");
        assert_eq!(safe_directory_command(b"nothing of the kind"), None);
    }
}
