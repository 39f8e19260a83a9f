//! Finds the server to talk to: its address and its token, from flags, the environment or the files
//! that it leaves in its data directory. Sends nothing.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::cli::daemon::{
    ADMIN_TOKEN_FILE as TOKEN_FILE, ADMIN_URL_FILE as URL_FILE, is_data_directory_in_use,
};
use crate::config::{HttpUrl, SYSTEM_DATA_DIRECTORY, default_data_directory};
use crate::os::text_file::{self, MARK};

/// Which server to talk to, and how to print what it answers.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct ServerOptions {
    /// Address of the admin API [default: what the data directory says]
    #[arg(long, env = "BOATHOOK_URL", value_name = "URL", global = true)]
    pub url: Option<String>,

    /// File with a token; or put the token itself into BOATHOOK_TOKEN [default: the admin token of the
    /// data directory]
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,

    /// Data directory of the server [default: that of a server of your own, else
    /// /var/lib/boathook]
    #[arg(long, env = "BOATHOOK_DATA_DIR", value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,

    /// Print what the API answers, as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// A server that was found.
#[derive(Debug)]
pub struct Located {
    /// Without a slash at its end.
    pub url: String,
    pub token: AdminToken,
    /// Where its files were found; `None` when they were not looked for.
    pub data_dir: Option<PathBuf>,
    /// Whether the address is the one that the server has left in its data directory.
    pub is_recorded: bool,
}

impl Located {
    /// See [`Outlook`].
    pub fn outlook(&self) -> Outlook {
        Outlook(self.data_dir.clone())
    }
}

/// Tells whether a server that does not answer runs, by its data directory.
#[derive(Clone, Debug)]
pub struct Outlook(Option<PathBuf>);

impl Outlook {
    /// Whether the data directory is known and no server holds it.
    pub fn is_stopped(&self) -> bool {
        self.0.as_deref().and_then(is_data_directory_in_use) == Some(false)
    }

    /// What the user can do.
    pub fn advice(&self) -> String {
        let Some(data_dir) = &self.0 else {
            return "check the address and the token, and that the server runs there".to_owned();
        };
        let (shown, start) = (data_dir.display(), start_command(data_dir));
        match is_data_directory_in_use(data_dir) {
            Some(false) => {
                format!("the server of {shown} is stopped. Start it with:\n    {start}")
            }
            Some(true) => format!(
                "a server has {shown} open: it is starting or stopping, or its address or token is \
                 another. Its log says more"
            ),
            None => format!("is the server of {shown} running? Start it with:\n    {start}"),
        }
    }
}

/// The secret of the admin API. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// The secret itself, for the header of a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Where packages and manual installations put the service.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/boathook.service",
    "/usr/lib/systemd/system/boathook.service",
    "/lib/systemd/system/boathook.service",
];

/// Why no server was found. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error(
        "no server found: there is no {URL_FILE} in {}; start one with `{}`, or say where it keeps \
         its data with --data-dir",
        directories(.0), starting(.0)
    )]
    NotFound(Vec<PathBuf>),
    #[error(
        "{} is not yours to read; run it as the server's user, or as root:\n    {sudo}",
        path.display()
    )]
    Forbidden { path: PathBuf, sudo: String },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no token; is its server still starting?", .0.display())]
    NoToken(PathBuf),
    #[error("--url says where the server is; add --token-file FILE, or set BOATHOOK_TOKEN")]
    TokenMissing,
    #[error("{url}: {message}")]
    Url { url: String, message: String },
}

/// The line that starts a server which was looked for in `paths`: the installed service, if there is
/// one and it was among them.
fn starting(paths: &[PathBuf]) -> String {
    let is_service = paths.iter().any(|path| path == Path::new(SYSTEM_DATA_DIRECTORY));
    match is_service && UNITS.iter().any(|unit| Path::new(unit).exists()) {
        true => start_command(Path::new(SYSTEM_DATA_DIRECTORY)),
        false => "boathook serve".to_owned(),
    }
}

fn directories(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" and ")
}

/// What the search depends on besides the options.
pub struct Surroundings<'a> {
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
    pub home: Option<PathBuf>,
    /// The command line, its program first, to be repeated in the line with sudo.
    pub arguments: Vec<String>,
}

impl Surroundings<'_> {
    /// Those of this process.
    pub fn of_process() -> Self {
        let mut arguments: Vec<_> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        if let Some(program) = arguments.first_mut() {
            *program = program_for_sudo(program);
        }
        let home = std::env::home_dir();
        Self { environment: &|name| std::env::var_os(name), home, arguments }
    }
}

/// sudo looks programs up in its own PATH, which has none of a user's directories.
fn program_for_sudo(program: &str) -> String {
    let Ok(path) = std::env::current_exe() else { return program.to_owned() };
    let is_found = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .any(|directory| path.parent() == Some(Path::new(directory)));
    if is_found { "boathook".to_owned() } else { path.display().to_string() }
}

/// Finds the server: `--url` and a token, else the data directory, else the default one, else that
/// of the packaged service.
///
/// # Errors
/// When there is none, or its files cannot be read.
pub fn locate(
    options: &ServerOptions,
    surroundings: &Surroundings<'_>,
) -> Result<Located, LocateError> {
    let token = given_token(options, surroundings)?;
    let given_url = options.url.as_deref().filter(|url| !url.is_empty());
    let is_recorded = given_url.is_none();
    let (url, token, data_dir) = match (given_url, token) {
        (Some(url), Some(token)) => (url.to_owned(), token, None),
        (Some(url), None) => {
            // The token of some other server must not be sent to this one: no default is taken.
            let data_dir = options.data_dir.as_deref().ok_or(LocateError::TokenMissing)?;
            let token = read_token(&data_dir.join(TOKEN_FILE), data_dir, surroundings)?;
            (url.to_owned(), token, Some(data_dir.to_owned()))
        }
        (None, token) => {
            let (data_dir, url) = find_data_directory(options, surroundings)?;
            let token = match token {
                Some(token) => token,
                None => read_token(&data_dir.join(TOKEN_FILE), &data_dir, surroundings)?,
            };
            (url, token, Some(data_dir))
        }
    };
    check_url(&url)?;
    let url = url.trim_end_matches('/').to_owned();
    Ok(Located { url, token, data_dir, is_recorded })
}

fn given_token(
    options: &ServerOptions,
    surroundings: &Surroundings<'_>,
) -> Result<Option<AdminToken>, LocateError> {
    if let Some(path) = &options.token_file {
        let directory = path.parent().unwrap_or(Path::new("."));
        return read_token(path, directory, surroundings).map(Some);
    }
    let token = (surroundings.environment)("BOATHOOK_TOKEN")
        .and_then(|token| token.into_string().ok())
        .map(|token| token.trim_start_matches(MARK).trim().to_owned());
    Ok(token.filter(|token| !token.is_empty()).map(AdminToken))
}

fn find_data_directory(
    options: &ServerOptions,
    surroundings: &Surroundings<'_>,
) -> Result<(PathBuf, String), LocateError> {
    let candidates = match &options.data_dir {
        Some(data_dir) => vec![data_dir.clone()],
        None => default_data_directory(surroundings.environment, surroundings.home.clone())
            .into_iter()
            .chain([PathBuf::from(SYSTEM_DATA_DIRECTORY)])
            .collect(),
    };
    for data_dir in &candidates {
        let path = data_dir.join(URL_FILE);
        if let Some(url) = read(&path, data_dir, surroundings)? {
            return Ok((data_dir.clone(), url.trim().to_owned()));
        }
    }
    Err(LocateError::NotFound(candidates))
}

fn read_token(
    path: &Path,
    data_dir: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<AdminToken, LocateError> {
    match read(path, data_dir, surroundings)? {
        Some(text) if !text.trim().is_empty() => Ok(AdminToken(text.trim().to_owned())),
        Some(_) => Err(LocateError::NoToken(path.to_owned())),
        None => {
            Err(LocateError::Read { path: path.to_owned(), source: io::ErrorKind::NotFound.into() })
        }
    }
}

/// The text of a file; `None` when it does not exist.
fn read(
    path: &Path,
    data_dir: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<Option<String>, LocateError> {
    match text_file::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            io::ErrorKind::PermissionDenied => Err(LocateError::Forbidden {
                path: path.to_owned(),
                sudo: sudo_line(&surroundings.arguments, data_dir),
            }),
            _ => Err(LocateError::Read { path: path.to_owned(), source: error }),
        },
    }
}

fn check_url(url: &str) -> Result<(), LocateError> {
    let refuse = |message: String| LocateError::Url { url: url.to_owned(), message };
    let parsed: HttpUrl = url.parse().map_err(refuse)?;
    if parsed.is_https {
        let advice = "this command line speaks http only; reach the admin listener of another \
                      machine through a tunnel: ssh -L 9001:127.0.0.1:9001 HOST";
        return Err(refuse(advice.to_owned()));
    }
    Ok(())
}

/// The line that starts a server on `data_dir`.
pub fn start_command(data_dir: &Path) -> String {
    if data_dir == Path::new(SYSTEM_DATA_DIRECTORY) {
        "sudo systemctl start boathook".to_owned()
    } else {
        format!("boathook serve --data-dir {}", quoted(&data_dir.to_string_lossy()))
    }
}

/// `base` as it can be reached on this machine: the address that stands for all interfaces leads
/// nowhere.
pub fn from_here(base: &str) -> String {
    let address = base.parse::<HttpUrl>().ok().and_then(|url| url.host.parse::<IpAddr>().ok());
    match address {
        Some(address) if address.to_canonical().is_unspecified() => {
            base.replacen("0.0.0.0", "127.0.0.1", 1).replacen("[::]", "[::1]", 1)
        }
        _ => base.to_owned(),
    }
}

/// The command line once more, with sudo. With the data directory, too, where root would not find it.
fn sudo_line(arguments: &[String], data_dir: &Path) -> String {
    let mut words = vec!["sudo".to_owned()];
    words.extend(arguments.iter().map(|word| quoted(word)));
    let names_directory = arguments.iter().any(|word| {
        word == "--data-dir" || word.starts_with("--data-dir=") || word == "--token-file"
    });
    let is_found = data_dir == Path::new(SYSTEM_DATA_DIRECTORY) && !root_has_a_server();
    if !names_directory && !is_found {
        words.push(format!("--data-dir {}", quoted(&data_dir.to_string_lossy())));
    }
    words.join(" ")
}

/// Whether root has a server of its own, which it finds before the packaged one; not where /root is
/// closed to us.
fn root_has_a_server() -> bool {
    let of_root = default_data_directory(|_| None, Some(PathBuf::from("/root")));
    of_root.is_some_and(|directory| directory.join(URL_FILE).exists())
}

/// `word` as a shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    // zsh takes a leading `=` for the path of a program.
    if !word.is_empty() && !word.starts_with('=') && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<OsString> {
        None
    }

    fn surroundings(environment: &dyn Fn(&str) -> Option<OsString>) -> Surroundings<'_> {
        let arguments = ["boathook", "fleet", "show", "a b"].map(str::to_owned).to_vec();
        Surroundings { environment, home: None, arguments }
    }

    fn server(url: &str, token: &str) -> (tempfile::TempDir, ServerOptions) {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join(URL_FILE), url).unwrap();
        std::fs::write(data.path().join(TOKEN_FILE), token).unwrap();
        let options =
            ServerOptions { data_dir: Some(data.path().to_owned()), ..ServerOptions::default() };
        (data, options)
    }

    #[test]
    fn the_data_directory_tells_address_and_token() {
        let (_data, options) = server("http://127.0.0.1:9001\n", "secret\n");
        let located = locate(&options, &surroundings(&nothing)).unwrap();
        assert_eq!(located.url, "http://127.0.0.1:9001");
        assert_eq!(located.token.reveal(), "secret");
        let advice = located.outlook().advice();
        assert!(advice.contains("boathook serve --data-dir"), "{advice}");
        assert!(!format!("{located:?}").contains("secret"));
    }

    #[test]
    fn what_is_given_outranks_the_data_directory() {
        let (_data, mut options) = server("http://127.0.0.1:9001", "secret");
        let environment = |name: &str| (name == "BOATHOOK_TOKEN").then(|| "other".into());
        options.url = Some("http://10.0.0.1:9001/".to_owned());
        let located = locate(&options, &surroundings(&environment)).unwrap();
        assert_eq!(located.url, "http://10.0.0.1:9001");
        assert_eq!(located.token.reveal(), "other");
    }

    #[test]
    fn a_token_goes_to_no_server_that_it_was_not_meant_for() {
        let options =
            ServerOptions { url: Some("http://10.0.0.1".to_owned()), ..ServerOptions::default() };
        let error = locate(&options, &surroundings(&nothing)).unwrap_err();
        assert!(matches!(error, LocateError::TokenMissing));
    }

    #[test]
    fn torn_files_https_and_missing_servers_are_told_apart() {
        let (_data, options) = server("http://127.0.0.1:9001", " \n");
        let error = locate(&options, &surroundings(&nothing)).unwrap_err();
        assert!(matches!(error, LocateError::NoToken(_)), "{error}");
        let (_data, options) = server("https://127.0.0.1:9001", "secret");
        let error = locate(&options, &surroundings(&nothing)).unwrap_err();
        assert!(error.to_string().contains("ssh -L"), "{error}");
        let (data, options) = server("", "secret");
        std::fs::remove_file(data.path().join(URL_FILE)).unwrap();
        let error = locate(&options, &surroundings(&nothing)).unwrap_err();
        assert!(error.to_string().contains("boathook serve"), "{error}");
    }

    #[test]
    fn the_line_with_sudo_can_be_pasted() {
        let arguments = ["boathook", "fleet", "show", "it's"].map(str::to_owned);
        assert_eq!(
            sudo_line(&arguments, Path::new("/var/lib/boathook")),
            r"sudo boathook fleet show 'it'\''s'"
        );
        assert!(sudo_line(&arguments, Path::new("/srv/x")).ends_with(" --data-dir /srv/x"));
        let arguments = ["boathook", "runs", "list", "--data-dir=/x"].map(str::to_owned);
        assert_eq!(sudo_line(&arguments, Path::new("/x")), "sudo boathook runs list --data-dir=/x");
    }

    #[test]
    fn all_interfaces_are_reached_at_an_address_that_exists() {
        for (base, expected) in [
            ("http://0.0.0.0:9001", "http://127.0.0.1:9001"),
            ("http://[::]:9001", "http://[::1]:9001"),
            ("http://[::ffff:0.0.0.0]:9001", "http://[::ffff:127.0.0.1]:9001"),
            ("http://192.0.2.7:9001", "http://192.0.2.7:9001"),
            ("http://10.0.0.0:9000", "http://10.0.0.0:9000"),
            ("https://boat.example.com", "https://boat.example.com"),
        ] {
            assert_eq!(from_here(base), expected);
        }
    }
}
