#!/usr/bin/env bash
# Builds the pinned golangci-lint into .cache/bin: a module of its own version, so that its hundreds of
# dependencies stay out of go.mod. The build takes about three minutes of CPU time, once.
set -euo pipefail

version=2.15.0
bin=$(cd "$(dirname "$0")/.." && pwd)/.cache/bin

if "$bin/golangci-lint" version 2>/dev/null | grep -q "version $version "; then
	exit 0
fi
mkdir -p "$bin"
echo '*' >"$bin/../.gitignore"
echo "building golangci-lint $version"
GOBIN=$bin go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$version"
