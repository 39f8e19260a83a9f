//! Lock files: one process at a time holds one. The kernel releases it with the end of the process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long between two looks at a lock that is held.
const POLL: Duration = Duration::from_millis(50);

/// Locks the file at `path`, which is made where it is missing, or returns the id of the process that still
/// holds it after `patience`.
///
/// # Errors
/// When it cannot be made or locked.
pub fn lock(path: &Path, patience: Duration) -> io::Result<Result<File, String>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path)?;
    let deadline = Instant::now() + patience;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(POLL),
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = (&file).take(20).read_to_string(&mut holder);
                return Ok(Err(match holder.trim() {
                    "" => "unknown".to_owned(),
                    holder => holder.to_owned(),
                }));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // The process id is for a person, so it is not synced.
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Ok(file))
}
