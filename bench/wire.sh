#!/bin/sh
# Makes and removes the wire of one run: two network namespaces joined by a veth pair of one queue each.
#
#   wire.sh up NS_A NS_B kernel TIME_WAIT_MAX        with addresses for the kernel's TCP at both ends
#   wire.sh up NS_A NS_B xdp TIME_WAIT_MAX           without addresses: the ends belong to AF_XDP
#   wire.sh up NS_A NS_B xdp-kernel TIME_WAIT_MAX    AF_XDP in NS_A, the kernel in NS_B
#   wire.sh up NS_A NS_B kernel-xdp TIME_WAIT_MAX    the other way round
#   wire.sh down NS_A NS_B
#
# Addresses: server 10.77.0.1 in NS_B, client 10.77.0.2 in NS_A, and every address of 10.77.128.0/17 is the client's as a source.
set -eu

usage() {
    echo "usage: $0 up NS_A NS_B kernel|xdp|xdp-kernel|kernel-xdp TIME_WAIT_MAX | down NS_A NS_B" >&2
    exit 2
}

in_ns() {
    ip netns exec "$@"
}

down() {
    for ns in "$@"; do
        if [ -e "/run/netns/$ns" ]; then
            ip -n "$ns" link del "$if_a" 2>/dev/null || true
            ip netns del "$ns"
        fi
    done
}

# An end without IPv6, so that nothing but the measured traffic is counted.
end_up() {
    ns=$1 dev=$2
    in_ns "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true
    ip -n "$ns" link set lo up
    ip -n "$ns" link set "$dev" up
}

kernel_end() {
    ns=$1 dev=$2 time_wait_max=$3
    in_ns "$ns" ethtool -K "$dev" tx off tso off gso off gro off >/dev/null 2>&1
    in_ns "$ns" sysctl -qw \
        net.ipv4.tcp_max_tw_buckets="$time_wait_max" \
        net.ipv4.ip_local_port_range="1024 65535" \
        net.ipv4.tcp_rfc1337=1 \
        net.ipv4.tcp_max_syn_backlog=65535 \
        net.core.somaxconn=65535
}

# An address whose peers are sent to by CUBIC, whatever this machine's default is: both stacks are then alike.
address() {
    ns=$1 address=$2 dev=$3
    ip -n "$ns" addr add "$address/17" dev "$dev" noprefixroute
    ip -n "$ns" route add 10.77.0.0/17 dev "$dev" src "$address" congctl cubic
}

up() {
    ip netns add "$ns_a"
    ip netns add "$ns_b"
    ip -n "$ns_a" link add "$if_a" numtxqueues 1 numrxqueues 1 type veth \
        peer name "$if_b" netns "$ns_b" numtxqueues 1 numrxqueues 1
    end_up "$ns_a" "$if_a"
    end_up "$ns_b" "$if_b"
    if [ "${ends%-*}" = kernel ]; then
        kernel_end "$ns_a" "$if_a" "$time_wait_max"
        address "$ns_a" 10.77.0.2 "$if_a"
        ip -n "$ns_a" route add local 10.77.128.0/17 dev lo
    fi
    if [ "${ends#*-}" = kernel ]; then
        kernel_end "$ns_b" "$if_b" "$time_wait_max"
        address "$ns_b" 10.77.0.1 "$if_b"
        ip -n "$ns_b" route add 10.77.128.0/17 via 10.77.0.2
    fi
}

if_a=client0
if_b=server0
case "${1:-}" in
up)
    [ $# -eq 5 ] || usage
    ns_a=$2 ns_b=$3 ends=$4 time_wait_max=$5
    case "$ends" in kernel | xdp | xdp-kernel | kernel-xdp) ;; *) usage ;; esac
    up
    ;;
down)
    [ $# -eq 3 ] || usage
    down "$2" "$3"
    ;;
*) usage ;;
esac
