//! The direction of imports, as ARCHITECTURE.md draws it.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, and which others each of them may name.
const ROOMS: [(&str, &[&str]); 13] = [
    ("model", &[]),
    ("os", &["model"]),
    ("config", &["model", "os"]),
    ("scheduler", &["model", "os"]),
    ("store", &["model", "os"]),
    ("runner", &["config", "model", "os"]),
    ("listener", &["config", "model", "os"]),
    ("fleet_file", &["config", "model", "os"]),
    ("engine", &["config", "fleet_file", "model", "os", "runner", "scheduler", "store"]),
    ("notify", &["config", "engine", "model", "os", "runner"]),
    ("diagnostics", &["config", "engine", "listener", "model", "notify", "os", "runner", "store"]),
    (
        "web",
        &["config", "diagnostics", "engine", "fleet_file", "listener", "model", "notify", "os"],
    ),
    (
        "cli",
        &[
            "config",
            "diagnostics",
            "engine",
            "fleet_file",
            "listener",
            "model",
            "notify",
            "os",
            "runner",
            "store",
            "web",
        ],
    ),
];

#[test]
fn imports_point_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (room, allowed) in ROOMS {
        let mut files = Vec::new();
        collect(&source.join(room), &mut files);
        assert!(!files.is_empty(), "there is no room called {room}");
        for file in files {
            let text = fs::read_to_string(&file).expect("a source file");
            for named in text.split("crate::").skip(1) {
                let end = named.find(|it: char| !it.is_alphanumeric() && it != '_');
                let named = &named[..end.unwrap_or(named.len())];
                let is_room = named.starts_with(|it: char| it.is_ascii_lowercase());
                if is_room && named != room && !allowed.contains(&named) {
                    wrong.push(format!("{} names crate::{named}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Only one module knows each of the libraries that everything else is kept from.
#[test]
fn libraries_stay_behind_their_walls() {
    for (library, wall) in [
        ("sled::", "src/store"),
        ("tiny_http::", "src/listener/handlers"),
        ("lettre::", "src/notify/mail"),
        ("hmac::", "src/model/mac"),
        ("use ring::", "src/web/senders/crypto"),
        ("sd_notify::", "src/os/systemd"),
    ] {
        let mut files = Vec::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        for file in files {
            let is_inside = file.to_string_lossy().contains(wall);
            let text = fs::read_to_string(&file).expect("a source file");
            assert!(is_inside || !text.contains(library), "{} names {library}", file.display());
        }
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
