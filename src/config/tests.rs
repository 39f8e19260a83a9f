//! Settings from their sources, and the errors that say where one is wrong.

use clap::{Args, CommandFactory, FromArgMatches};

use super::file::parse_file;
use super::*;

fn given(flags: &[&str]) -> Sources {
    let command = Sources::augment_args(clap::Command::new("serve"));
    let flags = ["serve", "--data-dir", "/data"].iter().chain(flags);
    Sources::from_arg_matches(&command.get_matches_from(flags)).unwrap()
}

fn without_file(given: Sources) -> Result<Settings, ConfigError> {
    Settings::resolve(given, Sources::default(), None)
}

fn file(text: &str) -> Result<Sources, String> {
    parse_file(Path::new("/x/boathook.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn flags_outrank_the_file_and_the_file_outranks_defaults() {
    let text = "workers = 3\nmax_body_bytes = \"1MiB\"\nkeep_workdir = \"on_failure\"\nkeep_runs = \"9 runs\"\n\
                public_url = \"https://hooks.example.com/boat/\"\nlog = \"debug\"\n\
                allowed_users = [\"deploy\", \"backup\"]\n\
                shutdown_grace = \"1m30s\"\nhooks_listen = \"[::1]:80\"\n\
                trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nrate_limit_per_ip = \"9/s\"\n\
                admin_hosts = [\"Boat.lan\", \"b.example.com\"]\nadmin_base_path = \"/boat/\"\n";
    let flags = given(&["--workers", "5", "--work-dir", "/fast"]);
    let settings = Settings::resolve(flags, file(text).unwrap(), None).unwrap();
    assert_eq!(settings.workers, 5);
    assert_eq!(settings.work_dir, Path::new("/fast"));
    assert_eq!(settings.max_body_bytes, 1 << 20);
    assert_eq!(settings.keep_workdir, KeepWorkdir::OnFailure);
    assert_eq!(settings.keep_runs, "9 runs".parse().unwrap());
    assert_eq!(settings.public_url.unwrap().as_str(), "https://hooks.example.com/boat");
    assert_eq!(settings.log, log::LevelFilter::Debug);
    assert_eq!(settings.allowed_users, ["deploy", "backup"]);
    assert_eq!(settings.admin_hosts, ["boat.lan", "b.example.com"]);
    assert_eq!(settings.admin_base_path.as_str(), "/boat");
    assert_eq!(settings.shutdown_grace, Duration::from_secs(90));
    assert_eq!(settings.hooks_listen, "[::1]:80".parse().unwrap());
    assert_eq!(settings.admin_listen, defaults::ADMIN_LISTEN);
    assert_eq!(settings.trusted_proxies, "10.0.0.0/8,::1".parse().unwrap());
    assert_eq!(settings.rate_limit_per_ip, Some("9/s".parse().unwrap()));
    assert_eq!(settings.max_followers, defaults::MAX_FOLLOWERS);
}

#[test]
fn defaults_are_those_that_the_help_names() {
    let settings = without_file(given(&[])).unwrap();
    assert_eq!(settings.work_dir, Path::new("/data/work"));
    assert!(settings.workers >= 8);
    let mut command = Sources::augment_args(clap::Command::new("serve"));
    let help = command.render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (flag, default) in [
        ("--hooks-listen", settings.hooks_listen.to_string()),
        ("--admin-listen", settings.admin_listen.to_string()),
        ("--max-queued-runs", settings.max_queued_runs.to_string()),
        ("--max-body-bytes", format!("{}MiB", settings.max_body_bytes >> 20)),
        ("--min-free-bytes", format!("{}MiB", settings.min_free_bytes >> 20)),
        ("--max-output-bytes", format!("{}MiB", settings.max_output_bytes >> 20)),
        ("--max-followers", settings.max_followers.to_string()),
        ("--max-waiting", settings.max_waiting.to_string()),
        ("--max-response-bytes", format!("{}MiB", settings.max_response_bytes >> 20)),
        ("--max-crash-attempts", settings.max_crash_attempts.to_string()),
        ("--max-connections", settings.max_connections.to_string()),
        ("--max-connections-per-ip", settings.max_connections_per_ip.to_string()),
        ("--max-inflight-body-bytes", format!("{}MiB", settings.max_inflight_body_bytes >> 20)),
        ("--install-packages", settings.install_packages.to_string()),
        ("--max-packages-bytes", format!("{}GiB", settings.max_packages_bytes >> 30)),
        ("--head-timeout", format!("{}s", settings.head_timeout.as_secs())),
        ("--body-timeout", format!("{}s", settings.body_timeout.as_secs())),
        ("--body-min-rate", format!("{}MiB", settings.body_min_rate >> 20)),
        ("--idle-timeout", format!("{}s", settings.idle_timeout.as_secs())),
        ("--write-timeout", format!("{}s", settings.write_timeout.as_secs())),
        ("--keep-runs", settings.keep_runs.to_string()),
        ("--keep-versions", settings.keep_versions.to_string()),
        ("--shutdown-grace", format!("{}s", settings.shutdown_grace.as_secs())),
        ("--kill-grace", format!("{}s", settings.kill_grace.as_secs())),
        ("--github-api-url", settings.github_api_url.as_str().to_owned()),
        ("--log", settings.log.to_string().to_lowercase()),
    ] {
        let (_, after) = help.split_once(&format!("{flag} ")).expect(flag);
        let (_, after) = after.split_once("[default: ").expect(flag);
        assert!(after.starts_with(&format!("{default}]")), "{flag}: {default}: {after:.20}");
    }
}

#[test]
fn every_setting_has_a_flag_a_variable_and_a_line() {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        _sources: Sources,
    }
    let unknown = file("x = 1").unwrap_err();
    for argument in Command::command().get_arguments() {
        let key = argument.get_id().as_str();
        assert_eq!(argument.get_long(), Some(key.replace('_', "-").as_str()));
        let variable = format!("BOATHOOK_{}", key.to_uppercase());
        assert_eq!(argument.get_env(), Some(variable.as_ref()));
        assert!(unknown.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn runners_are_tables_of_the_file_and_one_may_be_the_default() {
    let text = "default_runner = \"slurm\"\nworkers = 3\n\n[runners.slurm]\n\
                command = [\"srun\", \"--job-name\", \"${SHIPYARD_LOG_ID}\"]\n\
                cleanup = [\"scancel\"]\ncleanup_timeout = \"90s\"\n[runners.box]\ncommand = [\"docker\"]\n";
    let resolve = |flags: &[&str], text: &str| {
        Settings::resolve(given(flags), file(text).unwrap(), None).map(|it| it.runners)
    };
    let runners = resolve(&[], text).unwrap();
    assert_eq!(runners.default.as_deref(), Some("slurm"));
    assert_eq!(runners.named["slurm"].cleanup_timeout, Duration::from_secs(90));
    assert_eq!(runners.named["box"].command, ["docker"]);
    let flag = resolve(&["--default-runner", "box"], text).unwrap();
    assert_eq!(flag.default.as_deref(), Some("box"));
    for (text, expected) in [
        ("default_runner = \"x\"", "default_runner: there is no [runners.x] in boathook.toml"),
        ("[runners.x]", "runners: x: has neither `command` nor `cleanup`"),
        ("[runners.\"a b\"]\ncommand = [\"x\"]", "runners: a b: a runner's name has letters"),
        ("[runners.none]\ncommand = [\"x\"]", "runners: none: a runner's name"),
        (
            "[runners.x]\ncleanup = [\"x\"]\ncleanup_timeout = \"2h\"",
            "runners: x: `cleanup_timeout`",
        ),
    ] {
        let error = resolve(&[], text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    let error = file("[runners.x]\ncomand = [\"x\"]").unwrap_err();
    assert!(error.starts_with("/x/boathook.toml:2: unknown field `comand`"), "{error}");
}

#[test]
fn errors_name_file_line_and_key() {
    for (text, expected) in [
        ("# note\n\nworkers = 0\n", "/x/boathook.toml:3: workers: "),
        ("workers = \"many\"", "/x/boathook.toml:1: workers: "),
        ("log = \"info\"\nwokers = 3", "/x/boathook.toml:2: unknown field `wokers`"),
        ("log = \"loud\"", "/x/boathook.toml:1: log: no such level: \"loud\""),
        ("kill_grace = \"soon\"", "/x/boathook.toml:1: kill_grace: "),
        ("allowed_users = 3", "/x/boathook.toml:1: allowed_users: expected a list"),
        ("\nmax_body_bytes = \"25MB\"", "/x/boathook.toml:2: max_body_bytes: not a size"),
        ("max_body_bytes = -1", "/x/boathook.toml:1: max_body_bytes: "),
        ("public_url = \"ftp://a\"", "/x/boathook.toml:1: public_url: "),
        ("hooks_listen = \"9000\"", "/x/boathook.toml:1: hooks_listen: not an address"),
        ("trusted_proxies = [\"10.0.0.1/8\"]", "/x/boathook.toml:1: trusted_proxies: "),
        ("trusted_proxies = \"x\"", "/x/boathook.toml:1: trusted_proxies: not a network"),
        ("rate_limit_per_ip = \"9\"", "/x/boathook.toml:1: rate_limit_per_ip: not a rate"),
        (
            "github_api_url = \"http://ghe.lan\"",
            "/x/boathook.toml:1: github_api_url: a secret is sent",
        ),
        ("admin_hosts = \"a:1\"", "/x/boathook.toml:1: admin_hosts: not the name"),
        ("admin_hosts = [\"a\", \"b,c\"]", "/x/boathook.toml:1: admin_hosts: not the name"),
        ("workers = ", "/x/boathook.toml:1: workers: "),
        ("log = info", "/x/boathook.toml:1: log: expected a number, or text in quotes"),
    ] {
        let message = file(text).unwrap_err();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn a_value_of_another_type_is_refused_in_words() {
    let unknown = file("x = 1").unwrap_err();
    let keys: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    assert!(keys.contains(&"kill_grace") && keys.contains(&"tls_cert"), "{unknown}");
    for key in keys {
        let mut refused = 0;
        for value in ["5", "-1", "1.5", "true", "[5]", "{a = 1}", "1979-05-27"] {
            let Err(message) = file(&format!("{key} = {value}")) else { continue };
            refused += 1;
            let start = format!("/x/boathook.toml:1: {key}: expected ");
            assert!(message.starts_with(&start), "{value}: {message}");
            assert!(!message.contains("invalid type") && !message.contains('`'), "{message}");
        }
        assert!(refused >= 5, "{key}");
    }
    for (text, expected) in [
        ("kill_grace = 5", "expected a duration in quotes, such as \"10s\", not 5"),
        ("keep_runs = 5", "such as \"90d\" or \"1000 runs\", not 5"),
        ("hooks_listen = 9000", "expected IP:PORT in quotes, such as \"127.0.0.1:9000\", not 9000"),
        ("rate_limit_per_ip = 5", "expected a rate in quotes, such as \"100/m\", not 5"),
        ("max_body_bytes = 1.5", "such as \"25MiB\", not 1.5"),
        ("tls_key = true", "expected a path in quotes, not true"),
        ("smtp_from = [1]", "expected text in quotes, not a list"),
    ] {
        let message = file(text).unwrap_err();
        assert!(message.ends_with(expected), "{message}");
    }
    assert_eq!(file("kill_grace = 0").unwrap().kill_grace, Some(Period(Duration::ZERO)));
}

#[test]
fn a_password_needs_encryption_and_e_mail_a_sender() {
    let mail = |flags: &[&str]| without_file(given(flags)).map(|it| it.mail);
    assert_eq!(mail(&[]).unwrap(), None);
    let server = ["--smtp", "smtp://mail.example.com", "--smtp-from", "a@example.com"];
    assert!(mail(&server).unwrap().is_some());
    assert!(mail(&server[..2]).unwrap_err().to_string().starts_with("smtp_from: missing"));
    let password = ["--smtp-user", "u", "--smtp-secret", "mail"];
    let error = mail(&[server.as_slice(), &password].concat()).unwrap_err().to_string();
    assert!(error.starts_with("smtp: a password is not sent without encryption"), "{error}");
    let local = ["--smtp", "smtp://127.0.0.1", "--smtp-from", "a@example.com"];
    assert!(mail(&[local.as_slice(), &password].concat()).unwrap().is_some());
    assert!(mail(&[local.as_slice(), &password[..2]].concat()).is_err());
    let nobody = ["--smtp-user", "", "--smtp-secret", "mail"];
    let error = mail(&[local.as_slice(), &nobody].concat()).unwrap_err().to_string();
    assert!(error.starts_with("smtp_user: "), "{error}");
    for (flag, key) in [("--smtp-from", "smtp_from"), ("--smtp-secret", "smtp_secret")] {
        let error = mail(&[flag, "a@example.com"]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}: set smtp, too")), "{error}");
    }
}

#[test]
fn bounds_are_checked_whatever_the_source() {
    for (flag, value) in [
        ("--workers", "1000000"),
        ("--head-timeout", "0s"),
        ("--body-timeout", "999ms"),
        ("--idle-timeout", "25h"),
        ("--write-timeout", "0s"),
    ] {
        let error = without_file(given(&[flag, value])).unwrap_err().to_string();
        let key = flag.trim_start_matches('-').replace('-', "_");
        assert!(error.starts_with(&format!("{key}: ")), "{error}");
    }
    for (flag, value) in [
        ("--notify-hosts", "http://a/"),
        ("--notify-hosts", "a:85218"),
        ("--notify-commands", "tell"),
    ] {
        let error = without_file(given(&[flag, value])).unwrap_err().to_string();
        assert!(error.starts_with(&flag[2..].replace('-', "_")), "{error}");
    }
    for (alone, missing) in [("--tls-cert", "tls_key: "), ("--tls-key", "tls_cert: ")] {
        let error = without_file(given(&[alone, "a.pem"])).unwrap_err();
        assert!(error.to_string().starts_with(missing), "{error}");
    }
}

#[test]
fn the_file_is_found_in_the_data_directory_first() {
    let data = tempfile::tempdir().unwrap();
    let system = tempfile::tempdir().unwrap();
    std::fs::write(system.path().join(FILE_NAME), "workers = 2").unwrap();
    let read = || read_default_file(Some(data.path()), system.path());
    assert_eq!(read().unwrap().workers, Count::new(2));
    std::fs::write(data.path().join(FILE_NAME), "workers = 3").unwrap();
    assert_eq!(read().unwrap().workers, Count::new(3));
    std::fs::write(data.path().join(FILE_NAME), "data_dir = \"/elsewhere\"").unwrap();
    assert!(matches!(read(), Err(ConfigError::Misplaced { .. })));
    let missing = data.path().join("missing.toml");
    let error = Settings::load(given(&[]), Some(&missing)).unwrap_err();
    assert!(error.to_string().contains("missing.toml"), "{error}");
}

#[test]
fn the_data_directory_follows_service_then_user() {
    let find = |variables: &[(&str, &str)], home: Option<&str>| {
        let environment = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        };
        default_data_directory(environment, home.map(PathBuf::from))
    };
    let service = ("STATE_DIRECTORY", "/var/lib/boathook:/var/lib/other");
    let user = ("XDG_STATE_HOME", "/home/a/state");
    assert_eq!(find(&[service, user], None), Some("/var/lib/boathook".into()));
    assert_eq!(find(&[user], Some("/home/a")), Some("/home/a/state/boathook".into()));
    let relative = ("XDG_STATE_HOME", "state");
    let expected = Some("/home/a/.local/state/boathook".into());
    assert_eq!(find(&[relative], Some("/home/a")), expected);
    assert_eq!(find(&[], None), None);
}
