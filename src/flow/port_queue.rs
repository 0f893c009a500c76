//! Queues of ports: nodes of 30 ports from one bounded pool, 2.1 bytes per port in long queues.

use crate::ids::NONE;
use alloc::vec::Vec;
use core::mem::size_of;

/// A first-in first-out queue of ports in a pool. The default is empty.
#[derive(Clone, Copy, Debug)]
pub struct PortQueue {
    head: u32,
    tail: u32,
    len: u32,
    /// Where the first port lies in the head node.
    first: u16,
    /// Where the next port goes in the tail node.
    end: u16,
}

impl PortQueue {
    /// Ports in the queue.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether the queue holds no port, and then no node.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Default for PortQueue {
    fn default() -> PortQueue {
        PortQueue { head: NONE, tail: NONE, len: 0, first: 0, end: 0 }
    }
}

/// The nodes of all queues of a shard.
pub struct PortPool {
    nodes: Vec<Node>,
    free: u32,
}

impl PortPool {
    /// A pool for `ports_max` ports in full nodes; many short queues hold fewer.
    pub fn new(ports_max: u32) -> PortPool {
        let count = ports_max.div_ceil(PORTS as u32);
        let nodes = (1..count).chain([NONE]).take(count as usize).map(|next| Node { ports: [0; PORTS], next });
        PortPool { nodes: nodes.collect(), free: if count == 0 { NONE } else { 0 } }
    }

    /// Bytes that a pool for `ports_max` ports takes.
    pub const fn bill(ports_max: u32) -> u64 {
        ports_max.div_ceil(PORTS as u32) as u64 * size_of::<Node>() as u64
    }

    /// Appends a port; `false` when that needs a node and none is free.
    pub fn push(&mut self, queue: &mut PortQueue, port: u16) -> bool {
        if queue.is_empty() || usize::from(queue.end) == PORTS {
            let node = self.free;
            if node == NONE {
                return false;
            }
            self.free = self.nodes[node as usize].next;
            match queue.is_empty() {
                true => (queue.head, queue.first) = (node, 0),
                false => self.nodes[queue.tail as usize].next = node,
            }
            (queue.tail, queue.end) = (node, 0);
        }
        self.nodes[queue.tail as usize].ports[usize::from(queue.end)] = port;
        queue.end += 1;
        queue.len += 1;
        true
    }

    /// The two oldest ports, without taking them.
    pub fn front_two(&self, queue: &PortQueue) -> (Option<u16>, Option<u16>) {
        if queue.is_empty() {
            return (None, None);
        }
        let (head, first) = (&self.nodes[queue.head as usize], usize::from(queue.first));
        let second = match queue.len {
            1 => None,
            _ if first + 1 < PORTS => Some(head.ports[first + 1]),
            _ => Some(self.nodes[head.next as usize].ports[0]),
        };
        (Some(head.ports[first]), second)
    }

    /// Takes the oldest port.
    pub fn pop(&mut self, queue: &mut PortQueue) -> Option<u16> {
        if queue.is_empty() {
            return None;
        }
        let node = queue.head;
        let port = self.nodes[node as usize].ports[usize::from(queue.first)];
        queue.first += 1;
        queue.len -= 1;
        if queue.len == 0 || usize::from(queue.first) == PORTS {
            (queue.head, queue.first) = (self.nodes[node as usize].next, 0);
            self.nodes[node as usize].next = self.free;
            self.free = node;
        }
        if queue.len == 0 {
            *queue = PortQueue::default();
        }
        Some(port)
    }

    /// Empties a queue in O(1).
    pub fn clear(&mut self, queue: &mut PortQueue) {
        if !queue.is_empty() {
            self.nodes[queue.tail as usize].next = self.free;
            self.free = queue.head;
        }
        *queue = PortQueue::default();
    }
}

/// One cache line.
struct Node {
    ports: [u16; PORTS],
    next: u32,
}

/// Ports per node: what a cache line holds beside the number of the next one.
const PORTS: usize = 30;

const _: () = assert!(size_of::<Node>() == 64);
const _: () = assert!(size_of::<PortQueue>() == 16);
