package diagnose

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// The namespaces of the test flows: an asker, a host that translates, a target, somebody else.
const (
	nsCli uint32 = 4026530001 + iota
	nsHost
	nsWeb
	nsDup
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// clock gives every hop of a test flow a time of its own, 1 µs apart.
type clock struct{ now uint64 }

type hopOption func(*path.Hop)

// hop builds an observation on the request's or reply's way.
func (c *clock) hop(ns uint32, stage path.Stage, action path.Action, dev string, opts ...hopOption) path.Hop {
	c.now += 1000
	h := path.Hop{Type: "hop", NetNS: ns, Stage: stage, Action: action, Device: dev,
		Time: 1e9 + c.now, DeviceKind: "veth"}
	switch ns {
	case nsCli:
		h.Container = "cli"
	case nsHost:
		h.Namespace = "host"
	case nsWeb:
		h.Container = "web"
	case nsDup:
		h.Container = "dup"
	}
	for _, o := range opts {
		o(&h)
	}
	return h
}

func ends(src, dst string) hopOption {
	return func(h *path.Hop) {
		h.SrcAddr, h.DstAddr, h.Src, h.Dst = ap(src), ap(dst), src, dst
	}
}

func why(reason, function string) hopOption {
	return func(h *path.Hop) { h.Reason, h.Function = reason, function }
}

func through(in, out string) hopOption {
	return func(h *path.Hop) { h.InDevice, h.OutDevice = in, out }
}

func icmp(typ, code uint8) hopOption {
	return func(h *path.Hop) { h.ICMP, h.ICMPType, h.ICMPCode = "type", typ, code }
}

func mtu(n uint32) hopOption { return func(h *path.Hop) { h.MTU = n } }

func index(n uint32) hopOption { return func(h *path.Hop) { h.Ifindex = n } }

func fails(err string) hopOption { return func(h *path.Hop) { h.Error = err } }

func outer(dst string) hopOption {
	return func(h *path.Hop) { h.Outer = &path.Outer{Src: "10.99.0.11:4789", Dst: dst, VNI: 4097} }
}

func bridgePort(h *path.Hop) { h.Bridge = "br-app" }

func asCopy(h *path.Hop) { h.Copy = true }

func asNoise(h *path.Hop) { h.Noise = true }

// testFlow is a test flow under construction: cli asks host:8080, which is web:80 behind DNAT.
type testFlow struct {
	clock
	p path.Path
}

const (
	asked   = "10.99.0.11:8080"
	inner   = "172.18.0.2:80"
	sender  = "10.99.0.1:40000"
	gateway = "172.18.0.1"
)

func newFlow(proto path.Proto) *testFlow {
	f := &testFlow{}
	f.p = path.Path{Flow: 1, Proto: proto, Client: ap(sender), Server: ap(asked),
		Source: ap(sender), Target: ap(inner),
		NAT: []path.Translation{{Kind: path.ActionDNAT, Direction: path.Request, From: asked, To: inner,
			Namespace: "host", NetNS: nsHost, Stage: path.StagePrerouting}}}
	return f
}

// direct makes it a flow without translation, straight to the target's own address.
func (f *testFlow) direct() *testFlow {
	f.p.Server, f.p.NAT = f.p.Target, nil
	return f
}

// untranslated makes it a flow to the host's address that no rule translates.
func (f *testFlow) untranslated() *testFlow {
	f.p.Target, f.p.NAT = f.p.Server, nil
	return f
}

func (f *testFlow) add(dir path.Direction, flags string, hops ...path.Hop) *path.Packet {
	p := &path.Packet{ID: len(f.p.Packets) + 1, Direction: dir, TCPFlags: flags, Length: 60}
	for i := range hops {
		hops[i].Packet, hops[i].Direction, hops[i].TCPFlags = p.ID, dir, flags
	}
	p.Hops = hops
	f.p.Packets = append(f.p.Packets, p)
	return p
}

func (f *testFlow) addError(dir path.Direction, hops ...path.Hop) *path.Packet {
	p := f.add(dir, "", hops...)
	p.ICMPError = true
	return p
}

// out are the hops of a request from its sender to the host's FORWARD hook.
func (f *testFlow) out() []path.Hop {
	e, d := ends(sender, f.p.Server.String()), ends(sender, f.p.Target.String())
	return []path.Hop{
		f.hop(nsCli, path.StageOutput, path.ActionEnter, "eth0", e),
		f.hop(nsCli, path.StageOutput, path.ActionLeave, "eth0", e),
		f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", e),
		f.hop(nsHost, path.StageDevice, path.ActionReceive, "eth0", e, index(2)),
		f.hop(nsHost, path.StagePrerouting, path.ActionEnter, "eth0", e),
		f.hop(nsHost, path.StagePrerouting, path.ActionDNAT, "eth0", d),
	}
}

// forwarded are the hops of out and those of passing FORWARD.
func (f *testFlow) forwarded() []path.Hop {
	d := ends(sender, inner)
	way := through("eth0", "br-app")
	return append(f.out(),
		f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", d, way),
		f.hop(nsHost, path.StageForward, path.ActionLeave, "eth0", d, way),
		f.hop(nsHost, path.StagePostrouting, path.ActionEnter, "br-app", d),
		f.hop(nsHost, path.StagePostrouting, path.ActionLeave, "br-app", d))
}

// in are the hops of a request from its sender to the target's INPUT hook.
func (f *testFlow) in() []path.Hop {
	d := ends(sender, inner)
	return append(f.forwarded(),
		f.hop(nsHost, path.StageDevice, path.ActionTransmit, "br-app", d),
		f.hop(nsHost, path.StageDevice, path.ActionTransmit, "veth1", d, bridgePort),
		f.hop(nsWeb, path.StageDevice, path.ActionReceive, "eth0", d),
		f.hop(nsWeb, path.StageInput, path.ActionEnter, "eth0", d),
		f.hop(nsWeb, path.StageInput, path.ActionLeave, "eth0", d))
}

// arriving are the hops of in and the delivery to the socket.
func (f *testFlow) arriving() []path.Hop {
	return append(f.in(), f.hop(nsWeb, path.StageSocket, path.ActionDeliver, "eth0", ends(sender, inner)))
}

// back are the hops of a reply to the asker.
func (f *testFlow) back() []path.Hop {
	e := ends(inner, sender)
	return append(f.backToHost(),
		f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0", e),
		f.hop(nsCli, path.StageDevice, path.ActionReceive, "eth0", e),
		f.hop(nsCli, path.StageSocket, path.ActionDeliver, "eth0", e))
}

// backToHost are the hops of a reply to the host.
func (f *testFlow) backToHost() []path.Hop {
	e := ends(inner, sender)
	return []path.Hop{
		f.hop(nsWeb, path.StageOutput, path.ActionEnter, "eth0", e),
		f.hop(nsWeb, path.StageOutput, path.ActionLeave, "eth0", e),
		f.hop(nsWeb, path.StageDevice, path.ActionTransmit, "eth0", e),
		f.hop(nsHost, path.StageDevice, path.ActionReceive, "veth1", e, bridgePort),
	}
}

// connect adds a TCP handshake that succeeds.
func (f *testFlow) connect() *testFlow {
	f.add(path.Request, "S", f.arriving()...)
	f.add(path.Reply, "SA", f.back()...)
	f.p.ClientEstablished, f.p.ClientNetNS = 1e9+f.now, nsCli
	f.add(path.Request, "A", f.arriving()...)
	f.p.ServerEstablished, f.p.ServerNetNS, f.p.DeliverNetNS = 1e9+f.now, nsWeb, nsWeb
	return f
}

// facts are what is known of the test flows' surroundings when nothing is wrong.
func facts() *Facts {
	return &Facts{
		Complete: true,
		Source:   Endpoint{Label: "10.99.0.1", NetNS: []uint32{nsCli}},
		Target: Endpoint{Label: "web", Container: "web", State: "running", NetNS: []uint32{nsWeb},
			HostNetNS: []uint32{nsHost},
			Networks: []Network{{Name: "app", Addrs: []netip.Addr{ip("172.18.0.2")},
				Gateways: []netip.Addr{ip(gateway)}}},
			Published: []Published{{HostPort: 8080, ContainerPort: 80, Proto: path.TCP}},
			Port:      80, PortKind: PortContainer},
		Namespaces: map[uint32]*Namespace{
			nsHost: {Name: "host", Self: true},
			nsWeb:  {Container: "web", Path: "/run/docker/netns/abc"},
			nsCli:  {Name: "cli", Path: "/run/netns/cli"},
		},
	}
}

// between makes the asker a container of its own.
func (f *Facts) between(networks ...Network) *Facts {
	f.Source = Endpoint{Label: "cli", Container: "cli", State: "running", NetNS: []uint32{nsCli},
		Networks: networks}
	return f
}

func silentProbe() *Probe { return &Probe{Kind: ProbeSilence, Timeout: 2e9} }
