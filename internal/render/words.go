package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// maxName is how much of a name is shown inside a line; titles and sentences show it in full.
const maxName = 40

// refusedText is what a reset means to the one who asked.
const refusedText = "connection refused"

// hasFlag reports whether the flags of a packet include the named one. They are letters ("SA"); names
// ("SYN-ACK", "SYN,ACK") are understood too, because recordings of other programs have them.
func hasFlag(flags, name string) bool {
	flags = strings.ToUpper(flags)
	for _, word := range []string{"SYN", "ACK", "FIN", "RST", "PSH", "URG"} {
		if strings.Contains(flags, word) {
			return strings.Contains(flags, name)
		}
	}
	return strings.Contains(flags, name[:1])
}

// role is what a packet does for its flow.
type role uint8

const (
	roleData    role = iota
	roleOpen         // SYN; first datagram or echo request
	roleAnswer       // SYN-ACK; first datagram or echo reply back
	roleConfirm      // the ACK that ends the handshake
	roleClose        // FIN
	roleReset        // RST
	roleError        // an ICMP error about the flow
)

// tcpRole returns the role of a TCP packet as its flags tell it.
func tcpRole(flags string) role {
	switch {
	case hasFlag(flags, "RST"):
		return roleReset
	case hasFlag(flags, "SYN") && hasFlag(flags, "ACK"):
		return roleAnswer
	case hasFlag(flags, "SYN"):
		return roleOpen
	case hasFlag(flags, "FIN"):
		return roleClose
	}
	return roleData
}

// noun says what a packet is: "SYN", "datagram", "echo reply", "ICMP error".
func noun(p *path.Path, pkt *path.Packet) string {
	if pkt.ICMPError {
		return "ICMP error"
	}
	switch p.Proto {
	case path.UDP:
		return "datagram"
	case path.ICMP:
		if pkt.Direction == path.Reply {
			return "echo reply"
		}
		return "echo request"
	}
	switch tcpRole(pkt.TCPFlags) {
	case roleReset:
		return "RST"
	case roleAnswer:
		return "SYN-ACK"
	case roleOpen:
		return "SYN"
	case roleClose:
		return "FIN"
	}
	if hasFlag(pkt.TCPFlags, "ACK") && !hasFlag(pkt.TCPFlags, "PSH") {
		return "ACK"
	}
	return "segment"
}

// icmpText returns what an ICMP error of the packet says, or "".
func icmpText(pkt *path.Packet) string {
	for i := range pkt.Hops {
		if pkt.Hops[i].ICMP != "" {
			return pkt.Hops[i].ICMP
		}
	}
	return ""
}

// sentText describes a packet that leaves its sender.
func sentText(p *path.Path, pkt *path.Packet, h *path.Hop) string {
	if pkt.ICMPError {
		return "ICMP error sent to " + hostOf(h.Dst) + colon(icmpText(pkt))
	}
	return noun(p, pkt) + " sent to " + h.Dst
}

// arrivedText describes a packet that comes from where nothing can be seen.
func arrivedText(p *path.Path, pkt *path.Packet, h *path.Hop) string {
	if pkt.ICMPError {
		return "ICMP error received from " + hostOf(h.Src) + colon(icmpText(pkt))
	}
	return noun(p, pkt) + " received from " + h.Src
}

// deliverText describes what the socket of a namespace does with the packet.
func deliverText(p *path.Path, pkt *path.Packet) string {
	switch {
	case pkt.ICMPError:
		return "delivered to the asker's socket"
	case p.Proto == path.ICMP && pkt.Direction == path.Request:
		return "accepted, to be answered"
	case p.Proto == path.ICMP:
		return "delivered to the asker"
	case p.Proto == path.TCP && tcpRole(pkt.TCPFlags) == roleOpen && answered(p):
		return "accepted by the listening socket"
	case p.Proto == path.TCP && tcpRole(pkt.TCPFlags) == roleOpen:
		return "reached the listening socket"
	case p.Proto == path.TCP && tcpRole(pkt.TCPFlags) == roleReset && pkt.Direction == path.Reply && p.ClientEstablished == 0:
		return refusedText
	case p.Proto == path.TCP && tcpRole(pkt.TCPFlags) == roleAnswer && p.ClientEstablished != 0:
		return "connection established"
	}
	return "delivered to the socket"
}

// answered reports whether the target answered a connection: a full accept queue takes the SYN too.
func answered(p *path.Path) bool {
	return p.ServerEstablished != 0 || slices.ContainsFunc(p.Packets, func(pkt *path.Packet) bool {
		return pkt != nil && pkt.Direction == path.Reply && tcpRole(pkt.TCPFlags) == roleAnswer
	})
}

// dropText says where, by what and why a packet was discarded.
func dropText(h *path.Hop) string {
	text := "DROPPED"
	if h.Stage != "" {
		text += " in " + string(h.Stage)
	}
	if h.Function != "" {
		text += " by " + h.Function
	}
	if h.Reason != "" {
		text += " (" + h.Reason + ")"
	}
	return text
}

// refuseText describes a rejection (with an ICMP error) or a reset as an answer.
func refuseText(h *path.Hop) string {
	text := "answered with an ICMP error"
	switch {
	case h.Action == path.ActionReset:
		text = "answered with an RST"
	case strings.Contains(string(h.Stage), "netfilter"):
		text = "REJECTED in " + string(h.Stage)
		if h.ICMP != "" {
			text += " with ICMP " + h.ICMP
		}
	case h.ICMP != "":
		text = "answered with ICMP " + h.ICMP
	}
	if h.MTU > 0 {
		text += ", MTU " + strconv.FormatUint(uint64(h.MTU), 10)
	}
	if h.Reason != "" {
		text += " (" + h.Reason + ")"
	}
	return text
}

// natText describes a translation. Those of a reply undo what was done to the request, and are
// named by what they undo.
func natText(p *path.Path, h *path.Hop) string {
	src := h.PrevSrc != "" && h.PrevSrc != h.Src
	dst := h.PrevDst != "" && h.PrevDst != h.Dst
	if src && dst {
		src, dst = h.Action != path.ActionDNAT, h.Action == path.ActionDNAT
	}
	from, to := h.PrevSrc, h.Src
	if dst || !src && h.Action == path.ActionDNAT {
		from, to = h.PrevDst, h.Dst
	}
	name := natName(h.Action)
	if byIPVS(p, from, to) {
		name = "IPVS"
	}
	if h.Direction == path.Reply {
		name = "undo " + undone(p, from, src)
	}
	if from == "" {
		return name + " to " + to
	}
	return name + " " + from + " → " + to
}

// byIPVS reports whether a translation of the request was IPVS's.
func byIPVS(p *path.Path, from, to string) bool {
	return slices.ContainsFunc(p.NAT, func(t path.Translation) bool {
		return t.By == path.IPVS && t.From == from && t.To == to
	})
}

// natName returns the usual name of a kind of translation.
func natName(a path.Action) string {
	switch a {
	case path.ActionDNAT:
		return "DNAT"
	case path.ActionSNAT:
		return "SNAT"
	}
	return string(a)
}

// undone names the translation of the request that the reply's one undoes: its result is what the
// reply carries before.
func undone(p *path.Path, from string, source bool) string {
	for _, t := range p.NAT {
		switch {
		case t.Direction != path.Request || t.To != from:
		case t.Kind == path.ActionMasquerade:
			return "masquerade"
		case t.By == path.IPVS && source:
			return "IPVS"
		}
	}
	if source {
		return "DNAT"
	}
	return "SNAT"
}

// tunnelText describes encapsulation in, or the taking off of, an outer header.
func tunnelText(o *path.Outer, stage path.Stage, decap bool) string {
	name := "IPsec"
	if stage != path.StageXfrm {
		name = "VXLAN"
	}
	if o == nil {
		if decap {
			return name + " header removed"
		}
		return "encapsulated in " + name
	}
	if stage != path.StageXfrm {
		name += " " + strconv.FormatUint(uint64(o.VNI), 10)
	}
	if decap {
		return name + " decapsulated, came from " + hostOf(o.Src)
	}
	return name + ": " + hostOf(o.Src) + " → " + hostOf(o.Dst)
}

// ipsecText describes encryption or decryption between two hosts. Docker's SPIs are hashes: `ip xfrm state`
// shows them as hexadecimal numbers.
func ipsecText(h *path.Hop) string {
	src, dst := h.Src, h.Dst
	if h.Outer != nil {
		src, dst = h.Outer.Src, h.Outer.Dst
	}
	spi := fmt.Sprintf("ESP, SPI 0x%08x", h.SPI)
	if h.Action == path.ActionDecapsulate {
		return "decrypted (" + spi + "), came from " + hostOf(src)
	}
	return "encrypted (" + spi + "): " + hostOf(src) + " → " + hostOf(dst)
}

// routeText describes a failed route look-up, which may be for the answer to the packet.
func routeText(pkt *path.Packet, h *path.Hop) string {
	text := "no way to " + hostOf(h.Dst)
	if h.Direction == pkt.Direction.Opposite() && h.Direction != "" {
		text = "no way back to " + hostOf(h.Dst)
	}
	if h.Gateway != "" {
		text += " by " + h.Gateway
	}
	return text + colon(h.Error)
}

// deviceText names a device for a chain: a bridge by its Docker network if that is known.
func deviceText(h *path.Hop) string {
	if h.DeviceKind == "bridge" && h.Network != "" {
		return "bridge " + shorten(h.Network, maxName)
	}
	return h.Device
}

// colon returns ": text", or "" for an empty text.
func colon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}
