//! Captured frames to a pcapng file, on a thread of its own.

use crate::link::capture::{CaptureReader, Record, Way};
use crate::tick::Now;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::{DataLink, PcapError};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why a capture could not be written.
#[derive(Debug, thiserror::Error)]
#[error("capture file {path}: {reason}; check the path, its permissions and the space left")]
pub struct CaptureError {
    path: PathBuf,
    reason: String,
}

/// A capture file that is being written.
#[derive(Debug)]
pub struct CaptureFile {
    path: PathBuf,
    file: File,
}

/// The thread that writes.
#[derive(Debug)]
pub struct CaptureWriter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<CaptureTotals, CaptureError>>>,
}

/// What a capture came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CaptureTotals {
    /// Frames written.
    pub written: u64,
    /// Frames that passed uncaptured because the writer was behind.
    pub dropped: u64,
}

impl CaptureFile {
    /// Makes the file, or empties it.
    pub fn create(path: &Path) -> Result<CaptureFile, CaptureError> {
        let file = File::create(path).map_err(|error| failed(path, &error))?;
        Ok(CaptureFile { path: path.to_owned(), file })
    }

    /// Starts to write what `readers` bring; each queue of each of the `interfaces` is an interface of the file, those of the
    /// first interface first.
    /// `now` is the shards' time at this moment.
    pub fn write(
        self,
        interfaces: &[&str],
        readers: Vec<CaptureReader>,
        now: Now,
    ) -> Result<CaptureWriter, CaptureError> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin = since_epoch.saturating_sub(Duration::from_micros(now.us()));
        let queues = readers.len() / interfaces.len().max(1);
        let name =
            |interface: &&str| (0..queues).map(move |queue| format!("{interface} queue {queue}")).collect::<Vec<_>>();
        let names = interfaces.iter().flat_map(name).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let path = self.path.clone();
        let body = move || write_all(self.file, names, readers, origin, &stopped).map_err(|e| failed(&self.path, &e));
        let thread = std::thread::Builder::new().name("synfin-capture".into()).spawn(body);
        let thread = thread.map_err(|error| failed(&path, &error))?;
        Ok(CaptureWriter { stop, thread: Some(thread) })
    }
}

impl CaptureWriter {
    /// Writes what is left, and closes the file. The shards should have ended.
    pub fn finish(mut self) -> Result<CaptureTotals, CaptureError> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(CaptureError { path: PathBuf::new(), reason: "its writer panicked".into() }),
        }
    }
}

impl Drop for CaptureWriter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Nobody is left to tell; finish() reports.
            let _ = thread.join();
        }
    }
}

fn write_all(
    file: File,
    names: Vec<String>,
    mut readers: Vec<CaptureReader>,
    origin: Duration,
    stop: &AtomicBool,
) -> Result<CaptureTotals, PcapError> {
    let mut writer = PcapNgWriter::new(BufWriter::with_capacity(BUFFER_BYTES, file))?;
    for name in names {
        let options = vec![
            InterfaceDescriptionOption::IfName(Cow::Owned(name)),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        writer.write_pcapng_block(InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options })?;
    }
    let mut written = vec![0_u64; readers.len()];
    loop {
        // Asked before the queues are emptied: what came before the end is written.
        let ending = stop.load(Ordering::Relaxed);
        let mut found = false;
        for (interface, reader) in readers.iter_mut().enumerate() {
            for _ in 0..BATCH {
                let Some(record) = reader.next_record() else { break };
                write_record(&mut writer, interface as u32, &record, origin)?;
                reader.recycle(record);
                written[interface] += 1;
                found = true;
            }
        }
        if !found && ending {
            break;
        }
        if !found {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let ended = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut totals = CaptureTotals::default();
    for (interface, (reader, written)) in readers.iter().zip(written).enumerate() {
        totals.written += written;
        totals.dropped += reader.dropped();
        writer.write_pcapng_block(statistics(interface as u32, ended, written, reader.dropped()))?;
    }
    writer.into_inner().flush().map_err(PcapError::IoError)?;
    Ok(totals)
}

fn write_record<W: Write>(
    writer: &mut PcapNgWriter<W>,
    interface_id: u32,
    record: &Record,
    origin: Duration,
) -> Result<(), PcapError> {
    let direction = match record.way {
        Way::In => 1,
        Way::Out => 2,
    };
    let block = EnhancedPacketBlock {
        interface_id,
        timestamp: origin + Duration::from_micros(record.now.us()),
        original_len: record.frame_bytes,
        data: Cow::Borrowed(record.bytes()),
        options: vec![EnhancedPacketOption::Flags(direction)],
    };
    writer.write_pcapng_block(block).map(|_| ())
}

fn statistics(interface_id: u32, ended: Duration, written: u64, dropped: u64) -> InterfaceStatisticsBlock<'static> {
    // The format stores the upper half of a time first; the crate writes a plain 64-bit number in the section's order.
    let nanos = (ended.as_nanos() as u64).rotate_left(if cfg!(target_endian = "little") { 32 } else { 0 });
    let options = vec![
        InterfaceStatisticsOption::IsbIfRecv(written + dropped),
        InterfaceStatisticsOption::IsbIfDrop(dropped),
        InterfaceStatisticsOption::IsbUsrDeliv(written),
    ];
    InterfaceStatisticsBlock { interface_id, timestamp: nanos, options }
}

fn failed(path: &Path, reason: &dyn std::fmt::Display) -> CaptureError {
    CaptureError { path: path.to_owned(), reason: reason.to_string() }
}

/// if_tsresol: powers of ten.
const NANOSECONDS: u8 = 9;

/// Records taken from one shard before the next one's turn.
const BATCH: usize = 256;

/// Bytes between two writes to the file.
const BUFFER_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Link;
    use crate::link::capture::{Capture, CaptureConfig};
    use crate::link::memory::{MemoryConfig, pair};
    use crate::wire::ethernet::MacAddress;
    use pcap_file::pcapng::{Block, PcapNgReader};

    #[test]
    fn frames_read_back_with_time_direction_and_drops() {
        let path = std::env::temp_dir().join(format!("synfin-capture-{}.pcapng", std::process::id()));
        let (a, _b) = pair(MemoryConfig::default(), [MacAddress([2; 6]), MacAddress([4; 6])]);
        let (mut a, reader) = Capture::new(a, CaptureConfig { snap_bytes: 20, records: 1 });
        a.advance(Now::from_ms(5));
        for _ in 0..2 {
            let mut frame = a.take().unwrap();
            a.bytes_mut(&mut frame)[..30].copy_from_slice(&[7; 30]);
            a.send(frame, 30).unwrap();
        }
        let file = CaptureFile::create(&path).unwrap();
        let totals = file.write(&["veth0"], vec![reader], Now::from_ms(5)).unwrap().finish().unwrap();
        assert_eq!(totals, CaptureTotals { written: 1, dropped: 1 });
        let mut read = PcapNgReader::new(File::open(&path).unwrap()).unwrap();
        let (mut packets, mut drops) = (0, 0);
        while let Some(block) = read.next_block() {
            match block.unwrap() {
                Block::EnhancedPacket(packet) => {
                    packets += 1;
                    assert_eq!((packet.data.len(), packet.original_len), (20, 30));
                    assert_eq!(packet.options, [EnhancedPacketOption::Flags(2)]);
                    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().abs_diff(packet.timestamp);
                    assert!(age < Duration::from_secs(60), "{age:?}");
                }
                Block::InterfaceStatistics(statistics) => {
                    drops += u64::from(statistics.options.contains(&InterfaceStatisticsOption::IsbIfDrop(1)));
                }
                _ => {}
            }
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!((packets, drops), (1, 1));
    }
}
