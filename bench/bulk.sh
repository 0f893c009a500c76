#!/bin/bash
# Bytes per second of one stream, synfin and the kernel's TCP as either end. Does all set-up and removes it.
set -u

usage() {
    cat <<'HELP'
usage: bench/bulk.sh [OPTIONS]

Joins two network namespaces by a veth pair without offloads and measures, in turn and in several rounds, how fast one stream flows
  synfin-kernel      from synfin on AF_XDP to the kernel's TCP
  kernel-synfin      from the kernel's TCP to synfin
  kernel-kernel      between the kernel's TCP at both ends: the baseline
  kernel-synfin-gso, kernel-kernel-gso
                     the same with segmentation in software, which ethtool does not turn off for the kernel's TCP: it hands over
                     up to 64 KiB at once. Where it is not named, every segment is sent by itself (gso_max_segs 1)
  synfin-synfin      between synfin at both ends (only when asked for)
a core for each end. Every byte sent must be received. Needs root.

  --quick               under 30 s: rounds of 1 s
  --json FILE           write the result to FILE; - is standard output, in place of the table
  --seconds S           measured window of each round, s [4, with --quick 1]
  --rounds N            rounds of each direction [3]
  --mode auto|skb|drv   how the XDP program is attached [auto]
  --buffer-kb N         send and receive buffer of synfin's ends, KiB [1024]; the kernel's grow by themselves
  --cpus A,B            CPUs of the sender and of the receiver [0,1]
  --direction LIST      what to run, in this order [all but synfin-synfin]
  --keep                leave the last pair of namespaces for inspection
  -h, --help            this text

Examples:
  bench/bulk.sh                               everything, about a minute and a half
  bench/bulk.sh --quick --json result.json    for a first look and for CI
  bench/bulk.sh --direction synfin-kernel --rounds 5

Exit codes: 0 ok, 1 failed or errors were counted, 2 usage, 3 the environment is not ready, 130 interrupted, 143 terminated.
HELP
}

# shellcheck source=bench/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bench bulk "$@"
