//! A stack for children, with a page below it that no access reaches.

use std::ffi::c_void;
use std::io;
use std::ptr;

/// Bytes of a stack. A child touches two pages.
const STACK_BYTES: usize = 64 * 1024;

/// Memory for the stack of one child at a time.
pub(super) struct Stack {
    lowest: *mut c_void,
    bytes: usize,
}

impl Stack {
    /// A new stack.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new() -> io::Result<Self> {
        let guard_bytes = rustix::param::page_size();
        let bytes = STACK_BYTES + guard_bytes;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: A new mapping at a place of the kernel's choice overlaps nothing.
        #[expect(unsafe_code, reason = "a guard page takes a mapping of its own")]
        let lowest = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if lowest == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { lowest, bytes };
        // SAFETY: The first page of the new mapping, which no reference points to.
        #[expect(unsafe_code, reason = "a guard page takes a mapping of its own")]
        let guarded = unsafe { libc::mprotect(lowest, guard_bytes, libc::PROT_NONE) };
        match guarded {
            0 => Ok(stack),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The address after its last byte: stacks grow down. Aligned to a page.
    pub fn top(&self) -> *mut c_void {
        self.lowest.wrapping_byte_add(self.bytes)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: The mapping of `new`, which no child uses: a child's parent waits for it.
        #[expect(unsafe_code, reason = "a guard page takes a mapping of its own")]
        unsafe {
            libc::munmap(self.lowest, self.bytes);
        }
    }
}
