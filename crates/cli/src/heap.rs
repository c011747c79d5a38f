//! What the allocator of the process says about itself.

use std::ffi::CStr;

/// Room for what it says, which is about 10 KiB.
const ROOM: usize = 256 * 1024;

/// Returns the statistics of the allocator, as JSON; `None` if it gives none.
#[expect(
    unsafe_code,
    reason = "the allocator is written in C, and has no other way to tell"
)]
pub(crate) fn statistics() -> Option<String> {
    let mut room = vec![0_u8; ROOM];
    // SAFETY: it writes no more than the room it is told of, which is alive until the call returns.
    let written = unsafe { libmimalloc_sys::mi_stats_get_json(room.len(), room.as_mut_ptr().cast()) };
    if written.is_null() {
        return None;
    }
    let text = CStr::from_bytes_until_nul(&room).ok()?;
    text.to_str().ok().map(str::to_owned)
}
