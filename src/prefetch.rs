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

/// Asks the processor to load every cache line that `target` lies on. For records: a segment touches all of its record.
#[inline(always)]
pub fn prefetch_record<T>(target: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let begin = core::ptr::from_ref(target).cast::<i8>();
        let mut offset = 0;
        while offset < size_of::<T>() {
            // SAFETY: invariant 1; SSE is part of x86_64's baseline.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(begin.wrapping_add(offset)) }
            offset += LINE_BYTES;
        }
        if align_of::<T>() < LINE_BYTES {
            // A record that begins within a line may end on one more.
            // SAFETY: invariant 1; SSE is part of x86_64's baseline.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(begin.wrapping_add(size_of::<T>().saturating_sub(1))) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = target;
    }
}

/// Bytes of a cache line. Where lines are longer some are asked for twice, which costs little.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;
