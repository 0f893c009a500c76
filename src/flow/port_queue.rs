//! Queues of ports: nodes of 30 ports from one bounded pool, 2.1 bytes per port in long queues.

use crate::ids::NONE;
use alloc::vec::Vec;
use core::mem::size_of;

/// A first-in first-out queue of ports in a pool. The default is empty.
#[derive(Clone, Copy, Debug)]
pub struct PortQueue {
    head: u32,
    tail: u32,
    len: u16,
    /// Where the first port lies in the head node.
    first: u8,
    /// Where the next port goes in the tail node.
    end: u8,
}

impl PortQueue {
    /// Ports in the queue.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len as u32
    }

    /// Nodes of the pool that the queue has.
    pub const fn nodes(&self) -> u32 {
        (self.first as u32 + self.len as u32).div_ceil(PORTS as u32)
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
    /// A pool for `ports_max` ports in full nodes, and one node more for each of `queues_max` queues. As the first and the last node
    /// of a queue may be nearly empty, and a destination has two queues, it can be full with fewer ports than `ports_max`.
    pub fn new(ports_max: u32, queues_max: u32) -> PortPool {
        let count = nodes(ports_max, queues_max);
        let nodes = (1..count).chain([NONE]).take(count as usize).map(|next| Node { ports: [0; PORTS], next });
        PortPool { nodes: nodes.collect(), free: if count == 0 { NONE } else { 0 } }
    }

    /// Bytes that such a pool takes.
    pub const fn bill(ports_max: u32, queues_max: u32) -> u64 {
        nodes(ports_max, queues_max) as u64 * size_of::<Node>() as u64
    }

    /// Bytes that the pool takes.
    pub fn bytes(&self) -> u64 {
        (self.nodes.len() * size_of::<Node>()) as u64
    }

    /// Nodes that are not free. Walks those that are: for reports.
    pub fn used(&self) -> u32 {
        let next = |&node: &u32| self.nodes.get(node as usize).map(|node| node.next);
        // The end of the list is no node.
        let free = core::iter::successors(Some(self.free), next).count() - 1;
        (self.nodes.len() - free) as u32
    }

    /// Appends a port; `false` when that needs a node and none is free, or the queue has 65,535 ports.
    #[inline]
    pub fn push(&mut self, queue: &mut PortQueue, port: u16) -> bool {
        if queue.len == u16::MAX {
            return false;
        }
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

    /// The ports of a queue, the oldest first.
    #[inline]
    pub fn iter(&self, queue: &PortQueue) -> impl Iterator<Item = u16> {
        self.iter_from(queue, 0)
    }

    /// The same without the `position` oldest, which cost a step per 30 of them.
    #[inline]
    pub fn iter_from(&self, queue: &PortQueue, position: u32) -> impl Iterator<Item = u16> {
        let (mut node, mut at) = self.place(queue, position.min(queue.len()));
        (position..queue.len()).map(move |_| {
            if at == PORTS {
                (node, at) = (self.nodes[node as usize].next, 0);
            }
            at += 1;
            self.nodes[node as usize].ports[at - 1]
        })
    }

    /// The node and the place in it of the port that is `position` behind the oldest; past the last one, what lies behind it.
    fn place(&self, queue: &PortQueue, position: u32) -> (u32, usize) {
        let at = u32::from(queue.first) + position;
        let node = (0..at / PORTS as u32).fold(queue.head, |node, _| self.nodes[node as usize].next);
        (node, at as usize % PORTS)
    }

    /// Puts another port in the place of the one that is `position` behind the oldest.
    pub fn replace(&mut self, queue: &PortQueue, position: u32, port: u16) {
        debug_assert!(position < queue.len());
        let (node, at) = self.place(queue, position);
        self.nodes[node as usize].ports[at] = port;
    }

    /// Takes the oldest port.
    #[inline]
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

/// No more for queues than there are ports.
const fn nodes(ports_max: u32, queues_max: u32) -> u32 {
    ports_max.div_ceil(PORTS as u32) + if queues_max < ports_max { queues_max } else { ports_max }
}

/// One cache line.
struct Node {
    ports: [u16; PORTS],
    next: u32,
}

/// Ports per node: what a cache line holds beside the number of the next one.
const PORTS: usize = 30;

const _: () = assert!(size_of::<Node>() == 64);
const _: () = assert!(size_of::<PortQueue>() == 12);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn any_operations_agree_with_two_deques(
            nodes in 0..5u32,
            ops in proptest::collection::vec((0..6u8, 0..2usize, 1..70usize), 1..100),
        ) {
            let mut pool = PortPool::new(nodes * PORTS as u32, 0);
            let mut queues = [PortQueue::default(); 2];
            let mut models = [VecDeque::new(), VecDeque::new()];
            let mut next_port = 0u16;
            for (op, which, times) in ops {
                let (queue, model) = (&mut queues[which], &mut models[which]);
                match op {
                    0 | 1 => for _ in 0..times {
                        next_port = next_port.wrapping_add(1);
                        if pool.push(queue, next_port) { model.push_back(next_port) }
                    }
                    2 | 3 => for _ in 0..times {
                        prop_assert!(pool.iter(queue).eq(model.iter().copied()));
                        let from = times.min(model.len());
                        prop_assert!(pool.iter_from(queue, times as u32).eq(model.range(from..).copied()));
                        prop_assert_eq!(pool.pop(queue), model.pop_front());
                    }
                    4 => for (position, port) in model.iter_mut().enumerate().skip(times) {
                        next_port = next_port.wrapping_add(1);
                        *port = next_port;
                        pool.replace(queue, position as u32, next_port);
                    }
                    _ => {
                        pool.clear(queue);
                        model.clear();
                    }
                }
                prop_assert_eq!((queue.len() as usize, queue.is_empty()), (model.len(), model.is_empty()));
                let used = queues.each_ref().map(|queue| nodes_of(&pool, queue));
                prop_assert_eq!(queues.each_ref().map(PortQueue::nodes), used);
                prop_assert_eq!(pool.used(), used[0] + used[1]);
            }
        }
    }

    fn nodes_of(pool: &PortPool, queue: &PortQueue) -> u32 {
        let mut node = queue.head;
        let mut count = u32::from(!queue.is_empty());
        while node != queue.tail {
            node = pool.nodes[node as usize].next;
            count += 1;
        }
        count
    }

    #[test]
    fn push_fails_only_for_want_of_a_node() {
        let mut pool = PortPool::new(31, 0);
        let mut queue = PortQueue::default();
        assert_eq!((0..100).filter(|&port| pool.push(&mut queue, port)).count(), 60);
        let (mut pool, mut queues) = (PortPool::new(61, 4), [PortQueue::default(); 4]);
        for queue in &mut queues {
            (0..16).for_each(|port| assert!(pool.push(queue, port), "a node for each queue, and three for ports"));
        }
        assert!(!PortPool::new(0, 9).push(&mut PortQueue::default(), 1));
    }
}
