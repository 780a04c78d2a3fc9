# Emulated machines with Debian kernels, for kernels.sh: getting a kernel, filling the machine, running it.
# Sourced by it, which sets $dir, the folder of the kernels, and $work, one of its own for this run.
. scripts/debian.sh

# What a Docker host has loaded, and what the tests build. Missing names are left out: some are built in.
modules='veth bridge br_netfilter nf_tables nft_compat nft_chain_nat nft_ct nft_nat nft_masq nft_counter
	nft_reject_inet nf_conntrack_netlink ip_tables iptable_filter iptable_nat xt_conntrack
	xt_MASQUERADE xt_nat xt_addrtype xt_comment xt_tcpudp ipt_REJECT vxlan'
# What machines need beyond that that are joined, share files, or run an engine.
more='virtio_pci virtio_net 9pnet_virtio 9p overlay macvlan ipvlan dummy ip_vs ip_vs_rr xt_ipvs xt_mark xt_MARK
	xt_connmark xt_u32 xt_bpf xt_REDIRECT xt_multiport xt_statistic xt_policy xt_physdev nft_fib_inet nft_redir
	nft_log nft_limit ip6table_filter ip6table_nat iptable_mangle iptable_raw ip6t_REJECT xfrm_user esp4 esp6
	cbc ctr sha256_generic hmac gcm ghash-generic seqiv authenc echainiv aes_generic xfrm_interface sch_netem'

archive() { (cd "$1" && find . | cpio -o -H newc --quiet); }

# Unpacks modules with those they need into a folder, in the order in which they are to be loaded, which
# it writes to a file there; those of an earlier order are left out.
unpack_modules() {
	local base=$1 version=$2 to=$3 order=$4 m file plain
	for m in "${@:5}"; do
		modprobe -d "$base" -S "$version" --show-depends "$m" 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		plain=$(basename "$file")
		plain=${plain%.xz} plain=${plain%.zst}
		[ ! -e "$to/$plain" ] || continue
		case $file in
		*.xz) xz -dc "$file" ;;
		*.zst) zstd -dcq "$file" ;;
		*) cat "$file" ;;
		esac >"$to/$plain"
		echo "$plain" >>"$to/$order"
	done
}

# The architecture of a kernel, by the name it has here.
arch_of() {
	case $1 in
	*arm64*) echo arm64 ;;
	*) echo amd64 ;;
	esac
}

# Makes NAME/vmlinuz and NAME/modules.cpio of a kernel's packages, unless they are there.
fetch() {
	local name=$1 source=$2 pattern=$3 tmp base version package
	if [ -e "$dir/$name/modules.cpio" ] && [ "$(cat "$dir/$name/modules.list" 2>/dev/null)" = "$modules $more" ]; then
		return 0
	fi
	echo "getting kernel $name"
	tmp=$(mktemp -d "$dir/work.XXXXXX")
	case $source in
	*.deb) cp "$source" "$tmp" ;;
	*/*) cp "$source"/*.deb "$tmp" ;;
	*) (cd "$tmp" && download "$source" "$pattern" "$(arch_of "$name")") ;;
	esac
	for package in "$tmp"/*.deb; do
		dpkg-deb -x "$package" "$tmp/tree"
	done
	base=$tmp/tree
	[ -d "$base/lib/modules" ] || base=$tmp/tree/usr
	version=$(ls "$base/lib/modules")
	depmod -b "$base" "$version"
	mkdir -p "$tmp/root/modules"
	# shellcheck disable=SC2086 # lists
	unpack_modules "$base" "$version" "$tmp/root/modules" order $modules
	# shellcheck disable=SC2086
	unpack_modules "$base" "$version" "$tmp/root/modules" more $more
	mkdir -p "$dir/$name"
	cp "$(find "$tmp/tree/boot" "$base/lib/modules/$version" -maxdepth 1 -name 'vmlinuz*' 2>/dev/null | head -n 1)" "$dir/$name/vmlinuz"
	echo "$version" >"$dir/$name/version"
	archive "$tmp/root" >"$tmp/modules.cpio"
	mv "$tmp/modules.cpio" "$dir/$name/modules.cpio"
	echo "$modules $more" >"$dir/$name/modules.list"
	rm -rf "$tmp"
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


# Makes a machine's first process: it loads modules, the more of them with MORE=1 on the kernel's command
# line, of which the kernel makes its environment, and does the job that a second archive brings. A folder
# of this machine's that is given to it by the name out is at /out.
first_process() {
	cat >"$1/init" <<-'END'
		#!/bin/sh
		export PATH=/bin:/usr/sbin:/sbin CI=1
		mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
		mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
		mount -t securityfs security /sys/kernel/security
		list=/modules/order
		[ -z "$MORE" ] || list="$list /modules/more"
		for m in $(cat $list); do insmod /modules/$m || echo "module $m failed"; done
		mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072 out /out 2>/dev/null
		ip link set lo up
		. /job
		echo "== exit $?"
		sync
		poweroff -f
	END
	chmod +x "$1/init"
}

# Runs a machine: NAME of the kernel, LOG, its JOB (a script of busybox's sh), parameters of the kernel, and
# the rest for qemu. One processor: an emulated one may stand still for milliseconds, in which another one's
# events overtake it, and the machines share those of this one. A machine that fails has a log that says so.
boot() {
	local name=$1 log=$2 job=$3 parameters=$4 accel=${KERNELS_ACCEL:-tcg,thread=multi} cpu=max tmp
	local qemu=qemu-system-x86_64 userland=userland console=ttyS0
	shift 4
	if [ "${KERNELS_KVM:-}" = 1 ]; then # not by itself: KVM inside a virtual machine often fails
		accel=kvm cpu=host
	fi
	if [ "$(arch_of "$name")" = arm64 ]; then # a processor without pointer authentication, which is slow to emulate
		qemu=qemu-system-aarch64 userland=userland-arm64 console=ttyAMA0 accel=tcg,thread=multi cpu=cortex-a72
		set -- -machine virt "$@"
	fi
	tmp=$(mktemp -d "$work/boot.XXXXXX")
	mkdir "$tmp/root"
	echo "$job" >"$tmp/root/job"
	archive "$tmp/root" | cat "$dir/$name/modules.cpio" "$work/$userland.cpio" - >"$tmp/initrd"
	timeout "$limit" "$qemu" -accel "$accel" -cpu "$cpu" -smp 1 -m 1536 -nographic -nodefaults \
		-no-reboot -serial stdio -monitor none -kernel "$dir/$name/vmlinuz" -initrd "$tmp/initrd" "$@" \
		-append "console=$console quiet panic=-1 nokaslr mitigations=off tsc=reliable clocksource=acpi_pm no_timer_check random.trust_cpu=on $parameters" \
		</dev/null 2>&1 | tr -d '\r' >"$log" || true
	rm -rf "$tmp"
}
