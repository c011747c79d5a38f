//! Futures that are held apart from whoever waits for them, so that their room is not a part of his.

use std::pin::Pin;

/// Returns the future that `begin` gives, in a box.
///
/// It is made where it stays: `Box::pin` has a future first and room for it then, and copies all of it there, thousands
/// of bytes for one that has not begun and holds a few words.
#[inline]
pub(crate) fn begun<F: Future>(begin: impl FnOnce() -> F) -> Pin<Box<F>> {
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, begin()))
}
