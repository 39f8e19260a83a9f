//! The users that vessels run as: their ids, the operator's permission, and the capabilities that
//! the server needs to become another user. Looked up at every start, since users change.

use std::ffi::CString;
use std::fs::Metadata;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::LazyLock;

use nix::unistd::{Gid, Uid, User, getgrouplist};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::reason::Reason;

/// The capabilities to run a vessel as another user: become the user, own and remove its files,
/// signal its processes (capabilities(7)).
const NEEDED: [(CapabilitySet, &str); 6] = [
    (CapabilitySet::SETUID, "CAP_SETUID"),
    (CapabilitySet::SETGID, "CAP_SETGID"),
    (CapabilitySet::CHOWN, "CAP_CHOWN"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    (CapabilitySet::FOWNER, "CAP_FOWNER"),
    (CapabilitySet::KILL, "CAP_KILL"),
];

/// How a server gets the capabilities.
const GRANTING: &str = "start it as root, or give it these in both AmbientCapabilities= and \
                        CapabilityBoundingSet= of its unit: `boathook help security` has the drop-in";
/// How a server that has them can use them.
const LETTING: &str = "let its system calls pass (SystemCallFilter=@setuid capset in its unit): \
                       `boathook help security` has the drop-in";

/// Lets a server see the environment of other users' processes, by which it finds leftovers.
const SYS_PTRACE: (CapabilitySet, &str) = (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE");
/// The ambient capabilities that this server was given for `user:`; empty unless they are complete.
/// Read before a thread changes its own.
static FOR_USERS: LazyLock<Vec<CapabilitySet>> = LazyLock::new(|| {
    let ambient = ambient();
    let known = NEEDED.iter().chain([&SYS_PTRACE]).map(|(capability, _)| *capability);
    match missing_capabilities(&NEEDED, ambient).is_empty() {
        true => known.filter(|it| ambient.contains(*it)).collect(),
        false => Vec::new(),
    }
});

/// The ids of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// All groups of the user.
    pub groups: Vec<u32>,
}

impl Identity {
    /// Whether the mode of `found` permits `wanted` to the user: 4 to read, 2 to write, 1 to
    /// execute or pass through.
    pub fn may(&self, found: &Metadata, wanted: u32) -> bool {
        let mode = found.mode();
        if self.uid == 0 {
            return found.is_dir() || wanted & 1 == 0 || mode & 0o111 != 0;
        }
        let granted = match found {
            own if own.uid() == self.uid => mode >> 6,
            shared if shared.gid() == self.gid || self.groups.contains(&shared.gid()) => mode >> 3,
            _ => mode,
        };
        granted & wanted == wanted
    }

    /// Makes the user own the open `file`.
    ///
    /// # Errors
    /// Those of fchown(2).
    pub fn take(&self, file: impl AsFd) -> rustix::io::Result<()> {
        let (uid, gid) = (self.uid, self.gid);
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))
    }
}

/// The user `name` of this machine, if vessels may run as it.
///
/// # Errors
/// The reason, for a person.
pub fn identity(name: &str, allowed: &[String]) -> Result<Identity, Reason> {
    if !allowed.iter().any(|allowed| allowed == name) {
        return Err(Reason::new(
            format!("the operator does not let vessels run as `{name}`"),
            "add it to the setting `allowed_users`, or remove `user`",
        ));
    }
    let missing = missing_capabilities(&NEEDED, held());
    if !missing.is_empty() {
        return Err(Reason::new(
            format!("this server cannot run vessels as other users: it lacks {missing}"),
            GRANTING,
        ));
    }
    let failed = |what, error: nix::Error| {
        Reason::new(format!("{what} `{name}` cannot be looked up: {}", error.desc()), "")
    };
    let user = User::from_name(name).map_err(|error| failed("the user", error))?;
    let user = user.ok_or_else(|| {
        Reason::new(format!("there is no user `{name}` on this machine"), "make it with useradd")
    })?;
    // The operator has not allowed root.
    if user.uid.is_root() && name != "root" {
        return Err(Reason::new(
            format!("`{name}` is another name of root"),
            "allow and use `root`, or neither",
        ));
    }
    let groups = CString::new(name)
        .map_err(|_| nix::Error::EINVAL)
        .and_then(|name| getgrouplist(&name, user.gid))
        .map_err(|error| failed("the groups of", error))?;
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Ok(Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
}

/// The remedy when a server that has the capabilities cannot become another user.
pub(super) fn remedy_of_failure() -> &'static str {
    // Children inherit ambient capabilities. A server of root needs none.
    let passes_on =
        Uid::effective().is_root() || missing_capabilities(&NEEDED, ambient()).is_empty();
    if passes_on { LETTING } else { GRANTING }
}

/// Whether the server may read the environment of other users' processes, by which it finds
/// leftovers of a crash (proc_pid_environ(5)).
pub(super) fn can_see_others() -> bool {
    missing_capabilities(&[SYS_PTRACE], held()).is_empty()
}

/// The name of the user that this process runs as; its number when it has no name, as in some
/// containers.
pub fn own_name() -> String {
    let uid = Uid::effective().as_raw();
    name_of(uid).unwrap_or_else(|| uid.to_string())
}

/// The name of the user `uid`, if it has one.
pub fn name_of(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// The effective capabilities of this thread.
fn held() -> CapabilitySet {
    rustix::thread::capabilities(None)
        .map_or(CapabilitySet::empty(), |capabilities| capabilities.effective)
}

/// The ambient capabilities of this thread, which its children inherit.
fn ambient() -> CapabilitySet {
    let is_ambient =
        |it: &CapabilitySet| rustix::thread::capability_is_in_ambient_set(*it).unwrap_or(false);
    let known = NEEDED.iter().chain([&SYS_PTRACE]).map(|(capability, _)| *capability);
    known.filter(is_ambient).collect()
}

/// Sets whether programs that this thread starts inherit the capabilities for `user:`. Only the
/// shim needs them; a vessel that had them could do as much as root.
///
/// # Errors
/// Those of `PR_CAP_AMBIENT_RAISE` (prctl(2)).
pub(super) fn pass_capabilities_on(passes: bool) -> rustix::io::Result<()> {
    FOR_USERS.iter().try_for_each(|capability| {
        rustix::thread::configure_capability_in_ambient_set(*capability, passes)
    })
}

/// The names of the `needed` capabilities that are not `held`.
fn missing_capabilities(needed: &[(CapabilitySet, &str)], held: CapabilitySet) -> String {
    let missing = needed.iter().filter(|(capability, _)| !held.contains(*capability));
    missing.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_users_are_looked_up() {
        let reason = |name: &str, allowed: &[&str]| {
            let allowed: Vec<String> = allowed.iter().map(|&name| name.to_owned()).collect();
            identity(name, &allowed).unwrap_err().to_string()
        };
        assert!(reason("root", &[]).contains("add it to the setting `allowed_users`"));
        assert!(reason("daemon", &["root", "nobody"]).contains("`daemon`"));
        if Uid::effective().is_root() {
            let missing = reason("boathook-nobody", &["boathook-nobody"]);
            assert!(missing.contains("there is no user `boathook-nobody`"), "{missing}");
            assert_eq!(identity("root", &["root".to_owned()]).unwrap().uid, 0);
        }
    }
}
