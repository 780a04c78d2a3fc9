#!/usr/bin/env bash
# Runs tests on other kernels than the machine's own: in emulated machines (KERNELS_KVM=1: in virtual ones)
# with Debian kernels, whose packages are downloaded and unpacked into .cache/kernels, never installed. The
# golden files are those of the machine's own kernel. Prints a line per job, and one per test that failed.
# A job that fails is done once more, alone, and both are printed: emulated machines share the processors
# with whatever else runs, and some of what they do has a time limit in the kernel. More than two that fail
# are not done again.
#
# usage: kernels.sh [NAME...]     NAME is one of the first column of list or asked below; default: all of list.
set -euo pipefail
cd "$(dirname "$0")/.."

# Name, where it comes from (a release of Debian, the path of a .deb, or that of a folder with several), and
# the name of the package as an extended regular expression: versions vanish from mirrors, the newest is
# taken. One line adds one.
kernels='
5.10 bullseye linux-image-5\.10\.0-[0-9]+-amd64
6.1  bookworm linux-image-6\.1\.0-[0-9]+-amd64
6.12 trixie   linux-image-6\.12\.[0-9.]+(\+deb13)?-amd64
arm64 trixie  linux-image-6\.12\.[0-9.]+(\+deb13)?-arm64
newest trixie-backports linux-image-[0-9.]+\+deb13-amd64
'
# Name, what is done (job_KIND below), and with which kernels.
list='
engine engine 6.12
pair   pair   6.1 6.12
hosts  hosts  6.1 6.12
drivers tests 6.12 ^(TestIPsec|TestIPvlan)$
lockdown lockdown 6.12
limits limits 6.1
measure tests 6.1 ^(TestLatencyNetem|TestMTURouter)$
measure-6.12 tests 6.12 ^(TestLatencyNetem|TestMTURouter)$
6.12   tests  6.12
6.1    tests  6.1
5.10   tests  5.10
'
# Those that are done only when they are called by name.
asked='
bench  bench  6.12
swarm  swarm  6.12
arm64  arm64  arm64
newest tests  newest
'
tests=${KERNELS_TESTS:-'^(TestKernels|TestVXLAN|TestTooBig|TestPackets.*|TestIPVS|TestDatagrams|TestRepeatedAnswers)$'}
limit=${KERNELS_LIMIT:-1200} # seconds a machine may take
export PATH=$PATH:/usr/sbin:/sbin

if [ "$(uname -m)" != x86_64 ]; then
	echo "kernels.sh: the virtual machines are amd64 ones, this machine is $(uname -m): not run." >&2
	exit 1
fi
scripts/apt-need.sh qemu-system-x86_64:qemu-system-x86 cpio:cpio depmod:kmod xz:xz-utils zstd:zstd \
	busybox:busybox-static iptables-legacy:iptables ip:iproute2 ipvsadm:ipvsadm \
	sshd:openssh-server ssh:openssh-client
mkdir -p .cache/kernels
dir=${KERNELS_DIR:-$(readlink -f .cache)/kernels}
. scripts/machine.sh
. scripts/arm64.sh

# Makes the rest of the machines: busybox, ip, iptables-legacy, the tests, pathtrace.
userland() {
	local root=$work/root libraries tool
	mkdir -p "$root"/{bin,usr/sbin,proc,sys,dev,run,tmp,etc,out,tests}
	cp "$(command -v busybox)" "$root/bin/busybox"
	for tool in sh mount insmod cat echo sync mkdir chroot cp sysctl poweroff; do
		ln -s busybox "$root/bin/$tool"
	done
	for tool in iptables-legacy ip ipvsadm tc; do
		install_program "$root" "$(readlink -f "$(command -v $tool)")"
		[ -e "$root/bin/$tool" ] || ln -s "$(readlink -f "$(command -v $tool)")" "$root/bin/$tool"
	done
	libraries=$(dirname "$(find /usr/lib -name libxt_tcp.so | head -n 1)")
	mkdir -p "$root$libraries"
	cp -L "$libraries"/lib{xt,ipt}_*.so "$root$libraries"
	cp /etc/protocols /etc/services "$root/etc" 2>/dev/null || true
	echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
	CGO_ENABLED=0 go test -c -trimpath -ldflags '-s -w' -o "$root/tests/tracer.test" ./tracer
	CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-s -w' -o "$root/tests/pathtrace" ./cmd/pathtrace
	cp -r tracer/testdata "$root/tests/testdata"
	first_process "$root"
	archive "$root" >"$work/userland.cpio"
}

# The job of a machine: those of the tests of tracer whose names fit an expression.
tracer_tests() {
	echo "export PATIENCE=${PATIENCE:-10} $2; cd /tests && ./tracer.test -test.v -test.run '$1' -test.timeout ${limit}s"
}

# Runs the tests on one kernel.
job_tests() {
	boot "$1" "$log" "$(tracer_tests "${2:-$tests}" '')" MORE=1
}

# Measures on one kernel: start, end, and what is left of traffic. The clock of the machine counts its
# instructions, one for each nanosecond, so that the numbers do not depend on what else this one does.
job_bench() {
	limit=${KERNELS_LIMIT:-900} KERNELS_ACCEL=tcg,thread=single \
		boot "$1" "$dir/bench.log" "$(tracer_tests '^TestMachineBench$' MACHINE_BENCH=${BENCH_ROUNDS:-3})" MORE=1 -icount shift=0,sleep=off
}

# Locks a kernel down, which no test of this machine may do.
job_lockdown() {
	boot "$1" "$log" "$(tracer_tests '^TestLockdown$' MACHINE=lockdown)" MORE=1
}

# Runs pathtrace with a few capabilities only.
job_limits() {
	mkdir -p "$work/limits"
	CGO_ENABLED=0 go test -c -trimpath -ldflags '-s -w' -o "$work/limits/pathtrace.test" ./cmd/pathtrace
	boot "$1" "$log" "cd /out && PATIENCE=${PATIENCE:-10} ./pathtrace.test -test.v -test.run '^TestLimits$'" MORE=1 \
		-virtfs "local,path=$work/limits,mount_tag=out,security_model=none,id=o"
}

# Runs two machines with different kernels that are joined by a network device, and judges what they recorded.
job_pair() {
	rm -rf "$work/pair"
	mkdir -p "$work/pair"
	two_machines '^TestPair$' "$1" "$2"
	{
		PAIR=$work/pair PATHTRACE=$work/root/tests/pathtrace "$work/root/tests/tracer.test" -test.v -test.run '^TestPairReplay$'
		echo "== exit $?"
	} >>"$dir/pair.log" 2>&1 || true
}

# Runs two such machines with an ssh server each, for a trace of both from one of them.
job_hosts() {
	rm -rf "$work/hosts"
	mkdir -p "$work/hosts"
	ssh_files "$work/hosts/root"
	two_machines '^TestPairHosts$' "$1" "$2"
}

# What the machines need for ssh, to be copied over their files: one key for all.
ssh_files() {
	local root=$1 applet
	mkdir -p "$root"/{root/.ssh,etc/ssh,bin}
	install_program "$root" /usr/sbin/sshd "$(command -v ssh)"
	for applet in id uname mktemp df tail head gzip rm chmod test printf; do
		ln -s busybox "$root/bin/$applet"
	done
	ln -s "$(command -v ssh)" "$root/bin/ssh"
	ssh-keygen -q -t ed25519 -N '' -C '' -f "$root/root/.ssh/id_ed25519"
	cp "$root/root/.ssh/id_ed25519.pub" "$root/root/.ssh/authorized_keys"
	cp "$root/root/.ssh/id_ed25519" "$root/etc/ssh/ssh_host_ed25519_key"
	sed 's/^/198.51.100.1,198.51.100.2 /' "$root/root/.ssh/id_ed25519.pub" >"$root/root/.ssh/known_hosts"
	printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nUsePAM no\nPermitRootLogin prohibit-password\n' >"$root/etc/ssh/sshd_config"
	printf 'root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n' >"$root/etc/passwd"
}

# Runs a test in two machines at once, of two kernels, that share a folder by the job's name.
two_machines() {
	local name
	name=$(basename "$log" .log)
	rm -f "$work/$name"-*.sock
	joined "$name" one two "$1" "$2" &
	joined "$name" two one "$1" "$3" &
	wait
	cat "$dir/$name-one.log" "$dir/$name-two.log" >"$log"
}

# One of the two: the job's name, its own, the other's, the test, its kernel.
joined() {
	local job=$1 name=$2 mac=02:00:00:00:00:01
	[ "$name" = one ] || mac=02:00:00:00:00:02
	boot "$5" "$dir/$job-$name.log" "[ ! -d /out/root ] || cp -a /out/root/. /; $(tracer_tests "$4" "MACHINE=$name")" MORE=1 \
		-virtfs "local,path=$work/$job,mount_tag=out,security_model=none,id=o" \
		-netdev "dgram,id=n,local.type=unix,local.path=$work/$job-$name.sock,remote.type=unix,remote.path=$work/$job-$3.sock" \
		-device "virtio-net-pci,netdev=n,romfile=,mac=$mac"
}

# Runs an end-to-end test on one kernel, with this machine's own engine.
job_engine() {
	engine_machine "$1" '^TestEmulated$' ''
}

# The same with a swarm. The machine's clock counts its instructions, one for each nanosecond, and goes on by
# itself while there are none, so that the time limits of the engines hold however busy this machine is.
job_swarm() {
	local limit=${KERNELS_LIMIT:-3600}
	# As an engine in the first namespace sets it, for those that it makes.
	KERNELS_ACCEL=tcg,thread=single engine_machine "$1" '^TestEmulatedSwarm$' 'sysctl -w net.ipv4.ip_forward=1' \
		-icount shift=0,sleep=on
}

# Runs a machine whose files are this one's, which writes to memory instead: its kernel, the test, a command
# before it, and the rest for qemu.
engine_machine() {
	boot "$1" "$log" "$(engine_test "$2" "$3")" MORE=1 -m 3072 "${@:4}" \
		-virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap,id=h" \
		-virtfs "local,path=$work/e2e,mount_tag=out,security_model=none,readonly=on,id=o"
}

# What these tests need, built once for all machines.
engine_files() {
	mkdir -p "$work/e2e/bin"
	CGO_ENABLED=0 go test -c -tags e2e -trimpath -ldflags '-s -w' -o "$work/e2e/e2e.test" ./internal/e2e
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/e2e/bin/ptserver" ./internal/e2e/testdata/server
	cp "$work/root/tests/pathtrace" "$work/e2e/bin/pathtrace"
}

engine_test() {
	cat <<-END
		mkdir -p /host /upper /all
		mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /host
		mount -t tmpfs upper /upper
		mkdir -p /upper/changes /upper/work
		mount -t overlay -o lowerdir=/host,upperdir=/upper/changes,workdir=/upper/work all /all
		mount -t tmpfs tmp /all/tmp; mount -t tmpfs run /all/run; mount -t tmpfs log /all/var/log
		mount -t proc proc /all/proc; mount -t sysfs sys /all/sys; mount -t devtmpfs dev /all/dev
		mount -t cgroup2 cgroup /all/sys/fs/cgroup
		$2
		mkdir -p /all/tmp/e2e /all/run/netns; cp -r /out/. /all/tmp/e2e
		export PATIENCE=${PATIENCE:-10} PATHTRACE_E2E_BIN=/tmp/e2e/bin PATHTRACE_E2E_ENGINES=1
		export PATH=/usr/sbin:/usr/bin:/sbin:/bin
		chroot /all /tmp/e2e/e2e.test -test.v -test.run '$1' -test.timeout ${limit}s
	END
}

# Prints what a job's log says; false if not everything passed.
report() {
	local name=${1%% *} passed failed state=ok
	local log=$dir/$name.log
	passed=$(grep -cE '^ *--- PASS' "$log" || true)
	failed=$(grep -E '^ *--- (FAIL|SKIP)' "$log" || true)
	if [ -n "$failed" ] || ! grep -q '^== exit 0' "$log" || grep -q '^== exit [1-9]' "$log"; then
		state=FAIL
		[ -z "$failed" ] || sed "s/^ */FAIL  $name  /" <<<"$failed"
		echo "FAIL  $name  the end of .cache/kernels/$name.log:"
		tail -n 40 "$log"
	fi
	sed -nE "s/.*: no hook ([a-z0-9_]+): (.*)/      $name  without \1: \2/p" "$log"
	printf '%-4s  %s: %d passed in %d s\n' "$state" "$name" "$passed" "$(cat "$work/$name.seconds")"
	[ $state = ok ]
}

# Gets the kernels and does the jobs, as many at a time as there are processors: those that are called by
# name, or all whose kernels are there.
main() {
	local jobs=() name source pattern kind wanted failed=() start=$SECONDS
	work=$(mktemp -d)
	trap "rm -rf '$work'" EXIT
	[ $# -eq 0 ] || list+=$asked
	while read -r name kind wanted; do
		if [ -n "$name" ] && { [ $# -eq 0 ] || [[ " $* " == *" $name "* ]]; }; then
			jobs+=("$name $kind $wanted")
		fi
	done <<<"$list"
	if [ ${#jobs[@]} -eq 0 ]; then
		echo "kernels.sh: nothing is called $*." >&2
		exit 2
	fi
	while read -r name source pattern; do
		if [ -n "$name" ] && [[ " ${jobs[*]} " == *" $name "* ]]; then
			fetch "$name" "$source" "$pattern"
			echo "kernel $name is $(cat "$dir/$name/version")"
		fi
	done <<<"$kernels"
	[[ ${jobs[*]} != *arm64* ]] || scripts/apt-need.sh qemu-system-aarch64:qemu-system-arm
	[ "${jobs[*]}" = 'arm64 arm64 arm64' ] || userland
	[[ ! " ${jobs[*]} " =~ " "(engine|swarm)" " ]] || engine_files
	for name in "${jobs[@]}"; do
		[ "$(jobs -rp | wc -l)" -lt "$(nproc)" ] || wait -n
		job $name & # into words
	done
	wait
	for name in "${jobs[@]}"; do
		report "$name" || failed+=("$name")
	done
	[ ${#failed[@]} -gt 2 ] || again
	printf '%d of %d ok in %d s\n' $((${#jobs[@]} - ${#failed[@]})) ${#jobs[@]} $((SECONDS - start))
	[ ${#failed[@]} -eq 0 ]
}

# Does the jobs that failed once more.
again() {
	local name jobs=("${failed[@]}")
	failed=()
	for name in "${jobs[@]}"; do
		echo "again ${name%% *}, the first log is .cache/kernels/${name%% *}.first.log"
		mv -f "$dir/${name%% *}.log" "$dir/${name%% *}.first.log"
		job $name # into words
		report "$name" || failed+=("$name")
	done
}

# Does one job and notes how long it took: its name, its kind, its kernels.
job() {
	local name=$1 log=$dir/$1.log start=$SECONDS
	rm -f "$log"
	"job_$2" "${@:3}"
	echo $((SECONDS - start)) >"$work/$name.seconds"
}

main "$@"
