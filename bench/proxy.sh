#!/bin/bash
# Connections through an L4 proxy: synfin's on AF_XDP, and HAProxy on the kernel's TCP. Does all set-up and removes it.
set -u

usage() {
    cat <<'HELP'
usage: bench/proxy.sh [OPTIONS]

Joins two network namespaces by a veth pair and measures, in turn and in several rounds, how many connections per second go through
  synfin    synfin proxy on AF_XDP
  haproxy   HAProxy of the distribution, mode tcp, one thread, no log
and how many for each second of CPU that the machine was busy with, less the load's share. The load is the same for both: clients and
eight backends of synfin in one process on one CPU; each connection carries a checked 64-byte request and response through the proxy,
which has the other CPU to itself. Measure on an idle machine. Needs root.

  --quick                  under 30 s: rounds of 1.5 s
  --closer client|server   who closes first [server]
  --json FILE              write the result to FILE
  --duration S             measured window of each round, s [5, with --quick 1.5]
  --rounds N               rounds of each proxy [3]
  --conns N                connections in flight [256]
  --mode auto|skb|drv      how the XDP programs are attached [auto]
  --cpus A,B               CPUs of the load and of the proxy [0,1]
  --proxy LIST             what to run, in this order [synfin,haproxy]
  --keep                   leave the last pair of namespaces for inspection
  -h, --help               this text

Examples:
  bench/proxy.sh                                both, under a minute
  bench/proxy.sh --quick --json result.json     for a first look
  bench/proxy.sh --proxy synfin --rounds 5

Exit codes: 0 ok, 1 failed or errors were counted, 2 usage, 3 the environment is not ready, 130 interrupted, 143 terminated.
HELP
}

# shellcheck source=bench/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bench proxy "$@"
