//! Watching the interface: down and up, MTU, MAC address, queues. What changes is counted, logged, and told to the
//! shards; its removal ends the stack.

use super::StackError;
use super::commands::Command;
use super::run::Shared;
use super::spreading::Divider;
use crate::link::xdp::{Interface, LinkSocket, XdpError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

counters! {
    /// What has happened to the interface since the start.
    LinkEvents {
        /// It lost its carrier, or was set down.
        down,
        /// It came back.
        up,
        /// Its MTU changed.
        mtu_changed,
        /// Its Ethernet address changed.
        mac_changed,
        /// The number of its receive queues changed.
        queues_changed,
    }
}

/// A thread that follows one interface and tells the shards. Dropped, it ends.
#[derive(Debug)]
pub(super) struct LinkWatch {
    stop: Arc<AtomicBool>,
    events: Arc<Mutex<LinkEvents>>,
    thread: Option<JoinHandle<()>>,
}

impl LinkWatch {
    /// Follows `interface`, which has that `number` among the stack's, in the calling thread's network namespace, from
    /// what it is now on. When it is removed, the stack of `shared` is stopped: its sockets are bound to nothing then,
    /// and stay so even if an interface of that name is made again.
    pub(super) fn start(
        number: u8,
        interface: Interface,
        shards: Divider,
        shared: Arc<Shared>,
    ) -> Result<LinkWatch, XdpError> {
        let socket = LinkSocket::open(&interface)?;
        let stop = Arc::new(AtomicBool::new(false));
        let events = Arc::new(Mutex::new(LinkEvents::default()));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&events));
        let name = interface.name.clone();
        let follow = move || {
            let mut known = interface;
            let mut owed = Owed::default();
            let mut asked = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let mut seen = socket.wait(WAIT);
                // Not everything is announced: the number of queues is not.
                if asked.elapsed() >= ASK {
                    asked = Instant::now();
                    if matches!(Interface::exists(known.index), Ok(false)) {
                        let error = StackError::InterfaceRemoved { interface: known.name };
                        tracing::error!("{error}");
                        shared.stop_with(error);
                        return;
                    }
                    // Another interface may have taken the name.
                    seen.extend(Interface::query(&known.name).ok().filter(|now| now.index == known.index));
                }
                for now in seen {
                    let commands =
                        note(number, &mut known, now, &mut counted.lock().unwrap_or_else(|lock| lock.into_inner()));
                    commands.into_iter().for_each(|command| owed.add(command));
                }
                if owed.tell(&shards).is_err() {
                    tracing::warn!(interface = known.name, "a shard has not yet learned of a link event: told again");
                }
            }
        };
        let thread = std::thread::Builder::new().name("synfin-link".to_owned()).spawn(follow);
        let thread = thread.map_err(|source| XdpError::Query { interface: name, source })?;
        Ok(LinkWatch { stop, events, thread: Some(thread) })
    }

    /// What has happened.
    pub(super) fn events(&self) -> LinkEvents {
        *self.events.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Drop for LinkWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// What the shards have still to learn: of each kind the newest, in the order of telling.
#[derive(Debug, Default)]
struct Owed {
    change: Option<Command>,
    announce: Option<Command>,
}

impl Owed {
    fn add(&mut self, command: Command) {
        match command {
            Command::Announce => self.announce = Some(command),
            _ => self.change = Some(command),
        }
    }

    /// Tells what every shard has room for; the rest stays owed. A shard may hear of it twice, which does no harm.
    fn tell(&mut self, shards: &Divider) -> Result<(), StackError> {
        for owed in [&mut self.change, &mut self.announce] {
            if let Some(command) = owed {
                shards.tell_all(command)?;
                *owed = None;
            }
        }
        Ok(())
    }
}

/// Takes `known` to `now`, counts and logs what has changed; what the shards have to know of it.
fn note(number: u8, known: &mut Interface, now: Interface, events: &mut LinkEvents) -> Vec<Command> {
    let mut commands = Vec::new();
    let name = known.name.clone();
    if (now.mac, now.mtu) != (known.mac, known.mtu) {
        events.mac_changed += u64::from(now.mac != known.mac);
        events.mtu_changed += u64::from(now.mtu != known.mtu);
        tracing::warn!(interface = name, mac = %now.mac, mtu = now.mtu, "MAC address or MTU changed: shards follow");
        commands.push(Command::ChangeLink { interface: number, mac: now.mac, mtu: now.mtu });
    }
    // What announces itself does not say how many queues there are.
    if !now.driver.is_empty() && now.queues != known.queues {
        events.queues_changed += 1;
        tracing::warn!(
            interface = name,
            before = known.queues,
            queues = now.queues,
            "the number of receive queues changed: frames of queues without a shard go to the kernel; start anew to use them"
        );
    }
    match (known.running, now.running) {
        (true, false) => {
            events.down += 1;
            tracing::warn!(interface = name, "the link is down: connections wait for it");
        }
        (false, true) => {
            events.up += 1;
            tracing::info!(interface = name, "the link is up again");
            commands.push(Command::Announce);
        }
        (true, true) if now.mac != known.mac => commands.push(Command::Announce),
        (true, true) | (false, false) => {}
    }
    let (driver, queues) =
        if now.driver.is_empty() { (known.driver.clone(), known.queues) } else { (now.driver.clone(), now.queues) };
    *known = Interface { driver, queues, ..now };
    commands
}

/// The longest wait for an event, which is how long an end takes, and how often the rest is asked for.
const WAIT: Duration = Duration::from_millis(200);
const ASK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::alarm::Alarm;
    use super::super::commands::Commands;
    use super::*;
    use crate::owner::{Owners, Spread};
    use crate::wire::ethernet::MacAddress;

    #[test]
    fn shard_whose_queue_is_full_learns_later_and_the_others_at_once() {
        let queues = [0, 1].map(|_| Arc::new(Commands::new(Arc::new(Alarm::new().unwrap()))));
        let shards =
            Divider::new(&queues, &Spread::Symmetric, &Arc::new(Owners::new(&Spread::Symmetric, 2, (1000, 2000))));
        while queues[0].push(Command::Announce) {}
        let mut owed = Owed::default();
        owed.add(Command::Announce);
        for mtu in [1400, 1300] {
            owed.add(Command::ChangeLink { interface: 0, mac: MacAddress([2, 0, 0, 0, 0, 9]), mtu });
        }
        assert!(matches!(owed.tell(&shards), Err(StackError::Busy { shard: 0 })));
        let heard = |shard: usize| queues[shard].take().last();
        assert!(matches!(heard(1), Some(Command::ChangeLink { mtu: 1300, .. })));
        assert!(matches!(heard(0), Some(Command::Announce)));
        owed.tell(&shards).unwrap();
        let told: Vec<Command> = queues[0].take().collect();
        assert!(matches!(told[..], [Command::ChangeLink { mtu: 1300, .. }, Command::Announce]), "{told:?}");
        owed.tell(&shards).unwrap();
        assert!(queues[0].is_empty());
    }

    #[test]
    fn each_change_is_counted_once_and_told() {
        let interface =
            || Interface { running: true, driver: "veth".into(), queues: 2, ..Interface::query("lo").unwrap() };
        // As an announcement: without a driver, its number of queues means nothing.
        let announced = || Interface { driver: String::new(), queues: 9, ..interface() };
        let mac = MacAddress([2, 0, 0, 0, 0, 9]);
        let mut known = interface();
        let mut events = LinkEvents::default();
        let mut told = |now: Interface| note(0, &mut known, now, &mut events).len();
        assert_eq!(told(announced()), 0);
        assert_eq!(told(Interface { running: false, ..announced() }), 0);
        assert_eq!(told(Interface { running: false, ..announced() }), 0);
        assert_eq!(told(announced()), 1, "announce");
        assert_eq!(told(Interface { mtu: 1400, ..announced() }), 1, "the MTU");
        assert_eq!(told(Interface { mtu: 1400, mac, ..announced() }), 2, "the MAC address, announce");
        assert_eq!(told(Interface { mtu: 1400, mac, queues: 1, ..interface() }), 0);
        assert_eq!(events, LinkEvents { down: 1, up: 1, mtu_changed: 1, mac_changed: 1, queues_changed: 1 });
    }
}
