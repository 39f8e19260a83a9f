//! The data directory: its owner, its file system, its free space, and the speed of a sync.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{StatVfs, statvfs};

use super::mounts::{Mount, Mounts};
use crate::config::Settings;
use crate::model::finding::Finding;
use crate::runner::user;

/// Writes that are synced to measure the disk. The median counts.
const SYNC_SAMPLES: usize = 9;

/// A slower sync delays every accept noticeably.
const SYNC_SLOW: Duration = Duration::from_millis(50);

const ACCESS: &str = "data-dir";
const FILE_SYSTEM: &str = "file-system";
const SPACE: &str = "space";
const SYNC: &str = "sync";
/// File systems in memory, which a boot empties.
const VOLATILE: [&str; 2] = ["tmpfs", "ramfs"];
/// File systems of other machines or systems, whose locks and syncs vary.
const FOREIGN: [&str; 14] = [
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "virtiofs", "vboxsf", "fuseblk",
    "exfat", "vfat", "prl_fs",
];
/// Options that let a disk reorder synced writes.
const WITHOUT_BARRIERS: [&str; 2] = ["nobarrier", "barrier=0"];

/// The checks of the directories in `settings`.
pub(super) fn examine(settings: &Settings, mounts: &Mounts) -> Vec<Finding> {
    let data_dir = &settings.data_dir;
    let found = match fs::metadata(data_dir) {
        Ok(found) => found,
        Err(error) => {
            let what = format!("{}: {error}", data_dir.display());
            let remedy = "name the right one with --data-dir; a first start makes it";
            return vec![Finding::problem(ACCESS, what, remedy)];
        }
    };
    let is_passable = !settings.allowed_users.is_empty();
    let owner = (found.uid(), rustix::process::geteuid().as_raw());
    let mut findings = vec![access(data_dir, found.mode() & 0o777, owner, is_passable)];
    findings.extend(mounts.of(data_dir).map(|mount| file_system(data_dir, mount)));
    let work = mounts.of(&settings.work_dir).filter(|mount| mount.has("noexec"));
    findings.extend(work.map(|_| no_programs(&settings.work_dir)));
    match statvfs(data_dir) {
        Ok(stat) => findings.push(space(&stat, settings.min_free_bytes, stored_bytes(data_dir))),
        Err(error) => findings.push(Finding::problem(SPACE, error.to_string(), LOOK_AT_DISK)),
    }
    findings.push(sync(samples(data_dir)));
    findings
}

const LOOK_AT_DISK: &str = "look at the disk: dmesg, smartctl";

/// The name of the owner of `path`, when that is another user.
pub(super) fn other_owner(path: &Path) -> Option<String> {
    let owner = fs::metadata(path).ok()?.uid();
    (owner != rustix::process::geteuid().as_raw()).then(|| name_of(owner))
}

/// A problem when others than the server's user may write to `path`, or own it: they could exchange what is
/// in it.
pub(super) fn writable_by_others(check: &'static str, path: &Path) -> Option<Finding> {
    let found = fs::metadata(path).ok()?;
    let owner = (found.uid(), rustix::process::geteuid().as_raw());
    is_writable_by_others(found.mode(), owner).then(|| {
        let shown = path.display();
        let what = format!("{shown}: other users could exchange what is installed there");
        let remedy = format!("chown {} {shown} && chmod go-w {shown}", name_of(owner.1));
        Finding::problem(check, what, remedy)
    })
}

/// `owner`: the user ids of the directory and of this process. root looks at a server of another user.
fn is_writable_by_others(mode: u32, (theirs, ours): (u32, u32)) -> bool {
    mode & 0o022 != 0 || theirs != ours && ours != 0
}

fn name_of(uid: u32) -> String {
    user::name_of(uid).unwrap_or_else(|| uid.to_string())
}

/// `owner`: the user ids of the directory and of this process.
fn access(path: &Path, mode: u32, owner: (u32, u32), is_passable: bool) -> Finding {
    let shown = path.display();
    let (theirs, ours) = owner;
    if theirs != ours && ours != 0 {
        let what = format!("{shown} belongs to {}, not to {}", name_of(theirs), name_of(ours));
        return Finding::problem(ACCESS, what, format!("chown -R {} {shown}", name_of(ours)));
    }
    let expected = if is_passable { 0o711 } else { 0o700 };
    if mode & 0o777 & !expected != 0 {
        let what = format!(
            "{shown} has mode {mode:04o}: others may look at, or into, what is private (tokens, \
             payloads)"
        );
        return Finding::problem(ACCESS, what, format!("chmod {expected:04o} {shown}"));
    }
    Finding::ok(ACCESS, format!("{shown}, {}'s alone", name_of(theirs)))
}

fn file_system(path: &Path, mount: &Mount) -> Finding {
    let Mount { kind, point, .. } = mount;
    let on = format!("{} is on {kind} ({})", path.display(), point.display());
    if mount.is_read_only() {
        let remedy = "mount it for writing; a disk that has failed is remounted read-only: dmesg";
        return Finding::problem(FILE_SYSTEM, format!("{on}, which is read-only"), remedy);
    }
    if VOLATILE.contains(&kind.as_str()) {
        let what = format!("{on}, in memory: the next boot takes every run and webhook");
        return Finding::problem(FILE_SYSTEM, what, "set `data_dir` to a place on a disk");
    }
    if kind == "overlay" {
        let what = format!("{on}, a container's own layer: it goes when the container goes");
        return Finding::problem(FILE_SYSTEM, what, format!("-v boathook:{}", path.display()));
    }
    if FOREIGN.contains(&kind.as_str()) || kind.starts_with("fuse.") {
        let what = format!("{on}, whose locks and syncs may not be what a database needs");
        return Finding::warning(FILE_SYSTEM, what, "set `data_dir` to a local disk");
    }
    if let Some(option) = WITHOUT_BARRIERS.iter().find(|option| mount.has(option)) {
        let what = format!("{on} with {option}: a power cut may take what was acknowledged");
        let remedy = "mount it without, unless the disk's cache has a battery of its own";
        return Finding::warning(FILE_SYSTEM, what, remedy);
    }
    Finding::ok(FILE_SYSTEM, format!("{kind} ({})", point.display()))
}

fn no_programs(work_dir: &Path) -> Finding {
    let what = format!(
        "{} is mounted noexec: programs that a run brings into its work directory do not start",
        work_dir.display()
    );
    Finding::warning(FILE_SYSTEM, what, "set `work_dir` to another place, or mount it with exec")
}

fn space(stat: &StatVfs, floor: u64, stored: u64) -> Finding {
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let (shown, least, stored) = (rounded(free), rounded(floor), rounded(stored));
    let remedy = "make room; or lower `min_free_bytes`, though a full disk ends the server";
    // Some file systems report neither their size nor their number of files.
    if stat.f_blocks > 0 && free < floor {
        let what = format!("{shown} free, and below {least} (`min_free_bytes`) senders get 503");
        return Finding::problem(SPACE, what, remedy);
    }
    if stat.f_files > 0 && stat.f_favail < 1000 {
        let what = format!("room for {} more files (inodes)", stat.f_favail);
        return Finding::problem(
            SPACE,
            what,
            "remove small files; df -i shows where there is room",
        );
    }
    if stat.f_blocks > 0 && free < floor.saturating_mul(2) {
        let what = format!("{shown} free; below {least} (`min_free_bytes`) senders get 503");
        return Finding::warning(SPACE, what, remedy);
    }
    Finding::ok(SPACE, format!("{shown} free, {stored} taken by the database"))
}

/// Bytes that the database's directory takes on the disk.
fn stored_bytes(data_dir: &Path) -> u64 {
    const BLOCK_BYTES: u64 = 512;
    let entries = fs::read_dir(data_dir.join("db")).into_iter().flatten().flatten();
    let blocks = entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.blocks());
    blocks.sum::<u64>() * BLOCK_BYTES
}

/// The durations of a few small synced writes.
fn samples(directory: &Path) -> io::Result<Vec<Duration>> {
    let mut file = tempfile::tempfile_in(directory)?;
    let times = (0..SYNC_SAMPLES).map(|_| {
        let began_at = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        Ok(began_at.elapsed())
    });
    times.collect()
}

fn sync(samples: io::Result<Vec<Duration>>) -> Finding {
    let mut samples = match samples {
        Ok(samples) => samples,
        Err(error) => {
            let what = format!("nothing can be written and synced: {error}");
            return Finding::problem(SYNC, what, LOOK_AT_DISK);
        }
    };
    samples.sort();
    let median = samples.get(samples.len() / 2).copied().unwrap_or_default();
    let slowest = samples.last().copied().unwrap_or_default();
    let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let what =
        format!("{} (the slowest of {}: {})", millis(median), samples.len(), millis(slowest));
    if median > SYNC_SLOW {
        let what = format!("{what}: every accept waits for one");
        let remedy = "use a faster disk, or find out what else keeps this one busy (iostat -x 1)";
        return Finding::warning(SYNC, what, remedy);
    }
    Finding::ok(SYNC, what)
}

/// A size with one decimal, for people.
pub(super) fn rounded(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::finding::Level;

    #[test]
    fn directories_that_other_users_may_read_are_problems() {
        let level =
            |mode, owner, is_passable| access(Path::new("/x"), mode, owner, is_passable).level;
        assert_eq!(level(0o700, (7, 7), false), Level::Ok);
        assert_eq!(level(0o700, (7, 0), false), Level::Ok);
        assert_eq!(level(0o711, (7, 7), true), Level::Ok);
        assert_eq!(level(0o711, (7, 7), false), Level::Problem);
        assert_eq!(level(0o750, (7, 7), true), Level::Problem);
        assert_eq!(level(0o700, (7, 8), false), Level::Problem);
    }

    #[test]
    fn a_directory_of_packages_is_the_servers_alone() {
        for (mode, owner, expected) in [
            (0o700, (7, 7), false),
            (0o711, (7, 7), false),
            (0o755, (7, 0), false),
            (0o770, (7, 7), true),
            (0o1777, (7, 7), true),
            (0o700, (7, 8), true),
        ] {
            assert_eq!(is_writable_by_others(mode, owner), expected, "{mode:o} {owner:?}");
        }
    }

    #[test]
    fn volatile_and_foreign_file_systems_are_found() {
        let level = |kind: &str, options: &str| {
            let mount = Mount {
                root: PathBuf::from("/"),
                point: PathBuf::from("/"),
                kind: kind.to_owned(),
                options: options.to_owned(),
            };
            file_system(Path::new("/x"), &mount).level
        };
        for kind in ["ext4", "xfs", "btrfs", "zfs"] {
            assert_eq!(level(kind, "rw,relatime"), Level::Ok, "{kind}");
        }
        for kind in ["nfs4", "cifs", "fuse.sshfs", "9p"] {
            assert_eq!(level(kind, "rw"), Level::Warning, "{kind}");
        }
        for (kind, options) in [("tmpfs", "rw"), ("overlay", "rw"), ("ext4", "ro,rw")] {
            assert_eq!(level(kind, options), Level::Problem, "{kind}");
        }
        assert_eq!(level("ext4", "rw,nobarrier"), Level::Warning);
    }

    #[test]
    fn free_space_is_compared_with_min_free_bytes() {
        let level = |free_blocks, f_favail| {
            let stat = StatVfs {
                f_bsize: 4096,
                f_frsize: 4096,
                f_blocks: 1 << 20,
                f_bfree: free_blocks,
                f_bavail: free_blocks,
                f_files: 10_000,
                f_ffree: f_favail,
                f_favail,
                f_fsid: 0,
                f_flag: rustix::fs::StatVfsMountFlags::empty(),
                f_namemax: 255,
            };
            space(&stat, 4096 * 100, 0).level
        };
        assert_eq!(level(200, 5000), Level::Ok);
        assert_eq!(level(199, 5000), Level::Warning);
        assert_eq!(level(99, 5000), Level::Problem);
        assert_eq!(level(200, 10), Level::Problem);
    }

    #[test]
    fn the_median_of_the_syncs_counts() {
        let of = |millis: [u64; 3]| sync(Ok(millis.map(Duration::from_millis).to_vec()));
        assert_eq!(of([1, 900, 2]).level, Level::Ok);
        assert_eq!(of([60, 1, 70]).level, Level::Warning);
        assert_eq!(of([900, 1, 2]).what, "2.0 ms (the slowest of 3: 900.0 ms)");
        assert_eq!(sync(Err(io::ErrorKind::StorageFull.into())).level, Level::Problem);
        assert!(samples(Path::new("/no/such/directory")).is_err());
    }
}
