//! Numbers that name things: records in slabs, and handles that applications hold.

/// No record: the end of a list, an empty slot.
pub const NONE: u32 = u32::MAX;

/// What an entry of the connection index stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A full TCB in the TCB slab.
    Tcb = 0,
    /// An IPv4 TIME-WAIT record.
    TimeWaitV4 = 1,
    /// An IPv6 TIME-WAIT record.
    TimeWaitV6 = 2,
}

/// A kind and a 30-bit record number in 32 bits: what the connection index stores per 4-tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Value(u32);

impl Value {
    /// The largest record number that fits.
    pub const NUMBER_MAX: u32 = (1 << 30) - 1;

    /// The value for record `number` of `kind`. `number` must be at most [`Value::NUMBER_MAX`]; slabs are bounded so.
    #[inline]
    pub const fn new(kind: Kind, number: u32) -> Value {
        debug_assert!(number <= Value::NUMBER_MAX);
        Value((kind as u32) << 30 | (number & Value::NUMBER_MAX))
    }

    /// What the record is.
    #[inline]
    pub const fn kind(self) -> Kind {
        match self.0 >> 30 {
            0 => Kind::Tcb,
            1 => Kind::TimeWaitV4,
            _ => Kind::TimeWaitV6,
        }
    }

    /// The record's number in its slab.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0 & Value::NUMBER_MAX
    }

    /// The 32 bits as a bucket stores them.
    #[inline]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// The inverse of [`Value::to_bits`].
    #[inline]
    pub const fn from_bits(bits: u32) -> Value {
        Value(bits)
    }
}

/// An application's name for a connection of one shard.
///
/// The generation makes a handle of an ended connection stale: it is refused, and never reaches another connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Handle {
    pub(crate) number: u32,
    pub(crate) generation: u32,
}

impl Handle {
    /// The handle in 64 bits, to keep beside other data.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.number as u64
    }

    /// The number of the connection's record: dense from 0, at most the limit on TCBs; an index for tables of the
    /// application's own.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// The inverse of [`Handle::to_bits`]. Invented bits are harmless: they name no connection, or one of this shard.
    pub const fn from_bits(bits: u64) -> Handle {
        Handle { number: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// The name of a listener of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub(crate) u32);

/// The name of a timer of one shard's application. Like a [`Handle`] it names no other when its own is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct TimerId {
    pub(crate) number: u32,
    pub(crate) generation: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_kind_and_number() {
        for kind in [Kind::Tcb, Kind::TimeWaitV4, Kind::TimeWaitV6] {
            for number in [0, 1, 12345, Value::NUMBER_MAX] {
                let value = Value::from_bits(Value::new(kind, number).to_bits());
                assert_eq!((value.kind(), value.number()), (kind, number));
            }
        }
    }

    #[test]
    fn handles_survive_64_bits() {
        let handle = Handle { number: 7, generation: u32::MAX };
        assert_eq!(Handle::from_bits(handle.to_bits()), handle);
    }
}
