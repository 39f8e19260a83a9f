//! The settings of the allocator, and whether memory may become code.

/// jemalloc reads this when it starts. Arenas: eight instead of four per core, and freed memory goes back
/// to the system after one second instead of ten. Each thread, hence each connection, caches up to 32
/// blocks of each size up to a page instead of 200 up to eight pages: 36 KB instead of 47. No huge pages:
/// most of one would be idle.
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
    // SAFETY: A new mapping at a place of the kernel's choice overlaps nothing. No other code knows
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
