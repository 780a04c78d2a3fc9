#!/usr/bin/env bash
# Puts a Docker engine of version 26 into .cache/engine26, unless it is there already: dockerd and
# docker-proxy from the package of Debian 13, which is unpacked, not installed. The machine's own containerd
# and runc do. Without it the tests that compare generations of engines leave this one out.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/apt-need.sh dpkg-deb:dpkg xz:xz-utils
mkdir -p .cache
to=$(readlink -f .cache)/engine26
want="docker.io of Debian 13, $(dpkg --print-architecture)"
if [ "$(cat "$to/versions" 2>/dev/null)" = "$want" ]; then
	exit 0
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
. scripts/debian.sh
(cd "$dir" && download trixie 'docker\.io' "$(dpkg --print-architecture)")
dpkg-deb -x "$dir"/*.deb "$dir/tree"
mkdir "$dir/bin"
cp "$dir"/tree/usr/sbin/dockerd "$(find "$dir/tree" -name docker-proxy -type f)" "$dir/bin"
"$dir/bin/dockerd" --version

rm -rf "$to"
mv "$dir/bin" "$to"
echo "$want" >"$to/versions"
