package flow

import (
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Step is one observation of one packet without text: what a hop says, for those who take every packet
// of a flow and keep none.
type Step struct {
	Path      *path.Path // of the flow, without Packets
	Packet    int        // unique per packet of the flow
	Direction path.Direction
	Stage     path.Stage
	Action    path.Action
	Time      uint64 // CLOCK_MONOTONIC, ns
	NetNS     uint32 // inode number; 0 if unknown
	// Ifindex and Device are the device's in NetNS, In and Out those that a netfilter hook was given.
	Ifindex, In, Out uint32
	Device           string
	// Branch tells the sk_buffs of the packet apart: a clone goes its own way.
	Branch uint8
	Hook   wire.Hook
	// Tunnelled: the packet is inside VXLAN here.
	Tunnelled bool
	ICMPError bool // an ICMP error that quotes the flow
	Noise     bool // a drop that every healthy flow has
	// Retransmission is what is known of it by now.
	Retransmission bool
	// Seq, Ack, TCPFlags and Payload are the packet's; TCP, and of an ICMP echo Seq.
	Seq, Ack uint32
	TCPFlags uint8
	Payload  uint16 // bytes of transport payload
}

// report gives a hop to Config.OnStep.
func (t *Tracker) report(p *packet, h *hop) {
	s := &t.scratch.step
	*s = Step{
		Path: &p.flow.path, Packet: p.id, Direction: p.dir.public(), Stage: h.stage.public(), Action: h.action.public(),
		Time: h.time, NetNS: h.netns, Ifindex: h.ifindex, In: h.in, Out: h.out, Device: t.names.devices[h.dev],
		Branch: h.branch, Hook: h.hook, Tunnelled: h.extra != nil && h.extra.inTunnel,
		ICMPError: p.fp.icmpError, Noise: h.noise || h.copied, Retransmission: p.repeat,
		Seq: p.fp.seq, Ack: p.fp.ack, TCPFlags: p.fp.tcpFlags, Payload: p.fp.payload,
	}
	if h.dir != p.dir {
		return // a route look-up for the way back
	}
	t.cfg.OnStep(s)
}
