//go:build e2e

package e2e

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/pathtrace/pathtrace/internal/netns"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// failed and silent are outcomes of which several may be right.
var (
	failed = []path.Outcome{path.Dropped, path.Lost, path.Refused}
	silent = []path.Outcome{path.Dropped, path.Lost}
)

// firewallOutages are rules in the way and rules that are missing.
func firewallOutages() []*outage {
	const causeFirewallPolicy, rulesMissing = path.Cause("firewall-policy"), path.Cause("docker-rules-missing")
	const masqueradeMissing, isolation = path.Cause("masquerade-missing"), path.Cause("network-isolation")
	rules := func(t *testing.T, s *scene) { s.h.saveRules(t) }
	table := func(t *testing.T, s *scene) { s.h.saveTable(t, "ip", "docker-bridges") }
	flush := func(chain string) []string { return []string{"host nft flush chain ip docker-bridges " + chain} }
	return []*outage{
		{
			name: "a1", what: "nat flushed", with: rules, do: []string{"host iptables -w -t nat -F"},
			from: "OUTSIDE", to: "HOST:8080", right: warned(path.CauseNATMissing),
			on: map[string]func(*outage){
				docker29: func(o *outage) { o.with, o.do = table, flush("nat-prerouting-and-output") },
			},
		}, {
			name: "a1b", what: "nat flushed, from a container", with: rules, do: []string{"host iptables -w -t nat -F"},
			from: "cli", to: "PEER:8080", right: answer{outcomes: failed, causes: []path.Cause{masqueradeMissing}},
			on: map[string]func(*outage){
				docker29: func(o *outage) { o.with, o.do = table, []string{"host nft flush table ip docker-bridges"} },
			},
		}, {
			name: "a2", what: "filter chain DOCKER flushed", with: rules, do: []string{"host iptables -w -F DOCKER"},
			from: "OUTSIDE", to: "HOST:8080", right: as(path.Dropped, rulesMissing),
			direction: path.Request, container: "host",
			on: map[string]func(*outage){
				docker29: func(o *outage) { // its chains accept what they do not know
					o.with, o.do, o.right = table, flush("filter-forward-in__br-app"), warned(rulesMissing)
					o.direction, o.container = "", ""
				},
			},
		}, {
			name: "a5", what: "nat flushed, no userland proxy", with: rules, do: []string{"host iptables -w -t nat -F"},
			from: "OUTSIDE", to: "HOST:8080", right: as(path.Misdelivered, path.CauseNATMissing),
			on: map[string]func(*outage){
				docker29: func(o *outage) {
					o.with, o.do = table, flush("nat-prerouting-and-output")
					o.right.outcomes = []path.Outcome{path.Dropped} // by the filter of the socket that holds the port
				},
				docker29Iptables: func(o *outage) { o.right.outcomes = []path.Outcome{path.Dropped} },
			},
		}, {
			name: "b", what: "DROP in DOCKER-USER",
			do:   []string{"host iptables -w -I DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j DROP"},
			undo: []string{"host iptables -w -D DOCKER-USER 1"},
			from: "OUTSIDE", to: "HOST:8080", right: as(path.Dropped, path.CauseFirewallDrop),
			rule:  "-A DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j DROP",
			owner: "docker-user", direction: path.Request, container: "host",
			on: map[string]func(*outage){
				docker29: func(o *outage) { o.admin("ip protocol tcp ct original proto-dst 8080 ct direction original drop") },
			},
		}, {
			name: "b2", what: "REJECT in DOCKER-USER",
			do:   []string{"host iptables -w -I DOCKER-USER -p tcp --dport 80 -j REJECT"},
			undo: []string{"host iptables -w -D DOCKER-USER 1"},
			from: "OUTSIDE", to: "HOST:8080", right: as(path.Refused, path.CauseFirewallReject),
			rule:  "-A DOCKER-USER -p tcp -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable",
			owner: "docker-user", direction: path.Request, container: "host",
			on: map[string]func(*outage){
				docker29: func(o *outage) { o.admin("tcp dport 80 reject") },
			},
		}, {
			name: "c", what: "isolation of networks", made: true, with: func(t *testing.T, s *scene) {
				s.h.must(t, "network", "create", "-o", "com.docker.network.bridge.name=br-two", "two")
				t.Cleanup(func() { _ = s.h.docker("network", "rm", "two") })
				s.container(t, "c2", "idle", "--network", "two")
			},
			from: "c2", to: "WEB:80", right: as(path.Dropped, isolation),
			rule: "-A DOCKER-ISOLATION-STAGE-2 -o br-app -j DROP", owner: "docker", direction: path.Request, container: "host",
			on: map[string]func(*outage){
				docker29: func(o *outage) {
					o.rule = `ip daddr WEB iifname != "br-app" counter drop comment "DROP DIRECT ACCESS"`
				},
				docker29Iptables: func(o *outage) { o.rule = "-A PREROUTING -d WEB/32 ! -i br-app -j DROP" },
			},
		}, {
			name: "d", what: "MASQUERADE missing",
			do:   []string{"host iptables -w -t nat -D POSTROUTING -s SUBNET ! -o br-app -j MASQUERADE"},
			undo: []string{"host iptables -w -t nat -I POSTROUTING -s SUBNET ! -o br-app -j MASQUERADE"},
			from: "cli", to: "PEER:8080", right: answer{outcomes: failed, causes: []path.Cause{masqueradeMissing}},
			on: map[string]func(*outage){
				docker29: func(o *outage) { o.with, o.do, o.undo = table, flush("nat-postrouting-out__br-app"), nil },
			},
		}, {
			name: "x2", what: "ebtables DROP",
			do:   []string{"host ebtables -I FORWARD -p IPv4 --ip-proto tcp --ip-dport 80 -j DROP"},
			undo: []string{"host ebtables -D FORWARD -p IPv4 --ip-proto tcp --ip-dport 80 -j DROP"},
			from: "cli", to: "web:80", right: as(path.Dropped, "bridge-filter"),
			rule: "-A FORWARD -p IPv4 --ip-proto tcp --ip-dport 80 -j DROP", direction: path.Request, container: "host",
		}, {
			name: "x4", what: "another tool's inet table drops in forward",
			do: []string{
				"host nft add table inet fw", "host nft add chain inet fw f { type filter hook forward priority 10; }",
				"host nft add rule inet fw f tcp dport 80 counter drop",
			},
			undo: []string{"host nft delete table inet fw"},
			from: "OUTSIDE", to: "web:8080", right: as(path.Dropped, path.CauseFirewallDrop),
			rule: "tcp dport 80 counter drop", owner: "user", direction: path.Request, container: "host",
		}, {
			name: "z4", what: "a network with icc=false", made: true, with: func(t *testing.T, s *scene) {
				s.h.must(t, "network", "create", "-o", "com.docker.network.bridge.enable_icc=false",
					"-o", "com.docker.network.bridge.name=br-noicc", "noicc")
				t.Cleanup(func() { _ = s.h.docker("network", "rm", "noicc") })
				s.container(t, "ia", "tcp :80", "--network", "noicc")
				s.container(t, "ib", "idle", "--network", "noicc")
			},
			from: "ib", to: "ia:80", right: as(path.Dropped, isolation),
			rule: "-A FORWARD -i br-noicc -o br-noicc -j DROP", owner: "docker", direction: path.Request, container: "host",
			on: map[string]func(*outage){
				docker29:         func(o *outage) { o.rule = `iifname "br-noicc" counter drop comment "ICC"` },
				docker29Iptables: func(o *outage) { o.rule = "-A DOCKER-FORWARD -i br-noicc -o br-noicc -j DROP" },
			},
		}, {
			name: "z5", what: "an internal network has no way out", made: true, with: func(t *testing.T, s *scene) {
				s.h.must(t, "network", "create", "--internal", "--subnet", "172.31.0.0/16",
					"-o", "com.docker.network.bridge.name=br-intn", "intn")
				t.Cleanup(func() { _ = s.h.docker("network", "rm", "intn") })
				s.container(t, "ia", "tcp :80", "--network", "intn", "-p", "8082:80")
			},
			from: "ia", to: "PEER:8080", right: answer{outcomes: failed, causes: []path.Cause{isolation}},
			rule: "-A DOCKER-ISOLATION-STAGE-1 ! -d 172.31.0.0/16 -i br-intn -j DROP", owner: "docker", container: "host",
			on: map[string]func(*outage){docker29: noWayOut, docker29Iptables: noWayOut},
		}, {
			name: "aa2", what: "DROP inside the container",
			do:   []string{"in web iptables -w -I INPUT -p tcp --dport 80 -j DROP"},
			undo: []string{"in web iptables -w -D INPUT 1"},
			from: "OUTSIDE", to: "web:8080", right: as(path.Dropped, path.CauseFirewallDrop),
			rule: "-A INPUT -p tcp -m tcp --dport 80 -j DROP", owner: "user", direction: path.Request, container: "web",
		}, {
			name: "raw", what: "direct access from outside", made: true, only: []string{docker29, docker29Iptables},
			do: []string{"outside ip route add SUBNET via HOST"}, undo: []string{"outside ip route del SUBNET via HOST"},
			from: "OUTSIDE", to: "WEB:80", right: as(path.Dropped, "direct-access-blocked"),
			rule: "-A PREROUTING -d WEB/32 ! -i br-app -j DROP", owner: "docker", direction: path.Request, container: "host",
			on: map[string]func(*outage){docker29: func(o *outage) {
				o.rule = `ip daddr WEB iifname != "br-app" counter drop comment "DROP DIRECT ACCESS"`
			}},
		},
	}
}

// noWayOut: newer engines give a container of an internal network no default route.
func noWayOut(o *outage) {
	o.right.outcomes = []path.Outcome{path.NoTraffic}
	o.rule, o.owner, o.container = "", "", ""
}

// attachDrop attaches a program to the host's eth0 that drops every TCP segment, for the test.
func attachDrop(attach func(*ebpf.Program, int) (link.Link, error), spec *ebpf.ProgramSpec) func(*testing.T, *scene) {
	return func(t *testing.T, s *scene) {
		t.Helper()
		ns, err := netns.Open(filepath.Join("/run/netns", s.h.NetNS))
		check(t, err)
		defer ns.Close()
		program, err := ebpf.NewProgram(spec)
		check(t, err)
		t.Cleanup(func() { program.Close() })
		var attached link.Link
		check(t, netns.Do(ns, func() error {
			device, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			attached, err = attach(program, device.Index)
			return err
		}))
		t.Cleanup(func() { check(t, attached.Close()) })
	}
}

func dropTCX() func(*testing.T, *scene) {
	const dataAt, dataEndAt, next, shot = 76, 80, -1, 2 // struct __sk_buff; TCX_NEXT, TCX_DROP
	return attachDrop(func(p *ebpf.Program, device int) (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Program: p, Interface: device, Attach: ebpf.AttachTCXIngress})
	}, dropTCP(ebpf.SchedCLS, dataAt, dataEndAt, next, shot))
}

func dropXDP() func(*testing.T, *scene) {
	const dataAt, dataEndAt, pass, drop = 0, 4, 2, 1 // struct xdp_md; XDP_PASS, XDP_DROP
	return attachDrop(func(p *ebpf.Program, device int) (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: p, Interface: device, Flags: link.XDPGenericMode})
	}, dropTCP(ebpf.XDP, dataAt, dataEndAt, pass, drop))
}

// dropTCP is a program that drops IPv4 packets of TCP; the offsets are of its context's data pointers.
func dropTCP(kind ebpf.ProgramType, dataAt, dataEndAt int16, pass, drop int32) *ebpf.ProgramSpec {
	const headers, protocolAt, tcp = 34, 23, 6
	return &ebpf.ProgramSpec{Type: kind, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, dataAt, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, dataEndAt, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, headers),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, protocolAt, asm.Byte),
		asm.JNE.Imm(asm.R5, tcp, "pass"),
		asm.Mov.Imm(asm.R0, drop),
		asm.Return(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	}}
}
