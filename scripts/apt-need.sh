#!/usr/bin/env bash
# Installs Debian packages, but only for commands that are missing: what is on the machine already may
# come from elsewhere (Docker's own packages, for example) and must not be replaced.
#
# usage: apt-need.sh COMMAND:PACKAGE...     A COMMAND with a slash is a file that has to exist.
set -euo pipefail

present() {
	case $1 in
	*/*) [ -e "$1" ] ;;
	# Containers need a busybox that brings its libraries along.
	busybox) command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1 ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

export PATH=$PATH:/usr/sbin:/sbin
packages=()
for need in "$@"; do
	present "${need%%:*}" || packages+=("${need##*:}")
done
if [ ${#packages[@]} -eq 0 ]; then
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "$0: this machine lacks ${packages[*]} (names of Debian packages) and has no apt-get: install them by hand." >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "$0: this machine lacks ${packages[*]}: run \"apt-get install ${packages[*]}\" as root, or this again as root." >&2
	exit 1
fi

# Debian starts a daemon when its package is installed; the tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
fi
echo "installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
