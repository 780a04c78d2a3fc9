package render

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// place is where a hop was seen; comparable.
type place struct {
	netns uint32
	names string // the host; with namespace and container where the inode is unknown
}

// placeOf returns the place of a hop; known is false if the hop does not say.
func placeOf(h *path.Hop) (pl place, known bool) {
	if h.NetNS != 0 {
		return place{netns: h.NetNS, names: h.Host}, true
	}
	if h.Namespace == "" && h.Container == "" {
		return place{}, false
	}
	return place{names: h.Host + "\x00" + h.Namespace + "\x00" + h.Container}, true
}

// placeText names the place of a hop. With several hosts in the path each place says on which.
func placeText(h *path.Hop, severalHosts bool) string {
	host := severalHosts && h.Host != ""
	var text string
	switch {
	case h.Container != "":
		text = "container " + h.Container + composed(h)
	case h.Namespace == "host" || h.Namespace != "" && h.Namespace == h.Host:
		if host {
			return "host " + h.Host
		}
		return "host"
	case h.Network != "" && isKept(h.Namespace):
		return h.Namespace
	case h.Namespace != "":
		text = "netns " + h.Namespace
	case h.NetNS != 0:
		text = "netns " + strconv.FormatUint(uint64(h.NetNS), 10)
	default:
		return "unknown namespace"
	}
	if h.Container == "" && h.Network != "" {
		text += " (network " + shorten(h.Network, maxName) + ")"
	}
	if host {
		text += " on " + h.Host
	}
	return text
}

// isKept reports whether a name is that of a namespace that Docker keeps for an overlay network.
func isKept(name string) bool {
	return strings.HasPrefix(name, "overlay ") || strings.HasPrefix(name, "load balancer of ") || strings.HasPrefix(name, "routing mesh")
}

// placeName is the short name of a place, for "received from X".
func placeName(h *path.Hop) string {
	return shorten(cmp.Or(h.Container, h.Namespace, h.Host, "elsewhere"), maxName)
}

// walker compresses the hops of one packet to steps.
type walker struct {
	p            *path.Path
	pkt          *path.Packet
	severalHosts bool
	groups       []group
	at           place
	known        bool      // at is valid
	last         *path.Hop // the hop before, of those that were looked at
	outer        *path.Outer
	delivered    bool       // the delivery in this namespace has been shown
	refusedAt    path.Stage // stage of the last rejection or reset

	// The chain of devices since the packet entered the namespace.
	chain   []string
	in, out *path.Hop // last device received from and transmitted on, in this namespace
	started bool      // the packet's first step was made
	// Indices into the steps of the last group; -1 if there is none.
	sentStep, inStep, outStep int
}

// walk returns the steps of one packet.
func walk(p *path.Path, pkt *path.Packet, severalHosts bool) []group {
	w := &walker{p: p, pkt: pkt, severalHosts: severalHosts}
	w.leavePlace()
	for _, h := range w.hops() {
		w.hop(h)
	}
	if w.last != nil && w.last.Action == path.ActionQueue {
		w.add(w.last, stepNote, w.last.Device, "queued, not seen to be transmitted")
	}
	if w.last != nil && pkt.OmittedHops > 0 {
		w.add(w.last, stepNote, "", path.FormatCount(pkt.OmittedHops, "more observation")+" of this packet not kept")
	}
	return w.groups
}

// hops returns the hops that matter, without the queueing of what is transmitted at once.
func (w *walker) hops() []*path.Hop {
	var out []*path.Hop
	for i := range w.pkt.Hops {
		h := &w.pkt.Hops[i]
		if h.Copy || h.Noise {
			continue
		}
		if n := len(out); n > 0 && h.Action == path.ActionTransmit &&
			out[n-1].Action == path.ActionQueue && sameDevice(h, out[n-1]) {
			out[n-1] = h
			continue
		}
		out = append(out, h)
	}
	return out
}

// sameDevice reports whether two hops are of one device.
func sameDevice(a, b *path.Hop) bool {
	return a.NetNS == b.NetNS && a.Host == b.Host && a.Device == b.Device
}

// hop takes the next hop.
func (w *walker) hop(h *path.Hop) {
	w.enterPlace(h)
	w.tunnel(h)
	if !w.started {
		w.start(h)
	}
	switch {
	case w.upperReceived(h):
	case h.Action == path.ActionDrop:
		w.drop(h)
	case h.Action == path.ActionReject, h.Action == path.ActionReset:
		w.refusedAt = h.Stage
		w.add(h, stepRefuse, cmp.Or(h.Device, h.InDevice, h.OutDevice), refuseText(h))
	case h.Action == path.ActionDNAT, h.Action == path.ActionSNAT, h.Action == path.ActionMasquerade:
		i := w.add(h, stepNAT, "", natText(w.p, h))
		if r := natRule(w.p, h); r != nil {
			w.steps()[i].Note = shortRule(r)
		}
	case h.Action == path.ActionFragment:
		w.add(h, stepPass, h.Device, "fragmented, "+path.FormatCount(h.Length, "byte"))
	case h.Action == path.ActionDeliver:
		w.deliver(h)
	case h.Error != "":
		w.add(h, stepDrop, h.Device, routeText(w.pkt, h))
	case h.Stage == path.StageDevice, h.Stage == path.StageQdisc:
		w.device(h)
	}
	w.last = h
}

// enterPlace opens a new group if h is elsewhere. A hop that does not say where it is stays here.
func (w *walker) enterPlace(h *path.Hop) {
	pl, known := placeOf(h)
	if len(w.groups) > 0 && (!known || w.known && pl == w.at) {
		return
	}
	w.leavePlace()
	w.at, w.known = pl, known
	w.groups = append(w.groups, group{
		Direction: w.pkt.Direction, Where: placeText(h, w.severalHosts),
	})
}

// leavePlace forgets what belongs to one namespace.
func (w *walker) leavePlace() {
	w.chain, w.in, w.out, w.delivered = nil, nil, nil, false
	w.sentStep, w.inStep, w.outStep = -1, -1, -1
}

// add appends a step to the current group and returns its index.
func (w *walker) add(h *path.Hop, kind stepKind, device, text string) int {
	g := &w.groups[len(w.groups)-1]
	g.Steps = append(g.Steps, step{
		OffsetNS: h.TimeNS, Device: device, Text: text, Kind: kind, Packet: w.pkt.ID,
	})
	return len(g.Steps) - 1
}

// steps returns the steps of the current group.
func (w *walker) steps() []step { return w.groups[len(w.groups)-1].Steps }

// start makes the packet's first step: it is sent here, or it arrives from out of sight. A look-up
// before it is not the packet yet.
func (w *walker) start(h *path.Hop) {
	if h.Stage == path.StageRoute || h.Outer != nil {
		w.started = h.Outer != nil
		return
	}
	w.started = true
	if h.Stage == path.StageDevice && h.Action == path.ActionReceive {
		w.chain, w.in = []string{deviceText(h)}, h
		w.add(h, stepPass, h.Device, arrivedText(w.p, w.pkt, h))
		return
	}
	// NAT before the first device still belongs to what the sender asked for.
	sent := *h
	sent.Src, sent.Dst = cmp.Or(h.PrevSrc, h.Src), cmp.Or(h.PrevDst, h.Dst)
	w.sentStep = w.add(h, stepPass, "", sentText(w.p, w.pkt, &sent))
}

// tunnel notices where an outer header appears or vanishes, whether a hook reported that or not.
func (w *walker) tunnel(h *path.Hop) {
	had := w.outer
	switch {
	case h.Stage == path.StageXfrm && h.SPI != 0:
		w.add(h, stepPass, h.Device, ipsecText(h))
	case h.Action == path.ActionEncapsulate:
		w.add(h, stepPass, h.Device, tunnelText(h.Outer, h.Stage, false))
	case h.Action == path.ActionDecapsulate:
		w.add(h, stepPass, h.Device, tunnelText(firstOuter(h.Outer, had), h.Stage, true))
		w.outer = nil
		w.inStep = -1
		return
	case h.Outer != nil && had == nil && !w.encapsulated():
		w.add(h, stepPass, "", tunnelText(h.Outer, path.StageVXLAN, false))
	case h.Outer == nil && had != nil:
		w.add(h, stepPass, "", tunnelText(had, path.StageVXLAN, true))
	}
	w.outer = h.Outer
}

// encapsulated reports whether the hop before was the report of an encapsulation.
func (w *walker) encapsulated() bool {
	return w.last != nil && w.last.Action == path.ActionEncapsulate
}

// firstOuter returns a, or b if a is nil.
func firstOuter(a, b *path.Outer) *path.Outer {
	if a != nil {
		return a
	}
	return b
}

// deliver shows the first sign that a socket of this namespace took the packet; that the
// application read it later is detail.
func (w *walker) deliver(h *path.Hop) {
	if w.delivered {
		return
	}
	w.delivered = true
	text := deliverText(w.p, w.pkt)
	kind := stepDeliver
	if text == refusedText {
		kind = stepRefuse
	}
	w.add(h, kind, "", text)
}

// drop shows where the packet was discarded. After a rejection or a reset at the same stage that
// goes without saying.
func (w *walker) drop(h *path.Hop) {
	if s := w.steps(); len(s) > 0 && s[len(s)-1].Kind == stepRefuse && w.refusedAt == h.Stage {
		return
	}
	w.add(h, stepDrop, cmp.Or(h.Device, h.InDevice, h.OutDevice), dropText(h))
}

// composed tells the Compose project and service of a container, where the name does not say it.
func composed(h *path.Hop) string {
	if h.Service == "" || h.Project == "" {
		return ""
	}
	return " (" + h.Project + "/" + h.Service + ")"
}
