#!/usr/bin/env bash
# Runs go test with the arguments given. The tests drive real kernels and engines, whose timing belongs
# to the machine: a test that fails is run again, at most twice, and listed at the end with its runs, so
# that a flake is seen and does not hide what else broke. More than five failures are no flakes.
# gotestsum is built into .cache/bin, so that it stays out of go.mod.
#
# usage: [TEST_FORMAT=testname] test.sh PACKAGES [ARGUMENT OF GO TEST...]
set -euo pipefail

version=1.13.0
bin=$(cd "$(dirname "$0")/.." && pwd)/.cache/bin
packages=$1
shift

if ! "$bin/gotestsum" --version 2>/dev/null | grep -q "version v$version"; then
	mkdir -p "$bin"
	echo '*' >"$bin/../.gitignore"
	GOBIN=$bin go install "gotest.tools/gotestsum@v$version"
fi
report=$(mktemp)
trap 'rm -f "$report"' EXIT
code=0
"$bin/gotestsum" --format "${TEST_FORMAT:-pkgname}" --hide-summary skipped --packages "$packages" \
	--rerun-fails=2 --rerun-fails-max-failures=5 --rerun-fails-report "$report" -- "$@" || code=$?
if [ -s "$report" ]; then
	echo "tests that failed at first (runs, failures):"
	cat "$report"
fi
exit $code
