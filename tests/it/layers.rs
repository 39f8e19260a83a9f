//! The direction of imports, as ARCHITECTURE.md draws it.

use std::fs;
use std::path::{Path, PathBuf};

/// What a layer may name below `crate::`, besides itself and [`FOUNDATION`].
const LAYERS: [(&str, &[&str]); 17] = [
    ("domain", &[]),
    ("archive", &[]),
    ("admission", &[]),
    ("queue", &[]),
    ("fleet_file", &[]),
    ("storage", &["archive", "fatal"]),
    ("launch", &["memory"]),
    (
        "engine",
        &[
            "admission",
            "archive",
            "config",
            "fatal",
            "fleet_file",
            "launch",
            "queue",
            "secrets",
            "storage",
        ],
    ),
    ("gate", &["logging"]),
    ("notify", &["engine", "launch", "secrets", "trust"]),
    ("doctor", &["admission", "config", "descriptors", "engine", "launch", "notify", "storage"]),
    (
        "http",
        &["admission", "doctor", "engine", "fatal", "fleet_file", "gate", "logging", "notify"],
    ),
    ("config", &[]),
    ("secrets", &[]),
    ("systemd", &[]),
    ("restore", &["archive", "launch", "storage"]),
    (
        "cli",
        &[
            "activation",
            "archive",
            "config",
            "daemon",
            "doctor",
            "fleet_file",
            "restore",
            "terminal",
            "trust",
        ],
    ),
];

/// What everybody may name.
const FOUNDATION: [&str; 7] =
    ["clock", "domain", "duration", "limits", "metrics", "random", "size"];

#[test]
fn imports_point_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (layer, allowed) in LAYERS {
        let mut files = vec![source.join(format!("{layer}.rs"))];
        collect(&source.join(layer), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).expect("a source file");
            for named in text.split("crate::").skip(1) {
                let end = named.find(|it: char| !it.is_alphanumeric() && it != '_');
                let named = &named[..end.unwrap_or(named.len())];
                let is_module = named.starts_with(|it: char| it.is_ascii_lowercase());
                if is_module
                    && named != layer
                    && !FOUNDATION.contains(&named)
                    && !allowed.contains(&named)
                {
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
        ("tiny_http::", "src/listener/server"),
        ("lettre::", "src/notify/mail"),
        ("hmac::", "src/model/mac"),
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
