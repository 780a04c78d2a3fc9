#!/usr/bin/env bash
# Runs the tests of tracer that build their own network on other kernels than the machine's own: each in
# an emulated machine (KERNELS_KVM=1: in a virtual one) with a Debian kernel, whose package is downloaded
# and unpacked into .cache/kernels, never installed. The golden files are those of the machine's own
# kernel. Prints a line per test and kernel that failed, one per kernel, and a total.
#
# usage: kernels.sh [NAME...]     NAME is one of the first column below; default: all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

# Name, where it comes from (a release of Debian, or the path of a .deb), and the name of the package
# as an extended regular expression: versions vanish from mirrors, the newest is taken. One line adds one.
kernels='
5.10 bullseye linux-image-5\.10\.0-[0-9]+-amd64
6.1  bookworm linux-image-6\.1\.0-[0-9]+-amd64
6.12 trixie   linux-image-6\.12\.[0-9.]+(\+deb13)?-amd64
'
# What a Docker host has loaded, and what the tests build. Missing names are left out: some are built in.
modules='veth bridge br_netfilter nf_tables nft_compat nft_chain_nat nft_ct nft_nat nft_masq nft_counter
	nft_reject_inet nf_conntrack_netlink ip_tables iptable_filter iptable_nat xt_conntrack
	xt_MASQUERADE xt_nat xt_addrtype xt_comment xt_tcpudp ipt_REJECT vxlan'
tests=${KERNELS_TESTS:-'^(TestKernels|TestVXLAN|TestTooBig|TestPackets.*)$'}
limit=${KERNELS_LIMIT:-300} # seconds a machine may take
export PATH=$PATH:/usr/sbin:/sbin

if [ "$(uname -m)" != x86_64 ]; then
	echo "kernels.sh: the virtual machines are amd64 ones, this machine is $(uname -m): not run." >&2
	exit 1
fi
scripts/apt-need.sh qemu-system-x86_64:qemu-system-x86 cpio:cpio depmod:kmod xz:xz-utils \
	busybox:busybox-static iptables-legacy:iptables
mkdir -p .cache/kernels
dir=$(readlink -f .cache)/kernels

# The mirror that this machine gets Debian's own packages from.
mirror() {
	apt-get indextargets --format '$(CREATED_BY)|$(ORIGIN)|$(LABEL)|$(REPO_URI)' |
		sed -n 's/^Packages|Debian|Debian|//p' | head -n 1
}

# apt with lists and sources of its own, of other releases than the machine's.
apt_private() {
	local command=$1 release=$2
	shift 2
	"$command" -qq -o "Dir::Etc::SourceList=$dir/$release.list" -o Dir::Etc::SourceParts=- \
		-o "Dir::State::Lists=$dir/lists-$release" -o "Dir::Cache=$dir/cache-$release" \
		-o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# Downloads the newest package that fits a pattern into the current folder.
download() {
	local release=$1 pattern=$2 from package
	from=$(mirror)
	if [ -z "$from" ]; then
		apt-get update -qq
		from=$(mirror)
	fi
	if [ -z "$from" ]; then
		echo "kernels.sh: apt knows no mirror of Debian: give the path of a .deb instead of $release." >&2
		return 1
	fi
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from $release main" >"$dir/$release.list"
	mkdir -p "$dir/lists-$release/partial" "$dir/cache-$release/archives/partial"
	apt_private apt-get "$release" update
	package=$(apt_private apt-cache "$release" pkgnames linux-image | grep -Ex "$pattern" | sort -V | tail -n 1)
	if [ -z "$package" ]; then
		echo "kernels.sh: $release has no package like $pattern." >&2
		return 1
	fi
	apt_private apt-get "$release" download "$package"
	rm -rf "$dir/lists-$release" "$dir/cache-$release" "$dir/$release.list"
}

archive() { (cd "$1" && find . | cpio -o -H newc --quiet); }

# Makes NAME/vmlinuz and NAME/modules.cpio of a kernel's package, unless they are there.
fetch() {
	local name=$1 source=$2 pattern=$3 work base version
	if [ -e "$dir/$name/modules.cpio" ]; then
		return 0
	fi
	echo "getting kernel $name"
	work=$(mktemp -d "$dir/work.XXXXXX")
	case $source in
	*.deb) cp "$source" "$work" ;;
	*) (cd "$work" && download "$source" "$pattern") ;;
	esac
	dpkg-deb -x "$work"/*.deb "$work/tree"
	base=$work/tree
	[ -d "$base/lib/modules" ] || base=$work/tree/usr
	version=$(ls "$base/lib/modules")
	depmod -b "$base" "$version"
	mkdir -p "$work/root/modules"
	for m in $modules; do
		modprobe -d "$base" -S "$version" --show-depends "$m" 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		plain=$(basename "$file" .xz)
		case $file in
		*.xz) xz -dc "$file" ;;
		*) cat "$file" ;;
		esac >"$work/root/modules/$plain"
		echo "$plain" >>"$work/root/modules/order"
	done
	mkdir -p "$dir/$name"
	cp "$work"/tree/boot/vmlinuz-* "$dir/$name/vmlinuz"
	echo "$version" >"$dir/$name/version"
	archive "$work/root" >"$work/modules.cpio"
	mv "$work/modules.cpio" "$dir/$name/modules.cpio"
	rm -rf "$work"
}

# Copies a program and the libraries it needs to the same places below a folder.
install_program() {
	local root=$1 file
	for file in "${@:2}"; do
		{
			echo "$file"
			ldd "$file" 2>/dev/null | grep -oE '/[^ )]+' || true
		} | while read -r path; do
			mkdir -p "$root$(dirname "$path")"
			[ -e "$root$path" ] || cp -L "$path" "$root$path"
		done
	done
}

# Makes the rest of the machine: busybox, iptables-legacy, the tests.
userland() {
	local root=$1/root libraries
	mkdir -p "$root"/{bin,usr/sbin,proc,sys,dev,run,tmp,etc,tests}
	cp "$(command -v busybox)" "$root/bin/busybox"
	for applet in sh mount insmod cat ip poweroff; do
		ln -s busybox "$root/bin/$applet"
	done
	install_program "$root" "$(readlink -f "$(command -v iptables-legacy)")"
	ln -s "$(readlink -f "$(command -v iptables-legacy)")" "$root/usr/sbin/iptables-legacy"
	libraries=$(dirname "$(find /usr/lib -name libxt_tcp.so | head -n 1)")
	mkdir -p "$root$libraries"
	cp -L "$libraries"/lib{xt,ipt}_*.so "$root$libraries"
	cp /etc/protocols /etc/services "$root/etc" 2>/dev/null || true
	echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
	CGO_ENABLED=0 go test -c -trimpath -ldflags '-s -w' -o "$root/tests/tracer.test" ./tracer
	cp -r tracer/testdata "$root/tests/testdata"
	cat >"$root/init" <<-END
		#!/bin/sh
		export PATH=/bin:/usr/sbin CI=1 PATIENCE=${PATIENCE:-10}
		mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
		mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
		for m in \$(cat /modules/order); do insmod /modules/\$m || echo "module \$m failed"; done
		ip link set lo up
		cd /tests && ./tracer.test -test.v -test.run '$tests' -test.timeout ${limit}s
		echo "== exit \$?"
		poweroff -f
	END
	chmod +x "$root/init"
	archive "$root" >"$1/userland.cpio"
}

# Runs the tests on one kernel, on one processor: an emulated one may stand still for milliseconds, in
# which another one's events overtake it, and the machines share those of this one. The console goes to
# NAME.log.
run() {
	local name=$1 work=$2 start=$SECONDS accel="tcg,thread=multi" cpu=max
	if [ "${KERNELS_KVM:-}" = 1 ]; then # not by itself: KVM inside a virtual machine often fails
		accel=kvm cpu=host
	fi
	cat "$dir/$name/modules.cpio" "$work/userland.cpio" >"$work/$name.initrd"
	timeout "$limit" qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -smp 1 -m 1536 -nographic -nodefaults \
		-no-reboot -serial stdio -monitor none -kernel "$dir/$name/vmlinuz" -initrd "$work/$name.initrd" \
		-append "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable random.trust_cpu=on" \
		</dev/null 2>&1 | tr -d '\r' >"$dir/$name.log" || true
	echo $((SECONDS - start)) >"$work/$name.seconds"
}

# Prints what a kernel's log says; false if not everything passed.
report() {
	local name=$1 seconds=$2 log=$dir/$1.log passed failed state=ok
	passed=$(grep -cE '^ *--- PASS' "$log" || true)
	failed=$(grep -E '^ *--- (FAIL|SKIP)' "$log" || true)
	if [ -n "$failed" ] || ! grep -q '^== exit 0' "$log"; then
		state=FAIL
		[ -z "$failed" ] || sed "s/^ */FAIL  $name  /" <<<"$failed"
		echo "FAIL  $name  the end of .cache/kernels/$name.log:"
		tail -n 40 "$log"
	fi
	sed -nE "s/.*: no hook ([a-z0-9_]+): (.*)/      $name  without \1: \2/p" "$log"
	printf '%-4s  %s (%s): %d passed in %d s\n' "$state" "$name" "$(cat "$dir/$name/version")" "$passed" "$seconds"
	[ $state = ok ]
}

main() {
	local work names=() name source pattern bad=0 start=$SECONDS
	work=$(mktemp -d)
	trap "rm -rf '$work'" EXIT
	while read -r name source pattern; do
		if [ -z "$name" ] || { [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; }; then
			continue
		fi
		fetch "$name" "$source" "$pattern"
		names+=("$name")
	done <<<"$kernels"
	if [ ${#names[@]} -eq 0 ]; then
		echo "kernels.sh: no kernel is called $*." >&2
		exit 2
	fi
	userland "$work"
	for name in "${names[@]}"; do
		[ "$(jobs -rp | wc -l)" -lt "$(nproc)" ] || wait -n
		run "$name" "$work" &
	done
	wait
	for name in "${names[@]}"; do
		report "$name" "$(cat "$work/$name.seconds")" || bad=$((bad + 1))
	done
	printf '%d of %d kernels ok in %d s\n' $((${#names[@]} - bad)) ${#names[@]} $((SECONDS - start))
	[ $bad -eq 0 ]
}

main "$@"
