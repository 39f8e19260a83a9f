//! The file into which a vessel writes the response to the sender of its request. The server makes it
//! anew for each attempt and reads it when the attempt has ended. The vessel may have put anything in its
//! place, so that it is opened by descriptor and trusted in nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::output::LiveOutput;
use super::workdir::open_directory;
use crate::model::cgi::{CgiResponse, VesselAnswer};
use crate::model::ids::VesselRunId;
use crate::model::size::format_size;

/// The name of the file in the work directory.
pub fn response_file_name(vessel_run: VesselRunId) -> String {
    format!("{vessel_run}.response")
}

/// The response in the work directory `work`; `None` when the vessel has written none. What is wrong with
/// it, and that it is cut at `bytes_max`, goes to the vessel's log.
pub(super) fn read_response(
    work: &Path,
    vessel_run: VesselRunId,
    bytes_max: u64,
    log: &LiveOutput,
) -> Option<VesselAnswer> {
    let say = |text: &str| log.append_line(&format!("boathook: the response: {text}"));
    let bytes = match read(work, vessel_run, bytes_max) {
        Ok(None) => return None,
        Ok(Some(bytes)) => bytes,
        Err(why) => {
            say(&format!("{why}; the sender gets 502"));
            return Some(VesselAnswer::Malformed);
        }
    };
    let is_cut = bytes.len() as u64 > bytes_max;
    if is_cut {
        let most = format_size(bytes_max);
        say(&format!("cut at {most}, the most that a sender gets (max_response_bytes)"));
    }
    let bytes = &bytes[..bytes.len().min(usize::try_from(bytes_max).unwrap_or(usize::MAX))];
    match CgiResponse::parse(bytes, is_cut) {
        Ok(response) => Some(VesselAnswer::Response(response)),
        Err(why) => {
            say(&format!("{why}; the sender gets 502"));
            Some(VesselAnswer::Malformed)
        }
    }
}

/// The bytes of the file, one more than `bytes_max` at most; `None` when it is empty or gone.
fn read(work: &Path, vessel_run: VesselRunId, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
    let failed = |errno: Errno| format!("it cannot be read: {errno}");
    let directory = open_directory(work).map_err(failed)?;
    // A pipe without a writer must not block the worker.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened =
        rustix::fs::openat(&directory, response_file_name(vessel_run), flags, Mode::empty());
    let file = match opened {
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err("it is a symbolic link, which is not followed".to_owned()),
        opened => opened.map_err(failed)?,
    };
    let found = rustix::fs::fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err("it is no regular file".to_owned());
    }
    // A hard link may lead to a file that the vessel itself cannot read.
    let owner = rustix::fs::fstat(&directory).map_err(failed)?.st_uid;
    if found.st_uid != owner {
        return Err(format!("it belongs to the user {}, not to the vessel's", found.st_uid));
    }
    // The response has one reader. Most directories hold nothing but parameter files then, and are removed
    // without a look at them.
    let _ = rustix::fs::unlinkat(&directory, response_file_name(vessel_run), AtFlags::empty());
    let mut bytes = Vec::new();
    let read = File::from(file).take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| format!("it cannot be read: {error}"))?;
    Ok((!bytes.is_empty()).then_some(bytes))
}
