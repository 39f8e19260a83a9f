//! The allocator's one setting.

/// Arenas of glibc's allocator. Threads by the hundred would make eight of them per core, and what
/// one thread allocates and another one frees, as payloads are on their way into the database, is
/// kept by each of them: large uploads took 230 MB instead of 130, and accepted no faster.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: libc::c_int = 2;

/// Keeps the allocator from hoarding. Call it before there are threads.
pub fn limit_arenas() {
    // SAFETY: mallopt(3) takes two integers, touches nothing but the allocator's own settings, and
    // takes the allocator's lock to do so.
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "nobody wraps mallopt")]
    let is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX) } == 1;
    #[cfg(target_env = "gnu")]
    if !is_set {
        log::debug!("the allocator goes by its own settings");
    }
}
