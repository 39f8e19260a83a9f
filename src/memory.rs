//! The allocator's one setting, and what memory may be used for.

/// Arenas of glibc's allocator. It would make eight of them per core for threads by the hundred, and
/// what one thread allocates and another one frees, as payloads are on their way into the database,
/// is kept by each of them. Too few, and threads wait for each other: with two, a server of two cores
/// accepted a sixth less than with eight, and saved 20 MB of 160 while 16 large bodies came in.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: libc::c_int = 8;

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

/// Whether memory of this process may be written to and then run as code, which it never does
/// itself. Programs it starts are held to the same (MemoryDenyWriteExecute= of systemd.exec(5),
/// PR_SET_MDWE of prctl(2)).
pub fn may_become_code() -> bool {
    const BYTES: usize = 4096;
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: A new mapping at a place of the kernel's choice overlaps nothing. Nobody else knows
    // it, nothing is written to it or run, and it is given back at once.
    #[expect(unsafe_code, reason = "there is no other way to ask")]
    unsafe {
        let place = libc::mmap(std::ptr::null_mut(), BYTES, protection, flags, -1, 0);
        if place == libc::MAP_FAILED {
            return false;
        }
        libc::munmap(place, BYTES);
    }
    true
}
