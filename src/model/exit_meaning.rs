//! What exit codes and signals mean that every shell and every Linux knows.

use crate::model::run::{Status, VesselRunRecord};

/// signal(7), on all machines that this server is made for, with what a person may not know of it.
const SIGNALS: [(i32, &str, &str); 21] = [
    (1, "SIGHUP", ""),
    (2, "SIGINT", ""),
    (3, "SIGQUIT", ""),
    (4, "SIGILL", ""),
    (5, "SIGTRAP", ""),
    (6, "SIGABRT", ": it gave up by itself"),
    (7, "SIGBUS", ""),
    (8, "SIGFPE", ""),
    (9, "SIGKILL", ", which the kernel also sends when memory runs out"),
    (10, "SIGUSR1", ""),
    (11, "SIGSEGV", ": it used memory that is not its own"),
    (12, "SIGUSR2", ""),
    (13, "SIGPIPE", ": the reader of its output had gone"),
    (14, "SIGALRM", ""),
    (15, "SIGTERM", ""),
    (16, "SIGSTKFLT", ""),
    (17, "SIGCHLD", ""),
    (19, "SIGSTOP", ""),
    (24, "SIGXCPU", ": it used up its processor time"),
    (25, "SIGXFSZ", ": a file became too large"),
    (31, "SIGSYS", ": it made a system call that is not allowed"),
];

/// A sentence about the end of a failed vessel; `None` when there is nothing that its own reason does not
/// say.
pub fn exit_meaning(vessel: &VesselRunRecord) -> Option<String> {
    if vessel.status != Status::Errored {
        return None;
    }
    match (vessel.signal, vessel.exit_code) {
        (Some(signal), _) => Some(
            of_signal(signal, "It was ended by")
                .unwrap_or_else(|| format!("It was ended by signal {signal}.")),
        ),
        (None, Some(126)) => Some("The program was found, but may not be executed.".to_owned()),
        (None, Some(127)) => Some(
            "The program was not found: it is not in the vessel’s PATH, or a script calls one that is \
             not there."
                .to_owned(),
        ),
        (None, Some(code)) => of_signal(
            code.checked_sub(128)?,
            "128 and more is how a shell says that a program of it was ended by",
        ),
        (None, None) => None,
    }
}

fn of_signal(number: i32, how: &str) -> Option<String> {
    let (_, name, hint) = SIGNALS.iter().find(|(known, ..)| *known == number)?;
    Some(format!("{how} {name} (signal {number}){hint}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;
    use crate::model::ids::{RunIds, VesselId};

    #[test]
    fn known_codes_and_signals_have_a_meaning() {
        let run = RunIds::after(None).next(Timestamp::from_millis(1), 0);
        let vessel = (VesselId::from_slice(&[1; 16]).unwrap(), "v");
        let meaning = |exit_code, signal| {
            let record = VesselRunRecord::scheduled(run, 0, vessel, Timestamp::from_millis(1));
            exit_meaning(&VesselRunRecord { status: Status::Errored, exit_code, signal, ..record })
        };
        assert_eq!(meaning(Some(3), None), None);
        assert_eq!(meaning(Some(128), None), None);
        assert_eq!(meaning(Some(200), None), None);
        assert!(meaning(Some(127), None).unwrap().starts_with("The program was not found"));
        assert!(meaning(Some(139), None).unwrap().contains("SIGSEGV (signal 11): it used memory"));
        assert_eq!(meaning(None, Some(15)).unwrap(), "It was ended by SIGTERM (signal 15).");
        assert_eq!(meaning(None, Some(40)).unwrap(), "It was ended by signal 40.");
        let ended = VesselRunRecord::scheduled(run, 0, vessel, Timestamp::from_millis(1));
        assert_eq!(exit_meaning(&VesselRunRecord { exit_code: Some(127), ..ended }), None);
    }
}
