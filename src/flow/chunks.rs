//! Bytes that wait: a pool of chunks in one allocation, and chains of them.
//!
//! Every chunk of a chain but the last is full, so the place of an offset is a division. An empty chain owns no chunk.
//! A reservation sets a chunk aside for bytes that must not be refused once promised, such as what a window offered.

use crate::ids::NONE;
use crate::limits::CHUNK_BYTES;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;
use core::ops::Range;

/// A queue of bytes in a pool. It ends with [`Chunks::clear`]: a chain that is just dropped loses its chunks to the pool.
///
/// It is small because every connection has two, mostly empty: what else belongs to a chain is kept with its head chunk.
#[derive(Debug)]
pub struct Chain {
    head: u32,
    /// Bytes in the chain.
    len: u32,
}

impl Chain {
    /// Bytes in the chain.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether the chain holds no byte, and then no chunk.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { head: NONE, len: 0 }
    }
}

/// A pool of chunks of [`CHUNK_BYTES`].
pub struct Chunks {
    bytes: Vec<u8>,
    /// One for each chunk.
    nodes: Vec<Node>,
    free_head: u32,
    free_count: u32,
    reserved: u32,
}

impl Chunks {
    /// A pool of `count` chunks, all of them free and all memory touched.
    pub fn new(count: u32) -> Chunks {
        let nodes =
            (1..count).chain([NONE]).take(count as usize).map(|next| Node { next, ..Node::default() }).collect();
        Chunks {
            // Not zero: zeroed memory would come from the system untouched.
            bytes: vec![UNUSED; count as usize * CHUNK_BYTES],
            nodes,
            free_head: if count == 0 { NONE } else { 0 },
            free_count: count,
            reserved: 0,
        }
    }

    /// Bytes that a pool of `count` chunks takes.
    pub const fn bill(count: u32) -> u64 {
        count as u64 * (CHUNK_BYTES + size_of::<Node>()) as u64
    }

    /// The addresses of the chunks.
    pub fn region(&self) -> Range<*const u8> {
        let range = self.bytes.as_ptr_range();
        range.start.cast()..range.end.cast()
    }

    /// Chunks that are neither in a chain nor reserved.
    #[inline]
    pub const fn free(&self) -> u32 {
        self.free_count - self.reserved
    }

    /// Whether less than half of the chunks are free: then no chain may grow as it likes.
    #[inline]
    pub const fn is_short(&self) -> bool {
        self.free() < self.nodes.len() as u32 / 2
    }

    /// Bytes up to which one chain may grow now: without a bound while half of the chunks are free, then by an eighth
    /// of what is free beyond the last quarter, and of that quarter by one chunk. So those that only grow share what
    /// they leave, and there is a chunk for who holds nothing, a quarter of the chunks long.
    #[inline]
    pub const fn share_bytes(&self) -> u32 {
        if !self.is_short() {
            return u32::MAX;
        }
        let beyond = self.free().saturating_sub(self.nodes.len() as u32 / 4);
        (1 + beyond / SHARE).saturating_mul(CHUNK)
    }

    /// Sets `chunks` free chunks aside for [`Chunks::append_reserved`]; `false`, and none, when fewer are free.
    #[inline]
    #[must_use]
    pub const fn reserve(&mut self, chunks: u32) -> bool {
        let granted = chunks <= self.free();
        if granted {
            self.reserved += chunks;
        }
        granted
    }

    /// Gives `chunks` reservations back unused.
    #[inline]
    pub const fn unreserve(&mut self, chunks: u32) {
        debug_assert!(chunks <= self.reserved);
        self.reserved = self.reserved.saturating_sub(chunks);
    }

    /// Appends as much of `bytes` as the tail chunk and the free chunks take, and says how much that is, bytes.
    #[inline(always)]
    pub fn append(&mut self, chain: &mut Chain, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() && (self.room(chain) > 0 || self.free() > 0) {
            done += self.append_to_one_chunk(chain, &bytes[done..]);
        }
        done
    }

    /// Spends one reservation and appends `bytes`, at most [`CHUNK_BYTES`] of them. What the tail chunk took alone gives
    /// the reserved chunk back to the free ones. Without a reservation it does what [`Chunks::append`] does.
    #[inline(always)]
    pub fn append_reserved(&mut self, chain: &mut Chain, bytes: &[u8]) {
        debug_assert!(bytes.len() <= CHUNK_BYTES && self.reserved > 0);
        self.unreserve(1);
        self.append(chain, bytes);
    }

    /// Moves all bytes of `from` behind those of `chain`: in O(1) if that is empty, otherwise chunk by chunk. One chunk must
    /// be free, or the tail have room for the first of `from`; what cannot be moved is lost and counts as a mistake.
    pub fn move_behind(&mut self, chain: &mut Chain, from: &mut Chain) {
        if chain.is_empty() {
            *chain = core::mem::take(from);
            return;
        }
        while !from.is_empty() {
            let (head, first) = (from.head, self.nodes[from.head as usize].first as usize);
            let len = (CHUNK_BYTES - first).min(from.len as usize);
            let mut done = 0;
            while done < len && (self.room(chain) > 0 || self.free() > 0) {
                let filled = self.fill_of_tail(chain);
                let count = (CHUNK_BYTES - filled).min(len - done);
                let to = self.nodes[chain.head as usize].tail as usize * CHUNK_BYTES + filled;
                let at = head as usize * CHUNK_BYTES + first + done;
                self.bytes.copy_within(at..at + count, to);
                chain.len += count as u32;
                done += count;
            }
            debug_assert!(done == len, "no chunk is free to move bytes");
            self.consume(from, len as u32);
        }
    }

    /// The first bytes of the chain, as many as lie together; empty only if the chain is.
    #[inline]
    pub fn front(&self, chain: &Chain) -> &[u8] {
        if chain.is_empty() {
            return &[];
        }
        let from = self.nodes[chain.head as usize].first as usize;
        self.piece(chain.head, from, (CHUNK_BYTES - from).min(chain.len as usize))
    }

    /// Drops the first `count` bytes of the chain, or all if there are fewer. Chunks go back as they empty.
    #[inline(always)]
    pub fn consume(&mut self, chain: &mut Chain, count: u32) {
        if count >= chain.len {
            return self.clear(chain);
        }
        let mut head = self.nodes[chain.head as usize];
        head.first += count;
        while head.first >= CHUNK {
            let emptied = chain.head;
            chain.head = head.next;
            self.put_free(emptied, emptied, 1);
            head.next = self.nodes[chain.head as usize].next;
            head.first -= CHUNK;
            if head.cursor_index == 0 {
                head.cursor = chain.head;
            } else {
                head.cursor_index -= 1;
            }
        }
        self.nodes[chain.head as usize] = head;
        chain.len -= count;
    }

    /// The `len` bytes at `offset` of the chain, in at most two pieces; the second is empty if they lie together.
    ///
    /// What lies past the end of the chain or past [`CHUNK_BYTES`] is left out. Increasing offsets cost O(1) each.
    #[inline(always)]
    pub fn slices(&mut self, chain: &Chain, offset: u32, len: u32) -> [&[u8]; 2] {
        let len = len.min(CHUNK).min(chain.len.saturating_sub(offset));
        if len == 0 {
            return [&[], &[]];
        }
        let position = self.nodes[chain.head as usize].first + offset;
        let (chunk, from) = (self.seek(chain, position / CHUNK), (position % CHUNK) as usize);
        let in_first = (CHUNK_BYTES - from).min(len as usize);
        let in_second = len as usize - in_first;
        let second = if in_second == 0 { &[] } else { self.piece(self.nodes[chunk as usize].next, 0, in_second) };
        [self.piece(chunk, from, in_first), second]
    }

    /// Drops all bytes of the chain and gives its chunks back, in O(1).
    #[inline(always)]
    pub fn clear(&mut self, chain: &mut Chain) {
        if !chain.is_empty() {
            self.put_free(chain.head, self.nodes[chain.head as usize].tail, self.chunks(chain));
        }
        *chain = Chain::default();
    }

    /// Appends what one chunk takes: the tail, or a free one if the tail is full. There must be one.
    #[inline(always)]
    fn append_to_one_chunk(&mut self, chain: &mut Chain, bytes: &[u8]) -> usize {
        let from = self.fill_of_tail(chain);
        let count = bytes.len().min(CHUNK_BYTES - from);
        let at = self.nodes[chain.head as usize].tail as usize * CHUNK_BYTES + from;
        self.bytes[at..at + count].copy_from_slice(&bytes[..count]);
        chain.len += count as u32;
        count
    }

    /// How far the tail chunk is filled, bytes; a full one is followed by a free one, which there must be.
    #[inline(always)]
    fn fill_of_tail(&mut self, chain: &mut Chain) -> usize {
        match self.room(chain) as usize {
            0 => {
                self.grow(chain);
                0
            }
            room => CHUNK_BYTES - room,
        }
    }

    /// Makes a free chunk the tail of the chain. There must be one, and the tail must be full.
    #[inline]
    fn grow(&mut self, chain: &mut Chain) {
        let chunk = self.free_head;
        self.free_head = self.nodes[chunk as usize].next;
        self.free_count -= 1;
        self.nodes[chunk as usize] = Node { next: NONE, tail: chunk, cursor: chunk, cursor_index: 0, first: 0 };
        if chain.is_empty() {
            chain.head = chunk;
        } else {
            let tail = core::mem::replace(&mut self.nodes[chain.head as usize].tail, chunk);
            self.nodes[tail as usize].next = chunk;
        }
    }

    /// Moves the chain's cursor to its chunk number `index` and returns that chunk.
    #[inline(always)]
    fn seek(&mut self, chain: &Chain, index: u32) -> u32 {
        let Node { mut cursor, mut cursor_index, .. } = self.nodes[chain.head as usize];
        if index < cursor_index {
            (cursor, cursor_index) = (chain.head, 0);
        }
        while cursor_index < index {
            cursor = self.nodes[cursor as usize].next;
            cursor_index += 1;
        }
        let head = &mut self.nodes[chain.head as usize];
        (head.cursor, head.cursor_index) = (cursor, cursor_index);
        cursor
    }

    /// Chunks that the chain owns.
    #[inline]
    fn chunks(&self, chain: &Chain) -> u32 {
        if chain.is_empty() { 0 } else { (self.nodes[chain.head as usize].first + chain.len).div_ceil(CHUNK) }
    }

    /// Bytes that fit into the tail chunk without another one.
    #[inline]
    fn room(&self, chain: &Chain) -> u32 {
        if chain.is_empty() {
            return 0;
        }
        let end = self.nodes[chain.head as usize].first + chain.len;
        end.next_multiple_of(CHUNK) - end
    }

    /// Puts `count` chunks that hang together from `head` to `tail` into the free list.
    #[inline]
    fn put_free(&mut self, head: u32, tail: u32, count: u32) {
        self.nodes[tail as usize].next = self.free_head;
        self.free_head = head;
        self.free_count += count;
    }

    #[inline]
    fn piece(&self, chunk: u32, from: usize, len: usize) -> &[u8] {
        let at = chunk as usize * CHUNK_BYTES + from;
        &self.bytes[at..at + len]
    }
}

/// What is known of a chunk, and in that of a head of its chain.
#[derive(Clone, Copy, Default)]
struct Node {
    /// The chunk after it: in its chain, or in the free list.
    next: u32,
    /// The last chunk of the chain.
    tail: u32,
    /// The chunk that the last call of `slices` began in, or the head.
    cursor: u32,
    /// Chunks of the chain before that one.
    cursor_index: u32,
    /// Where the first byte of the chain lies in the head.
    first: u32,
}

/// [`CHUNK_BYTES`] in the unit of a chain's offsets.
const CHUNK: u32 = CHUNK_BYTES as u32;

/// A chain grows to one part in so many of what is free beyond the last quarter. Smaller lets the first few take nearly
/// all of that, larger leaves much unused where only a few need it.
const SHARE: u32 = 8;

/// What fills a chunk that was never used; anything but 0.
const UNUSED: u8 = 0xc5;

const _: () = assert!(size_of::<Chain>() == 8);
const _: () = assert!(CHUNK_BYTES <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Op {
        Append(usize, usize),
        Consume(usize, u32),
        Slices(usize, u32, u32),
        Clear(usize),
        MoveBehind(usize),
        Reserve(u32),
        AppendReserved(usize, usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let length = prop_oneof![0..100usize, Just(CHUNK_BYTES), 0..5000usize];
        let which = 0..2usize;
        prop_oneof![
            4 => (which.clone(), length.clone()).prop_map(|(c, n)| Op::Append(c, n)),
            3 => (which.clone(), 0..5000u32).prop_map(|(c, n)| Op::Consume(c, n)),
            4 => (which.clone(), 0..20_000u32, 0..4000u32).prop_map(|(c, o, n)| Op::Slices(c, o, n)),
            1 => which.clone().prop_map(Op::Clear),
            1 => which.clone().prop_map(Op::MoveBehind),
            1 => (0..4u32).prop_map(Op::Reserve),
            2 => (which, 0..=CHUNK_BYTES).prop_map(|(c, n)| Op::AppendReserved(c, n)),
        ]
    }

    proptest! {
        #[test]
        fn any_operations_agree_with_two_byte_queues(count in 0..12u32, ops in proptest::collection::vec(op(), 1..120)) {
            let mut pool = Chunks::new(count);
            let mut chains = [Chain::default(), Chain::default()];
            let mut models = [VecDeque::new(), VecDeque::new()];
            let (mut reserved, mut byte) = (0u32, 0u8);
            for op in ops {
                match op {
                    Op::Append(c, length) => {
                        let bytes = fresh_bytes(&mut byte, length);
                        let fits = (pool.room(&chains[c]) + pool.free() * CHUNK).min(length as u32);
                        prop_assert_eq!(pool.append(&mut chains[c], &bytes), fits as usize);
                        models[c].extend(&bytes[..fits as usize]);
                    }
                    Op::AppendReserved(c, length) if reserved > 0 => {
                        let bytes = fresh_bytes(&mut byte, length);
                        pool.append_reserved(&mut chains[c], &bytes);
                        reserved -= 1;
                        models[c].extend(&bytes);
                    }
                    Op::AppendReserved(..) => {}
                    Op::Consume(c, n) => {
                        pool.consume(&mut chains[c], n);
                        let n = models[c].len().min(n as usize);
                        models[c].drain(..n);
                    }
                    Op::Slices(c, offset, len) => {
                        let pieces = pool.slices(&chains[c], offset, len);
                        let expected: Vec<u8> = models[c].iter().skip(offset as usize).take(CHUNK_BYTES.min(len as usize)).copied().collect();
                        prop_assert_eq!(pieces.concat(), expected);
                    }
                    Op::MoveBehind(c) => {
                        let [a, b] = &mut chains;
                        let (chain, from) = if c == 0 { (a, b) } else { (b, a) };
                        // Only with the free chunk that the contract asks for.
                        if pool.free() > 0 || chain.is_empty() || from.is_empty() {
                            pool.move_behind(chain, from);
                            let moved = core::mem::take(&mut models[1 - c]);
                            models[c].extend(moved);
                        }
                    }
                    Op::Clear(c) => {
                        pool.clear(&mut chains[c]);
                        models[c].clear();
                    }
                    Op::Reserve(n) => {
                        let free = pool.free();
                        prop_assert_eq!(pool.reserve(n), n <= free);
                        reserved += if n <= free { n } else { 0 };
                    }
                }
                for (chain, model) in chains.iter().zip(&models) {
                    let front = pool.front(chain);
                    prop_assert_eq!((chain.len() as usize, chain.is_empty(), front.is_empty()), (model.len(), model.is_empty(), model.is_empty()));
                    prop_assert!(front.iter().eq(model.iter().take(front.len())));
                }
                prop_assert_eq!(pool.free() + reserved + pool.chunks(&chains[0]) + pool.chunks(&chains[1]), count);
            }
        }
    }

    fn fresh_bytes(next: &mut u8, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| {
                *next = next.wrapping_mul(5).wrapping_add(17);
                *next
            })
            .collect()
    }

    #[test]
    fn reservation_keeps_a_chunk_from_others() {
        let mut pool = Chunks::new(2);
        let (mut promised, mut greedy) = (Chain::default(), Chain::default());
        assert!(pool.reserve(1) && !pool.reserve(2));
        assert_eq!(pool.append(&mut greedy, &[7; 3 * CHUNK_BYTES]), CHUNK_BYTES);
        pool.append_reserved(&mut promised, &[9; CHUNK_BYTES]);
        assert_eq!((pool.free(), promised.len()), (0, CHUNK));
        pool.clear(&mut greedy);
        assert!(pool.reserve(1));
        pool.unreserve(1);
        assert_eq!(pool.free(), 1);
    }

    #[test]
    fn chains_that_only_grow_leave_others_their_share_and_a_chunk() {
        let mut pool = Chunks::new(512);
        assert_eq!((pool.is_short(), pool.share_bytes()), (false, u32::MAX));
        let mut greedy: Vec<Chain> = (0..400).map(|_| Chain::default()).collect();
        let most = 64 * CHUNK;
        while pool.free() > 0 {
            let chain =
                greedy.iter_mut().find(|chain| chain.len() < most.min(pool.share_bytes())).expect("enough of them");
            let room = (most.min(pool.share_bytes()) - chain.len()).min(CHUNK) as usize;
            assert_eq!(pool.append(chain, &vec![7; room]), room, "{} are free", pool.free());
        }
        let holding: Vec<u32> = greedy.iter().map(|chain| chain.len() / CHUNK).collect();
        assert_eq!(holding[..4], [64, 64, 64, 64], "as they like while half is free");
        assert!(holding[4..12].iter().all(|chunks| (4..32).contains(chunks)), "{holding:?}");
        // All but the last quarter is shared, and of that everybody has one.
        assert!(holding.iter().filter(|chunks| **chunks >= 1).count() > 128, "{holding:?}");
        for chain in &mut greedy {
            pool.clear(chain);
        }
        assert_eq!(pool.free(), 512);
    }

    #[test]
    fn empty_pool_takes_nothing() {
        let mut pool = Chunks::new(0);
        let mut chain = Chain::default();
        assert_eq!((pool.append(&mut chain, b"x"), pool.free(), pool.reserve(1)), (0, 0, false));
        pool.clear(&mut chain);
    }
}
