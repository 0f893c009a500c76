//! Whether a stack could run on an interface, and what would make it run better: findings, each with the command that mends it.
//!
//! Nothing is changed and nothing attached; what only an attempt can tell is left to [`super::Stack::start`].

use super::host;
use super::run::PEER_OFFLOADS_OFF;
use crate::link::xdp::{
    Interface, NoRss, Offloads, Rings, XdpConfig, XdpError, XdpFeatures, free, offloads, rings, rss,
};
use crate::owner::Rss;

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// It is as it should be.
    Good,
    /// It cannot be seen from here: somebody must look.
    Check,
    /// It costs speed, or what peers send.
    Hurts,
    /// A stack cannot start, or would receive nothing.
    Stops,
}

impl Severity {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Good => "good",
            Severity::Check => "check",
            Severity::Hurts => "hurts",
            Severity::Stops => "stops",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// The command that mends it.
    pub mend: Option<String>,
}

/// What is known of an interface and of this process's means to use it.
#[derive(Debug)]
pub struct Diagnosis {
    /// The interface.
    pub interface: Interface,
    /// Ring sizes; `None` where the driver does not say.
    pub rings: Option<Rings>,
    /// How the NIC spreads, or why that cannot be followed.
    pub rss: Result<Rss, NoRss>,
    /// Offloads.
    pub offloads: Offloads,
    /// What the driver can do for XDP; `None` where the kernel does not say (before Linux 6.3).
    pub features: Option<XdpFeatures>,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// Effective capabilities, one bit each.
    pub capabilities: Option<u64>,
    /// Limit of locked memory, bytes; `u64::MAX` for none.
    pub memlock_bytes: Option<u64>,
    /// Whether the kernel has a default route over the interface.
    pub default_route: bool,
    /// NUMA node of the device, where there are several.
    pub numa_node: Option<u32>,
    /// Cores of that node.
    pub node_cores: Option<Vec<usize>>,
}

/// Looks at `interface` in the calling thread's network namespace.
pub fn examine(interface: &str) -> Result<Diagnosis, XdpError> {
    let interface = Interface::query(interface)?;
    let numa_node = host::interface_node(&interface.name);
    Ok(Diagnosis {
        rings: rings(&interface.name).ok(),
        rss: rss(&interface.name),
        offloads: offloads(&interface.name),
        features: interface.xdp_features().ok(),
        kernel: host::kernel_release(),
        capabilities: host::capabilities(),
        memlock_bytes: host::memlock_bytes(),
        default_route: host::has_default_route(&interface.name),
        numa_node,
        node_cores: numa_node.and_then(host::node_cores),
        interface,
    })
}

impl Diagnosis {
    /// Whether something would stop a stack.
    pub fn stops(&self) -> bool {
        self.findings().iter().any(|finding| finding.severity == Severity::Stops)
    }

    /// Everything that was looked at, in a fixed order.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings =
            vec![self.kernel(), self.rights(), self.memlock(), self.link(), self.route(), self.other_program()];
        findings.extend([self.mtu(), self.queues(), self.ring_sizes(), self.spread(), self.zero_copy(), self.numa()]);
        findings.extend(self.harmful_offloads());
        findings
    }

    fn kernel(&self) -> Finding {
        let release = self.kernel.as_deref().unwrap_or("unknown");
        match self.kernel.as_deref().and_then(host::version) {
            Some(version) if version < KERNEL_MIN => {
                let mend = Some("install Linux 5.9 or newer: XDP by bpf_link".to_owned());
                finding("kernel", Severity::Stops, format!("{release} is too old"), mend)
            }
            Some(version) if version < KERNEL_TX_BUDGET => {
                let found = format!("{release}: a wake-up sends 32 frames; from 6.17 on as many as asked for");
                finding("kernel", Severity::Good, found, None)
            }
            _ => finding("kernel", Severity::Good, release.to_owned(), None),
        }
    }

    fn rights(&self) -> Finding {
        let Some(effective) = self.capabilities else {
            return finding("capabilities", Severity::Hurts, "/proc does not say".into(), None);
        };
        let has = |bit: u32| effective & 1 << bit != 0;
        // CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON.
        let lacks = |&&(_, bit): &&(&str, u32)| !(has(bit) || bit >= CAP_PERFMON && has(CAP_SYS_ADMIN));
        let lacking: Vec<&str> = CAPABILITIES.iter().filter(lacks).map(|(name, _)| *name).collect();
        if lacking.is_empty() {
            return finding("capabilities", Severity::Good, "all that are needed".into(), None);
        }
        let list = lacking.join(",").to_lowercase();
        let mend = Some(format!("run as root, or `setcap {list}+ep $(command -v synfin)`"));
        finding("capabilities", Severity::Stops, format!("{} missing", lacking.join(", ")), mend)
    }

    fn memlock(&self) -> Finding {
        let config = XdpConfig::default();
        let needed = u64::from(config.frames) * u64::from(config.frame_bytes) * u64::from(self.interface.queues);
        let exempt = self.capabilities.is_some_and(|effective| effective & 1 << CAP_IPC_LOCK != 0);
        match self.memlock_bytes {
            _ if exempt => finding("memlock", Severity::Good, "not limited by CAP_IPC_LOCK".into(), None),
            Some(limit) if limit < needed => {
                let found =
                    format!("{limit} bytes may be locked, {needed} are needed for {} queues", self.interface.queues);
                finding("memlock", Severity::Stops, found, Some(format!("ulimit -l {}", needed.div_ceil(1024))))
            }
            _ => finding("memlock", Severity::Good, format!("enough for {needed} bytes"), None),
        }
    }

    fn link(&self) -> Finding {
        let name = &self.interface.name;
        match (self.interface.up, self.interface.running) {
            (false, _) => finding("link", Severity::Stops, "down".into(), Some(format!("ip link set {name} up"))),
            (true, false) => {
                let mend = Some("plug in the cable, or set the other end up".into());
                finding("link", Severity::Stops, "up, but without a carrier".into(), mend)
            }
            (true, true) => finding("link", Severity::Good, "up".into(), None),
        }
    }

    /// Whoever has come over the interface need not fear for it.
    fn route(&self) -> Finding {
        let found = if self.default_route {
            "the kernel's default route is here: synfin takes what is for the addresses that it is given (with --shared, for \
             the ports) and leaves the rest to the kernel"
        } else {
            "no default route of the kernel's"
        };
        finding("route", Severity::Good, found.into(), None)
    }

    fn other_program(&self) -> Finding {
        let name = &self.interface.name;
        match self.interface.attached {
            Some(mode) => {
                let mend = Some(free(name));
                finding("xdp", Severity::Stops, format!("another program is attached (mode {mode})"), mend)
            }
            None if self.features.is_some_and(|features| !features.native) => {
                let found = format!("driver {:?} has no native XDP: mode skb, one queue", self.interface.driver);
                finding("xdp", Severity::Hurts, found, Some("use a NIC whose driver has native XDP".into()))
            }
            None => finding("xdp", Severity::Good, format!("free, driver {:?}", self.interface.driver), None),
        }
    }

    fn mtu(&self) -> Finding {
        let (name, mtu) = (&self.interface.name, self.interface.mtu);
        let largest = |frame_bytes: usize| frame_bytes - FRAME_OVERHEAD_BYTES;
        if mtu < MTU_MIN {
            let mend = Some(format!("ip link set {name} mtu 1500"));
            finding("mtu", Severity::Stops, format!("{mtu} is too small for TCP"), mend)
        } else if mtu > largest(4096) {
            let mend = Some(format!("ip link set {name} mtu {}", largest(4096)));
            finding("mtu", Severity::Stops, format!("{mtu}: frames that large fit into no UMEM frame"), mend)
        } else if mtu > largest(2048) {
            let found = format!("{mtu}: larger than a frame of 2048 bytes holds");
            finding("mtu", Severity::Hurts, found, Some("give synfin --frame-size 4096".into()))
        } else {
            finding("mtu", Severity::Good, mtu.to_string(), None)
        }
    }

    fn queues(&self) -> Finding {
        let queues = self.interface.queues as usize;
        let cores = super::available_cores().len();
        if queues > cores {
            let mend =
                Some(format!("ethtool -L {} combined {cores}, or give synfin --share-cores", self.interface.name));
            return finding("queues", Severity::Stops, format!("{queues} on {cores} cores"), mend);
        }
        finding("queues", Severity::Good, format!("{queues}, each with a core"), None)
    }

    fn ring_sizes(&self) -> Finding {
        let Some(Rings { rx, rx_max, tx, tx_max }) = self.rings else {
            return finding("rings", Severity::Good, "the driver does not say".into(), None);
        };
        let wanted = rx_max.min(RING_WANTED);
        let found = format!("receive {rx} of {rx_max}, transmit {tx} of {tx_max}");
        if rx < wanted {
            return finding(
                "rings",
                Severity::Hurts,
                found,
                Some(format!("ethtool -G {} rx {wanted}", self.interface.name)),
            );
        }
        finding("rings", Severity::Good, found, None)
    }

    fn spread(&self) -> Finding {
        let name = &self.interface.name;
        match &self.rss {
            _ if self.interface.queues == 1 => finding("rss", Severity::Good, "not needed for one queue".into(), None),
            Ok(rss) => finding("rss", Severity::Good, format!("Toeplitz over {} queues", rss.queues()), None),
            Err(reason) => {
                let mend = match reason {
                    NoRss::NotToeplitz => Some(format!("ethtool -X {name} hfunc toeplitz xfrm none")),
                    NoRss::NotFourTuple => Some(format!(
                        "ethtool -N {name} rx-flow-hash tcp4 sdfn; ethtool -N {name} rx-flow-hash tcp6 sdfn"
                    )),
                    _ => None,
                };
                let found = format!("{reason}: what arrives on another shard's queue is handed over");
                finding("rss", Severity::Hurts, found, mend)
            }
        }
    }

    fn zero_copy(&self) -> Finding {
        let found = match self.features {
            Some(features) if features.zero_copy => "the driver has it",
            Some(_) => "the driver has none: frames are copied once",
            None => "this kernel does not say; Linux 6.3 does",
        };
        finding("zero-copy", Severity::Good, found.into(), None)
    }

    fn numa(&self) -> Finding {
        match (self.numa_node, &self.node_cores) {
            (Some(node), Some(cores)) => {
                let list = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
                finding("numa", Severity::Good, format!("node {node}: its cores are {list}"), None)
            }
            _ => finding("numa", Severity::Good, "the device has no node".into(), None),
        }
    }

    /// Those that are on and hurt; one finding without any.
    fn harmful_offloads(&self) -> Vec<Finding> {
        let (name, offloads) = (&self.interface.name, &self.offloads);
        // Native XDP sees frames before GRO does.
        let skb = self.interface.driver == "veth" && self.interface.queues == 1;
        let skb = skb || self.features.is_some_and(|features| !features.native);
        let hurts = |on: Option<bool>, option: &str, why: &str| {
            let mend = Some(format!("ethtool -K {name} {option} off"));
            (on == Some(true)).then(|| finding("offloads", Severity::Hurts, format!("{option} is on: {why}"), mend))
        };
        let tags = "XDP does not see the VLAN tags that it takes out (matters with --vlan)";
        let mut found: Vec<Finding> = [
            hurts(offloads.lro, "lro", "it joins segments to what no frame holds, and keeps XDP from attaching"),
            hurts(offloads.gro.map(|on| on && skb), "gro", "in mode skb it joins segments to what no frame holds"),
            hurts(offloads.rx_vlan, "rxvlan", tags).map(|tags| Finding { severity: Severity::Good, ..tags }),
        ]
        .into_iter()
        .flatten()
        .collect();
        if self.interface.driver == "veth" {
            let peer = "those of the veth's other end cannot be seen from here: while they are on, its kernel leaves \
                        checksums, segments and tags to hardware that is not there, and what it sends is dropped";
            let mend = Some(format!("at the other end, if its kernel is the peer: {PEER_OFFLOADS_OFF}"));
            found.push(finding("offloads", Severity::Check, peer.into(), mend));
        }
        if found.is_empty() {
            found.push(finding("offloads", Severity::Good, "none that hurts".into(), None));
        }
        found
    }
}

fn finding(what: &'static str, severity: Severity, found: String, mend: Option<String>) -> Finding {
    Finding { what, severity, found, mend }
}

/// Linux with XDP by bpf_link, and with XDP_MAX_TX_SKB_BUDGET.
const KERNEL_MIN: (u32, u32) = (5, 9);
const KERNEL_TX_BUDGET: (u32, u32) = (6, 17);

/// Bits of <linux/capability.h>.
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_PERFMON", CAP_PERFMON), ("CAP_BPF", 39)];

/// What a UMEM frame holds beside the IP packet: the kernel's headroom and a tagged Ethernet header, bytes.
const FRAME_OVERHEAD_BYTES: usize = 256 + 18;

/// The smallest MTU of IPv4 hosts (RFC 791).
const MTU_MIN: usize = 576;

/// Receive descriptors below which bursts are lost while a shard is busy for a millisecond at 1 M frames/s.
const RING_WANTED: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::xdp::AttachedMode;

    fn healthy() -> Diagnosis {
        let interface = Interface { queues: 1, mtu: 1500, up: true, running: true, ..Interface::query("lo").unwrap() };
        Diagnosis {
            interface,
            rings: Some(Rings { rx: 1024, rx_max: 4096, tx: 512, tx_max: 4096 }),
            rss: rss("lo"),
            offloads: Offloads::default(),
            features: Some(XdpFeatures { native: true, zero_copy: false }),
            kernel: Some("6.18.1".into()),
            capabilities: Some(u64::MAX),
            memlock_bytes: Some(65536),
            default_route: false,
            numa_node: None,
            node_cores: None,
        }
    }

    /// The findings named `what` that are not good.
    fn wrong(diagnosis: &Diagnosis, what: &str) -> Vec<(Severity, String)> {
        let found = diagnosis.findings().into_iter();
        let wrong = found.filter(|finding| finding.severity > Severity::Good);
        wrong.filter(|finding| finding.what == what).map(|finding| (finding.severity, finding.mend.unwrap())).collect()
    }

    #[test]
    fn healthy_interface_has_nothing_that_stops_or_hurts() {
        let findings = healthy().findings();
        assert!(findings.iter().all(|finding| finding.severity == Severity::Good), "{findings:?}");
        assert!(!healthy().stops());
    }

    #[test]
    fn each_thing_that_stops_is_found_with_what_mends_it() {
        type Break = fn(&mut Diagnosis);
        let broken: [(&str, Break, &str); 7] = [
            ("kernel", |sick| sick.kernel = Some("5.8.0".into()), "5.9"),
            ("capabilities", |sick| sick.capabilities = Some(1 << 12 | 1 << 14), "cap_net_raw,cap_perfmon,cap_bpf"),
            ("memlock", |sick| sick.capabilities = Some(!(1 << CAP_IPC_LOCK)), "ulimit -l 16384"),
            ("link", |sick| sick.interface.up = false, "ip link set lo up"),
            ("xdp", |sick| sick.interface.attached = Some(AttachedMode::Drv), "end the process that has it"),
            ("mtu", |sick| sick.interface.mtu = 9000, "mtu 3822"),
            ("queues", |sick| sick.interface.queues = 100_000, "ethtool -L lo"),
        ];
        for (what, break_it, mend) in broken {
            let mut sick = healthy();
            break_it(&mut sick);
            let wrong = wrong(&sick, what);
            assert!(matches!(&wrong[..], [(Severity::Stops, by)] if by.contains(mend)), "{what}: {wrong:?}");
            assert!(sick.stops(), "{what}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_neither_good_nor_bad() {
        let mut veth = healthy();
        veth.interface.driver = "veth".into();
        let wrong = wrong(&veth, "offloads");
        assert!(matches!(&wrong[..], [(Severity::Check, by)] if by.ends_with(PEER_OFFLOADS_OFF)), "{wrong:?}");
        assert!(!veth.stops());
    }

    #[test]
    fn default_route_is_told_and_does_not_matter() {
        let told = |default_route| {
            let found = Diagnosis { default_route, ..healthy() }.findings();
            let mut found = found.into_iter().filter(|finding| finding.what == "route");
            let only = found.next().filter(|_| found.next().is_none()).expect("one");
            assert_eq!((only.severity, only.mend), (Severity::Good, None));
            only.found
        };
        assert!(told(true).contains("leaves the rest to the kernel"));
        assert!(told(false).starts_with("no default route"));
    }

    #[test]
    fn what_only_hurts_stops_nothing() {
        let mut slow = healthy();
        slow.interface.mtu = 3000;
        slow.rings = Some(Rings { rx: 256, rx_max: 4096, tx: 256, tx_max: 4096 });
        slow.offloads = Offloads { lro: Some(true), gro: Some(true), rx_vlan: Some(true), ..Offloads::default() };
        assert_eq!(wrong(&slow, "offloads").len(), 1, "native XDP sees frames before GRO does");
        slow.features = Some(XdpFeatures { native: false, zero_copy: false });
        assert_eq!(wrong(&slow, "offloads").len(), 2);
        assert_eq!(wrong(&slow, "rings"), [(Severity::Hurts, "ethtool -G lo rx 1024".to_owned())]);
        assert_eq!(wrong(&slow, "mtu").len(), 1);
        assert!(!slow.stops());
    }
}
