package render

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/internal/pcapng"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// PCAPNG writes every observation of a flow's packets as a packet of a capture file, for Wireshark and
// tshark. It is not safe for concurrent use.
type PCAPNG struct {
	w     *pcapng.Writer
	all   bool
	limit int // bytes of a packet, 0 for all there are
	meta  path.Meta
	ids   map[placeKey]uint32
	known map[placeKey]*path.Hop // a hop that tells what the device is; the keys have no link
	named map[netip.Addr]bool
	last  uint64 // time of the latest packet, ns since 1970

	packets, flows int
}

// NewPCAPNG returns a PCAPNG that writes to w; all writes every packet, as Packets selects them. Of each no
// more than limit bytes are written; 0 means what was captured.
func NewPCAPNG(w io.Writer, all bool, limit int) *PCAPNG {
	return &PCAPNG{w: pcapng.NewWriter(w), all: all, limit: limit}
}

// placeKey tells interfaces apart. A device whose packets are seen with and without their link-layer
// header is two of them: the bytes of an interface all begin with the same.
type placeKey struct {
	host      string
	netns     uint32
	namespace string
	device    string
	link      pcapng.LinkType
}

// Meta begins a section with the description of the trace; it belongs before its flows.
func (c *PCAPNG) Meta(m path.Meta) error {
	c.packets, c.flows = 0, 0
	c.meta, c.ids, c.named, c.known = m, map[placeKey]uint32{}, map[netip.Addr]bool{}, map[placeKey]*path.Hop{}
	comment := "to " + m.Target
	if m.Source != "" {
		comment = "from " + m.Source + " " + comment
	}
	return c.w.Section(pcapng.Section{
		OS: "Linux " + m.Kernel, Application: "pathtrace " + m.Version, Comment: "pathtrace " + comment,
	})
}

// Flow writes the observations of one flow in the order of time. The verdict is a comment on the last.
func (c *PCAPNG) Flow(p *path.Path, v path.Verdict) error {
	list := sightings(p, c.all)
	if len(list) == 0 {
		return nil
	}
	c.flows++
	list[len(list)-1].notes = append(list[len(list)-1].notes, verdictComment(v))
	c.learn(list)
	if err := c.names(list); err != nil {
		return err
	}
	for i := range list {
		if err := c.sighting(p, &list[i]); err != nil {
			return err
		}
	}
	return nil
}

// Summary says how much was written.
func (c *PCAPNG) Summary() string {
	if c.packets == 0 {
		return "no packet was observed: the capture is empty"
	}
	return "wrote " + path.FormatCount(c.packets, "observation") + " of " + path.FormatCount(c.flows, "flow")
}

// Stats ends a section: what was lost is said with the first interface, for all of them.
func (c *PCAPNG) Stats(s path.Stats) error {
	if s.LostEvents == 0 || len(c.ids) == 0 {
		return nil
	}
	return c.w.WriteStatistics(pcapng.Statistics{
		Time: c.last, Dropped: s.LostEvents,
		Comment: path.FormatCount(s.LostEvents, "observation") + " lost, on all interfaces together: the trace is not complete",
	})
}

// verdictComment says what became of the flow.
func verdictComment(v path.Verdict) string {
	text := fmt.Sprintf("flow %d: %s", v.Flow, cmp.Or(v.Summary, string(v.Outcome)))
	if v.Cause != "" {
		text += " [" + string(v.Cause) + "]"
	}
	return clean(text)
}

// sighting writes one packet.
func (c *PCAPNG) sighting(p *path.Path, s *sighting) error {
	data := s.data(p)
	if c.limit > 0 && len(data.bytes) > c.limit {
		data.length = max(data.length, uint32(len(data.bytes)))
		data.bytes = data.bytes[:c.limit]
	}
	id, err := c.place(s.hop, data.link)
	if err != nil {
		return err
	}
	comments := []string{s.comment(p)}
	if data.note != "" {
		comments = append(comments, data.note)
	}
	epoch := c.meta.Epoch
	if p.Epoch != 0 {
		epoch = p.Epoch
	}
	at := uint64(epoch) + s.hop.Time
	c.packets++
	c.last = max(c.last, at)
	return c.w.WritePacket(pcapng.Packet{
		Interface: id, Time: at, Bytes: data.bytes, Length: data.length,
		Direction: sideOf(s.hop), ID: uint64(p.Flow)<<32 | uint64(uint32(s.packet.ID)),
		Comments: append(comments, s.notes...),
	})
}

// learn notes what the devices are: a netfilter hook only names the one that it was given.
func (c *PCAPNG) learn(list []sighting) {
	for i := range list {
		h := list[i].hop
		if key := (placeKey{h.Host, h.NetNS, h.Namespace, h.Device, 0}); h.DeviceKind != "" && c.known[key] == nil {
			c.known[key] = h
		}
	}
}

// place returns the number of the interface on which a hop was, which is added if it is new.
func (c *PCAPNG) place(h *path.Hop, link pcapng.LinkType) (uint32, error) {
	device := deviceColumn(h)
	key := placeKey{h.Host, h.NetNS, h.Namespace, device, link}
	if id, ok := c.ids[key]; ok {
		return id, nil
	}
	if known := c.known[placeKey{h.Host, h.NetNS, h.Namespace, device, 0}]; known != nil {
		h = known
	}
	id, err := c.w.AddInterface(pcapng.Interface{
		Name: clean(namespaceText(h) + "/" + cmp.Or(device, "-")), Description: clean(interfaceText(h, device, link)),
		OS: "Linux " + c.meta.Kernel, Link: link, Snaplen: uint32(c.limit),
	})
	c.ids[key] = id
	return id, err
}

// interfaceText describes an interface: where the device is, what it is of, and what its packets begin with.
func interfaceText(h *path.Hop, device string, link pcapng.LinkType) string {
	var parts []string
	add := func(what, name string) {
		if name != "" {
			parts = append(parts, what+" "+name)
		}
	}
	add("host", h.Host)
	add("container", h.Container)
	if h.Namespace != h.Container {
		add("namespace", h.Namespace)
	}
	if h.NetNS != 0 {
		add("netns", strconv.FormatUint(uint64(h.NetNS), 10))
	}
	add("network", h.Network)
	switch {
	case device == "":
		parts = append(parts, "no device")
	case device == h.Device && h.DeviceKind != "":
		add(h.DeviceKind, "device "+device)
	default:
		add("device", device)
	}
	if link == pcapng.LinkRaw {
		parts = append(parts, "from the IP header on")
	}
	return strings.Join(parts, ", ")
}

// sideOf tells whether the packet came in by its interface or goes out.
func sideOf(h *path.Hop) pcapng.Direction {
	switch h.Action {
	case path.ActionReceive, path.ActionDeliver:
		return pcapng.Inbound
	case path.ActionQueue, path.ActionTransmit, path.ActionSend:
		return pcapng.Outbound
	}
	switch h.Stage {
	case path.StagePrerouting, path.StageInput, path.StageBridgePrerouting, path.StageBridgeInput:
		return pcapng.Inbound
	case path.StageOutput, path.StagePostrouting, path.StageBridgeOutput, path.StageBridgePostrouting, path.StageQdisc:
		return pcapng.Outbound
	}
	return 0
}

// names writes what the addresses of the hops are called, each once in a section.
func (c *PCAPNG) names(list []sighting) error {
	var out []pcapng.Name
	add := func(a netip.Addr, name string) {
		if a = a.Unmap(); name != "" && a.IsValid() && !a.IsLoopback() && !c.named[a] {
			c.named[a] = true
			out = append(out, pcapng.Name{Addr: a, Name: clean(name)})
		}
	}
	for _, s := range list {
		add(s.hop.SrcAddr.Addr(), s.hop.SrcName)
		add(s.hop.DstAddr.Addr(), s.hop.DstName)
	}
	if len(out) == 0 {
		return nil
	}
	return c.w.WriteNames(out)
}

// sightings returns what was seen of a flow's packets in the order of time. Hops of one event are one.
func sightings(p *path.Path, all bool) []sighting {
	var out []sighting
	for _, pkt := range shownPackets(p, all) {
		first := len(out)
		var pending []string // what has no packet of its own and precedes the first that has
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			if h.Noise && !all {
				continue
			}
			if n := len(out); n > first && out[n-1].sameEvent(h) {
				out[n-1].more = append(out[n-1].more, h)
				continue
			}
			if isOfOther(pkt, h) {
				note := hookText(h) + colon(hopRest(p, pkt, nil, h, true))
				if n := len(out); n > first {
					out[n-1].notes = append(out[n-1].notes, note)
				} else {
					pending = append(pending, note)
				}
				continue
			}
			out = append(out, sighting{packet: pkt, hop: h, index: i, notes: pending})
			pending = nil
		}
	}
	slices.SortStableFunc(out, func(a, b sighting) int { return cmp.Compare(a.hop.Time, b.hop.Time) })
	return out
}

// isOfOther reports whether the hop is about the answer to the packet: a look-up of the way back.
func isOfOther(pkt *path.Packet, h *path.Hop) bool {
	return h.Stage == path.StageRoute && h.Direction != pkt.Direction && h.Capture == nil
}
