#!/bin/sh
# Makes and removes the wire of one run: two network namespaces joined by a veth pair of one queue each, or of
# SYNFIN_BENCH_QUEUES queues. With SYNFIN_BENCH_GSO=off the kernel's TCP makes its segments itself.
#
#   wire.sh up NS_A NS_B kernel TIME_WAIT_MAX        with addresses for the kernel's TCP at both ends
#   wire.sh up NS_A NS_B xdp TIME_WAIT_MAX           without addresses: the ends belong to AF_XDP
#   wire.sh up NS_A NS_B xdp-kernel TIME_WAIT_MAX    AF_XDP in NS_A, the kernel in NS_B
#   wire.sh up NS_A NS_B kernel-xdp TIME_WAIT_MAX    the other way round
#   wire.sh up NS_A NS_B ENDS TIME_WAIT_MAX NIC_A NIC_B    two interfaces in place of the veth pair; `down` gives them back
#   wire.sh up-end NS NIC NAME                       one end of two hosts: NIC is moved to NS as NAME
#   wire.sh down NS_A NS_B
#
# Addresses: server 10.77.0.1 in NS_B, client 10.77.0.2 in NS_A, and every address of 10.77.128.0/17 is the client's as a source.
set -eu

usage() {
    echo "usage: $0 up NS_A NS_B kernel|xdp|xdp-kernel|kernel-xdp TIME_WAIT_MAX [NIC_A NIC_B] | up-end NS NIC NAME | down NS_A NS_B" >&2
    exit 2
}

in_ns() {
    ip netns exec "$@"
}

down() {
    for ns in "$@"; do
        give_back "$ns"
        if [ -e "/run/netns/$ns" ]; then
            ip -n "$ns" link del "$if_a" 2>/dev/null || true
            ip netns del "$ns"
        fi
    done
    if [ -n "$incomplete" ]; then
        echo "an interface has not got all of its addresses and routes back: see the messages above, and \`ip addr\`, \`ip route\`" >&2
        exit 1
    fi
}

# take NIC NS NAME: notes how the interface is, then moves it. What cannot be moved the kernel refuses before it changes anything.
take() {
    nic=$1 ns=$2 name=$3
    mkdir -p "$notes"
    {
        echo "$nic $name"
        cat "/sys/class/net/$nic/flags" "/sys/class/net/$nic/mtu"
        ethtool -k "$nic" | sed -n 's/^\([a-z-]*\): \(on\|off\)$/\1 \2/p' | tr '\n' ' '
        echo
        ip -o addr show dev "$nic" scope global | awk '{ print $4 }' | tr '\n' ' '
        echo
        routes_of 4 "$nic"
        routes_of 6 "$nic"
    } >"$notes/$ns.part"
    mv "$notes/$ns.part" "$notes/$ns"
    ip link set dev "$nic" netns "$ns" name "$name"
}

# routes_of FAMILY NIC: what does not come by itself with the addresses, as `ip route` takes it, behind the family.
routes_of() {
    ip -"$1" route show table all dev "$2" 2>/dev/null |
        sed -e '/ proto kernel/d' -e 's/ \(linkdown\|dead\|offload\|rt_offload\)\b//g' -e 's/ nhid [0-9]*//' \
            -e 's/ expires \([0-9]*\)sec/ expires \1/' -e "s/^/$1 /"
}

# Gives the interface of a namespace back as it was taken: name, MTU, features, up or down, addresses, routes. What was not moved, or
# was moved back by a run that was interrupted, gets the last three all the same.
give_back() {
    ns=$1
    [ -e "$notes/$ns" ] || return 0
    {
        read -r nic name
        read -r flags
        read -r mtu
        read -r features
        read -r addresses
    } <"$notes/$ns"
    if [ -e "/run/netns/$ns" ] && ip -n "$ns" link show dev "$name" >/dev/null 2>&1; then
        ip -n "$ns" link set dev "$name" down
        ip -n "$ns" link set dev "$name" netns $$ name "$nic"
        # shellcheck disable=SC2086 # a list of words
        ethtool -K "$nic" $features >/dev/null 2>&1 || true
        ip link set dev "$nic" mtu "$mtu"
    fi
    if [ $((flags & 1)) -eq 0 ] || ip link set dev "$nic" up; then
        for address in $addresses; do
            # A tentative address can be no route's source; that nobody else has it was known before it was moved.
            case "$address" in *:*) nodad=nodad ;; *) nodad= ;; esac
            ip addr replace "$address" dev "$nic" $nodad || incomplete=yes
        done
        # A gateway may be reached by a route that stands behind its own.
        give_routes_back 2>/dev/null || give_routes_back || incomplete=yes
    else
        incomplete=yes
    fi
    rm -f "$notes/$ns"
    rmdir "$notes" 2>/dev/null || true
}

# Whether all routes of the notes are there.
give_routes_back() {
    sed 1,5d "$notes/$ns" | {
        failed=0
        while read -r family route; do
            # shellcheck disable=SC2086 # a list of words
            ip -"$family" route replace $route dev "$nic" || failed=1
        done
        return $failed
    }
}

# An interface with a cable takes seconds until it carries anything.
wait_for_carrier() {
    ns=$1 dev=$2 tries=0
    until [ "$(in_ns "$ns" cat "/sys/class/net/$dev/carrier" 2>/dev/null)" = 1 ]; do
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || {
            echo "$dev of $ns has no carrier after 10 s; are the two interfaces joined by a cable?" >&2
            exit 1
        }
        sleep 0.1
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
    # Linux's TCP hands over up to 64 KiB at once, cut up just before the interface, whatever ethtool says.
    [ "$gso" = on ] || ip -n "$ns" link set dev "$dev" gso_max_segs 1
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
    if [ -n "$nic_a" ]; then
        take "$nic_a" "$ns_a" "$if_a"
        take "$nic_b" "$ns_b" "$if_b"
    else
        ip -n "$ns_a" link add "$if_a" numtxqueues "$queues" numrxqueues "$queues" type veth \
            peer name "$if_b" netns "$ns_b" numtxqueues "$queues" numrxqueues "$queues"
    fi
    end_up "$ns_a" "$if_a"
    end_up "$ns_b" "$if_b"
    if [ -n "$nic_a" ]; then
        wait_for_carrier "$ns_a" "$if_a"
        wait_for_carrier "$ns_b" "$if_b"
    fi
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
# Queues of the veth pair.
queues=${SYNFIN_BENCH_QUEUES:-1}
# Whether the kernel's TCP may leave segmentation to the way out.
gso=${SYNFIN_BENCH_GSO:-on}
# How interfaces were before they were moved, by namespace.
notes=/run/synfin-bench
# Whether something of them is not as it was.
incomplete=
case "${1:-}" in
up)
    [ $# -eq 5 ] || [ $# -eq 7 ] || usage
    ns_a=$2 ns_b=$3 ends=$4 time_wait_max=$5 nic_a=${6-} nic_b=${7-}
    case "$ends" in kernel | xdp | xdp-kernel | kernel-xdp) ;; *) usage ;; esac
    up
    ;;
up-end)
    [ $# -eq 4 ] || usage
    ip netns add "$2"
    take "$3" "$2" "$4"
    end_up "$2" "$4"
    wait_for_carrier "$2" "$4"
    ;;
down)
    [ $# -eq 3 ] || usage
    down "$2" "$3"
    ;;
*) usage ;;
esac
