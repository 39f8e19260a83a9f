//! The notices that the package carries of the works linked into the binary.

use std::path::Path;
use std::process::Command;

/// What `packaging/notices` prints.
fn notices() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/notices");
    // The sources of all crates are there, or this test could not have been built.
    let output = Command::new(script).env("CARGO_NET_OFFLINE", "true").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_notices_name_every_linked_work_with_its_licence() {
    let notices = notices();
    let has_section = |owner: &str| notices.lines().any(|line| line.starts_with(owner));
    // The crates by their own list, which stands between the first two empty lines.
    let listed: Vec<&str> = notices.split("\n\n").nth(1).unwrap().lines().collect();
    assert!(listed.len() > 50, "{} crates", listed.len());
    for line in &listed {
        let (name, rest) = line.split_once(' ').unwrap();
        let version = rest.split(' ').next().unwrap();
        let with_file = format!("{name} {version}: ");
        let by_manifest = |line: &str| line == format!("{name} {version}");
        assert!(has_section(&with_file) || notices.lines().any(by_manifest), "{line}");
    }
    // The direct dependencies by the manifest.
    let manifest = include_str!("../../Cargo.toml");
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap().lines();
    for line in dependencies.filter(|line| !line.starts_with('#')) {
        let Some((name, _)) = line.split_once(" = ") else { continue };
        let is_listed = listed.iter().any(|it| it.starts_with(&format!("{name} ")));
        assert!(is_listed, "{name} is not listed");
    }
    // C code, and the standard library.
    for (owner, copyright) in [
        ("tikv-jemalloc-sys ", "Jason Evans"),
        ("ring ", "Brian Smith"),
        ("the Rust standard library of rustc ", "The Rust Project Developers"),
    ] {
        assert!(has_section(owner), "{owner}");
        assert!(notices.contains(copyright), "{copyright}");
    }
    assert!(notices.contains(": jemalloc/COPYING\n"));
}
