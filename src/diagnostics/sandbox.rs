//! What the server's surroundings forbid to vessels, which are its children, and how to allow it:
//! by lines of a drop-in where systemd runs the server (systemd.exec(5)).

use std::path::Path;
use std::process::{Command, Stdio};

use super::mounts::{Mount, Mounts};
use crate::os::control_groups::Supervisor;
use crate::os::memory;

/// The directories that ProtectHome= covers.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// The directory that systemd mounts over inaccessible paths.
const INACCESSIBLE: &str = "systemd/inaccessible/dir";
/// Part of the name of the directory that PrivateTmp= mounts at /tmp.
const PRIVATE_TMP: &str = "systemd-private-";
/// The lines that let programs of a service gain privileges: each setting but the first implies
/// NoNewPrivileges=.
const FOR_PRIVILEGES: [&str; 15] = [
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

/// The surroundings of this process.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    supervisor: Supervisor,
    mounts: Mounts,
    denies_privileges: bool,
    denies_compilers: bool,
    denies_namespaces: bool,
    denies_capset: bool,
    /// Whether system calls are filtered (seccomp(2)).
    has_filter: bool,
}

/// Something that a vessel cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub what: String,
    /// A sentence. The lines of a drop-in follow it, to be copied.
    pub remedy: String,
}

impl Sandbox {
    /// The surroundings of this process now.
    pub fn of_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            supervisor: Supervisor::of_process(),
            mounts: Mounts::of_process(),
            denies_privileges: rustix::thread::no_new_privs().unwrap_or(false),
            denies_compilers: !memory::may_become_code(),
            denies_namespaces: fails("/usr/bin/unshare", &["--user", "/bin/true"]),
            denies_capset: fails("/usr/bin/setpriv", &["--inh-caps=-all", "/bin/true"]),
            has_filter: has_filter(&status),
        }
    }

    pub fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    pub fn is_container(&self) -> bool {
        self.supervisor == Supervisor::Container
    }

    /// The mount that hides `path`, which cannot be found, from this process.
    pub fn hides(&self, path: &Path) -> Option<Obstacle> {
        let mount = self.mounts.of(path)?;
        let point = mount.point.display();
        let is_service = matches!(self.supervisor, Supervisor::Service(_));
        let (setting, line) = if HOMES.iter().any(|home| mount.point == Path::new(home)) {
            let is_empty = mount.kind == "tmpfs" && path != mount.point && is_service;
            let is_replaced = is_empty || mount.root.ends_with(INACCESSIBLE);
            (is_replaced.then_some("ProtectHome=")?, "ProtectHome=read-only")
        } else if mount.root.to_string_lossy().contains(PRIVATE_TMP) {
            ("PrivateTmp=", "PrivateTmp=no")
        } else if mount.root.ends_with(INACCESSIBLE) {
            ("InaccessiblePaths=", "InaccessiblePaths=")
        } else {
            return None;
        };
        let what = match is_service {
            true => format!("the service's sandbox hides what is in {point} ({setting})"),
            false => {
                format!("the server sees something else at {point} than the machine has there")
            }
        };
        Some(Obstacle { what, remedy: self.remedy(&[line], &mounting(path, ""), &mounted("")) })
    }

    /// The read-only mount that keeps every user from changing `directory`.
    pub fn protects(&self, directory: &Path) -> Option<Obstacle> {
        if !self.mounts.of(directory).is_some_and(Mount::is_read_only) {
            return None;
        }
        let by = match self.supervisor {
            Supervisor::Service(_) => "in the service's sandbox",
            _ => "for the server",
        };
        let line = format!("ReadWritePaths={}", word(directory));
        let (in_container, elsewhere) = (mounting(directory, " writable"), mounted(" writable"));
        Some(Obstacle {
            what: format!("{} is read-only {by}", directory.display()),
            remedy: self.remedy(&[&line], &in_container, &elsewhere),
        })
    }

    /// sudo and the like cannot gain privileges.
    pub fn forbids_privileges(&self) -> Option<Obstacle> {
        self.denies_privileges.then(|| Obstacle {
            what: "no program that the server starts can gain privileges (NoNewPrivileges)"
                .to_owned(),
            remedy: self.remedy(
                &FOR_PRIVILEGES,
                "start the container without `no-new-privileges`, or let something outside do it",
                "start the server without no_new_privs (setpriv(1)), or let something else do it",
            ),
        })
    }

    /// Just-in-time compilers (Node, Java) cannot run at all.
    pub fn forbids_compilers(&self) -> Option<Obstacle> {
        let elsewhere = "start the server without PR_SET_MDWE (prctl(2))";
        self.denies_compilers.then(|| Obstacle {
            what: "no program that the server starts can make code of its own, as Node, Java and \
                   other just-in-time compilers must (MemoryDenyWriteExecute)"
                .to_owned(),
            remedy: self.remedy(&["MemoryDenyWriteExecute=no"], elsewhere, elsewhere),
        })
    }

    /// Sandboxes and containers without root (bwrap, podman, Chromium) cannot be made.
    pub fn forbids_namespaces(&self) -> Option<Obstacle> {
        let in_container =
            "start the container with a seccomp profile that lets it make user namespaces";
        let elsewhere = "let unprivileged users make namespaces: sysctl user.max_user_namespaces, \
                         kernel.unprivileged_userns_clone and \
                         kernel.apparmor_restrict_unprivileged_userns";
        let remedy = match self.supervisor {
            // The unit does not filter system calls: the machine refuses.
            Supervisor::Service(_) if !self.has_filter => elsewhere.to_owned(),
            _ => self.remedy(&["RestrictNamespaces=no"], in_container, elsewhere),
        };
        self.denies_namespaces.then(|| Obstacle {
            what: "no program that the server starts can make namespaces, as bwrap, unshare and \
                   containers without root must (RestrictNamespaces)"
                .to_owned(),
            remedy,
        })
    }

    /// ping, ip and the like cannot drop capabilities, and end; ip does so without a message.
    pub fn forbids_capset(&self) -> Option<Obstacle> {
        let elsewhere = "start the server with a filter that allows capset(2)";
        self.denies_capset.then(|| Obstacle {
            what: "no program that the server starts can call capset, as ip and ping must \
                   (SystemCallFilter)"
                .to_owned(),
            remedy: self.remedy(&["SystemCallFilter=capset"], elsewhere, elsewhere),
        })
    }

    /// What every vessel of this server meets, whether a fleet names it or not.
    pub fn walls(&self) -> Vec<String> {
        let root = self.protects(Path::new("/"));
        let root = root.map(|it| format!("{} (ReadWritePaths=DIRECTORY opens a part)", it.what));
        let others = [
            self.hides(Path::new("/home/user")),
            self.forbids_privileges(),
            self.forbids_compilers(),
            self.forbids_namespaces(),
            self.forbids_capset(),
        ];
        root.into_iter().chain(others.into_iter().flatten().map(|it| it.what)).collect()
    }

    /// How `path` of a container's host becomes visible in the container.
    pub fn remedy_of_container(&self, path: &Path) -> Option<String> {
        self.is_container().then(|| mounting(path, ""))
    }

    /// A drop-in with these lines, or the advice for the surroundings that are no service.
    fn remedy(&self, lines: &[&str], in_container: &str, elsewhere: &str) -> String {
        match &self.supervisor {
            Supervisor::Service(unit) => format!(
                "let it with a drop-in: `systemctl edit {unit}`, then `systemctl restart {unit}`\n\
                 [Service]\n{}",
                lines.join("\n")
            ),
            Supervisor::Container => in_container.to_owned(),
            Supervisor::Other => elsewhere.to_owned(),
        }
    }
}

fn mounting(path: &Path, how: &str) -> String {
    let path = path.display();
    format!("mount it into the container{how}: -v {path}:{path}")
}

fn mounted(how: &str) -> String {
    format!("mount it{how} where the server runs")
}

/// Whether `program` runs and fails in a child process: a filter of system calls may kill a process
/// for the attempt. False where the program is missing.
fn fails(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| !status.success())
}

/// Whether the `status` of a process (proc_pid_status(5)) names a filter of system calls.
fn has_filter(status: &str) -> bool {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

/// A path in the syntax of unit files (systemd.syntax(7)).
fn word(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    match text.contains(|letter: char| letter.is_whitespace() || "\"'\\".contains(letter)) {
        true => format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Sandbox {
        Sandbox {
            supervisor: Supervisor::Service("boathook".to_owned()),
            mounts: Mounts::default(),
            denies_privileges: true,
            denies_compilers: false,
            denies_namespaces: true,
            denies_capset: true,
            has_filter: true,
        }
    }

    #[test]
    fn a_filter_of_system_calls_is_seen() {
        assert!(has_filter("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!has_filter("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n") && !has_filter(""));
    }

    #[test]
    fn drop_ins_can_be_copied() {
        let remedy = service().remedy(&["ReadWritePaths=/srv/site"], "", "");
        assert!(remedy.ends_with("\n[Service]\nReadWritePaths=/srv/site"), "{remedy}");
        let remedy = service().forbids_privileges().unwrap().remedy;
        let lines: Vec<&str> = remedy.lines().skip_while(|line| *line != "[Service]").collect();
        assert_eq!(lines[1..], FOR_PRIVILEGES, "{remedy}");
        assert_eq!(word(Path::new("/srv/my site")), "\"/srv/my site\"");
        assert_eq!(word(Path::new("/srv/50%")), "/srv/50%%");
    }

    #[test]
    fn advice_depends_on_the_supervisor() {
        let of = |supervisor| Sandbox { supervisor, ..service() }.forbids_namespaces().unwrap();
        assert!(of(Supervisor::Container).remedy.contains("seccomp profile"));
        assert!(of(Supervisor::Other).remedy.contains("sysctl"));
        let by_machine = Sandbox { has_filter: false, ..service() }.forbids_namespaces().unwrap();
        assert!(by_machine.remedy.contains("sysctl"), "{by_machine:?}");
        let walls = service().walls();
        assert_eq!(walls.len(), 3, "{walls:?}");
        let open = Sandbox { denies_capset: false, ..service() };
        assert_eq!(open.forbids_capset(), None);
    }
}
