//! The control groups of this process (proc_pid_cgroup(5)), and what they say about its supervisor.

use std::path::{Path, PathBuf};

/// The unit's name in the package, where the control groups do not name one.
const UNIT: &str = "boathook";

/// What started this process and set up its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// systemd, for the service unit of this name, without `.service`.
    Service(String),
    Container,
    /// A shell, a test or another program.
    Other,
}

impl Supervisor {
    /// The supervisor of this process.
    pub fn of_process() -> Self {
        let is_container =
            ["/.dockerenv", "/run/.containerenv"].iter().any(|it| Path::new(it).exists());
        let is_service = std::env::var_os("INVOCATION_ID").is_some();
        Self::told_by(&own(), is_service, is_container)
    }

    /// `is_service` counts only where `cgroup` names no unit: a terminal's processes inherit
    /// INVOCATION_ID from the service that opened the terminal.
    fn told_by(cgroup: &str, is_service: bool, is_container: bool) -> Self {
        let groups =
            parse(cgroup).filter(|(controllers, _)| ["", "name=systemd"].contains(controllers));
        let leaf = groups.filter_map(|(_, path)| Path::new(path).file_name()?.to_str()).last();
        match leaf.and_then(|leaf| leaf.rsplit_once('.')) {
            Some((unit, "service")) => Self::Service(unit.to_owned()),
            Some((_, "scope")) if !is_container => Self::Other,
            _ if is_service => Self::Service(UNIT.to_owned()),
            _ if is_container => Self::Container,
            _ => Self::Other,
        }
    }
}

/// The content of /proc/self/cgroup; empty when it cannot be read.
pub fn own() -> String {
    std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// The files of `controller` in the groups of `cgroup` and in those above them, the innermost first.
/// `names` are the file's names in version 2 and in version 1. In a container the paths may be those of
/// the machine, and only the groups above them exist.
pub fn files(
    cgroup: &str,
    controller: &str,
    names: [&'static str; 2],
) -> impl Iterator<Item = PathBuf> {
    let groups = parse(cgroup).filter_map(move |(controllers, path)| {
        let (top, name) = match controllers {
            "" => ("/sys/fs/cgroup".to_owned(), names[0]),
            _ if controllers.split(',').any(|it| it == controller) => {
                (format!("/sys/fs/cgroup/{controller}"), names[1])
            }
            _ => return None,
        };
        let group = Path::new(&top).join(path.trim_start_matches('/'));
        let chain = group.ancestors().take_while(|it| it.starts_with(&top));
        Some(chain.map(|it| it.join(name)).collect::<Vec<_>>())
    });
    groups.flatten()
}

/// Controllers and path of each group in `cgroup`. A group of version 2 has no controllers.
fn parse(cgroup: &str) -> impl Iterator<Item = (&str, &str)> {
    cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_group_names_the_supervisor() {
        let service = |unit: &str| Supervisor::Service(unit.to_owned());
        for (cgroup, is_service, is_container, expected) in [
            ("0::/system.slice/boathook.service\n", true, false, service("boathook")),
            ("1:name=systemd:/system.slice/hooks.service\n0::/\n", false, false, service("hooks")),
            ("0::/user.slice/user-1.slice/session-1.scope\n", true, false, Supervisor::Other),
            ("0::/\n", true, false, service("boathook")),
            ("0::/\n", false, true, Supervisor::Container),
            ("0::/system.slice/docker-1f.scope\n", false, true, Supervisor::Container),
            ("", false, false, Supervisor::Other),
        ] {
            let told = Supervisor::told_by(cgroup, is_service, is_container);
            assert_eq!(told, expected, "{cgroup}");
        }
    }
}
