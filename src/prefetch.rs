//! The processor's prefetch instruction: the only unsafe calls that floors 0 to 3 make.
//!
//! Invariant 1: a prefetch never faults and changes no memory, whatever the address.

/// Asks the processor to load the cache line that holds `target`, for reading and writing.
#[inline(always)]
pub fn prefetch<T>(target: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: invariant 1; SSE is part of x86_64's baseline.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(target).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = target;
    }
}

/// Asks the processor to load the first two cache lines of `target`. For records of more than 64 bytes.
#[inline(always)]
pub fn prefetch_two_lines<T>(target: &T) {
    prefetch(target);
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let second = core::ptr::from_ref(target).cast::<i8>().wrapping_add(64);
        // SAFETY: invariant 1; SSE is part of x86_64's baseline.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(second) }
    }
}
