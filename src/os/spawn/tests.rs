//! What a program inherits, compared with what the standard library gives it; errors; and that a start
//! leaves nothing behind in this process.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::Signal as NixSignal;
use rustix::process::getrlimit;

use super::*;

/// What `/bin/sh -c` runs to tell what it was given, without a child.
const TELL: &str = "while read -r line; do echo \"$line\"; done < /proc/$$/status; \
                    while read -r line; do echo \"$line\"; done < /proc/$$/limits; \
                    read -r line < /proc/$$/stat; echo \"stat ${line#*) }\"; \
                    echo \"fds\" /proc/$$/fd/*; pwd -P; umask; unset line; set; echo \"$0 $*\"; exit 3";

/// Lines of a report that are not the same for two processes.
const OWN_LINES: [&str; 13] = [
    "Pid:",
    "Tgid:",
    "Ngid:",
    "NSpid:",
    "NStgid:",
    "NSpgid:",
    "Vm",
    "Rss",
    "voluntary_ctxt",
    "nonvoluntary_ctxt",
    "State:",
    "Name:",
    "SigQ:",
];
/// Signals 32 and 33, which the C library keeps to itself: no call of ours changes them.
const RESERVED: u64 = 0b11 << 31;

fn shell(script: &str, directory: &Path) -> Program {
    Program::new(Path::new("/bin/sh"), directory)
        .with_arguments([&b"sh"[..], b"-c", script.as_bytes(), b"zero", b"one two"])
        .with_variables([&b"NAME=a value"[..], b"EMPTY="])
}

/// The end and the output of `program`, which leads a group.
fn run(program: &Program, flags: c_int) -> (ExitStatus, String) {
    let (mut reader, writer) = io::pipe().unwrap();
    let output = writer.as_fd();
    let spawn = Spawn {
        program,
        stdin: None,
        stdout: output,
        stderr: output,
        limits: &[],
        leads_group: true,
    };
    let (pid, descriptor) = spawn.begin(flags).unwrap();
    assert_eq!(descriptor.is_some(), flags != 0);
    let watched = watched(pid, descriptor.map_or_else(|| pidfd_open(pid, PidfdFlags::empty()), Ok));
    let spawned = watched.unwrap();
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    let ended = waitid(WaitId::PidFd(spawned.descriptor.as_fd()), WaitIdOptions::EXITED);
    let code = ended.unwrap().unwrap().exit_status().unwrap();
    (ExitStatus::from_raw(code << 8), said.replace(&pid.as_raw_pid().to_string(), "PID"))
}

/// The same by the standard library.
fn run_by_std(script: &str, directory: &Path) -> (ExitStatus, String) {
    let (mut reader, writer) = io::pipe().unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg0("sh").args(["-c", script, "zero", "one two"]).env_clear();
    command.env("NAME", "a value").env("EMPTY", "").current_dir(directory).process_group(0);
    command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    (child.wait().unwrap(), said.replace(&child.id().to_string(), "PID"))
}

/// The lines of a report that two equal processes share. Of the line of /proc/PID/stat: state, parent,
/// group, session and terminal.
fn comparable(report: &str) -> Vec<String> {
    let lines = report.lines().filter(|line| !OWN_LINES.iter().any(|own| line.starts_with(own)));
    lines
        .map(|line| match line.strip_prefix("stat ") {
            Some(fields) => fields.split(' ').skip(1).take(4).collect::<Vec<_>>().join(" "),
            None => without_reserved(line),
        })
        .collect()
}

/// A line of /proc/PID/status about signals without [`RESERVED`].
fn without_reserved(line: &str) -> String {
    match line.split_once(":\t") {
        Some((name, mask)) if name.starts_with("Sig") => {
            let mask = u64::from_str_radix(mask, 16).unwrap() & !RESERVED;
            format!("{name}:\t{mask:016x}")
        }
        _ => line.to_owned(),
    }
}

#[test]
fn a_program_inherits_what_the_standard_library_gives_it() {
    let directory = tempfile::tempdir().unwrap();
    let theirs = run_by_std(TELL, directory.path());
    for flags in [libc::CLONE_PIDFD, 0] {
        let ours = run(&shell(TELL, directory.path()), flags);
        assert_eq!(ours.0, theirs.0);
        assert_eq!(ours.0.code(), Some(3));
        assert!(ours.1.contains("SigBlk:\t0000000000000000"), "{}", ours.1);
        assert_eq!(comparable(&ours.1), comparable(&theirs.1));
    }
}

#[test]
fn signals_of_this_process_reach_no_program_and_stay_as_they_are() {
    let mut blocked = SigSet::empty();
    blocked.add(NixSignal::SIGUSR1);
    blocked.add(NixSignal::SIGCHLD);
    blocked.thread_block().unwrap();
    signal_hook::flag::register(signal_hook::consts::SIGUSR2, Arc::default()).unwrap();
    let status = || fs::read_to_string("/proc/thread-self/status").unwrap();
    let masks = |status: &str| {
        let lines = status.lines().filter(|line| line.starts_with("Sig") && !line.contains("SigQ"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = masks(&status());
    let (_, said) = run(&shell(TELL, Path::new("/")), libc::CLONE_PIDFD);
    // The shell itself handles SIGCHLD and the like.
    for name in ["SigPnd", "SigBlk", "SigIgn"] {
        assert!(comparable(&said).contains(&format!("{name}:\t0000000000000000")), "{said}");
    }
    assert_eq!(masks(&status()), before);
    assert!(!changed_signals().is_empty());
    blocked.thread_unblock().unwrap();
}

#[test]
fn limits_are_those_of_the_program_alone() {
    let own = getrlimit(Resource::Nofile);
    let limits = [
        (Resource::Nofile, Rlimit { current: Some(77), maximum: own.maximum }),
        // Above the hard limit: it stays.
        (Resource::Core, Rlimit { current: None, maximum: getrlimit(Resource::Core).maximum }),
    ];
    let (mut reader, writer) = io::pipe().unwrap();
    let (stdout, stderr) = (writer.as_fd(), writer.as_fd());
    let program = shell("ulimit -n; read -r line; echo \"$?\"", Path::new("/"));
    let leads_group = false;
    let spawn =
        Spawn { program: &program, stdin: None, stdout, stderr, limits: &limits, leads_group };
    let spawned = spawn.start().unwrap();
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    spawned.kill();
    assert_eq!(said, "77\n1\n", "nothing comes from /dev/null");
    assert_eq!(getrlimit(Resource::Nofile), own);
}

#[test]
fn a_start_that_fails_has_its_error_and_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("plain"), "no program").unwrap();
    let start = |path: &Path, directory: &Path, argument: &[u8]| {
        let program = Program::new(path, directory).with_arguments([&b"name"[..], argument]);
        let null = fs::File::open("/dev/null").unwrap();
        let (stdout, stderr) = (null.as_fd(), null.as_fd());
        let (stdin, limits, leads_group) = (Some(null.as_fd()), &[][..], true);
        let spawn = Spawn { program: &program, stdin, stdout, stderr, limits, leads_group };
        let SpawnError { source, has_started } = spawn.start().unwrap_err();
        assert!(!has_started);
        source
    };
    let (sh, root) = (Path::new("/bin/sh"), Path::new("/"));
    let missing = start(&at("missing"), root, b"");
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(start(&at("plain"), root, b"").raw_os_error(), Some(libc::EACCES));
    assert_eq!(start(sh, &at("missing"), b"").raw_os_error(), Some(libc::ENOENT));
    assert_eq!(start(sh, &at("plain"), b"").raw_os_error(), Some(libc::ENOTDIR));
    let long = start(sh, root, &[b'x'; 200_000]);
    assert_eq!(long.raw_os_error(), Some(libc::E2BIG));
    assert_eq!(start(sh, root, b"a\0b").kind(), io::ErrorKind::InvalidInput);
    let children = fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children, "", "each child is reaped");
}

#[test]
fn threads_start_programs_side_by_side() {
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let words = format!("{number}").repeat(10_000);
                let program = Program::new(Path::new("/bin/echo"), Path::new("/"))
                    .with_arguments([b"echo", words.as_bytes()]);
                for _ in 0..50 {
                    let (ended, said) = run(&program, libc::CLONE_PIDFD);
                    assert!(ended.success());
                    assert_eq!(said.trim_end().len(), words.len());
                }
            });
        }
    });
}
