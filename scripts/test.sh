#!/bin/sh
# Runs every check of the project: format, lints, each feature alone, shell scripts, tests, documentation.
# Privileged tests (namespaces, AF_XDP) run as root; otherwise they fail where CI is set and are ignored elsewhere, until the
# last step misses those that the ledger names. Ends with one closing line.
set -eu
cd "$(dirname "$0")/.."

case ${1-} in
"") ;;
-h | --help)
    echo "usage: scripts/test.sh    runs every check of the project; as root, or the last step misses the privileged tests"
    exit 0
    ;;
*)
    echo "test.sh: unknown argument '$1'; it takes none" >&2
    exit 2
    ;;
esac

step() {
    printf '== %s\n' "$*"
}

[ "$(id -u)" = 0 ] || echo "test.sh: without root the privileged tests do not run, and the last step will say so" >&2

step set-up
scripts/setup.sh

step format
cargo fmt --check

step "shell scripts"
# shellcheck disable=SC2046 # file names of this tree hold no spaces
shellcheck scripts/*.sh $(find bench -name "*.sh") .ci/run

step "lints, default features"
cargo clippy --all-targets -- -D warnings

step "lints, all features"
cargo clippy --all-targets --all-features -- -D warnings

# That each of them is found is shown by scripts/planted.sh, which takes minutes.
step "planted bugs still apply"
for patch in tests/planted/*.patch; do
    git apply -C1 --check "$patch" || {
        echo "test.sh: $patch no longer applies; mend it, then run scripts/planted.sh" >&2
        exit 1
    }
done

# The core alone must neither need std nor clang.
step "no features"
cargo clippy --lib --no-default-features -- -D warnings
features=$(sed -n '/^\[features\]/,/^\[dependencies\]/s/^\([a-z_-]*\) = \[.*/\1/p' Cargo.toml)
for feature in ${features:?no features in Cargo.toml}; do
    step "feature $feature alone"
    cargo clippy --lib --bins --no-default-features --features "$feature" -- -D warnings
done

step "tests of the core without features"
cargo test --quiet --lib --no-default-features

step "tests"
output=target/tests.txt
mkdir -p target
rm -f "$output"
echo "what each test says: $output"
trap 'tail -n 50 "$output" >&2; exit 130' INT TERM
if ! cargo test --all-features >"$output"; then
    cat "$output" >&2
    exit 1
fi
trap - INT TERM
awk '/^test result/ { passed += $4; ignored += $8 } END { print passed " tests passed, " ignored " ignored" }' "$output"

# B20: every seed has 20 connections and 64 kB at least over a wire that loses, repeats, reorders, corrupts and delays. Two
# minutes are meant for the run without its build; a slow machine is no failure, so it is only said, loudly, and again at the end.
step "simulation, 10,000 seeds"
cargo test --quiet --profile simulation --lib --no-default-features --no-run
began=$(date +%s)
SYNFIN_SEEDS=10000 cargo test --quiet --profile simulation --lib --no-default-features simulation::b20_every_seed -- --nocapture
took=$(($(date +%s) - began))
echo "10,000 seeds took $took s; 120 s are meant for them"
slow=
[ "$took" -le 120 ] || slow="SLOW: 10,000 seeds took $took s instead of 120 s: a slow or busy machine, or a slower stack"
[ -z "$slow" ] || echo "$slow" >&2

# What is not touched shows only in how the compiler fills the tables.
step "tables are in memory, optimised"
cargo test --quiet --profile simulation --no-default-features --features std --test touched

step "documentation"
RUSTDOCFLAGS='-D warnings' cargo doc --quiet --no-deps --all-features

# Tests in sources, as the ledger finds them, may be compiled out or ignored.
step "every test that the ledger names has run"
SYNFIN_TEST_OUTPUT=$output cargo test --quiet --all-features --test ledger

# Said again where it is read.
[ -z "$slow" ] || echo "$slow" >&2
echo "all checks passed"
