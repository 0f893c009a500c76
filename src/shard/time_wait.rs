//! TIME-WAIT in the tables: a TCB's place in the index goes to a compact record and, when a new incarnation opens, back.

use super::core::Core;
use crate::flow::index::Hash;
use crate::flow::ports::Left;
use crate::four_tuple::FourTuple;
use crate::ids::{Kind, Value};
use crate::tcp::Context;
use crate::tcp::tcb::Tcb;
use crate::tcp::time_wait::{Full, Numbers, Policy, TimeWait};
use crate::tick::Now;

impl Core {
    /// A compact record takes the TCB's place in the index, in place. Without room the connection is CLOSED at once.
    #[inline(always)]
    pub(super) fn enter_time_wait(&mut self, number: u32, now: Now) -> Left {
        let cx = Context::without_connection(now, &self.settings);
        let record = TimeWait::of(&self.connections[number].tcb, &self.names[number].tuple, &cx);
        let keeps = self.settings.time_wait_policy != Policy::None;
        let mut inserted = if keeps { self.insert_time_wait(&record, now) } else { None };
        if keeps && inserted.is_none() && self.settings.time_wait_full == Full::EvictOldest {
            self.evict_time_wait(&record);
            inserted = self.insert_time_wait(&record, now);
        }
        match inserted {
            Some(value) => {
                let replaced = self.index.replace(self.names[number].hash, Value::new(Kind::Tcb, number), value);
                debug_assert!(replaced, "a live TCB was not in the index");
                self.counters.time_wait_created += 1;
                Left::TimeWait
            }
            None => {
                self.counters.time_wait_skipped += 1;
                self.leave_index(number)
            }
        }
    }

    /// A record for a connection that never was; `false` where there is no room, or the 4-tuple has a connection or a record.
    pub(super) fn put_time_wait(&mut self, tuple: FourTuple, now: Now) -> bool {
        let hash = self.index.hash(&tuple);
        if self.index.find(hash, |value| self.is_record_of(value, &tuple)).is_some() {
            return false;
        }
        let cx = Context::without_connection(now, &self.settings);
        let record = TimeWait::of(&Tcb::default(), &tuple, &cx);
        let Some(value) = self.insert_time_wait(&record, now) else { return false };
        let indexed = self.index.insert(hash, value).is_ok();
        if indexed {
            self.counters.time_wait_created += 1;
        } else {
            self.release_time_wait(value);
        }
        indexed
    }

    #[inline(always)]
    fn insert_time_wait(&mut self, record: &TimeWait, now: Now) -> Option<Value> {
        match record {
            TimeWait::V4(record) => {
                self.time_wait_v4.insert(*record, now.tick()).map(|number| Value::new(Kind::TimeWaitV4, number))
            }
            TimeWait::V6(record) => {
                self.time_wait_v6.insert(*record, now.tick()).map(|number| Value::new(Kind::TimeWaitV6, number))
            }
        }
    }

    /// The oldest record of the same family makes room.
    fn evict_time_wait(&mut self, newcomer: &TimeWait) {
        let evicted = match newcomer {
            TimeWait::V4(_) => self
                .time_wait_v4
                .evict_oldest()
                .map(|(number, record)| (Value::new(Kind::TimeWaitV4, number), record.tuple())),
            TimeWait::V6(_) => self
                .time_wait_v6
                .evict_oldest()
                .map(|(number, record)| (Value::new(Kind::TimeWaitV6, number), record.tuple())),
        };
        if let Some((value, tuple)) = evicted {
            self.counters.time_wait_evicted += 1;
            self.unindex_time_wait(self.index.hash(&tuple), value, &tuple);
        }
    }

    /// The new incarnation is open: the TIME-WAIT record of the former one ends.
    #[inline]
    pub(super) fn forget_former(&mut self, number: u32) {
        if let Some(former) = self.connections[number].take_former() {
            self.counters.time_wait_reused += 1;
            self.release_time_wait(former);
        }
    }

    /// Gives a TIME-WAIT record back to its store.
    pub(super) fn release_time_wait(&mut self, value: Value) {
        match value.kind() {
            Kind::TimeWaitV4 => self.time_wait_v4.release(value.number()),
            Kind::TimeWaitV6 => self.time_wait_v6.release(value.number()),
            Kind::Tcb => debug_assert!(false, "a TCB is no TIME-WAIT record"),
        }
    }

    /// A TIME-WAIT record is gone from its store, expired or evicted: the index forgets it, or the new incarnation that
    /// kept it.
    #[inline(always)]
    pub(super) fn unindex_time_wait(&mut self, hash: Hash, value: Value, tuple: &FourTuple) {
        if self.index.remove(hash, value) {
            return;
        }
        let holder = self.index.find(hash, |holder| self.is_record_of(holder, tuple));
        debug_assert!(holder.is_some_and(|holder| holder.kind() == Kind::Tcb), "a TIME-WAIT record was in no index");
        if let Some(holder) = holder.filter(|holder| holder.kind() == Kind::Tcb) {
            self.connections[holder.number()].take_former();
        }
    }

    /// The numbers of a TIME-WAIT record.
    pub(super) fn time_wait_numbers(&self, value: Value) -> Option<&Numbers> {
        match value.kind() {
            Kind::Tcb => None,
            Kind::TimeWaitV4 => Some(&self.time_wait_v4[value.number()].numbers),
            Kind::TimeWaitV6 => Some(&self.time_wait_v6[value.number()].numbers),
        }
    }

    /// TIME-WAIT records of both families.
    pub(super) fn time_wait_len(&self) -> u32 {
        self.time_wait_v4.len() + self.time_wait_v6.len()
    }

    /// Whether one more connection of that IP version could not be sure of its TIME-WAIT place (policy `refuse-open`): those that
    /// are open have reserved theirs.
    pub(super) fn time_wait_is_full(&self, v4: bool) -> bool {
        if self.settings.time_wait_full != Full::RefuseOpen || self.settings.time_wait_policy == Policy::None {
            return false;
        }
        let (used, open) = match v4 {
            true => (self.time_wait_v4.len(), self.connections.len() - self.connections_v6),
            false => (self.time_wait_v6.len(), self.connections_v6),
        };
        used.saturating_add(open) >= self.limits.time_wait_max
    }
}
