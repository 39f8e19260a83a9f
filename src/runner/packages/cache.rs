//! The directory of installed packages: an environment for each set of needs, which the runs that have
//! these needs share. A marker beside an environment says that it is whole. The marker is durable after
//! everything in the environment, and goes before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::plan::is_key;
use super::size::tree_bytes;
use crate::config::Settings;
use crate::model::random::{Random, SystemRandom};
use crate::os::{lock_file, private_file};
use crate::runner::process::open_to_others;
use crate::runner::shortage::{StartError, lack_of_room};
use crate::runner::tree::remove_tree;
use crate::runner::workdir::take_back;

/// Environments that are kept: each has thousands of files.
const ENVIRONMENTS_MAX: usize = 500;
/// Bytes of a marker that are read.
const MARKER_BYTES_MAX: u64 = 4096;
/// End of the name of a marker.
const MARKER: &str = ".json";
/// The file whose lock the server holds.
const LOCK_FILE: &str = "boathook.lock";
/// How long a server waits for one that is ending.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// The file with the salt of the keys.
const SALT_FILE: &str = "salt";
const SALT_BYTES: usize = 32;
/// How long a vessel waits for another one's installation before it looks for its own stop and cutoff.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub struct PackageCache {
    directory: PathBuf,
    bytes_max: u64,
    /// Bytes of the file system that stay free.
    min_free_bytes: u64,
    /// Whether other users than the server's own have environments.
    has_other_users: bool,
    /// Random bytes of the keys. Empty where nothing is installed.
    salt: Vec<u8>,
    /// Held as long as the server runs.
    _lock: Option<File>,
    uses: Mutex<HashMap<String, Use>>,
    /// Wakes vessels that wait for an installation.
    changed: Condvar,
}

/// What goes on with an environment.
#[derive(Debug)]
enum Use {
    Installing(Attempt),
    Removing,
    /// So many vessels use it.
    Used(usize),
}

/// An installation. Holds why it has failed, for the vessels that have waited for it.
type Attempt = Arc<OnceLock<StartError>>;

/// What a vessel finds.
pub(super) enum Claim<'c> {
    Ready(Held<'c>),
    /// The vessel is the one that installs.
    Install(Installation<'c>),
    /// The installation that the vessel has waited for has failed.
    Failed(StartError),
    /// The vessel's stop or cutoff came first.
    Interrupted,
}

/// An environment in use. It stays until this is dropped.
#[derive(Debug)]
pub(in crate::runner) struct Held<'c> {
    cache: &'c PackageCache,
    key: String,
}

/// An environment that is being installed. Dropped without [`complete`](Self::complete), all of it goes.
pub(super) struct Installation<'c> {
    cache: &'c PackageCache,
    key: String,
    attempt: Attempt,
    is_complete: bool,
}

/// The content of a marker. A use sets the time of its last change.
#[derive(Serialize, Deserialize)]
struct Marker {
    bytes: u64,
    /// For a person.
    packages: String,
}

/// A whole environment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: String,
    bytes: u64,
    used_at: SystemTime,
}

/// How much is installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    pub environments: usize,
    pub bytes: u64,
}

impl PackageCache {
    /// The cache as it is, for a look.
    pub fn new(settings: &Settings) -> Self {
        let directory = settings.packages_dir.clone();
        let mut salt = Vec::new();
        if let Ok(file) = File::open(directory.join(SALT_FILE)) {
            // Without it nothing is found.
            let _ = file.take(SALT_BYTES as u64).read_to_end(&mut salt);
        }
        Self {
            directory,
            bytes_max: settings.max_packages_bytes,
            min_free_bytes: settings.min_free_bytes,
            has_other_users: !settings.allowed_users.is_empty(),
            salt,
            _lock: None,
            uses: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The cache of a server, which makes and locks the directory if the operator lets packages be installed.
    ///
    /// # Errors
    /// When it cannot, or another server has it.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let mut cache = Self::new(settings);
        if !settings.install_packages {
            return Ok(cache);
        }
        let directory = &cache.directory;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        if cache.has_other_users {
            open_to_others(directory, "packages_dir")?;
        }
        let locked = lock_file::lock(&directory.join(LOCK_FILE), LOCK_WAIT)?;
        let lock = locked.map_err(|holder| {
            io::Error::other(format!(
                "packages_dir: {} is in use by another server (process {holder}); give each server its own",
                directory.display()
            ))
        })?;
        if cache.salt.len() != SALT_BYTES {
            let mut salt = vec![0; SALT_BYTES];
            SystemRandom.fill(&mut salt).map_err(io::Error::other)?;
            private_file::write(&directory.join(SALT_FILE), &salt)?;
            cache.salt = salt;
        }
        cache._lock = Some(lock);
        Ok(cache)
    }

    /// Random bytes that only the server reads, for keys.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// What the file system of the environments lacks for an installation, for a person.
    pub(in crate::runner) fn lack_of_room(&self) -> Option<String> {
        lack_of_room(&self.directory, "packages_dir", 0)
    }

    /// Where the environment `key` is, or will be.
    pub fn place(&self, key: &str) -> PathBuf {
        self.directory.join(key)
    }

    /// Whether the environment `key` is whole.
    pub fn is_complete(&self, key: &str) -> bool {
        self.read_marker(key).is_some() && self.place(key).is_dir()
    }

    /// How much is installed.
    pub fn installed(&self) -> Installed {
        let entries = self.scan().entries;
        let bytes = entries.iter().map(|entry| entry.bytes).sum();
        Installed { environments: entries.len(), bytes }
    }

    /// The environment `key`, or the right to install it. Waits while another vessel installs it, unless
    /// the vessel `is_over`; `on_wait` is called once before that. An installation that fails meanwhile has
    /// failed for this vessel as well.
    pub(super) fn claim(
        &self,
        key: &str,
        is_over: &dyn Fn() -> bool,
        on_wait: &dyn Fn(),
    ) -> Claim<'_> {
        let mut awaited: Option<Attempt> = None;
        let mut uses = self.lock();
        loop {
            if let Some(error) = awaited.as_ref().and_then(|attempt| attempt.get()) {
                return Claim::Failed(error.clone());
            }
            match uses.get_mut(key) {
                Some(Use::Used(count)) => {
                    *count += 1;
                    return Claim::Ready(self.held(key));
                }
                None if self.is_complete(key) => {
                    uses.insert(key.to_owned(), Use::Used(1));
                    return Claim::Ready(self.held(key));
                }
                None => {
                    let (key, attempt) = (key.to_owned(), Attempt::default());
                    uses.insert(key.clone(), Use::Installing(Arc::clone(&attempt)));
                    let cache = self;
                    return Claim::Install(Installation {
                        cache,
                        key,
                        attempt,
                        is_complete: false,
                    });
                }
                Some(Use::Installing(_) | Use::Removing) if is_over() => return Claim::Interrupted,
                Some(Use::Installing(attempt)) => {
                    if awaited.is_none() {
                        on_wait();
                    }
                    awaited = Some(Arc::clone(attempt));
                }
                Some(Use::Removing) => {}
            }
            let waited = self.changed.wait_timeout(uses, LOOK_EVERY);
            uses = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The environment `key`, whose use is counted already.
    fn held(&self, key: &str) -> Held<'_> {
        let now = SystemTime::now();
        let opened = File::options().write(true).open(self.marker(key));
        if let Err(error) = opened.and_then(|marker| marker.set_modified(now)) {
            log::warn!(key, error:%; "the use of installed packages could not be noted");
        }
        Held { cache: self, key: key.to_owned() }
    }

    /// Removes what an interrupted installation has left, and the environments that were used least
    /// recently, until the others fit.
    fn make_room(&self) {
        // 1. Decide, and take the markers away: without them no environment counts as whole.
        let mut uses = self.lock();
        let scan = self.scan();
        let kept = scan.entries.iter().map(|entry| entry.bytes).sum();
        let free = rustix::fs::statvfs(&self.directory).ok();
        let free = free.map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        let budget = budget(self.bytes_max, kept, free, self.min_free_bytes);
        let idle = |key: &str| !uses.contains_key(key);
        let partial = scan.partial.into_iter().filter(|key| idle(key));
        let going = evictions(scan.entries, &idle, budget).into_iter().chain(partial);
        let going: Vec<String> = going.filter(|key| self.remove_marker(key)).collect();
        uses.extend(going.iter().map(|key| (key.clone(), Use::Removing)));
        drop(uses);
        // 2. Remove them, which takes a while.
        for key in &going {
            self.wipe(key);
        }
        let mut uses = self.lock();
        going.iter().for_each(|key| {
            uses.remove(key);
        });
        drop(uses);
        self.changed.notify_all();
    }

    /// Whether the environment `key` has no marker any more.
    fn remove_marker(&self, key: &str) -> bool {
        let removed = private_file::absent_is_fine(private_file::remove(&self.marker(key)));
        let removed = removed.inspect_err(|error| {
            log::warn!(key, error:%; "installed packages could not be removed");
        });
        removed.is_ok()
    }

    /// Removes an environment that is not whole. Its marker may have been written all the same.
    fn discard(&self, key: &str) {
        if self.remove_marker(key) {
            self.wipe(key);
        }
    }

    fn wipe(&self, key: &str) {
        let place = self.place(key);
        take_back(&place);
        if let Err(error) = remove_tree(&place) {
            log::warn!(path:% = place.display(), error:%; "installed packages could not be removed");
        }
    }

    /// What the directory holds.
    fn scan(&self) -> Scan {
        let (mut markers, mut places) = (BTreeMap::new(), BTreeSet::new());
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            match name.strip_suffix(MARKER) {
                Some(key) if is_key(key) => {
                    markers.extend(self.read_marker(key).map(|entry| (key.to_owned(), entry)));
                }
                None if is_key(&name) => {
                    places.insert(name);
                }
                _ => {}
            }
        }
        let halves = places.iter().filter(|key| !markers.contains_key(*key));
        let halves = halves.chain(markers.keys().filter(|key| !places.contains(*key)));
        let partial = halves.cloned().collect();
        let entries = markers.into_values().filter(|entry| places.contains(&entry.key)).collect();
        Scan { entries, partial }
    }

    fn read_marker(&self, key: &str) -> Option<Entry> {
        let file = File::open(self.marker(key)).ok()?;
        let found = file.metadata().ok()?;
        let (is_small, used_at) = (found.len() <= MARKER_BYTES_MAX, found.modified().ok()?);
        let marker: Marker = is_small.then(|| serde_json::from_reader(file).ok()).flatten()?;
        Some(Entry { key: key.to_owned(), bytes: marker.bytes, used_at })
    }

    fn marker(&self, key: &str) -> PathBuf {
        self.directory.join(format!("{key}{MARKER}"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, key: &str) {
        let mut uses = self.lock();
        match uses.get_mut(key) {
            Some(Use::Used(count)) if *count > 1 => *count -= 1,
            _ => {
                uses.remove(key);
            }
        }
        drop(uses);
        self.changed.notify_all();
    }
}

/// See [`PackageCache::scan`].
struct Scan {
    entries: Vec<Entry>,
    /// Environments without a marker, and markers without an environment.
    partial: Vec<String>,
}

impl<'c> Installation<'c> {
    /// Makes the empty directory of the environment, for the server alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self) -> io::Result<PathBuf> {
        let directory = &self.cache.directory;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        if self.cache.has_other_users {
            open_to_others(directory, "packages_dir")?;
        }
        self.cache.make_room();
        let place = self.cache.place(&self.key);
        // A marker without its environment must not make a new one count as whole.
        private_file::absent_is_fine(private_file::remove(&self.cache.marker(&self.key)))?;
        self.cache.wipe(&self.key);
        fs::DirBuilder::new().mode(0o700).create(&place)?;
        Ok(place)
    }

    /// Gives up for `error`, which the vessels that wait get as well. Removes the environment. Where its file
    /// system has no room even then, the machine is at fault.
    pub(in crate::runner) fn fail(self, error: StartError) -> StartError {
        self.cache.discard(&self.key);
        let error = error.with_lack(self.cache.lack_of_room());
        // Set once: this consumes the installation.
        let _ = self.attempt.set(error.clone());
        error
    }

    /// Notes durably that the environment is whole. `packages` names what is in it. `None` when the vessel
    /// `is_over` before.
    ///
    /// # Errors
    /// When that cannot be noted, or there is too much of it.
    pub fn complete(
        mut self,
        packages: &str,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<Held<'c>>, (Self, io::Error)> {
        let cache = self.cache;
        match self.note(packages, is_over) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err((self, error)),
        }
        self.is_complete = true;
        cache.lock().insert(self.key.clone(), Use::Used(1));
        cache.changed.notify_all();
        let held = Held { cache, key: self.key.clone() };
        cache.make_room();
        Ok(Some(held))
    }

    /// Writes the marker, after everything in the environment. False when the vessel `is_over` before.
    fn note(&self, packages: &str, is_over: &dyn Fn() -> bool) -> io::Result<bool> {
        let cache = self.cache;
        let Some(bytes) = tree_bytes(&cache.place(&self.key), is_over)? else { return Ok(false) };
        let packages = packages.chars().take(500).collect();
        let marker = serde_json::to_vec(&Marker { bytes, packages }).map_err(io::Error::other)?;
        rustix::fs::syncfs(File::open(&cache.directory)?)?;
        private_file::write(&cache.marker(&self.key), &marker)?;
        Ok(true)
    }
}

impl Drop for Installation<'_> {
    fn drop(&mut self) {
        if !self.is_complete {
            self.cache.discard(&self.key);
            self.cache.release(&self.key);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.cache.release(&self.key);
    }
}

/// Bytes that environments may have: `bytes_max`, or less where the file system would have fewer free
/// bytes than `min_free`. They have `kept` bytes now.
fn budget(bytes_max: u64, kept: u64, free: Option<u64>, min_free: u64) -> u64 {
    let room = free.map(|free| kept.saturating_add(free).saturating_sub(min_free));
    room.map_or(bytes_max, |room| room.min(bytes_max))
}

/// The keys of the environments that go so that the others have at most `budget` bytes, the one that was
/// used least recently first. Only what is `idle` goes.
fn evictions(mut entries: Vec<Entry>, idle: &dyn Fn(&str) -> bool, budget: u64) -> Vec<String> {
    let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let mut count = entries.len();
    entries.sort_by_key(|entry| entry.used_at);
    let mut going = Vec::new();
    for entry in entries {
        if bytes <= budget && count <= ENVIRONMENTS_MAX {
            break;
        }
        if idle(&entry.key) {
            bytes = bytes.saturating_sub(entry.bytes);
            count -= 1;
            going.push(entry.key);
        }
    }
    going
}

#[cfg(test)]
mod tests;
