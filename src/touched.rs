//! Memory that is there before the first packet: what is reserved is written once, or the system would hand it out page by page later.

use alloc::vec::Vec;
use core::hint::black_box;

/// An empty vector with room for `room` items, all of it written.
pub fn room<T>(room: usize, value: impl FnMut() -> T) -> Vec<T> {
    let mut items = filled(room, value);
    items.clear();
    items
}

/// `len` items. Zeros are written, too: an allocator that is asked for zeroed memory passes on pages that nobody has touched.
pub fn filled<T>(len: usize, value: impl FnMut() -> T) -> Vec<T> {
    // What is behind it cannot become such a request.
    let mut items = black_box(Vec::with_capacity(len));
    items.resize_with(len, value);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_empty_and_does_not_grow_and_what_is_filled_is_full() {
        let mut items = room(100, || 7u64);
        let at = items.as_ptr();
        assert!(items.is_empty() && items.capacity() >= 100);
        items.extend(0..100);
        assert_eq!(items.as_ptr(), at);
        assert_eq!(filled(3, || 0u8), [0, 0, 0]);
        assert!(room(0, || 0u8).is_empty());
    }
}
