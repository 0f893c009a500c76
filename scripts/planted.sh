#!/bin/sh
# Plants each bug of tests/planted in a copy of the tree, one at a time, and demands that its test fails: a check that cannot
# fail proves nothing. A patch that no longer applies, does not build, or names no test is an error, too.
set -eu
cd "$(dirname "$0")/.."

usage() {
    echo "usage: scripts/planted.sh [PATCH...]    plants the bugs of tests/planted, or those named, and runs the test that each names"
}

case ${1-} in
-h | --help)
    usage
    exit 0
    ;;
-*)
    echo "planted.sh: unknown option '$1'" >&2
    usage >&2
    exit 2
    ;;
esac

# One directory of builds for all of them: each patch changes one file.
CARGO_TARGET_DIR=$PWD/target/planted
export CARGO_TARGET_DIR
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' INT TERM

fail() {
    echo "planted.sh: $*" >&2
    exit 1
}

# Where core tests are built: without features, which is quicker.
core_tests() {
    cargo test --quiet --lib --no-default-features "$@" >"$copy/output" 2>&1
}

# The test that a patch names.
test_of() {
    sed -n 's/^Test: //p' "$1"
}

# Every test must be there and pass as long as nothing is planted.
check_test() {
    test=$(test_of "$1")
    [ -n "$test" ] || fail "$1 has no line 'Test: NAME'"
    if ! core_tests "$test" || grep -q "^running 0 tests" "$copy/output"; then
        cat "$copy/output" >&2
        fail "$test does not pass without the bug of $1, or is not there"
    fi
}

plant() {
    test=$(test_of "$1")
    git apply -C1 "$1" 2>"$copy/output" || fail "$1 no longer applies, mend it: $(cat "$copy/output")"
    if ! core_tests --no-run; then
        cat "$copy/output" >&2
        fail "$1 does not build"
    fi
    if core_tests "$test"; then
        fail "$test does not find the bug of $1"
    fi
    git apply -C1 --reverse "$1"
    printf '%-20s found by %s\n' "$(basename "$1" .patch)" "$test"
}

mkdir "$copy/tree"
# With the time of the copy: cargo would take the former run's build, which has its last bug in it, for newer than these files.
tar --exclude=./target --exclude=./.git -cf - . | tar -xmf - -C "$copy/tree"
if [ $# -eq 0 ]; then
    set -- tests/planted/*.patch
fi
for patch in "$@"; do
    [ -r "$patch" ] || fail "$patch cannot be read"
done
# The names given are relative to the tree's root, as the copy's are.
cd "$copy/tree"
for patch in "$@"; do
    check_test "$patch"
done
for patch in "$@"; do
    plant "$patch"
done
echo "$# planted bugs, each found"
