//! What the tests share: a server on a data directory of its own, clients for both listeners, and
//! ways to wait. Knows the contract, not the program's insides.

pub mod addresses;
pub mod api;
pub mod browser;
pub mod certificate;
pub mod description;
pub mod disk;
pub mod http;
pub mod journal;
pub mod processes;
pub mod proxy;
pub mod random;
pub mod receiver;
pub mod scrape;
pub mod server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub use api::{Api, Hook};
pub use browser::Browser;
pub use http::{Answer, Connection, assert_error};
pub use journal::Journal;
pub use random::Random;
pub use server::{Server, ServerBuilder};

/// How long a condition may take to come true. Only a failing test ever waits this long.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks again and again until `condition` gives a value; `None` when that takes too long.
pub fn wait_for<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() > give_up {
            return None;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Waits until `condition` holds; fails the test with `what` when it does not.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    assert!(wait_for(|| condition().then_some(())).is_some(), "waited in vain until {what}");
}

/// Does something at the end of its scope, also when a test fails before: lets the threads of a
/// scope end, which it would wait for.
pub struct Finally<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The directory that holds a Python interpreter called `python3`: vessels do not get the `PATH`
/// of the user that runs these tests.
pub fn python_directory() -> String {
    let found = Command::new("python3")
        .args(["-c", "import sys; print(sys.exec_prefix)"])
        .output()
        .expect("python3 is installed");
    let prefix = String::from_utf8(found.stdout).unwrap();
    let directory = format!("{}/bin", prefix.trim());
    assert!(Path::new(&directory).join("python3").exists(), "no python3 in {directory}");
    directory
}

/// Compiles the C program `source` to a library in `directory`, for `LD_PRELOAD`; its path.
pub fn shared_library(source: &Path, directory: &Path) -> PathBuf {
    let name = source.file_stem().unwrap().to_str().unwrap();
    let library = directory.join(format!("{name}-{}.so", std::process::id()));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"]);
    let status = compiler.arg(&library).arg(source).args(["-ldl", "-lpthread"]).status();
    assert!(status.expect("a C compiler is installed").success());
    library
}

/// The SHA-256 of `bytes` as sha256sum prints it.
pub fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// `text` with everything that could be a token left out, for messages of failing tests.
pub fn redacted(text: &str) -> String {
    const TOKEN_LETTERS_MIN: usize = 40;
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for letter in text.chars().chain(std::iter::once('\n')) {
        if letter.is_ascii_alphanumeric() || letter == '-' || letter == '_' {
            word.push(letter);
            continue;
        }
        out.push_str(if word.len() >= TOKEN_LETTERS_MIN { "[redacted]" } else { &word });
        word.clear();
        out.push(letter);
    }
    out.pop();
    out
}
