#!/usr/bin/env bash
# Installs what the tests need beside Go: the tools whose rules and traffic pathtrace has to explain,
# a Docker engine, which the end-to-end tests start themselves, and what emulates other kernels.
set -euo pipefail

exec "$(dirname "$0")/apt-need.sh" iptables:iptables iptables-legacy:iptables \
	ebtables:iptables nft:nftables ip:iproute2 tc:iproute2 \
	podman:podman conmon:conmon /usr/lib/cni/bridge:containernetworking-plugins \
	iperf3:iperf3 tcpdump:tcpdump tshark:tshark capinfos:wireshark-common busybox:busybox-static dockerd:docker.io curl:curl \
	rootlesskit:rootlesskit slirp4netns:slirp4netns newuidmap:uidmap setpriv:util-linux \
	sshd:openssh-server ssh:openssh-client prometheus:prometheus \
	qemu-system-x86_64:qemu-system-x86 cpio:cpio depmod:kmod xz:xz-utils ipvsadm:ipvsadm
