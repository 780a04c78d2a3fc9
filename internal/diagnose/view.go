package diagnose

import (
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// analysis is one flow under examination. p and f are never nil and never changed.
type analysis struct {
	p *path.Path
	f *Facts
	// ruled remembers what the rules of a hook say of the packet that ended there.
	ruled map[*path.Hop]*ruling
	// requests, replies and timed are made once; nil as long as nobody asked.
	requests, replies []*path.Packet
	timed             *path.Latency
	nothing           *Namespace
}

// tcpFlags are the flags of a TCP header that matter to a conclusion.
type tcpFlags struct{ syn, ack, fin, rst, psh bool }

// flagsOf reads the flags in full names ("SYN ACK", "SYN,ACK") or in letters ("SA", "S.").
func flagsOf(s string) tcpFlags {
	if len(s) < len("SYN") {
		return flagLetters(s)
	}
	u := strings.ToUpper(s)
	names := []string{"SYN", "ACK", "FIN", "RST", "PSH"}
	if !containsAny(u, names) && !containsAny(u, []string{"URG", "ECE", "CWR"}) {
		return flagLetters(s)
	}
	has := func(i int) bool { return strings.Contains(u, names[i]) }
	return tcpFlags{syn: has(0), ack: has(1), fin: has(2), rst: has(3), psh: has(4)}
}

func flagLetters(s string) (f tcpFlags) {
	for i := range len(s) {
		switch s[i] {
		case 'S', 's':
			f.syn = true
		case 'A', 'a', '.':
			f.ack = true
		case 'F', 'f':
			f.fin = true
		case 'R', 'r':
			f.rst = true
		case 'P', 'p':
			f.psh = true
		}
	}
	return f
}

func containsAny(s string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}

// maxHeaders is the most that IP and TCP headers without IP options or extension headers take, in
// bytes; a packet that is longer carries data.
const maxHeaders = 100

// carriesData reports whether losing the packet loses something the other end waits for.
func carriesData(p *path.Packet) bool {
	return flagsOf(p.TCPFlags).psh || p.Length > maxHeaders
}

// packets returns the packets of one direction that belong to the flow itself: no ICMP errors and no
// resets. They are not to be changed.
func (a *analysis) packets(dir path.Direction) []*path.Packet {
	var list *[]*path.Packet
	switch dir {
	case path.Request:
		list = &a.requests
	case path.Reply:
		list = &a.replies
	default:
		return a.packetsOf(dir)
	}
	if *list == nil {
		*list = a.packetsOf(dir)
	}
	return *list
}

func (a *analysis) packetsOf(dir path.Direction) []*path.Packet {
	out := make([]*path.Packet, 0, len(a.p.Packets))
	for _, p := range a.p.Packets {
		if p == nil || p.ICMPError || p.Direction != dir {
			continue
		}
		if a.p.Proto == path.TCP && flagsOf(p.TCPFlags).rst {
			continue
		}
		out = append(out, p)
	}
	return out
}

// resets returns the RST packets of one direction.
func (a *analysis) resets(dir path.Direction) []*path.Packet {
	var out []*path.Packet
	for _, p := range a.p.Packets {
		if p != nil && !p.ICMPError && p.Direction == dir && flagsOf(p.TCPFlags).rst {
			out = append(out, p)
		}
	}
	return out
}

// icmpErrors returns the ICMP errors that travel in the direction given.
func (a *analysis) icmpErrors(dir path.Direction) []*path.Packet {
	var out []*path.Packet
	for _, p := range a.p.Packets {
		if p == nil || !p.ICMPError || p.Direction != dir {
			continue
		}
		if h := icmpHop(p); h != nil && a.icmpOf(h).isError() {
			out = append(out, p)
		}
	}
	return out
}

// icmpHop returns the first hop that says which ICMP message the packet is.
func icmpHop(p *path.Packet) *path.Hop {
	for i := range p.Hops {
		if p.Hops[i].ICMP != "" {
			return &p.Hops[i]
		}
	}
	return nil
}

// lastHop returns the last observation on the packet's own path, or nil.
func lastHop(p *path.Packet) *path.Hop {
	for i := len(p.Hops) - 1; i >= 0; i-- {
		if onPath(&p.Hops[i]) {
			return &p.Hops[i]
		}
	}
	return nil
}

// firstHop returns the first observation on the packet's own path, or nil.
func firstHop(p *path.Packet) *path.Hop {
	for i := range p.Hops {
		if onPath(&p.Hops[i]) {
			return &p.Hops[i]
		}
	}
	return nil
}

// onPath reports whether the hop is on the packet's own path: neither a clone's nor a drop that every
// healthy flow has.
func onPath(h *path.Hop) bool { return !h.Copy && !(h.Action == path.ActionDrop && h.Noise) }

// visits reports whether the packet was seen on its way in one of the namespaces.
func visits(p *path.Packet, spaces []uint32) bool {
	for i := range p.Hops {
		if h := &p.Hops[i]; onPath(h) && h.NetNS != 0 && slices.Contains(spaces, h.NetNS) {
			return true
		}
	}
	return false
}

// isNetfilter reports whether s is a netfilter hook, entered by IP or by br_netfilter.
func isNetfilter(s path.Stage) bool {
	return strings.HasPrefix(string(s), "netfilter/") ||
		strings.HasPrefix(string(s), "bridge-netfilter/")
}

// isLocalStart reports whether a packet that was first seen at h was made in that namespace, rather
// than received by it.
func isLocalStart(h *path.Hop) bool {
	switch h.Stage {
	case path.StageSocket, path.StageRoute, path.StageOutput, path.StagePostrouting,
		path.StageTCP, path.StageUDP, path.StageICMP:
		return true
	}
	return h.Action == path.ActionSend || isSent(h)
}

// space returns what was read of a namespace; the zero value if nothing was.
func (a *analysis) space(ns uint32) *Namespace {
	if n := a.f.Namespaces[ns]; n != nil && ns != 0 {
		return n
	}
	if a.nothing == nil {
		a.nothing = &Namespace{}
	}
	return a.nothing
}

// link returns a device of a namespace, or nil if it is not known.
func (a *analysis) link(ns, index uint32) *Link {
	if index == 0 {
		return nil
	}
	links := a.space(ns).Links
	for i := range links {
		if links[i].Index == index {
			return &links[i]
		}
	}
	return nil
}

// linkNamed returns a device of a namespace by its name, or nil if it is not known.
func (a *analysis) linkNamed(ns uint32, name string) *Link {
	links := a.space(ns).Links
	for i := range links {
		if name != "" && links[i].Name == name {
			return &links[i]
		}
	}
	return nil
}
