//! Another Ethernet address or MTU of the interface, while connections live.

use super::{MTUS, Shard};
use crate::api::Application;
use crate::link::Link;
use crate::tcp::icmp;
use crate::tcp::state::State;
use crate::wire::ethernet::MacAddress;

impl<L: Link, A: Application> Shard<L, A> {
    /// From now on this end is at `mac`, and an IP packet has at most `mtu` bytes, or as many as a frame holds. Connections that would
    /// send larger ones become smaller; what is on its way is lost and sent again. False for an MTU that TCP cannot use: the
    /// one from before stays.
    pub fn change_link(&mut self, mac: MacAddress, mtu: usize) -> bool {
        (self.core.mac, self.expect.mac) = (mac, mac);
        let mtu = mtu.min(self.link.frame_bytes_max().saturating_sub(TAGGED_ETHERNET_BYTES));
        let Some(mtu) = u16::try_from(mtu).ok().filter(|mtu| MTUS.contains(&usize::from(*mtu))) else { return false };
        self.core.settings.mtu = mtu;
        // What a peer that does not know of a smaller one still gets through is taken.
        self.expect.mtu = self.expect.mtu.max(mtu.into());
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
