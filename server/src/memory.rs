//! How the process asks the system for memory, and when it gives it back.
//!
//! A CMDB of 100,000 entries is a text of 10 MB that is written anew every second while machines
//! come. What such a moment needs shall not be kept for the quiet hours after it. Nothing here
//! changes what the program does: on systems without these settings it is only larger.

/// Allocations of this many bytes go back to the system when they are dropped.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 1 << 20;

/// Of small ones, so much is kept for the next batch, by each arena.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 4 << 20;

/// So many arenas the threads share. Each keeps what its busiest moment needed, and the workers
/// are many; with two of them they spent a tenth of their time waiting for each other's.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 8;

/// To be called before the first thread is started.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        #[expect(unsafe_code, reason = "the allocator has no other door")]
        // SAFETY: no other thread runs yet, and the values are ones that mallopt(3) allows; it
        // changes nothing that was allocated.
        unsafe {
            mallopt(M_ARENA_MAX, ARENAS);
            mallopt(M_MMAP_THRESHOLD, LARGE);
            mallopt(M_TRIM_THRESHOLD, KEPT);
        }
    }
}

/// Gives back what is free. Takes milliseconds: for when nothing happens.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the allocator has no other door")]
    // SAFETY: malloc_trim(3) may be called at any time from any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
