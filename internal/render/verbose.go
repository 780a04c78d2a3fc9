package render

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Widths of the columns of hooks.
const (
	maxNamespace = 16
	hookOffset   = 10
)

// hookColumns are the widths of the columns that depend on the flow.
type hookColumns struct{ namespace, device, what int }

// writeHops writes every hook of the flow's packets.
func writeHops(out *printer, p *path.Path, all bool) {
	packets := shownPackets(p, all)
	var c hookColumns
	for _, pkt := range packets {
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			c.namespace = max(c.namespace, columns(namespaceText(h)))
			c.device = max(c.device, columns(deviceColumn(h)))
			c.what = max(c.what, columns(hookText(h)))
		}
	}
	c.namespace, c.device = min(c.namespace, maxNamespace), min(c.device, maxDevice)
	for _, pkt := range packets {
		out.line(span{packetTitle(p, pkt), bold}, span{packetDetail(pkt), plain})
		for i := range pkt.Hops {
			writeHop(out, p, pkt, i, c)
		}
		if pkt.OmittedHops > 0 {
			out.line(span{"  " + path.FormatCount(pkt.OmittedHops, "more observation") + " not kept", red})
		}
	}
	if hidden := len(inOrder(p.Packets)) - len(packets); hidden > 0 {
		out.line(span{path.FormatCount(hidden, "more packet") + " not shown (--all-packets shows all)", dim})
	}
}

// packetTitle says which packet of the flow it is.
func packetTitle(p *path.Path, pkt *path.Packet) string {
	title := "packet " + strconv.Itoa(pkt.ID) + "  " + string(pkt.Direction) + "  " + noun(p, pkt)
	if pkt.Retransmission {
		title += ", sent again"
	}
	return title
}

// packetDetail returns what does not change on a packet's way.
func packetDetail(pkt *path.Packet) string {
	var parts []string
	if pkt.Length > 0 {
		parts = append(parts, path.FormatCount(pkt.Length, "byte"))
	}
	if pkt.TCPFlags != "" {
		parts = append(parts, "flags "+pkt.TCPFlags, "seq "+strconv.FormatUint(uint64(pkt.Seq), 10),
			"ack "+strconv.FormatUint(uint64(pkt.Ack), 10))
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, "  ")
}

// namespaceText names the namespace of a hop.
func namespaceText(h *path.Hop) string {
	if h.Namespace == "" && h.Container == "" && h.NetNS != 0 {
		return strconv.FormatUint(uint64(h.NetNS), 10)
	}
	return cmp.Or(h.Container, h.Namespace, "?")
}

// hookText returns stage and action.
func hookText(h *path.Hop) string { return string(h.Stage) + " " + string(h.Action) }

// writeHop writes one hook: time, namespace, device, stage, action and the rest, which starts a new
// line if it does not fit. Addresses that do not fit are left out where they are those of the hop
// before.
func writeHop(out *printer, p *path.Path, pkt *path.Packet, i int, c hookColumns) {
	h := &pkt.Hops[i]
	left := []span{
		{"  " + pad(fineOffset(h.TimeNS), hookOffset) + "  ", dim},
		{pad(shorten(namespaceText(h), c.namespace), c.namespace) + "  ", cyan},
		{pad(shorten(deviceColumn(h), c.device), c.device) + "  ", plain},
	}
	var before *path.Hop
	if i > 0 {
		before = &pkt.Hops[i-1]
	}
	rest := hopRest(p, pkt, before, h, true)
	what, width := hookText(h), 0
	for _, s := range left {
		width += columns(s.text)
	}
	if width+c.what+2+columns(rest) <= out.width {
		out.line(append(left, span{pad(what, c.what), hopStyle(h)}, span{"  " + rest, plain})...)
		return
	}
	out.line(append(left, span{what, hopStyle(h)})...)
	same := before != nil && h.Src == before.Src && h.Dst == before.Dst
	if rest = hopRest(p, pkt, before, h, !same); rest != "" {
		out.paragraph(rest, plain, span{strings.Repeat(" ", 2+hookOffset+2), plain})
	}
}

// deviceColumn names the device of a hop, else one that a netfilter hook was given.
func deviceColumn(h *path.Hop) string { return cmp.Or(h.Device, h.InDevice, h.OutDevice) }

// hopRest returns the addresses, if wanted, and what is special about a hop; before is the one before it,
// or nil.
func hopRest(p *path.Path, pkt *path.Packet, before, h *path.Hop, ends bool) string {
	var parts []string
	if ends && h.Src+h.Dst != "" {
		parts = append(parts, h.Src+" → "+h.Dst)
	}
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, strings.TrimSpace(name+" "+value))
		}
	}
	if h.Length != pkt.Length && h.Length != 0 {
		add("", path.FormatCount(h.Length, "byte"))
	}
	if h.TCPFlags != pkt.TCPFlags {
		add("", h.TCPFlags)
	}
	if o := h.Outer; o != nil {
		add("in", "VXLAN "+strconv.FormatUint(uint64(o.VNI), 10)+" "+o.Src+" → "+o.Dst)
	}
	add("MTU", tunnelMTU(before, h))
	if h.PrevSrc != h.Src {
		add("source was", h.PrevSrc)
	}
	if h.PrevDst != h.Dst {
		add("destination was", h.PrevDst)
	}
	if rule := natRule(p, h); rule != nil {
		add("by", ruleText(rule))
	}
	add("ICMP", h.ICMP)
	add("by", h.Function)
	add("reason", h.Reason)
	add("via", h.Gateway)
	add("error", h.Error)
	if h.Copy {
		add("", "copy")
	}
	if h.Noise {
		add("", "harmless")
	}
	return strings.Join(parts, ", ")
}

// tunnelMTU tells the MTU inside and outside of a tunnel where a packet enters or leaves it.
func tunnelMTU(before, h *path.Hop) string {
	if before == nil || before.DeviceMTU == 0 || h.DeviceMTU == 0 {
		return ""
	}
	inside, outside := before.DeviceMTU, h.DeviceMTU
	switch h.Action {
	case path.ActionDecapsulate:
		inside, outside = outside, inside
	case path.ActionEncapsulate:
	default:
		return ""
	}
	return fmt.Sprintf("%d inside, %d outside", inside, outside)
}

// hopStyle returns the colour of a hop.
func hopStyle(h *path.Hop) style {
	switch h.Action {
	case path.ActionDrop:
		if h.Noise {
			return dim
		}
		return red
	case path.ActionReject, path.ActionReset:
		return yellow
	case path.ActionDeliver:
		return green
	case path.ActionDNAT, path.ActionSNAT, path.ActionMasquerade:
		return cyan
	}
	return plain
}

// fineOffset is offset with a tenth of a microsecond below a millisecond.
func fineOffset(ns int64) string {
	if ns < 0 || ns >= 999_950 {
		return offset(ns)
	}
	return "+" + strconv.FormatFloat(float64(ns)/1e3, 'f', 1, 64) + " µs"
}
