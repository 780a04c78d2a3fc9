package render

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// MTU writes what each direction carries, link by link, what live traffic showed (nil if it was not
// watched), and the verdict. What that rests on is in the lines of each direction, so its evidence is only
// written with Options.Verbose.
func MTU(o Options, list []path.MTU, live *path.MTUWatch, v path.Verdict) error {
	out := newPrinter(o)
	for i := range list {
		writeMTU(out, &list[i], list[:i])
		out.line()
	}
	if live != nil {
		writeLiveSizes(out, live)
		out.line()
	}
	if !o.Verbose {
		v.Evidence = nil
	}
	writeVerdict(out, v)
	if v.Cause != "" {
		labelled(out, "more:", cyan, "docs/causes/"+string(v.Cause)+".md")
	}
	return out.flush()
}

// sameWayBack reports whether one direction passes the devices of the other in reverse.
func sameWayBack(there, back []path.MTULink) bool {
	return len(there) > 0 && slices.EqualFunc(there, reversed(back), func(a, b path.MTULink) bool {
		return a.NetNS == b.NetNS && a.Device == b.Device && a.MTU == b.MTU && a.Overhead == b.Overhead
	})
}

func reversed(list []path.MTULink) []path.MTULink {
	out := slices.Clone(list)
	slices.Reverse(out)
	return out
}

// writeMTU writes one direction; what was said of those before it is not said again.
func writeMTU(out *printer, m *path.MTU, before []path.MTU) {
	again := len(before) > 0 && sameWayBack(before[0].Links, m.Links)
	out.line(span{fmt.Sprintf("%s  %s → %s  ", m.Direction, mtuEnd(m.SrcName, m.Src), mtuEnd(m.DstName, m.Dst)), bold},
		span{passText(m), mtuStyle(m)})
	device := 0
	for i := range m.Links {
		device = max(device, columns(m.Links[i].Device))
	}
	switch {
	case again:
		writeAgain(out, m)
	case len(m.Links) > 0:
		out.line(span{"      MTU  carries", dim})
		for i := range m.Links {
			writeLink(out, &m.Links[i], min(device, maxDevice))
		}
	}
	for _, f := range mtuFacts(m) {
		ofDevices := f[0] == "bridge" || f[0] == "docker" || f[0] == "GSO"
		if !again || !ofDevices && (f[0] != "note" || !slices.Contains(before[0].Notes, f[1])) {
			labelled(out, f[0], plain, f[1])
		}
	}
}

// writeAgain says in one line what the list of devices would.
func writeAgain(out *printer, m *path.MTU) {
	text := "the same devices in reverse"
	if i := slices.IndexFunc(m.Links, func(l path.MTULink) bool { return l.Limit }); i >= 0 {
		l := m.Links[i]
		text += fmt.Sprintf("; the limit is %s in %s (MTU %d)", l.Device, linkPlace(&l), l.MTU)
	}
	labelled(out, "path", plain, text)
}

// linkPlace is "container web", or the name of a namespace.
func linkPlace(l *path.MTULink) string {
	if l.Container != "" {
		return "container " + l.Container
	}
	return l.Namespace
}

// mtuEnd is "web, 10.0.0.2:80".
func mtuEnd(name, addr string) string {
	if name == "" {
		return addr
	}
	return name + " (" + addr + ")"
}

// passText is "1400 bytes pass, 1401 do not".
func passText(m *path.MTU) string {
	switch {
	case m.MTU == 0:
		return "not measured"
	case m.TooBig == 0:
		return fmt.Sprintf("%d bytes pass (device MTU)", m.MTU)
	}
	return fmt.Sprintf("%d bytes pass, %d do not", m.MTU, m.TooBig)
}

func mtuStyle(m *path.MTU) style {
	switch m.Discovery {
	case path.DiscoveryFails:
		return red
	case path.DiscoveryWorks:
		return yellow
	case path.DiscoveryUnneeded:
		return green
	}
	return plain
}

// writeLink writes one device of the path.
func writeLink(out *printer, l *path.MTULink, device int) {
	st, mark := plain, ""
	if l.Limit {
		st, mark = yellow, "  ◀ the limit"
	}
	text := fmt.Sprintf("    %5d    %5d  %s  %s", l.MTU, l.Carries, pad(l.Device, device), linkPlace(l))
	if l.Outer != nil {
		text += fmt.Sprintf(", in VXLAN %d (%d bytes)", l.Outer.VNI, l.Overhead)
	}
	if l.Network != "" && l.Outer == nil {
		text += ", network " + l.Network
	}
	room := out.width - columns(mark)
	out.line(span{shortenEnd(text, room), st}, span{mark, st})
}

// mtuFacts are the lines below the links, with their labels.
func mtuFacts(m *path.MTU) [][2]string {
	var out [][2]string
	add := func(label, text string) {
		if text != "" {
			out = append(out, [2]string{label, text})
		}
	}
	add("too big", tooBigText(m))
	add("non-DF", cutText(m))
	if m.Fragmented != nil {
		add("cut", fmt.Sprintf("above %d bytes, at %s", m.FragmentsAbove, spotText(m.Fragmented)))
	}
	if m.LimitRoute != "" {
		add("limit", m.LimitRoute)
	}
	if m.TCPPacket > 0 {
		add("TCP", fmt.Sprintf("sends up to %d bytes on this connection (MSS of both sides)", m.TCPPacket))
	}
	add("bridge", bridgesText(m))
	add("docker", networksText(m))
	add("route", senderRouteText(m))
	add("GSO", gsoText(m))
	for _, n := range m.Notes {
		add("note", n)
	}
	return out
}

// tooBigText says where a packet that is too big ends.
func tooBigText(m *path.MTU) string {
	e := m.End
	if e == nil {
		return ""
	}
	at := ""
	if e.Where != nil {
		at = " at " + spotText(e.Where)
	}
	switch e.Kind {
	case path.TooBigRefused:
		return "the sender's own kernel does not send it, and knows the MTU"
	case path.TooBigAnswered:
		from := "of " + e.From
		if e.From == m.DstName { // VXLAN devices answer so (iptunnel_pmtud_build_icmp)
			from = "in the name of " + e.From
		}
		return fmt.Sprintf("dropped%s; the ICMP error %s (MTU %d) reached the sender: path MTU discovery works", at, from, e.NextHopMTU)
	case path.TooBigUnanswered:
		s := "dropped" + at + "; the ICMP error"
		if e.NextHopMTU > 0 {
			s += " (MTU " + strconv.Itoa(e.NextHopMTU) + ")"
		}
		if e.Lost != nil {
			return s + " was dropped at " + spotText(e.Lost)
		}
		return s + " did not reach the sender"
	case path.TooBigSilent:
		return "dropped without a word" + at
	}
	if e.Where == nil {
		return "vanishes"
	}
	return "last seen at " + spotText(e.Where) + "; never arrived, and no ICMP error came"
}

// spotText is "eth0 in container web (br_forward, NOT_SPECIFIED)".
func spotText(w *path.Where) string {
	s := cmp.Or(w.Namespace, w.Host)
	if w.Container != "" {
		s = "container " + w.Container
	}
	if w.Device != "" {
		s = w.Device + " in " + s
	}
	var how []string
	for _, x := range []string{w.Function, w.Reason} {
		if x != "" {
			how = append(how, x)
		}
	}
	if len(how) > 0 {
		s += " (" + strings.Join(how, ", ") + ")"
	}
	return s
}

// cutText says what becomes of a packet of that size that may be cut.
func cutText(m *path.MTU) string {
	e := m.End
	if e == nil || m.MTU == 0 {
		return ""
	}
	switch {
	case e.Fragmented != nil && e.FragmentsPass:
		return fmt.Sprintf("%d bytes that may be cut are cut at %s, and arrive", m.TooBig, spotText(e.Fragmented))
	case e.Fragmented != nil:
		return fmt.Sprintf("%d bytes that may be cut are cut at %s, and do not arrive", m.TooBig, spotText(e.Fragmented))
	case e.FragmentsPass:
		return fmt.Sprintf("%d bytes that may be cut arrive", m.TooBig)
	case strings.Contains(m.Dst, "["):
		return "" // IPv6: routers cut nothing
	}
	return fmt.Sprintf("%d bytes that may be cut do not arrive either", m.TooBig)
}

// bridgesText is what the bridges between the devices declare.
func bridgesText(m *path.MTU) string {
	var parts []string
	for _, b := range m.Bridges {
		parts = append(parts, fmt.Sprintf("%s in %s has MTU %d", b.Device, b.Namespace, b.MTU))
	}
	return strings.Join(parts, "; ")
}

// networksText is what Docker's networks are set to; those that are not have the engine's default.
func networksText(m *path.MTU) string {
	var parts []string
	for _, n := range m.Networks {
		if n.MTU > 0 {
			parts = append(parts, fmt.Sprintf("network %s has com.docker.network.driver.mtu=%d", n.Network, n.MTU))
		}
	}
	return strings.Join(parts, "; ")
}

func senderRouteText(m *path.MTU) string {
	var parts []string
	if m.CachedMTU > 0 {
		parts = append(parts, fmt.Sprintf("the sender has learned an MTU of %d for this path, for %d s more", m.CachedMTU, m.CachedSeconds))
	}
	if m.RouteMTU > 0 {
		parts = append(parts, fmt.Sprintf("the sender's route says MTU %d", m.RouteMTU))
	}
	if m.RouteAdvMSS > 0 {
		parts = append(parts, fmt.Sprintf("advmss %d", m.RouteAdvMSS))
	}
	return strings.Join(parts, "; ")
}

// gsoText says where the kernel hands on single packets only.
func gsoText(m *path.MTU) string {
	for i := range m.Links {
		if l := &m.Links[i]; l.GSOMaxSegments == 1 {
			return fmt.Sprintf("%s in %s takes single packets only (gso_max_segs 1): TCP costs more there, nothing is lost by it",
				l.Device, cmp.Or(l.Container, l.Namespace))
		}
	}
	return ""
}
