package diagnose

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// dice makes random paths and facts from the values that matter to the explainers.
type dice struct{ *rand.Rand }

func pick[T any](d dice, list ...T) T { return list[d.IntN(len(list))] }

func (d dice) space() uint32 { return pick(d, 0, nsCli, nsHost, nsWeb, nsDup) }

func (d dice) ends() netip.AddrPort {
	return pick(d, netip.AddrPort{}, ap(sender), ap(asked), ap(inner), ap("[fd00::2]:80"), ap("127.0.0.1:80"))
}

func (d dice) hop() path.Hop {
	return path.Hop{
		NetNS: d.space(), Time: d.Uint64N(1000), Ifindex: d.Uint32N(5),
		Device: pick(d, "", "eth0", "br-app"), DeviceKind: pick(d, "", "bridge", "veth"),
		Container: pick(d, "", "web", "a b\n"), Namespace: pick(d, "", "host"),
		Stage: pick(d, "", path.StageSocket, path.StageRoute, path.StageNeighbour, path.StageDevice,
			path.StageBridge, path.StageTCP, path.StageForward, path.StageInput, path.StageOutput,
			path.StagePrerouting, path.StagePostrouting, path.StageBridgeForward, "odd/stage"),
		Action: pick(d, "", path.ActionSend, path.ActionQueue, path.ActionTransmit, path.ActionReceive,
			path.ActionEnter, path.ActionLeave, path.ActionDeliver, path.ActionDrop, path.ActionReject,
			path.ActionReset, path.ActionEncapsulate),
		SrcAddr: d.ends(), DstAddr: d.ends(), SrcName: pick(d, "", "cli:1"), DstName: pick(d, "", "web"),
		Reason: pick(d, "", "NETFILTER_DROP", "NO_SOCKET", "IP_RPFILTER", "NEIGH_FAILED", "PKT_TOO_BIG",
			"SOCKET_RCVBUFF", "NO_TX_TARGET", "QDISC_DROP", "OTHERHOST", "IP_INNOROUTES", "IP_INADDRERRORS",
			"BRIDGE_INGRESS_STP_STATE", "TC_INGRESS", "TCP_CSUM", "IP_LOCALNET", "IP_INHDR", "NOT_SPECIFIED"),
		Function: pick(d, "", "nft_do_chain", "nf_hook_slow", "ip_error", "tcp_v4_rcv", "ip6_forward",
			"br_handle_frame", "ip_rcv_finish_core", "veth_xdp_rcv_skb", "__dev_forward_skb2", "tbf_enqueue", "__dev_queue_xmit"),
		ICMP: pick(d, "", "", "", "type"), ICMPType: uint8(d.IntN(14)), ICMPCode: uint8(d.IntN(14)),
		MTU: d.Uint32N(2) * 1400, Copy: d.IntN(9) == 0, Noise: d.IntN(9) == 0,
		InDevice: pick(d, "", "eth0"), OutDevice: pick(d, "", "br-app"), Error: pick(d, "", "no route"),
		Outer: pick(d, nil, nil, &path.Outer{Src: "x", Dst: "not an address", VNI: 1}),
	}
}

func (d dice) path() *path.Path {
	p := &path.Path{
		Flow: d.IntN(9), Proto: pick(d, path.TCP, path.UDP, path.ICMP, ""),
		Client: d.ends(), Server: d.ends(), Source: d.ends(), Target: d.ends(), Midstream: d.IntN(4) == 0,
		ServerEstablished: d.Uint64N(2), ClientEstablished: d.Uint64N(2), OmittedPackets: d.IntN(2),
		ServerNetNS: d.space(), DeliverNetNS: d.space(),
	}
	if d.IntN(2) == 0 {
		p.NAT = []path.Translation{{Kind: pick(d, path.ActionDNAT, path.ActionSNAT), From: "a", To: "b"}}
	}
	for range d.IntN(5) {
		k := &path.Packet{Direction: pick(d, path.Request, path.Reply, ""), ICMPError: d.IntN(6) == 0,
			TCPFlags: pick(d, "", "S", "SA", "A", "PA", "RA", "FA", "SYN,ACK"), Seq: d.Uint32N(3),
			Ack: d.Uint32N(3), Length: d.IntN(200), Retransmission: d.IntN(3) == 0}
		for range d.IntN(6) {
			k.Hops = append(k.Hops, d.hop())
		}
		p.Packets = append(p.Packets, k)
	}
	if d.IntN(20) == 0 {
		p.Packets = append(p.Packets, nil)
	}
	return p
}

func (d dice) endpoint() Endpoint {
	e := Endpoint{Label: pick(d, "", "web"), Container: pick(d, "", "web", "cli"),
		State: pick(d, "", "running", "paused", "exited", "restarting"),
		Port:  uint16(d.IntN(2) * 8080), PortKind: PortKind(d.IntN(3))}
	for _, ns := range []uint32{nsWeb, nsHost} {
		if d.IntN(2) == 0 {
			e.NetNS = append(e.NetNS, ns)
		}
		if d.IntN(2) == 0 {
			e.HostNetNS = append(e.HostNetNS, ns)
		}
	}
	if d.IntN(2) == 0 {
		e.Networks = []Network{{Name: pick(d, "app", "two", "host"), Addrs: []netip.Addr{ip("172.18.0.2")}}}
	}
	if d.IntN(2) == 0 {
		e.Published = []Published{{HostPort: 8080, ContainerPort: 80, Proto: path.TCP}}
	}
	return e
}

func (d dice) facts() *Facts {
	f := &Facts{Target: d.endpoint(), Source: d.endpoint(), LostEvents: d.Uint64N(3), Complete: d.IntN(2) == 0,
		Namespaces: map[uint32]*Namespace{}}
	if d.IntN(2) == 0 {
		f.Probe = &Probe{Kind: pick(d, ProbeNone, ProbeConnected, ProbeAnswered, ProbeRefused, ProbeICMPError,
			ProbeLocalError, ProbeSilence), ICMPType: uint8(d.IntN(14)), ICMPCode: uint8(d.IntN(6)),
			Errno: pick(d, "", "ENETUNREACH", "EHOSTUNREACH"), RoundTrip: 1e9, Timeout: 2e9}
	}
	for _, ns := range []uint32{nsCli, nsHost, nsWeb} {
		n := &Namespace{Name: pick(d, "", "host"), Container: pick(d, "", "web"), Path: pick(d, "", "/x y"),
			Self: d.IntN(3) == 0}
		if d.IntN(2) == 0 {
			n.Links = d.links()
			n.Neighbours = []Neighbour{{Addr: ip("172.18.0.2"), State: pick(d, "FAILED", "REACHABLE"), MAC: d.mac()}}
			n.Queues = []Queue{{Ifindex: d.Uint32N(4), Kind: "tbf", Parent: "root", Drops: d.Uint64N(2), Total: d.IntN(2) == 0}}
			n.Table = []TableRoute{{Dst: netip.MustParsePrefix("172.18.0.2/32"), Ifindex: d.Uint32N(4),
				Type: pick(d, "unicast", "unreachable", "")}}
			n.Listeners = []Listener{{Proto: path.TCP, Addr: d.ends(), Queue: d.Uint32N(3), QueueMax: 1,
				Process: pick(d, "", "docker-proxy", "dockerd", "nginx")}}
			n.Counters = map[string]uint64{"TcpExtListenOverflows": d.Uint64N(2), "UdpRcvbufErrors": d.Uint64N(2)}
			n.Routes = []Route{{Dst: ip("10.99.0.1"), Err: pick(d, "", "ENETUNREACH")}}
			n.Sysctls = map[string]string{"net.ipv4.ip_forward": pick(d, "0", "1", "odd")}
		}
		f.Namespaces[ns] = n
	}
	for _, ns := range []uint32{nsWeb, nsDup, nsHost} {
		if d.IntN(2) == 0 {
			f.Owners = append(f.Owners, Owner{Addr: ip("172.18.0.2"), NetNS: ns, Ifindex: 1, Device: "eth0", MAC: d.mac(),
				PeerNetNS: d.space(), PeerIndex: d.Uint32N(4), Label: "x"})
		}
	}
	if d.IntN(2) == 0 {
		f.Subnets = []Subnet{{Network: "app", Prefix: netip.MustParsePrefix("172.18.0.0/16"), Bridge: "br-app",
			HostNetNS: []uint32{d.space()}}}
	}
	return f
}

func (d dice) mac() string { return pick(d, "", "02:00:00:00:00:01", "02:00:00:00:00:02") }

// links are those of one namespace: two ports of a bridge, or whatever their kinds make of them.
func (d dice) links() []Link {
	prefix := netip.MustParsePrefix
	list := []Link{{Index: 1, Name: "eth0", Master: 3}, {Index: 2, Name: "veth1", Master: 3},
		{Index: 3, Name: "br-app", MTU: 1400}}
	for i := range list {
		l := &list[i]
		l.Kind, l.Up, l.Carrier = pick(d, "veth", "bridge", "macvlan", ""), d.IntN(3) > 0, d.IntN(3) > 0
		l.PeerNetNS, l.PeerIndex, l.MAC, l.MTU = d.space(), d.Uint32N(4), d.mac(), d.Uint32N(2)*100
		if d.IntN(2) == 0 {
			l.Addrs = []netip.Prefix{pick(d, prefix("172.18.0.2/16"), prefix("172.18.0.1/16"), prefix("10.99.0.1/24"))}
		}
		if d.IntN(2) == 0 {
			l.Port = &Port{State: pick(d, "forwarding", "blocking", ""), Isolated: d.IntN(2) == 0, Locked: d.IntN(3) == 0}
		}
		if d.IntN(2) == 0 {
			l.Programs = []Program{{Hook: pick(d, "XDP native", "tcx ingress", "tc egress"), ID: d.Uint32N(2)}}
		}
	}
	return list
}

// TestAnyPathAndFacts: whatever was seen, there is an outcome and one sentence, a cause unless the
// flow was delivered or nothing was seen, and the input is not changed.
func TestAnyPathAndFacts(t *testing.T) {
	known := documentedCauses(t)
	for seed := range uint64(8000) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		p, f := d.path(), d.facts()
		again := dice{rand.New(rand.NewPCG(seed, 1))}
		v := Explain(p, f)
		checkVerdict(t, &v)
		if v.Cause != "" && !known[v.Cause] {
			t.Errorf("cause %s has no page", v.Cause)
		}
		if q, g := again.path(), again.facts(); !reflect.DeepEqual(p, q) || !reflect.DeepEqual(f, g) {
			t.Errorf("input was changed")
		}
		if w := Explain(p, f); !reflect.DeepEqual(v, w) {
			t.Errorf("two verdicts on one flow: %+v and %+v", v, w)
		}
		none, bare := ExplainNoTraffic(f), Explain(p, nil)
		checkVerdict(t, &none)
		checkVerdict(t, &bare)
		Needs(p)
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, v)
		}
	}
}
