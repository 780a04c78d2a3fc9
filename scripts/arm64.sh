# The arm64 machine, for kernels.sh: what differs from the others. Sourced by it after machine.sh.

# Gets busybox for arm64 into the folder of the kernel.
fetch_arm64_busybox() {
	local name=$1 source=$2 tmp
	[ ! -e "$dir/$name/busybox" ] || return 0
	tmp=$(mktemp -d "$dir/work.XXXXXX")
	(cd "$tmp" && download "$source" busybox-static arm64)
	dpkg-deb -x "$tmp"/*.deb "$tmp/tree"
	install -m 0755 "$(find "$tmp/tree" -path '*bin/busybox' -type f)" "$dir/$name/busybox"
	rm -rf "$tmp"
}

# Makes what the machine has: busybox, the tests, pathtrace.
userland_arm64() {
	local root=$work/arm64 tool
	mkdir -p "$root"/{bin,proc,sys,dev,run,tmp,etc,out,tests}
	cp "$dir/$1/busybox" "$root/bin/busybox"
	for tool in sh mount insmod cat echo sync mkdir poweroff ip; do
		ln -s busybox "$root/bin/$tool"
	done
	echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
	CGO_ENABLED=0 GOARCH=arm64 go test -c -trimpath -ldflags '-s -w' -o "$root/tests/tracer.test" ./tracer
	CGO_ENABLED=0 GOARCH=arm64 go build -buildvcs=false -trimpath -ldflags '-s -w' -o "$root/tests/pathtrace" ./cmd/pathtrace
	cp -r tracer/testdata "$root/tests/testdata"
	first_process "$root"
	archive "$root" >"$work/userland-arm64.cpio"
}

# Loads the arm64 objects, runs the demo, and the scenarios of all kernels but the one that needs
# iptables-legacy.
job_arm64() {
	fetch_arm64_busybox "$1" trixie
	userland_arm64 "$1"
	boot "$1" "$log" "cd /tests && ./pathtrace hooks && ./pathtrace demo && $(tracer_tests '^TestKernels$/^[^l]' '')" ''
}
