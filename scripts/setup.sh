#!/bin/sh
# Installs what building, running and testing synfin needs on Debian, and nothing else. Says nothing when all is there.
set -eu

# Building: the Rust crates compile libxdp and libbpf (m4, libelf, zlib), clang compiles the XDP program.
build='build-essential pkg-config clang m4 libelf-dev zlib1g-dev linux-libc-dev'
# Running, the benchmarks too: namespaces and veth pairs, offloads.
run='iproute2 ethtool'
# Testing: kernel clients and a server, captures, checks of the scripts, a browser with a font that looks at reports.
test='curl apache2-utils nginx-light haproxy tshark shellcheck python3 chromium fonts-dejavu-core'

usage() {
    cat <<'END'
Usage: scripts/setup.sh [--build | --bench] [--help]

Installs the Debian packages that are missing; needs root only if some are.
  --build   only what building needs, not what the tests need
  --bench   what building and running the benchmarks need

Exit status: 0 all there or installed, 1 not root or apt-get failed, 2 wrong usage, 3 not a Debian.
END
}

packages="$build $run $test"
for argument in "$@"; do
    case $argument in
    --build) packages=$build ;;
    --bench) packages="$build $run" ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        echo "setup.sh: unknown argument '$argument'; see scripts/setup.sh --help" >&2
        exit 2
        ;;
    esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "setup.sh: apt-get is not here; install what your distribution calls these Debian packages:" >&2
    echo "  $packages" >&2
    exit 3
fi

missing=
for package in $packages; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = 'install ok installed' ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "setup.sh: missing:$missing; run scripts/setup.sh as root to install them" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# Package lists may be absent or old: they are fetched only if the first try fails.
# shellcheck disable=SC2086 # one word per package
if ! apt-get install -y -q --no-install-recommends $missing; then
    apt-get update -q
    apt-get install -y -q --no-install-recommends $missing
fi
