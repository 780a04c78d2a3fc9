#!/usr/bin/env bash
# Builds a Docker engine of version 29, which can drive nftables directly, into .cache/engine29, unless
# it is there already: dockerd and docker-proxy from the sources of Moby, runc from its own, all through
# the Go module proxy. Debian's engine is older, and its runc too old for this one; its containerd does.
# The end-to-end tests run the engine with --seccomp-profile unconfined: this runc is built without
# libseccomp.
set -euo pipefail
cd "$(dirname "$0")/.."

moby=v2.0.0-beta.24
runc=v1.3.3
want="moby $moby, runc $runc, $(go env GOVERSION) $(go env GOARCH)"
mkdir -p .cache
dir=$(readlink -f .cache)/engine29
if [ "$(cat "$dir/versions" 2>/dev/null)" = "$want" ]; then
	exit 0
fi

scripts/apt-need.sh gcc:gcc /usr/include/stdio.h:libc6-dev containerd:containerd
build=$(mktemp -d)
trap 'chmod -R u+w "$build"; rm -rf "$build"' EXIT
export GOFLAGS=-mod=mod GOWORK=off

echo "building Docker's engine ($want): a few minutes, once"
GOBIN=$build/bin CGO_ENABLED=0 go install -trimpath -ldflags='-s -w' \
	github.com/moby/moby/v2/cmd/dockerd@$moby github.com/moby/moby/v2/cmd/docker-proxy@$moby

# runc's go.mod replaces a module, which go install refuses, so it is built in a copy.
source=$(go mod download -json github.com/opencontainers/runc@$runc | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$source" "$build/runc"
chmod -R u+w "$build/runc"
(
	cd "$build/runc"
	go mod edit -dropreplace github.com/opencontainers/selinux
	CGO_ENABLED=1 go build -trimpath -ldflags='-s -w' -o "$build/bin/runc" .
)

rm -rf "$dir"
mv "$build/bin" "$dir"
echo "$want" >"$dir/versions"
