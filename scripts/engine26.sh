#!/usr/bin/env bash
# Builds a Docker engine of version 26 into .cache/engine26, unless it is there already: dockerd and
# docker-proxy from Docker's sources, through the Go module proxy. Without it the end-to-end test of a swarm
# of three generations of engines is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

docker=v26.1.5+incompatible
want="docker $docker, $(go env GOVERSION) $(go env GOARCH)"
mkdir -p .cache
dir=$(readlink -f .cache)/engine26
if [ "$(cat "$dir/versions" 2>/dev/null)" = "$want" ]; then
	exit 0
fi

build=$(mktemp -d)
trap 'chmod -R u+w "$build"; rm -rf "$build"' EXIT
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0

echo "building Docker's engine ($want): a few minutes, once"
# The sources were no Go module then; their vendor.mod says what they need, as a go.mod would.
source=$(go mod download -json github.com/docker/docker@$docker | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$source" "$build/docker"
chmod -R u+w "$build/docker"
(
	cd "$build/docker"
	cp vendor.mod go.mod
	cp vendor.sum go.sum
	go build -trimpath -ldflags='-s -w' -o "$build/bin/" ./cmd/dockerd ./cmd/docker-proxy
)

rm -rf "$dir"
mv "$build/bin" "$dir"
echo "$want" >"$dir/versions"
