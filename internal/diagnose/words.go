package diagnose

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// asker names the source for a sentence.
func (a *analysis) asker() string {
	if name := a.askerName(); name != "" {
		return name
	}
	if a.p.Client.IsValid() {
		return a.p.Client.Addr().String()
	}
	return "the asker"
}

// askerName is the source's name, "" if it has none.
func (a *analysis) askerName() string {
	if a.f.Source.Label != "" {
		return a.f.Source.Label
	}
	if reqs := a.packets(path.Request); len(reqs) > 0 {
		if h := firstHop(reqs[0]); h != nil && h.SrcName != "" {
			return bare(h.SrcName, h.SrcAddr)
		}
	}
	return ""
}

// target names the target for a sentence.
func (a *analysis) target() string {
	if a.f.Target.Label != "" {
		return a.f.Target.Label
	}
	for _, p := range a.packets(path.Request) {
		if h := lastHop(p); h != nil && h.DstName != "" {
			return bare(h.DstName, h.DstAddr)
		}
	}
	if a.p.Target.IsValid() {
		return a.p.Target.Addr().String()
	}
	if a.p.Server.IsValid() {
		return a.p.Server.Addr().String()
	}
	return "the target"
}

// bare strips the port of addr from a name such as "web:80".
func bare(name string, addr netip.AddrPort) string {
	return strings.TrimSuffix(name, fmt.Sprintf(":%d", addr.Port()))
}

// subject names the packet that ended.
func (a *analysis) subject(e *end) string {
	who := a.asker()
	if e.direction() == path.Reply {
		who = a.target()
	}
	switch {
	case e.phase == phaseAck:
		return "the last packet of the TCP handshake from " + who
	case e.phase == phaseData && a.p.Proto == path.TCP:
		return "a data packet from " + who
	case e.direction() == path.Reply:
		return "the reply from " + who
	}
	return "the request from " + who
}

// place names the namespace of an observation.
func (a *analysis) place(h *path.Hop) string {
	if h == nil {
		return "an unknown place"
	}
	switch n := a.space(h.NetNS); {
	case h.Container != "":
		return "container " + h.Container
	case h.Namespace != "":
		return h.Namespace
	case n.Container != "":
		return "container " + n.Container
	case n.Name != "":
		return n.Name
	case h.NetNS != 0:
		return fmt.Sprintf("namespace %d", h.NetNS)
	case h.Host != "":
		return h.Host
	}
	return "an unnamed namespace"
}

// spaceName names a namespace by its inode number.
func (a *analysis) spaceName(ns uint32) string {
	for _, p := range a.p.Packets {
		if p == nil {
			continue
		}
		for i := range p.Hops {
			if h := &p.Hops[i]; h.NetNS == ns && (h.Container != "" || h.Namespace != "") {
				return a.place(h)
			}
		}
	}
	return a.place(&path.Hop{NetNS: ns})
}

// onDevice says " on eth0", or "" if the device is not known.
func onDevice(h *path.Hop) string {
	if h == nil || h.Device == "" {
		return ""
	}
	return " on " + h.Device
}

// hasReason reports whether the kernel says why it discarded a packet. Before Linux 5.17 it never does,
// later ones do at most places.
func hasReason(h *path.Hop) bool { return h.Reason != "" && h.Reason != "NOT_SPECIFIED" }

// byFunction says " by nft_do_chain (NETFILTER_DROP)", as far as it is known.
func byFunction(h *path.Hop) string {
	s := ""
	if h.Function != "" {
		s = " by " + h.Function
	}
	if h.Reason != "" {
		s += " (" + h.Reason + ")"
	}
	return s
}

// hookName returns a netfilter hook as iptables users write it: "FORWARD".
func hookName(s path.Stage) string {
	name := string(s)
	return strings.ToUpper(name[strings.IndexByte(name, '/')+1:])
}

// span writes a duration as people read it: 41 µs, 1.2 ms, 2 s.
func span(d time.Duration) string {
	const step = 100 * time.Millisecond
	if d >= step && d%step == 0 { // somebody's setting, not a measurement
		return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
	}
	return path.FormatDuration(d.Nanoseconds())
}

// were returns the verb that fits a count.
func were(n uint64) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// hopTime returns the time of an observation, ns; 0 if h is nil.
func hopTime(h *path.Hop) uint64 {
	switch {
	case h == nil:
		return 0
	case h.Time == 0 && h.TimeNS > 0:
		return uint64(h.TimeNS)
	}
	return h.Time
}
