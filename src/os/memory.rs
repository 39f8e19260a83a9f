//! What the allocator goes by, and what memory may be used for.

/// What jemalloc reads when it starts. Arenas keep for a while what was freed in them: by default
/// there are four for each core, but threads by the hundred gain nothing from more than a few, and
/// after a second it goes back to the system, not after ten. Each thread, hence each connection,
/// keeps up to 32 of all sizes up to a page, not 200 of up to eight pages: 36 KB instead of 47. Huge
/// pages: most of one would lie idle.
#[expect(unsafe_code, reason = "the name under which jemalloc looks for it")]
// SAFETY: jemalloc declares a pointer to characters, ended by a zero, that it only reads, and for
// others to define. A reference to an array of a known length is such a pointer.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static SETTINGS: &[u8; 84] =
    b"narenas:8,dirty_decay_ms:1000,lg_tcache_max:12,tcache_nslots_small_max:32,thp:never\0";

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
