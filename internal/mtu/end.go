package mtu

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Fate is what is known of the smallest packet that did not pass.
type Fate struct {
	// Packet is its way; nil if nothing was seen of it. Errors are the ICMP errors that quote it.
	Packet *path.Packet
	Errors []*path.Packet
	// Told is set if an ICMP error reached the sender; From and NextHopMTU are what it said.
	Told       bool
	From       string
	NextHopMTU int
	// Refused is set if the sender's own kernel did not send it.
	Refused bool
}

// End says where and how the packet ended.
func (f *Fate) End() *path.MTUEnd {
	e := &path.MTUEnd{From: f.From, NextHopMTU: f.NextHopMTU}
	drop, last := ends(f.Packet)
	switch {
	case drop != nil:
		e.Where = whereOf(drop, f.Packet.Direction)
	case last != nil:
		e.Where = whereOf(last, f.Packet.Direction)
	}
	lost := f.lost()
	switch {
	case f.Told:
		e.Kind = path.TooBigAnswered
	case f.Refused:
		e.Kind = path.TooBigRefused
	case len(f.Errors) > 0 || isAnswered(f.Packet):
		e.Kind = path.TooBigUnanswered
		e.NextHopMTU = f.mtu()
	case drop != nil:
		e.Kind = path.TooBigSilent
	default:
		e.Kind = path.TooBigUnseen
	}
	if lost != nil && !f.Told {
		h, _ := ends(lost)
		e.Lost = whereOf(h, lost.Direction)
	}
	return e
}

// Lost returns the ICMP error that was dropped on its way to the sender, nil if none was.
func (f *Fate) Lost() *path.Packet {
	if f.Told {
		return nil
	}
	return f.lost()
}

func (f *Fate) lost() *path.Packet {
	for _, p := range f.Errors {
		if h, _ := ends(p); h != nil {
			return p
		}
	}
	return nil
}

// mtu is the MTU that the ICMP errors said on their way.
func (f *Fate) mtu() int {
	packets := slices.Clone(f.Errors)
	if f.Packet != nil {
		packets = append(packets, f.Packet)
	}
	for _, p := range packets {
		for i := range p.Hops {
			if n := p.Hops[i].MTU; n > 0 {
				return int(n)
			}
		}
	}
	return 0
}

// isAnswered reports whether the kernel was seen to answer the packet with an ICMP error.
func isAnswered(p *path.Packet) bool {
	return p != nil && slices.ContainsFunc(p.Hops, func(h path.Hop) bool { return h.Action == path.ActionReject })
}

// ends returns the drop of a packet, and the last place where it was seen.
func ends(p *path.Packet) (drop, last *path.Hop) {
	if p == nil {
		return nil, nil
	}
	for i := range p.Hops {
		h := &p.Hops[i]
		switch {
		case h.Copy || h.Noise:
		case h.Action == path.ActionDrop:
			drop = h
		case h.Action != path.ActionReject:
			last = h
		}
	}
	return drop, last
}

func whereOf(h *path.Hop, d path.Direction) *path.Where {
	if h == nil {
		return nil
	}
	return &path.Where{Host: h.Host, Namespace: h.Namespace, Container: h.Container, Device: h.Device,
		Stage: h.Stage, Function: h.Function, Reason: h.Reason, Direction: d}
}

// Cut returns where a packet that may be cut was cut into fragments; nil if nowhere. The fragments of a
// tunnel's packet are not seen, as they do not show what is inside: it was cut where it left the last
// hook, larger than the device takes, and came to the other side all the same.
func Cut(p *path.Packet) *path.Where {
	if p == nil {
		return nil
	}
	var large *path.Hop
	for i := range p.Hops {
		h := &p.Hops[i]
		switch {
		case h.Copy || h.Noise:
		case h.Action == path.ActionFragment:
			return whereOf(h, p.Direction)
		case h.Outer != nil && h.Stage == path.StagePostrouting && h.Action == path.ActionLeave && h.DeviceMTU > 0 &&
			p.Length+overhead(h.Outer) > int(h.DeviceMTU):
			large = h
		case h.Action == path.ActionTransmit && h.Outer != nil, h.Action == path.ActionDrop && large != nil && h.NetNS == large.NetNS:
			large = nil
		case large != nil && h.NetNS != large.NetNS:
			return &path.Where{Host: large.Host, Namespace: large.Namespace, Container: large.Container, Device: large.Device,
				Stage: path.StageFragment, Direction: p.Direction}
		}
	}
	return nil
}

// markLimit marks the link at which the packet ended: the device that dropped it, or the next one of a
// pair of veth devices; without a drop the narrowest link, if there is exactly one that fits.
func markLimit(m *path.MTU, drop *path.Hop) {
	fits := func(l *path.MTULink) bool { return l.Carries > 0 && l.Carries < m.TooBig }
	if drop != nil {
		for i := range m.Links {
			if l := &m.Links[i]; fits(l) && l.NetNS == drop.NetNS && l.Device == drop.Device {
				l.Limit = true
				return
			}
		}
	}
	least := -1
	for i := range m.Links {
		if l := &m.Links[i]; fits(l) && (least < 0 || l.Carries < m.Links[least].Carries) {
			least = i
		}
	}
	if least >= 0 && m.Links[least].Carries >= m.MTU-vlanRoom {
		m.Links[least].Limit = true
	}
}

// Settle completes what was measured of one direction with the end of what was too big.
func Settle(m *path.MTU, f *Fate) {
	if m.TooBig == 0 {
		m.Discovery = path.DiscoveryUnneeded
		for i := range m.Links {
			if l := &m.Links[i]; l.Carries == m.MTU {
				l.Limit = true
				break
			}
		}
		return
	}
	m.End = f.End()
	drop, _ := ends(f.Packet)
	markLimit(m, drop)
	switch m.End.Kind {
	case path.TooBigAnswered, path.TooBigRefused:
		m.Discovery = path.DiscoveryWorks
	default:
		m.Discovery = path.DiscoveryFails
	}
	if s := gso(m); s != "" {
		m.Notes = append(m.Notes, s)
	}
	if d := Declared(m.Links); d > 0 && d < m.MTU && m.MTU-d <= vlanRoom {
		m.Notes = append(m.Notes, fmt.Sprintf("%d bytes pass where %d are declared: the kernel leaves four more for a VLAN "+
			"tag that it does not check for; count on %[2]d", m.MTU, d))
	}
}

// gso says that bulk TCP may get through what single packets do not: the kernel does not check the
// size of what is still to be cut (is_skb_forwardable).
func gso(m *path.MTU) string {
	if m.End.Kind != path.TooBigSilent || m.Proto != path.TCP || len(m.Links) == 0 || m.Links[0].GSOMaxSegments == 1 ||
		m.End.Where == nil {
		return ""
	}
	if isForwardable(m.End.Where.Function) {
		return "large TCP transfers may work all the same: pieces that the kernel has yet to cut (GSO) pass there, single packets do not"
	}
	return ""
}

// Usable is what a sender may count on, bytes: what passed, or less if a link declares less.
func Usable(m *path.MTU) int {
	if m.Declared > 0 && m.Declared < m.MTU {
		return m.Declared
	}
	return m.MTU
}
