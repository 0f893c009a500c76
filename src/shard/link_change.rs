//! Another Ethernet address or MTU of the interface, while connections live.

use super::{Shard, is_mtu};
use crate::api::Application;
use crate::link::Link;
use crate::tcp::icmp;
use crate::tcp::state::State;
use crate::wire::ethernet::MacAddress;

impl<L: Link, A: Application> Shard<L, A> {
    /// From now on this end is at `mac` on interface number `interface`, where an IP packet has at most `mtu` bytes, or
    /// as many as a frame holds. Connections that would send larger ones become smaller; what is on its way is lost and
    /// sent again. False for an MTU that TCP cannot use there: the one from before stays.
    pub fn change_link(&mut self, interface: u8, mac: MacAddress, mtu: usize) -> bool {
        let count = usize::from(self.core.interface_count);
        let Some(own) = self.core.interfaces[..count].get_mut(usize::from(interface)) else { return false };
        own.mac = mac;
        let mtu = mtu.min(self.link.frame_bytes_max().saturating_sub(TAGGED_ETHERNET_BYTES));
        let v6 = self.core.routes.has_v6_on(interface);
        let Some(mtu) = u16::try_from(mtu).ok().filter(|_| is_mtu(mtu, v6)) else { return false };
        // What a peer that does not know of a smaller one still gets through is taken.
        own.mtu = own.mtu.max(mtu.into());
        self.core.mtus[usize::from(interface)] = mtu;
        // One for all interfaces, as at the start.
        let mtu = self.core.mtus[..count].iter().copied().min().unwrap_or(mtu);
        self.core.settings.mtu = mtu;
        // Rare enough to walk all of them.
        for number in 0..self.core.connections.max() {
            if self.core.connections.is_live(number) && self.core.connections[number].tcb.state != State::Closed {
                icmp::begin_with_path_mtu(&mut self.core.connections[number].tcb, mtu);
            }
        }
        true
    }
}

/// An Ethernet header with a VLAN tag, bytes.
const TAGGED_ETHERNET_BYTES: usize = 18;
