//! A program for the sender's end of a veth, which has no RSS: what its kernel sends by TCP arrives on the queue of the
//! shard that owns it, as with a NIC (`bpf/spread.bpf.c`).

use super::XdpError;
use super::interface::Interface;
use super::program::chain;
use aya::Ebpf;
use aya::maps::{Array, MapData, MapError};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use std::error::Error;
use std::fmt;

/// The program on one interface. It is detached when this is dropped or, from Linux 6.6 on, the process ends in whatever way.
pub struct EgressSpread {
    _program: Ebpf,
}

impl EgressSpread {
    /// Spreads what the kernel sends on `interface`, in the calling thread's network namespace, over `queues` queues by
    /// the stack's symmetric hash. Flows that have begun keep their queue.
    pub fn attach(interface: &str, queues: u32) -> Result<EgressSpread, XdpError> {
        let name = Interface::query(interface)?.name;
        let failed = |error: &(dyn Error + 'static)| XdpError::Load { interface: name.clone(), reason: chain(error) };
        let mut program = Ebpf::load(OBJECT).map_err(|error| failed(&error))?;
        let map = program.map_mut("queues").ok_or(MapError::ElementNotFound);
        let map = map.and_then(Array::<&mut MapData, u32>::try_from);
        map.and_then(|mut map| map.set(0, queues, 0)).map_err(|error| failed(&error))?;
        let attached = program.program_mut("spread").ok_or(ProgramError::NotLoaded).and_then(|spread| {
            let spread: &mut SchedClassifier = spread.try_into()?;
            spread.load()?;
            spread.attach(interface, TcAttachType::Egress)
        });
        attached.map_err(|error| failed(&error))?;
        Ok(EgressSpread { _program: program })
    }
}

impl fmt::Debug for EgressSpread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EgressSpread")
    }
}

/// The compiled `bpf/spread.bpf.c`.
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/spread.bpf.o"));
