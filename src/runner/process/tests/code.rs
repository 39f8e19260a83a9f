//! Vessels with code of their fleet or of a repository, and secrets in their logs.

use super::*;
use crate::model::source::{Argument, CloneLocation, Code, GitSource, Language, Origin};

fn file(language: Language, content: &str) -> Code {
    let name = "main.code".to_owned();
    let origin = Origin::File { name: name.clone(), content: content.to_owned() };
    Code {
        language,
        version: None,
        origin,
        file_to_run: name,
        arguments: Vec::new(),
        packages: Vec::new(),
        system_packages: Vec::new(),
    }
}

fn repository(url: &str, file_to_run: &str) -> Code {
    let git = GitSource {
        repository: url.to_owned(),
        checkout_point: None,
        clone_location: CloneLocation::RepoName,
    };
    Code {
        origin: Origin::Git(git),
        file_to_run: file_to_run.to_owned(),
        ..file(Language::Bash, "")
    }
}

impl Fixture {
    fn code(&mut self, code: Code) -> (HowEnded, String) {
        self.program = Program::Code(Box::new(code));
        self.end()
    }
}

#[test]
fn the_code_file_replaces_whatever_has_its_name() {
    let mut fixture = Fixture::new(GRACE);
    let script = "stat -c '%a %F' main.code; echo altered > main.code; mkfifo other";
    let expected = (HowEnded::Exited(0), "700 regular file\n".to_owned());
    assert_eq!(fixture.code(file(Language::Bash, script)), expected);
    assert_eq!(fixture.code(file(Language::Bash, "cat main.code")).1, "cat main.code");
    let victim = fixture.file("victim", b"untouched", 0o644);
    let path = fixture.work().join("main.code");
    for plant in [&|| symlink(&victim, &path).unwrap(), &|| {
        fs::create_dir_all(path.join("not/empty")).unwrap() as ()
    }] as [&dyn Fn(); 2]
    {
        let _ = fs::remove_file(&path);
        plant();
        fs::set_permissions(fixture.work(), fs::Permissions::from_mode(0o500)).unwrap();
        assert_eq!(fixture.code(file(Language::Bash, "stat -c %F main.code")).1, "regular file\n");
    }
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
}

#[test]
fn arguments_keep_their_order() {
    let mut fixture = Fixture::new(GRACE);
    let mut code = file(Language::Bash, "printf '<%s>' \"$0\" \"$@\"");
    let text = |text: &str| Some(text.to_owned());
    code.arguments = vec![
        Argument { key: text("--columns"), value: text("3 4") },
        Argument { key: text("--split"), value: None },
        Argument { key: None, value: text("") },
        Argument { key: None, value: text("*") },
    ];
    assert_eq!(fixture.code(code.clone()).1, "<main.code><--columns><3 4><--split><><*>");
    // The file is found from another working directory.
    fixture.working_directory = Some("/".to_owned());
    let shown = fixture.code(code).1;
    let path = fixture.work().join("main.code");
    assert!(shown.starts_with(&format!("<{}><--columns>", path.display())), "{shown}");
}

#[test]
fn the_interpreter_comes_from_the_vessels_path() {
    let mut fixture = Fixture::new(GRACE);
    let bin = fixture.root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["bash", "python3", "python3.99", "node"] {
        let script = format!("#!/bin/sh\necho {name} \"$@\"\n");
        fs::write(bin.join(name), script).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fixture.environment.replace("PATH", &bin.display().to_string());
    for (language, version, shown) in [
        (Language::Bash, None, "bash main.code\n"),
        (Language::Python, None, "python3 main.code\n"),
        (Language::Python, Some("3.99"), "python3.99 main.code\n"),
        (Language::Node, None, "node main.code\n"),
    ] {
        let version = version.map(str::to_owned);
        assert_eq!(fixture.code(Code { version, ..file(language, "x") }).1, shown);
    }
    let missing = Code { version: Some("2.1".to_owned()), ..file(Language::Python, "x") };
    let (how, log) = fixture.code(missing);
    assert!(matches!(how, HowEnded::NotStarted(_)));
    assert!(log.starts_with("boathook: `python2.1` was not found in PATH ("), "{log}");
}

#[test]
fn a_directory_that_a_crash_has_left_goes_to_the_vessels_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    writer.start_file("d/x", zip::write::SimpleFileOptions::default()).unwrap();
    let archive = writer.finish().unwrap().into_inner().into();
    let origin = Origin::Archive { name: "a.zip".to_owned(), archive };
    let mut fixture = Fixture::new(GRACE);
    fixture.program = Program::Code(Box::new(Code { origin, ..file(Language::Bash, "") }));
    let left = fixture.work().join("d");
    fs::create_dir_all(&left).unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o700)).unwrap();
    let owner = Identity { uid: 65_534, gid: 65_534, groups: vec![65_534] };
    let directories = &fixture.launcher.work_directories;
    let prepared = fixture.with_launch(|launch| directories.prepare(launch, Some(&owner)));
    assert!(prepared.is_ok());
    for path in [&left, &left.join("x")] {
        assert_eq!(fs::metadata(path).unwrap().uid(), owner.uid, "{path:?}");
    }
}

#[test]
fn a_missing_file_to_run_is_named() {
    let mut fixture = Fixture::new(GRACE);
    let code = Code { file_to_run: "other".to_owned(), ..file(Language::Bash, "x") };
    let (_, log) = fixture.code(code);
    assert!(log.contains("`file_to_run` is other, but there is no file"), "{log}");
}

#[test]
fn a_clone_that_hangs_is_stopped_and_cut_off_like_a_program() {
    let mut fixture = Fixture::new(GRACE);
    // The program that git starts to reach the host hangs.
    let ssh = "sh -c 'echo $$ >&2; exec sleep 1000' --".to_owned();
    fixture.environment.set("GIT_SSH_COMMAND", ssh);
    fixture.environment.set("GIT_SSH_VARIANT", "ssh");
    fixture.program =
        Program::Code(Box::new(repository("ssh://git@127.0.0.1/srv/repo.git", "repo/x")));
    fixture.runtime_cutoff = SHORT;
    assert_eq!(fixture.launch().how, HowEnded::CutOff);
    fixture.runtime_cutoff = Duration::ZERO;
    for (stop, how) in
        [(Stop::Requested, HowEnded::Signaled(15)), (Stop::Abandon, HowEnded::Abandoned)]
    {
        fixture.output = Arc::default();
        let ended = std::thread::scope(|scope| {
            let launched = scope.spawn(|| fixture.launch());
            assert!(!fixture.output.read(0, PATIENCE).unwrap().bytes.is_empty());
            fixture.stop.raise(stop);
            launched.join().unwrap()
        });
        assert_eq!(ended.how, how);
        let Kept::Inline(log) = ended.output.kept else { panic!("no log") };
        let log = String::from_utf8(log).unwrap();
        assert!(is_gone(log.lines().next().unwrap()), "{log}");
        fixture.stop.reset();
    }
}

#[test]
fn git_never_prompts_and_ignores_variables_of_other_repositories() {
    let mut fixture = Fixture::new(GRACE);
    let bin = fixture.root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let git = "#!/bin/sh\nenv | grep -E '^(GIT|SSH)_' | sort\ncat\nexit 7\n";
    fs::write(bin.join("git"), git).unwrap();
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    fixture.environment.replace("PATH", &format!("{}:/usr/bin:/bin", bin.display()));
    fixture.environment.set("GIT_DIR", "/elsewhere");
    fixture.environment.set("GIT_TERMINAL_PROMPT", "1");
    fixture.environment.set("GIT_CONFIG_COUNT", "0");
    fixture.request.body = b"not for git".to_vec();
    let (how, log) = fixture.code(repository("owner/repo", "repo/x"));
    let expected = "GIT_ALLOW_PROTOCOL=https:ssh:file\nGIT_ASKPASS=/bin/false\nGIT_CONFIG_COUNT=0\n\
                    GIT_SSH_COMMAND=ssh -oBatchMode=yes\nGIT_TERMINAL_PROMPT=0\n\
                    SSH_ASKPASS_REQUIRE=never\nboathook: https://github.com/owner/repo could not \
                    be cloned: git ended with exit code 7, and says why above\n";
    assert_eq!(log, expected);
    assert!(matches!(how, HowEnded::NotStarted(_)));
}

#[test]
fn secrets_stay_out_of_the_log_and_of_the_reason() {
    let mut fixture = Fixture::new(GRACE);
    fixture.secrets = vec!["correct horse".to_owned(), "short".to_owned()];
    let script = "printf 'a correct'; printf ' horse, short, correct hor'; exit 3";
    assert_eq!(
        fixture.script(script),
        (HowEnded::Exited(3), "a ••••, short, correct hor".to_owned())
    );
    let (how, log) = fixture.command(&["no correct horse here"]);
    let reason = "`no •••• here` was not found in PATH (/usr/bin:/bin): install it, or name it by \
                  its path";
    assert_eq!(how, HowEnded::NotStarted(reason.to_owned()));
    assert_eq!(log, format!("boathook: {reason}\n"));
    // Offsets count masked bytes.
    fixture.program = Program::Script(
        "i=0; while [ $i -lt 9000 ]; do echo correct horse; i=$((i+1)); done".to_owned(),
    );
    fixture.output = Arc::default();
    let ended = fixture.launch();
    let line = "••••\n".len() as u64;
    assert_eq!(ended.output.bytes, 9000 * line);
    fixture.output.finish();
    let chunk = fixture.output.read(8000 * line, PATIENCE).unwrap();
    assert_eq!((chunk.offset, chunk.ended), (8000 * line, true));
    assert_eq!(String::from_utf8(chunk.bytes).unwrap(), "••••\n".repeat(1000));
}
