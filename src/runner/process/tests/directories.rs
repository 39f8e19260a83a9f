//! Work directories: changes that vessels make to them, and their removal.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use super::*;

#[test]
fn parameter_files_replace_whatever_has_their_names() {
    let mut fixture = Fixture::new(GRACE);
    fixture.request = Request { headers: Some(b"{\"A\":[]}".to_vec()), body: b"body".to_vec() };
    let (headers, body) = parameter_file_names(fixture.run);
    let script = format!("cat {headers} {body}; stat -c ' %a %a' {headers} {body} | tr -d '\\n'");
    let expected = "{\"A\":[]}body 600 600 600 600";
    assert_eq!(fixture.script(&script).1, expected);
    let victim = fixture.file("victim", b"untouched", 0o644);
    let (headers_path, body_path) = (fixture.work().join(&headers), fixture.work().join(&body));
    for path in [&headers_path, &body_path] {
        fs::remove_file(path).unwrap();
        symlink(&victim, path).unwrap();
    }
    let temporary = format!(".{body}.{}.1.0", fixture.run.vessel_run(0));
    symlink(&victim, fixture.work().join(temporary)).unwrap();
    assert_eq!(fixture.script(&script).1, expected);
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    fs::remove_file(&body_path).unwrap();
    fs::create_dir_all(body_path.join("not/empty")).unwrap();
    fs::set_permissions(fixture.work(), fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(fixture.script(&script).1, expected);
}

#[test]
fn directories_are_removed_with_any_content() {
    let fixture = Fixture::new(GRACE);
    let other = RunIds::after(Some(fixture.run)).next(Timestamp::from_millis(1_700_000_000_001), 2);
    let victim = fixture.root.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "stays").unwrap();
    let fill = |run: RunId| {
        let work = fixture.launcher.directory(run);
        fs::create_dir_all(work.join("locked/inner/deep")).unwrap();
        fs::write(work.join("locked/inner/file"), "x").unwrap();
        symlink(&victim, work.join("link")).unwrap();
        symlink(&victim, work.join("locked/link")).unwrap();
        for (path, mode) in [("locked/inner", 0o000), ("locked", 0o500), ("", 0o1500)] {
            fs::set_permissions(work.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    fill(fixture.run);
    fill(other);
    let foreign = fixture.root.path().join("work/not-a-run");
    fs::create_dir(&foreign).unwrap();
    fixture.launcher.sweep_directories(&|run| run != fixture.run);
    assert!(fixture.launcher.has_directory(fixture.run) && foreign.is_dir());
    assert!(!fixture.launcher.has_directory(other));
    fixture.launcher.wipe_directory(fixture.run);
    fixture.launcher.wipe_directory(fixture.run);
    assert!(!fixture.launcher.has_directory(fixture.run));
    assert_eq!(fs::read(victim.join("file")).unwrap(), b"stays");
}

#[test]
fn directories_are_removed_with_any_state_of_the_parameter_files() {
    let fixture = Fixture::new(GRACE);
    let (headers, body) = parameter_file_names(fixture.run);
    let victim = fixture.root.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join(&body), "stays").unwrap();
    let made = |name: &str| fs::write(fixture.work().join(name), "as made").unwrap();
    let turned: [&dyn Fn(); 4] = [
        &|| (),
        &|| [&headers, &body].into_iter().for_each(|name| made(name)),
        &|| fs::create_dir_all(fixture.work().join(&body).join("not/empty")).unwrap(),
        &|| symlink(victim.join(&body), fixture.work().join(&headers)).unwrap(),
    ];
    for turn in turned {
        fs::create_dir(fixture.work()).unwrap();
        turn();
        fixture.launcher.wipe_directory(fixture.run);
        assert!(!fixture.work().exists());
    }
    symlink(&victim, fixture.work()).unwrap();
    fixture.launcher.wipe_directory(fixture.run);
    assert!(fs::symlink_metadata(fixture.work()).is_err());
    assert_eq!(fs::read(victim.join(&body)).unwrap(), b"stays");
}

#[test]
fn a_tree_deeper_than_any_path_is_removed() {
    let fixture = Fixture::new(GRACE);
    fs::create_dir(fixture.work()).unwrap();
    // Deeper than PATH_MAX and than the usual limit of descriptors allow.
    let mut at = OwnedFd::from(fs::File::open(fixture.work()).unwrap());
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&at, "deeper", rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "deeper", OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    }
    fixture.launcher.wipe_directory(fixture.run);
    assert!(!fixture.work().exists());
}
