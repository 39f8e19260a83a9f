//! What keeps vessels from parts of the machine that others can reach: they are children of the
//! server and see what it sees. Told by what /proc says of this process, and put into words that
//! end in what to write where. Decides nothing.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::mounts::{Mount, Mounts};
use crate::os::memory;

/// The unit of the package, where the real one cannot be told.
const UNIT: &str = "boathook";
/// What ProtectHome= is about (systemd.exec(5)).
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// What systemd puts in the place of what is to be out of sight.
const INACCESSIBLE: &str = "systemd/inaccessible/dir";
/// Part of the name of what a service has for /tmp with PrivateTmp=.
const PRIVATE_TMP: &str = "systemd-private-";
/// What a service must be given back before one of its programs can gain privileges: each of the
/// others implies NoNewPrivileges= (systemd.exec(5)).
const FOR_PRIVILEGES: &[&str] = &[
    "NoNewPrivileges=no",
    "CapabilityBoundingSet=~",
    "LockPersonality=no",
    "PrivateDevices=no",
    "ProtectClock=no",
    "ProtectHostname=no",
    "ProtectKernelLogs=no",
    "ProtectKernelModules=no",
    "ProtectKernelTunables=no",
    "RestrictAddressFamilies=",
    "RestrictNamespaces=no",
    "RestrictRealtime=no",
    "RestrictSUIDSGID=no",
    "SystemCallArchitectures=",
    "SystemCallFilter=",
];

/// The walls around this process.
#[derive(Clone, Debug)]
pub struct Sandbox {
    around: Around,
    mounts: Mounts,
    no_new_privileges: bool,
    has_fixed_memory: bool,
    /// Whether system calls are filtered (seccomp(2)).
    has_filter: bool,
}

/// Who has put them up.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Around {
    /// systemd, for the unit of this name.
    Service(String),
    Container,
    /// Whoever started us.
    Unknown,
}

/// Something in the way of a vessel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub what: String,
    pub remedy: Remedy,
}

/// What would take it out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Lines below `[Service]` in a drop-in for the unit.
    DropIn {
        unit: String,
        lines: Vec<String>,
    },
    Other(String),
}

impl Sandbox {
    /// What is around this process now.
    pub fn of_process() -> Self {
        let is_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|it| is_there(it));
        let is_service = std::env::var_os("INVOCATION_ID").is_some();
        Self {
            around: around(&own_control_groups(), is_service, is_container),
            mounts: Mounts::of_process(),
            no_new_privileges: rustix::thread::no_new_privs().unwrap_or(false),
            has_fixed_memory: !memory::may_become_code(),
            has_filter: has_filter(
                &std::fs::read_to_string("/proc/self/status").unwrap_or_default(),
            ),
        }
    }

    /// The file systems that this process sees.
    pub fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// Whether systemd runs this process as a service.
    fn is_service(&self) -> bool {
        matches!(self.around, Around::Service(_))
    }

    /// What hides `path`, which cannot be found, from this process; `None` when nothing seems to.
    pub fn hides(&self, path: &Path) -> Option<Obstacle> {
        let mount = self.mounts.of(path)?;
        let point = mount.point.display();
        let (of_unit, line) = if HOMES.iter().any(|home| mount.point == Path::new(home)) {
            let is_empty = mount.kind == "tmpfs" && path != mount.point && self.is_service();
            let is_replaced = is_empty || mount.root.ends_with(INACCESSIBLE);
            (is_replaced.then_some("ProtectHome=")?, "ProtectHome=read-only")
        } else if mount.root.to_string_lossy().contains(PRIVATE_TMP) {
            ("PrivateTmp=", "PrivateTmp=no")
        } else if mount.root.ends_with(INACCESSIBLE) {
            ("InaccessiblePaths=", "InaccessiblePaths=")
        } else {
            return None;
        };
        Some(match &self.around {
            Around::Service(unit) => Obstacle {
                what: format!("the service's sandbox hides what is in {point} ({of_unit})"),
                remedy: drop_in(unit, [line]),
            },
            _ => Obstacle {
                what: format!(
                    "the server sees something else at {point} than the machine has there"
                ),
                remedy: self.mounting(path, ""),
            },
        })
    }

    /// What keeps everybody in this process's sandbox from changing what is in `directory`.
    pub fn protects(&self, directory: &Path) -> Option<Obstacle> {
        if !self.mounts.of(directory).is_some_and(Mount::is_read_only) {
            return None;
        }
        let shown = directory.display();
        Some(match &self.around {
            Around::Service(unit) => Obstacle {
                what: format!("{shown} is read-only in the service's sandbox"),
                remedy: drop_in(unit, [format!("ReadWritePaths={}", word(directory)).as_str()]),
            },
            _ => Obstacle {
                what: format!("{shown} is read-only for the server"),
                remedy: self.mounting(directory, " writable"),
            },
        })
    }

    /// What keeps programs such as sudo from what they are for.
    pub fn forbids_privileges(&self) -> Option<Obstacle> {
        let remedy = match &self.around {
            Around::Service(unit) => drop_in(unit, FOR_PRIVILEGES.iter().copied()),
            Around::Container => Remedy::Other(
                "start the container without `no-new-privileges`, or let something outside do it"
                    .to_owned(),
            ),
            Around::Unknown => Remedy::Other(
                "start the server without no_new_privs (setpriv(1)), or let something else do it"
                    .to_owned(),
            ),
        };
        self.no_new_privileges.then(|| Obstacle {
            what: "no program that the server starts can gain privileges (NoNewPrivileges)"
                .to_owned(),
            remedy,
        })
    }

    /// What keeps just-in-time compilers (Node, Java) from running at all.
    pub fn forbids_compilers(&self) -> Option<Obstacle> {
        let line = "MemoryDenyWriteExecute=no";
        let remedy = match &self.around {
            Around::Service(unit) => drop_in(unit, [line]),
            _ => Remedy::Other("start the server without PR_SET_MDWE (prctl(2))".to_owned()),
        };
        self.has_fixed_memory.then(|| Obstacle {
            what: "no program that the server starts can make code of its own, as Node, Java and \
                   other just-in-time compilers must (MemoryDenyWriteExecute)"
                .to_owned(),
            remedy,
        })
    }

    /// What keeps sandboxes and containers without root (bwrap, podman, Chromium) from being made.
    pub fn forbids_namespaces(&self) -> Option<Obstacle> {
        let line = "RestrictNamespaces=no";
        let remedy = match &self.around {
            Around::Service(unit) if self.has_filter => drop_in(unit, [line]),
            Around::Container => Remedy::Other(
                "start the container with a seccomp profile that lets it make user namespaces"
                    .to_owned(),
            ),
            _ => Remedy::Other(
                "let unprivileged users make namespaces: sysctl user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns"
                    .to_owned(),
            ),
        };
        may_not_make_namespaces().then(|| Obstacle {
            what: "no program that the server starts can make namespaces, as bwrap, unshare and \
                   containers without root must (RestrictNamespaces)"
                .to_owned(),
            remedy,
        })
    }

    /// What keeps programs such as ping and ip from dropping capabilities. Whether the filter of
    /// system calls does is not tried: some filters end whoever tries.
    pub fn may_forbid_capset(&self) -> Option<Obstacle> {
        let remedy = match &self.around {
            Around::Service(unit) => drop_in(unit, ["SystemCallFilter=capset"]),
            _ => Remedy::Other("start the server with a filter that allows capset(2)".to_owned()),
        };
        self.has_filter.then(|| Obstacle {
            what: "ip, ping and others end where they may not call capset (SystemCallFilter)"
                .to_owned(),
            remedy,
        })
    }

    /// How a path comes to be in the server's sight, where that is not systemd's doing.
    pub fn mounting(&self, path: &Path, how: &str) -> Remedy {
        let path = path.display();
        Remedy::Other(match self.around {
            Around::Container => format!("mount it into the container{how}: -v {path}:{path}"),
            _ => format!("mount it{how} where the server runs"),
        })
    }

    /// Whether this process is in a container, which has files of its own.
    pub fn is_container(&self) -> bool {
        self.around == Around::Container
    }
}

impl Obstacle {
    /// As one line.
    pub fn line(&self) -> String {
        let Self { what, remedy } = self;
        match remedy {
            Remedy::DropIn { unit, lines } => format!(
                "{what}: `systemctl edit {unit}`, write [Service] and below it {}, then `systemctl \
                 restart {unit}`",
                lines.join(" ")
            ),
            Remedy::Other(remedy) => format!("{what}: {remedy}"),
        }
    }

    /// As a paragraph, with the drop-in on lines of its own, to be pasted.
    pub fn text(&self) -> String {
        format!("{}; {}", self.what, self.remedy.text())
    }
}

impl Remedy {
    /// As a paragraph, with the drop-in on lines of its own.
    pub fn text(&self) -> String {
        match self {
            Self::DropIn { unit, lines } => {
                let mut text = format!(
                    "let it with a drop-in: `systemctl edit {unit}`, then `systemctl restart \
                     {unit}`\n[Service]"
                );
                for line in lines {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\n{line}");
                }
                text
            }
            Self::Other(text) => text.clone(),
        }
    }
}

fn drop_in<'l>(unit: &str, lines: impl IntoIterator<Item = &'l str>) -> Remedy {
    let lines = lines.into_iter().map(str::to_owned).collect();
    Remedy::DropIn { unit: unit.to_owned(), lines }
}

fn is_there(path: &str) -> bool {
    Path::new(path).exists()
}

/// Whether `status` of a process (proc_pid_status(5)) says that a filter judges its system calls.
fn has_filter(status: &str) -> bool {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

/// Whether a child of ours is refused a user namespace. A child, because a filter may end who asks.
fn may_not_make_namespaces() -> bool {
    let mut unshare = Command::new("/usr/bin/unshare");
    unshare.args(["--user", "/bin/true"]).env_clear();
    unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Where the program is missing nothing is known.
    unshare.status().is_ok_and(|status| !status.success())
}

/// A path as a unit file takes it (systemd.syntax(7)).
fn word(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    match text.contains(|letter: char| letter.is_whitespace() || "\"'\\".contains(letter)) {
        true => format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")),
        false => text,
    }
}

/// The control groups of this process, in the kernel's words; empty when they cannot be told.
pub fn own_control_groups() -> String {
    std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// Each group that `cgroup` names: its controllers, none in the one hierarchy of version 2, and its
/// path (proc_pid_cgroup(5)).
pub fn control_groups(cgroup: &str) -> impl Iterator<Item = (&str, &str)> {
    cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
}

/// Who runs this process, by its control groups. Whether it `is_service` counts where they say
/// nothing: terminals inherit it from the service that opened them.
fn around(cgroup: &str, is_service: bool, is_container: bool) -> Around {
    let groups = control_groups(cgroup)
        .filter(|(controllers, _)| ["", "name=systemd"].contains(controllers));
    let leaf = groups.filter_map(|(_, path)| Path::new(path).file_name()?.to_str()).last();
    match leaf.and_then(|leaf| leaf.rsplit_once('.')) {
        Some((unit, "service")) => Around::Service(unit.to_owned()),
        Some((_, "scope")) if !is_container => Around::Unknown,
        _ if is_service => Around::Service(UNIT.to_owned()),
        _ if is_container => Around::Container,
        _ => Around::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_runs_us_is_told_by_the_control_group() {
        let service = |unit: &str| Around::Service(unit.to_owned());
        for (cgroup, is_service, is_container, expected) in [
            ("0::/system.slice/boathook.service\n", true, false, service("boathook")),
            ("1:name=systemd:/system.slice/hooks.service\n0::/\n", false, false, service("hooks")),
            ("0::/user.slice/user-1.slice/session-1.scope\n", true, false, Around::Unknown),
            ("0::/\n", true, false, service("boathook")),
            ("0::/\n", false, true, Around::Container),
            ("0::/system.slice/docker-1f.scope\n", false, true, Around::Container),
            ("", false, false, Around::Unknown),
        ] {
            assert_eq!(around(cgroup, is_service, is_container), expected, "{cgroup}");
        }
    }

    #[test]
    fn a_filter_of_system_calls_is_seen() {
        assert!(has_filter("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!has_filter("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n") && !has_filter(""));
    }

    #[test]
    fn drop_ins_can_be_copied() {
        let remedy = drop_in("boathook", ["ReadWritePaths=/srv/site"]);
        let text = remedy.text();
        assert!(text.ends_with("\n[Service]\nReadWritePaths=/srv/site"), "{text}");
        let line = Obstacle { what: "closed".to_owned(), remedy }.line();
        assert!(!line.contains('\n') && line.contains("[Service]"), "{line}");
        let remedy = drop_in("boathook", FOR_PRIVILEGES.iter().copied());
        let text = Obstacle { what: "closed".to_owned(), remedy }.text();
        let lines: Vec<&str> = text.lines().skip_while(|line| *line != "[Service]").collect();
        assert_eq!(lines[1..], *FOR_PRIVILEGES, "{text}");
        assert_eq!(word(Path::new("/srv/my site")), "\"/srv/my site\"");
        assert_eq!(word(Path::new("/srv/50%")), "/srv/50%%");
    }
}
