# Shared by cps.sh and bulk.sh, which define usage, perhaps check_options, and then call bench: builds the benchmark, runs one
# subcommand of it between two network namespaces of its own, and removes them.
# shellcheck shell=bash

die() {
    local code=$1
    shift
    echo "$what.sh: $*" >&2
    exit "$code"
}

# bench WHAT [--out-default DIR] OPTION...
bench() {
    what=$1
    shift
    local own=()
    if [ "${1-}" = --out-default ]; then
        own=("$1" "$2")
        shift 2
    fi
    look_at_options "$@"
    find_tools
    check_nics
    (cd "$top" && cargo build --release --features bench --bin synfin-bench --bin synfin) || die 1 "the build failed"

    netns_a="synfin-$what-a-$$"
    netns_b="synfin-$what-b-$$"
    running=
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    # In the background, so that a signal to this script alone is acted on at once.
    "${CARGO_TARGET_DIR:-$top/target}/release/synfin-bench" "$what" \
        --netns-a "$netns_a" --netns-b "$netns_b" --wire "$top/bench/wire.sh" "${own[@]}" "$@" &
    running=$!
    wait "$running"
    local code=$?
    running=
    exit "$code"
}

look_at_options() {
    keep=no runs=yes unprivileged=no yes=no nics="" end=""
    local option
    for option in "$@"; do
        case "$option" in
        -h | --help)
            usage
            exit 0
            ;;
        --keep) keep=yes ;;
        --yes) yes=yes ;;
        --compare) runs=no unprivileged=yes ;;
        esac
    done
    if [ "$(type -t check_options)" = function ]; then
        check_options "$@"
    fi
}

find_tools() {
    if [ "$unprivileged" = no ] && [ "$(id -u)" -ne 0 ]; then
        local instead=
        [ "$what" != cps ] || instead="; --sim needs none, but simulates and measures nothing"
        die 3 "root is needed for namespaces and AF_XDP: run it with sudo$instead"
    fi
    top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || die 3 "cannot find the project"
    [ ! -x "$top/scripts/setup.sh" ] || "$top/scripts/setup.sh" --bench || exit
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null || die 3 "cargo is not installed: install Rust 1.95 or later"
    local tool
    for tool in ip ethtool; do
        command -v "$tool" >/dev/null || die 3 "$tool is not installed: install iproute2 and ethtool"
    done
}

# Interfaces to be moved must be there, be two, and serve nobody else.
check_nics() {
    [ -n "$nics" ] || return 0
    local first=${nics%%,*} second=${nics#*,} nic
    if [ -n "$end" ]; then
        case "$nics" in *,*) die 2 "--end $end --nic $nics: give the one interface that leads to the other host" ;; esac
        second=
    else
        check_pair
    fi
    for nic in "$first" $second; do
        check_nic "$nic"
    done
}

check_pair() {
    case "$nics" in
    *,*,* | ,* | *,) die 2 "--nic $nics: give two interfaces, as in --nic eth1,eth2" ;;
    *,*) [ "$first" != "$second" ] || die 2 "--nic $nics: give two different interfaces" ;;
    *) die 2 "--nic $nics: give two interfaces, as in --nic eth1,eth2" ;;
    esac
}

check_nic() {
    local nic=$1
    ip link show dev "$nic" >/dev/null 2>&1 || die 3 "--nic $nic: there is no such interface; list them with: ip -br link"
    if [ "$yes" = no ]; then
        if ip -4 route show default | grep -qw "dev $nic" || ip -6 route show default | grep -qw "dev $nic"; then
            die 3 "--nic $nic: it carries the default route, so that this machine would be cut off; choose another, or say --yes"
        fi
        [ -z "$(ip -o addr show dev "$nic" scope global)" ] ||
            die 3 "--nic $nic: it has addresses, which would be away meanwhile; choose another, or say --yes"
    fi
}

# shellcheck disable=SC2317,SC2329 # called by the trap
clean_up() {
    trap '' INT TERM HUP
    if [ -n "$running" ]; then
        kill -TERM "$running" 2>/dev/null
        wait "$running" 2>/dev/null
    fi
    if [ "$runs" = no ]; then
        return
    fi
    if [ "$keep" = yes ] && ip netns list | grep -q "^$netns_a\b"; then
        echo "kept: namespaces $netns_a and $netns_b; remove them with: bench/wire.sh down $netns_a $netns_b" >&2
    elif [ "$(id -u)" -eq 0 ]; then
        "$top/bench/wire.sh" down "$netns_a" "$netns_b"
    fi
}
