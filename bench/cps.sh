#!/bin/bash
# Connections per second of synfin, of the kernel's TCP and of the wire itself, side by side; what TIME-WAIT reuse gains, and what it
# risks. Does all set-up and removes it.
set -u

usage() {
    cat <<'HELP'
usage: bench/cps.sh [OPTIONS]

Joins two network namespaces by a veth pair and measures, in turn and in several rounds, how many TCP connections per second
  synfin         a synfin client and a synfin server on AF_XDP, a core each
  kernel         the kernel's own TCP on the same wire, cores, payload, closer and addresses, with tcp_tw_reuse 0
  kernel-reuse   the same with tcp_tw_reuse 1
  echo           a raw AF_XDP echo: the limit of the wire
open, carry a checked request and response, and close, with TIME-WAIT of 60 s kept. Then, in the default run, what becomes of both
stacks when ports run out and the policy is switched (phases), and a small sweep of what old segments do under each policy (risk).
Needs root; --sim, --dry-run and --help do not.

Stacks and TIME-WAIT
  --stack LIST             what to run, in this order [synfin,kernel,echo]
  --closer client|server   who closes first, and so keeps TIME-WAIT [client]
  --tw LIST                strict, timestamp, timestamp-or-sequence, none, rst-close: each is run [strict]
  --tw-delay MS            how long a 4-tuple rests at least where reuse is allowed [1000]
  --msl S                  MSL of synfin [30; 3.5 in the phases]; Linux keeps 60 s whatever is said
  --phases LIST            switch the policy of running stacks [strict:9s,timestamp:4s in the default run]
Load
  --rate R|max|find        open loop at R/s, closed loop, or a search for the highest clean rate [max]
  --conns N                connections in flight [256]
  --ports LO-HI            local ports of the client [1024-65535; 32768-60999 in the phases]
  --src-ips N              source addresses of the client [as many as the 4-tuples need, at least 64; 1 in the phases]
  --dst-ports N            ports of the server [1]
  --payload REQ:RESP       bytes of a request and of a response [64:64]
  --duration S             measured window of each round; 30m and 1h are understood [2.5, with --quick 1.5]
  --warmup S               time before each window [0.5, with --quick 0.2]
  --rounds N               rounds of each stack [3]
  --resident N             rounds with N entries in TIME-WAIT beforehand, beside rounds with none [0]
Risk
  --inject-old             the whole sweep: old segments of earlier incarnations aimed at every new one
  --loss P --reorder P --dup P    shares of frames, such as 0.01 or 1%, of synfin's side [0]
  --delay MS               delay of every frame, of synfin's side [0]
Place
  --nic A,B                two interfaces of this machine in place of a veth pair, each moved to a namespace and given back
  --end client|server      one end of synfin alone, on the interface of --nic IF; prints the command for the other host. Untested on
                           two hosts until someone has; the server's end is ended with ^C
  --yes                    take interfaces that have the default route or addresses, too
  --mode auto|skb|drv|zc   how the XDP program is attached [auto]
  --sleep                  synfin's ends sleep when there is nothing to do, for a steady rate beside other programs [they spin]
  --queues N               queues of the wire, and shards of each of synfin's ends, with --stack synfin [1]
  --cpus LIST              CPUs of the client and of the server; with --queues N also N and N of them [0,1]
Result
  --quick                  under 30 s: rounds of 1.5 s, the table alone
  --out DIR                where the result goes [bench/out/<time>]
  --json FILE              write the result to FILE too
  --csv FILE               write every figure to FILE, one a row
  --hlog FILE              write the connect latencies of each stack to FILE, as a log of HdrHistogram
  --markdown FILE          write the tables to FILE in Markdown
  --fail-if EXPR           end with exit code 4 if EXPR holds, such as 'synfin/limit<0.7' or 'errors>0 or p99>2000'
  --compare A B            run nothing: compare two results that --json has written
  --seed N                 what everything random is drawn from [the system]
  --sim                    sweep and phases in virtual time, without wire or privilege: no measurement
  --dry-run                say what would be done, and do nothing
  --keep                   leave the last pair of namespaces for inspection
  -h, --help               this text

Examples:
  bench/cps.sh                                          everything, about a minute
  bench/cps.sh --quick --json result.json               for a first look and for CI
  bench/cps.sh --closer server --mode drv               the server closes first, native XDP
  bench/cps.sh --stack synfin,kernel --phases strict:15s,timestamp:10s --msl 5
  bench/cps.sh --stack synfin --inject-old --loss 1%    the whole sweep over a wire that loses
  bench/cps.sh --stack synfin --rate find               the highest rate at which nothing fails
  bench/cps.sh --nic ens1f0,ens1f1 --mode zc            two ports of one machine, joined by a cable
  bench/cps.sh --end server --nic eth1                  of two hosts this one is the server

Exit codes: 0 ok, 1 failed, errors were counted or the positive control showed nothing, 2 usage, 3 the environment is not ready,
4 a condition of --fail-if was met, 130 interrupted (with --end server always: ^C is its end, and its result is printed), 143 terminated.
HELP
}

# Refuses what cannot be before anything is built or made. What the values must be in detail the benchmark itself says.
check_options() {
    local option value
    while [ $# -gt 0 ]; do
        option=$1
        shift
        case "$option" in
        --quick | --inject-old | --yes | --keep | --sleep | -h | --help) continue ;;
        --sim | --dry-run)
            unprivileged=yes
            continue
            ;;
        --compare)
            [ $# -ge 2 ] || die 2 "--compare: give two results, as in --compare before.json after.json"
            shift 2
            continue
            ;;
        --*=*)
            value=${option#*=}
            option=${option%%=*}
            ;;
        --*)
            [ $# -gt 0 ] || die 2 "$option: a value is missing; see bench/cps.sh --help"
            value=$1
            shift
            ;;
        *) die 2 "$option: no option; see bench/cps.sh --help" ;;
        esac
        check_option "$option" "$value"
    done
}

check_option() {
    case "$1" in
    --stack) check_list "$1" "$2" "synfin kernel kernel-reuse echo" ;;
    --closer) check_list "$1" "$2" "client server" ;;
    --tw) check_list "$1" "$2" "strict timestamp timestamp-or-sequence none rst-close" ;;
    --mode) check_list "$1" "$2" "auto skb drv zc" ;;
    --phases)
        local phase
        for phase in ${2//,/ }; do
            check_list "$1" "${phase%%:*}" "strict timestamp timestamp-or-sequence none"
        done
        ;;
    --conns | --src-ips | --dst-ports | --rounds | --queues | --resident | --tw-delay | --seed)
        case "$2" in '' | *[!0-9]*) die 2 "$1 $2: give a whole number; see bench/cps.sh --help" ;; esac
        ;;
    --msl | --duration | --warmup | --loss | --reorder | --dup | --delay)
        case "$2" in '' | *[!0-9.smh%]*) die 2 "$1 $2: give a number; see bench/cps.sh --help" ;; esac
        ;;
    --nic) nics=$2 ;;
    --end)
        check_list "$1" "$2" "client server"
        end=$2
        ;;
    --rate | --ports | --payload | --cpus | --out | --json | --csv | --hlog | --markdown | --fail-if) ;;
    *) die 2 "$1: no option; see bench/cps.sh --help" ;;
    esac
}

# check_list OPTION LIST WORDS: every item of the comma-separated list must be one of the words.
check_list() {
    local item
    for item in ${2//,/ }; do
        case " $3 " in
        *" $item "*) ;;
        *) die 2 "$1 $item: there is no such one; choose from: $3" ;;
        esac
    done
    [ -n "$2" ] || die 2 "$1: the list is empty; choose from: $3"
}

what=cps
# shellcheck source=bench/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bench cps --out-default "$(dirname "${BASH_SOURCE[0]}")/out/$(date -u +%Y%m%dT%H%M%SZ)" "$@"
