# Shared by cps.sh, bulk.sh and proxy.sh, which define usage and then call bench: builds the benchmark, runs one subcommand of it between two
# network namespaces of its own, and removes them.
# shellcheck shell=bash

die() {
    local code=$1
    shift
    echo "$what.sh: $*" >&2
    exit "$code"
}

# bench WHAT OPTION...
bench() {
    what=$1
    shift
    look_at_options "$@"
    find_tools
    (cd "$top" && cargo build --release --features bench --bin synfin-bench --bin synfin) || die 1 "the build failed"

    netns_a="synfin-$what-a-$$"
    netns_b="synfin-$what-b-$$"
    running=
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    # In the background, so that a signal to this script alone is acted on at once.
    "${CARGO_TARGET_DIR:-$top/target}/release/synfin-bench" "$what" \
        --netns-a "$netns_a" --netns-b "$netns_b" --wire "$top/bench/wire.sh" "$@" &
    running=$!
    wait "$running"
    local code=$?
    running=
    exit "$code"
}

look_at_options() {
    keep=no
    local option
    for option in "$@"; do
        case "$option" in
        -h | --help)
            usage
            exit 0
            ;;
        --keep) keep=yes ;;
        esac
    done
}

find_tools() {
    [ "$(id -u)" -eq 0 ] || die 3 "root is needed for namespaces and AF_XDP: run it with sudo"
    top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || die 3 "cannot find the project"
    [ ! -x "$top/scripts/setup.sh" ] || "$top/scripts/setup.sh" || exit
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null || die 3 "cargo is not installed: install Rust 1.95 or later"
    local tool
    for tool in ip ethtool; do
        command -v "$tool" >/dev/null || die 3 "$tool is not installed: install iproute2 and ethtool"
    done
}

# shellcheck disable=SC2317,SC2329 # called by the trap
clean_up() {
    trap '' INT TERM HUP
    if [ -n "$running" ]; then
        kill -TERM "$running" 2>/dev/null
        wait "$running" 2>/dev/null
    fi
    if [ "$keep" = yes ] && ip netns list | grep -q "^$netns_a\b"; then
        echo "kept: namespaces $netns_a and $netns_b; remove them with: bench/wire.sh down $netns_a $netns_b" >&2
    else
        "$top/bench/wire.sh" down "$netns_a" "$netns_b"
    fi
}
