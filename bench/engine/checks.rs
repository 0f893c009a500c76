//! Runs that check instead of measuring speed: a soak, and idle connections.

use super::world::{TimeWaitEnds, World, WorldConfig};
use crate::failure::Failure;
use std::time::Instant;
use synfin::counters::Counters;
use synfin::memory::resident_bytes;

/// `lifecycles` of them with a 2MSL of a second of virtual time, and a tenth as many where TIME-WAIT ends otherwise; then counts must balance,
/// nothing be left and memory not have grown.
pub(super) fn soak(lifecycles: u64, base: WorldConfig) -> Result<(), Failure> {
    let short = (lifecycles / SHORTER).max(1);
    for (time_wait, lifecycles) in
        [(TimeWaitEnds::Expired, lifecycles), (TimeWaitEnds::Reused, short), (TimeWaitEnds::Evicted, short)]
    {
        let grown = run_soak(lifecycles, WorldConfig { time_wait, ..base })?;
        if grown > GROWTH_MAX_BYTES {
            return Err(Failure::failed(format!("memory grew by {grown} bytes in {lifecycles} lifecycles")));
        }
        println!("memory grew by {grown} bytes");
    }
    Ok(())
}

/// Runs it and returns by how much the process has grown, bytes.
fn run_soak(lifecycles: u64, base: WorldConfig) -> Result<u64, Failure> {
    let config = WorldConfig { resident: 100_000, ns_per_lifecycle: 10_000, ..base };
    let mut world = World::new(&config).map_err(Failure::environment)?;
    world.fill(&config, |_| ()).map_err(Failure::failed)?;
    let (before, begun) = (resident_bytes().unwrap_or(0), Instant::now());
    let (mut told, first) = (0, world.closed());
    let target = first + lifecycles;
    world
        .until(|world| {
            if world.closed() >= told + PROGRESS_EVERY {
                told = world.closed();
                eprintln!("soak: {told} of {target} lifecycles, {:.0} s", begun.elapsed().as_secs_f64());
            }
            world.closed() >= target
        })
        .map_err(Failure::failed)?;
    let (done, took) = (world.closed() - first, begun.elapsed());
    let grown = resident_bytes().unwrap_or(0).saturating_sub(before);
    balance(&world).map_err(|what| Failure::failed(format!("with connections open: {what}")))?;
    world.drain().map_err(Failure::failed)?;
    balance(&world).and_then(|()| world.is_clean()).map_err(|what| Failure::failed(format!("at the end: {what}")))?;
    if world.client.time_wait_live() > 0 {
        return Err(Failure::failed(format!("{} TIME-WAIT records are left", world.client.time_wait_live())));
    }
    kept_time_wait(config.time_wait, world.client.counters(), world.server.counters()).map_err(Failure::failed)?;
    let (counters, seconds) = (world.client.counters(), took.as_secs_f64());
    println!("{done} lifecycles in {seconds:.0} s ({:.0}/s), all counts balance", done as f64 / seconds);
    println!(
        "TIME-WAIT: {} made = {} expired + {} reused + {} evicted + 0 live",
        counters.time_wait_created, counters.time_wait_expired, counters.time_wait_reused, counters.time_wait_evicted
    );
    println!("nothing is left over at either end");
    Ok(grown)
}

/// Plays `lifecycles` of them, in a world that is as full as in measured rounds. What a profiler counts in two runs differs by
/// what the lifecycles cost that one has more.
pub(super) fn lifecycles(lifecycles: u64, base: WorldConfig) -> Result<(), Failure> {
    let mut world = World::new(&base).map_err(Failure::environment)?;
    world.fill(&base, |_| ()).map_err(Failure::failed)?;
    let (first, segments) = (world.closed(), world.segments());
    world.until(|world| world.closed() >= first + lifecycles).map_err(Failure::failed)?;
    println!("{} lifecycles, {} segments", world.closed() - first, world.segments() - segments);
    Ok(())
}

/// Opens `connections` at each end, which then do nothing, and says what each takes.
pub(super) fn idle(connections: u32, base: WorldConfig) -> Result<(), Failure> {
    let config = WorldConfig { live: connections, exchange: false, ..base };
    let small = World::new(&WorldConfig { live: 1, ..config }).map_err(Failure::environment)?;
    drop(small);
    let (before, begun) = (resident_bytes().unwrap_or(0), Instant::now());
    let mut world = World::new(&config).map_err(Failure::environment)?;
    let (mut told, target) = (0, u64::from(connections));
    world
        .until(|world| {
            let open = world.client.application().connected.min(world.server.application().accepted);
            if open >= told + IDLE_PROGRESS_EVERY {
                told = open;
                eprintln!("idle: {told} of {target} connections are open");
            }
            open >= target
        })
        .map_err(Failure::failed)?;
    let grown = resident_bytes().unwrap_or(0).saturating_sub(before);
    let ends = 2 * target;
    println!(
        "{connections} idle established connections at each end, opened in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    println!("{:.1} bytes each: {grown} bytes of memory for {ends} ends", grown as f64 / ends as f64);
    Ok(())
}

/// What was opened has closed or lives, what went to TIME-WAIT has ended or is there, at both ends.
fn balance(world: &World) -> Result<(), String> {
    let ends = [
        ("client", world.client.counters(), world.client.connections_live(), world.client.time_wait_live()),
        ("server", world.server.counters(), world.server.connections_live(), world.server.time_wait_live()),
    ];
    for (end, counters, live, time_wait_live) in ends {
        let (opened, ended) = (counters.opened(), counters.ended());
        if opened != ended + live as u64 {
            return Err(format!("{end}: {opened} opened, {ended} ended, {live} live: {counters:?}"));
        }
        if counters.time_wait_created != counters.time_wait_ended() + time_wait_live as u64 {
            return Err(format!("{end}: TIME-WAIT: {time_wait_live} live: {counters:?}"));
        }
    }
    Ok(())
}

/// Every connection was opened, closed gracefully and left a record at the client, which closes first, and none at the server;
/// records ended in the way that was to be shown and in no other.
fn kept_time_wait(time_wait: TimeWaitEnds, client: &Counters, server: &Counters) -> Result<(), String> {
    let opened = client.opened();
    let exact = [
        ("client: closed gracefully", client.closed_graceful, opened),
        ("client: TIME-WAIT records made", client.time_wait_created, opened),
        ("client: left without TIME-WAIT", client.time_wait_skipped, 0),
        ("client: TIME-WAIT ended by RST", client.time_wait_ended_by_rst, 0),
        ("server: opened", server.opened(), opened),
        ("server: closed gracefully", server.closed_graceful, opened),
        ("server: TIME-WAIT records made", server.time_wait_created, 0),
        ("server: left without TIME-WAIT", server.time_wait_skipped, 0),
    ];
    if let Some((what, is, meant)) = exact.into_iter().find(|(_, is, meant)| is != meant) {
        return Err(format!("{what}: {is} instead of {meant}: {client:?}"));
    }
    // There are 4-tuples for half as many again as wait, and ports come up again in the order in which they came back: only
    // one source meets its own within 2MSL, and only few places have a record make room.
    let (reused, evicted) = (client.time_wait_reused, client.time_wait_evicted);
    match (time_wait, client.time_wait_expired, reused, evicted) {
        (TimeWaitEnds::Expired, 1.., 0, 0)
        | (TimeWaitEnds::Reused, 1.., 1.., 0)
        | (TimeWaitEnds::Evicted, 1.., 0, 1..) => Ok(()),
        (_, expired, ..) => Err(format!(
            "TIME-WAIT {time_wait:?}: {expired} expired, {reused} reused, {evicted} evicted; with too few lifecycles none is \
             reused or evicted"
        )),
    }
}

/// The soaks with reuse and eviction are so many times shorter.
const SHORTER: u64 = 10;

/// What the allocator and the kernel's bookkeeping may add without a leak: at one lifecycle's worth per 100, a leak is past this
/// within a million lifecycles.
const GROWTH_MAX_BYTES: u64 = 1 << 20;

const PROGRESS_EVERY: u64 = 10_000_000;
const IDLE_PROGRESS_EVERY: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: WorldConfig = WorldConfig {
        live: 1000,
        resident: 0,
        ns_per_lifecycle: 10_000,
        exchange: true,
        huge_pages: false,
        ipv6: false,
        time_wait: TimeWaitEnds::Expired,
    };

    #[test]
    fn short_soak_balances_and_leaves_nothing() {
        for (ipv6, time_wait) in
            [(false, TimeWaitEnds::Expired), (true, TimeWaitEnds::Reused), (false, TimeWaitEnds::Evicted)]
        {
            run_soak(5_000, WorldConfig { ipv6, time_wait, ..BASE }).expect("counts balance");
        }
    }

    #[test]
    fn soak_sees_time_wait_that_is_left_out_or_ends_otherwise() {
        let client = Counters {
            opens_active: 9,
            closed_graceful: 9,
            time_wait_created: 9,
            time_wait_expired: 9,
            ..Counters::default()
        };
        let server = Counters { opens_passive: 9, closed_graceful: 9, ..Counters::default() };
        let check = |time_wait, client, server| kept_time_wait(time_wait, &client, &server);
        assert_eq!(check(TimeWaitEnds::Expired, client, server), Ok(()));
        let skips = Counters { time_wait_created: 0, time_wait_expired: 0, time_wait_skipped: 9, ..client };
        assert!(check(TimeWaitEnds::Expired, skips, server).is_err());
        assert!(check(TimeWaitEnds::Expired, Counters { time_wait_skipped: 0, ..skips }, server).is_err());
        assert!(check(TimeWaitEnds::Expired, client, Counters { time_wait_created: 1, ..server }).is_err());
        assert!(check(TimeWaitEnds::Expired, client, Counters { time_wait_skipped: 1, ..server }).is_err());
        let reuses = Counters { time_wait_expired: 4, time_wait_reused: 5, ..client };
        let evicts = Counters { time_wait_expired: 4, time_wait_evicted: 5, ..client };
        assert!(check(TimeWaitEnds::Expired, reuses, server).is_err());
        assert!(check(TimeWaitEnds::Expired, evicts, server).is_err());
        assert_eq!(check(TimeWaitEnds::Reused, reuses, server), Ok(()));
        assert_eq!(check(TimeWaitEnds::Evicted, evicts, server), Ok(()));
        assert!(check(TimeWaitEnds::Reused, evicts, server).is_err());
        assert!(check(TimeWaitEnds::Evicted, client, server).is_err());
    }

    #[test]
    fn few_idle_connections_open() {
        idle(500, BASE).expect("they open");
    }
}
