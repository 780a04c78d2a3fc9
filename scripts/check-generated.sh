#!/usr/bin/env bash
# Fails if internal/bpfobj is not what the pinned compiler makes of bpf/: the objects are committed, so
# that building needs no clang, and nobody reads them in a review. What was made anew stays in place.
set -euo pipefail
cd "$(dirname "$0")/.."

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
cp -r internal/bpfobj/. "$before"
make --no-print-directory generate
if ! diff -rq "$before" internal/bpfobj; then
	echo "internal/bpfobj does not belong to bpf/: run \"make generate\" and commit the result." >&2
	exit 1
fi
