#!/bin/bash
# Connections per second of synfin, of the kernel's TCP and of the wire itself, side by side. Does all set-up and removes it.
set -u

usage() {
    cat <<'HELP'
usage: bench/cps.sh [OPTIONS]

Joins two network namespaces by a veth pair and measures, in turn and in several rounds, how many TCP connections per second
  synfin   a synfin client and a synfin server on AF_XDP, a core each
  kernel   the kernel's own TCP on the same wire, cores, payload, closer and addresses
  echo     a raw AF_XDP echo: the limit of the wire
open, carry a checked 64-byte request and response, and close, with TIME-WAIT of 60 s kept. Needs root.

  --quick                  under 30 s: rounds of 1.5 s
  --closer client|server   who closes first, and so keeps TIME-WAIT [client]
  --json FILE              write the result to FILE
  --csv FILE               write every figure to FILE, one a row
  --hlog FILE              write the connect latencies of each stack to FILE, as a log of HdrHistogram
  --markdown FILE          write the tables to FILE in Markdown
  --fail-if EXPR           end with exit code 4 if EXPR holds, such as 'synfin/limit<0.7' or 'errors>0 or p99>2000'
  --compare A B            run nothing: compare two results that --json has written
  --duration S             measured window of each round, s [5, with --quick 1.5]
  --rounds N               rounds of each stack [3]
  --conns N                connections in flight [256]
  --src-ips N              source addresses of the client [as many as the 4-tuples need, at least 64]
  --mode auto|skb|drv      how the XDP program is attached [auto]
  --cpus A,B               CPUs of the client and of the server [0,1]
  --stack LIST             what to run, in this order [synfin,kernel,echo]
  --keep                   leave the last pair of namespaces for inspection
  -h, --help               this text

Examples:
  bench/cps.sh                                  everything, about a minute
  bench/cps.sh --quick --json result.json       for a first look and for CI
  bench/cps.sh --closer server --mode drv       the server closes first, native XDP
  bench/cps.sh --stack kernel --rounds 5        the baseline alone

Exit codes: 0 ok, 1 failed or errors were counted, 2 usage, 3 the environment is not ready, 4 a condition of
--fail-if was met, 130 interrupted, 143 terminated.
HELP
}

# shellcheck source=bench/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bench cps "$@"
