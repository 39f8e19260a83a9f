//! Environments: installed once, kept while in use, and never taken for whole when they are not.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

const KEY: &str = "00000000000000000000000000000001";
const OTHER: &str = "00000000000000000000000000000002";

fn cache(directory: &Path, bytes_max: u64) -> PackageCache {
    let settings = Settings {
        packages_dir: directory.join("packages"),
        max_packages_bytes: bytes_max,
        min_free_bytes: 0,
        ..Settings::defaults(directory.to_owned())
    };
    PackageCache::new(&settings)
}

fn claim<'c>(cache: &'c PackageCache, key: &str) -> Claim<'c> {
    cache.claim(key, &|| false, &|| {})
}

#[track_caller]
fn install<'c>(cache: &'c PackageCache, key: &str, bytes: usize) -> Held<'c> {
    let Claim::Install(installation) = claim(cache, key) else { panic!("{key} is there") };
    let place = installation.begin().unwrap();
    fs::write(place.join("file"), vec![1; bytes]).unwrap();
    finish(installation)
}

#[track_caller]
fn finish(installation: Installation<'_>) -> Held<'_> {
    match installation.complete("x", &|| false) {
        Ok(held) => held.expect("nothing interrupts it"),
        Err((_, error)) => panic!("{error}"),
    }
}

#[test]
fn an_environment_is_installed_once_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let first = cache(directory.path(), u64::MAX);
    drop(install(&first, KEY, 10));
    assert!(matches!(claim(&first, KEY), Claim::Ready(_)));
    let next = cache(directory.path(), u64::MAX);
    assert!(matches!(claim(&next, KEY), Claim::Ready(_)));
    assert_eq!(next.installed().environments, 1);
}

#[test]
fn what_an_interrupted_installation_leaves_is_not_whole_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let first = cache(directory.path(), u64::MAX);
    let Claim::Install(installation) = claim(&first, KEY) else { panic!() };
    let place = installation.begin().unwrap();
    fs::write(place.join("half"), "x").unwrap();
    // The server ends without a word.
    std::mem::forget(installation);
    let next = cache(directory.path(), u64::MAX);
    assert_eq!(next.installed(), Installed::default());
    // Another installation removes it as well.
    drop(install(&next, OTHER, 10));
    assert!(!place.exists());
    drop(install(&next, KEY, 10));
    assert!(place.join("file").exists() && !place.join("half").exists());
    // One that fails leaves nothing.
    fs::remove_file(next.marker(KEY)).unwrap();
    let Claim::Install(installation) = claim(&next, KEY) else { panic!() };
    installation.begin().unwrap();
    drop(installation);
    assert!(!place.exists());
    // A marker that has outlived its environment counts for nothing.
    fs::write(next.marker(KEY), r#"{"bytes": 1, "packages": ""}"#).unwrap();
    let Claim::Install(installation) = claim(&next, KEY) else { panic!() };
    installation.begin().unwrap();
    assert!(!next.marker(KEY).exists());
}

#[test]
fn vessels_with_the_same_needs_wait_for_one_installation() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path(), u64::MAX);
    let (installed, waited) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let on_wait = || {
                    waited.fetch_add(1, Ordering::SeqCst);
                };
                let held = match cache.claim(KEY, &|| false, &on_wait) {
                    Claim::Ready(held) => held,
                    Claim::Interrupted | Claim::Failed(_) => panic!("nothing interrupts it"),
                    Claim::Install(installation) => {
                        installed.fetch_add(1, Ordering::SeqCst);
                        installation.begin().unwrap();
                        while waited.load(Ordering::SeqCst) < 3 {
                            std::thread::yield_now();
                        }
                        finish(installation)
                    }
                };
                assert!(cache.place(&held.key).is_dir());
            });
        }
    });
    assert_eq!(installed.load(Ordering::SeqCst), 1);
}

#[test]
fn a_vessel_that_is_over_waits_no_longer() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path(), u64::MAX);
    let Claim::Install(installation) = claim(&cache, KEY) else { panic!() };
    let is_over = AtomicBool::new(false);
    let claimed = cache.claim(KEY, &|| is_over.load(Ordering::SeqCst), &|| {
        is_over.store(true, Ordering::SeqCst);
    });
    assert!(matches!(claimed, Claim::Interrupted));
    drop(installation);
    assert!(matches!(claim(&cache, KEY), Claim::Install(_)));
}

#[test]
fn an_installation_that_fails_has_failed_for_all_that_waited() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path(), u64::MAX);
    let (installed, waited) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let reason = || StartError::from("the index is away".to_owned());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let on_wait = || {
                    waited.fetch_add(1, Ordering::SeqCst);
                };
                match cache.claim(KEY, &|| false, &on_wait) {
                    Claim::Install(installation) => {
                        installed.fetch_add(1, Ordering::SeqCst);
                        let place = installation.begin().unwrap();
                        while waited.load(Ordering::SeqCst) < 3 {
                            std::thread::yield_now();
                        }
                        assert_eq!(installation.fail(reason()), reason());
                        assert!(!place.exists());
                    }
                    Claim::Failed(error) => assert_eq!(error, reason()),
                    Claim::Ready(_) | Claim::Interrupted => panic!("it is there"),
                }
            });
        }
    });
    assert_eq!(installed.load(Ordering::SeqCst), 1);
    // A later vessel tries again.
    assert!(matches!(claim(&cache, KEY), Claim::Install(_)));
}

#[test]
fn a_removal_is_waited_for_without_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path(), u64::MAX);
    cache.lock().insert(KEY.to_owned(), Use::Removing);
    let looks = AtomicUsize::new(0);
    let is_over = || looks.fetch_add(1, Ordering::SeqCst) > 1;
    let claimed = cache.claim(KEY, &is_over, &|| panic!("no other vessel installs it"));
    assert!(matches!(claimed, Claim::Interrupted));
}

#[test]
fn a_marker_goes_with_an_installation_that_is_not_complete() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path(), u64::MAX);
    let Claim::Install(installation) = claim(&cache, KEY) else { panic!() };
    let place = installation.begin().unwrap();
    fs::write(cache.marker(KEY), r#"{"bytes": 1, "packages": ""}"#).unwrap();
    drop(installation);
    assert!(!cache.marker(KEY).exists() && !place.exists());
    // A stop while the size is counted.
    let Claim::Install(installation) = claim(&cache, KEY) else { panic!() };
    installation.begin().unwrap();
    assert!(matches!(installation.complete("x", &|| true), Ok(None)));
    assert!(!cache.marker(KEY).exists() && !place.exists());
}

#[test]
fn one_server_has_the_directory_and_its_salt() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        packages_dir: directory.path().join("packages"),
        install_packages: true,
        ..Settings::defaults(directory.path().to_owned())
    };
    let first = PackageCache::open(&settings).unwrap();
    assert_eq!(first.salt().len(), SALT_BYTES);
    assert_eq!(PackageCache::new(&settings).salt(), first.salt());
    let error = PackageCache::open(&settings).unwrap_err().to_string();
    assert!(error.contains("is in use by another server"), "{error}");
    let salt = first.salt().to_vec();
    drop(first);
    assert_eq!(PackageCache::open(&settings).unwrap().salt(), salt);
}

#[test]
fn what_is_used_stays_and_the_rest_goes_by_its_last_use() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path(), 1);
    let held = install(&cache, KEY, 10_000);
    drop(install(&cache, OTHER, 10_000));
    assert!(cache.is_complete(KEY), "it is in use");
    // The next installation makes room.
    let third = "00000000000000000000000000000003";
    drop(install(&cache, third, 10));
    assert!(!cache.is_complete(OTHER) && !cache.place(OTHER).exists());
    drop(held);
    drop(install(&cache, OTHER, 10));
    assert!(!cache.place(KEY).exists());

    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let entry = |key: &str, bytes, used| Entry { key: key.to_owned(), bytes, used_at: at(used) };
    let entries = vec![entry("new", 10, 3), entry("old", 10, 1), entry("middle", 10, 2)];
    let evicted = |idle: &dyn Fn(&str) -> bool, budget| evictions(entries.clone(), idle, budget);
    assert!(evicted(&|_| true, 30).is_empty());
    assert_eq!(evicted(&|_| true, 29), ["old"]);
    assert_eq!(evicted(&|_| true, 10), ["old", "middle"]);
    assert_eq!(evicted(&|key| key != "old", 20), ["middle"]);
    assert!(evicted(&|_| false, 0).is_empty());
    let many = (0..ENVIRONMENTS_MAX as u64 + 2).map(|number| entry(&number.to_string(), 0, number));
    assert_eq!(evictions(many.collect(), &|_| true, 0), ["0", "1"]);
}

#[test]
fn a_full_disk_leaves_less_room() {
    assert_eq!(budget(100, 50, None, 0), 100);
    assert_eq!(budget(100, 50, Some(1000), 500), 100);
    assert_eq!(budget(100, 50, Some(20), 30), 40);
    assert_eq!(budget(100, 50, Some(0), 500), 0);
}
