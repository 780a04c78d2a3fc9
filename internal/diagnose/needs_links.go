package diagnose

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// LinkWant lists which facts about devices, bridges and routes would settle the cause.
type LinkWant struct {
	// Way lists the namespaces that packets of the flow were seen in: the devices and neighbours of
	// each are wanted, and the devices at the other ends of theirs.
	Way []uint32
	// Devices whose attached programs are wanted. Of a veth device those of its other end are wanted
	// as well: that is where a packet vanishes.
	Devices []DeviceQuery
	// Queues and Tables list namespaces whose queueing disciplines and routes are wanted.
	Queues, Tables []uint32
	// Owners lists addresses whose owners are wanted, whichever namespace they are in.
	Owners []netip.Addr
	// Tunnels asks for the VXLAN devices of all overlays.
	Tunnels bool
	// OwnerCounters asks for the counters' growth in the namespaces that have one of Owners.
	OwnerCounters bool
	// OwnerRules asks for the rules of the namespaces that have one of Owners.
	OwnerRules bool
	// IPsec lists namespaces whose policies and states are wanted.
	IPsec []uint32
}

// DeviceQuery names a device by its index, or by its name if the index is not known.
type DeviceQuery struct {
	NetNS, Ifindex uint32
	Name           string
}

// forWarnings asks for what explains the drops of a flow that was delivered all the same.
func (w *want) forWarnings(a *analysis) {
	for _, p := range a.p.Packets {
		if p == nil || p.ICMPError {
			continue
		}
		if e := a.endOf(p, a.phaseOf(p)); e.drop != nil && a.mattered(&e) {
			w.forEnd(a, &e)
		}
	}
	w.owners(a.p.Target.Addr())
}

// forLinks asks for the devices, neighbours and routes of the way that the flow's packets took.
func (w *want) forLinks(a *analysis, e *end) {
	for _, p := range a.p.Packets {
		if p == nil {
			continue
		}
		for i := range p.Hops {
			w.Way = append(w.Way, p.Hops[i].NetNS)
		}
	}
	w.owners(a.p.Target.Addr())
	h := e.at()
	if h == nil || h.NetNS == 0 {
		return
	}
	w.Tables = append(w.Tables, h.NetNS)
	if e.pkt != nil && e.direction() == path.Request {
		for i := range e.pkt.Hops {
			if x := &e.pkt.Hops[i]; isRouted(e.pkt, i) && !isSent(x) {
				w.Tables = append(w.Tables, x.NetNS) // was it sent the right way?
			}
		}
	}
	w.Queues = append(w.Queues, h.NetNS)
	for _, x := range []*path.Hop{e.drop, e.last} {
		if x != nil && x.NetNS != 0 && (x.Ifindex != 0 || x.Device != "") {
			w.Devices = append(w.Devices, DeviceQuery{NetNS: x.NetNS, Ifindex: x.Ifindex, Name: x.Device})
		}
	}
	if h.DstAddr.IsValid() {
		w.owners(h.DstAddr.Addr())
		w.owners(a.nextHop(e, h))
	}
	if s := a.sentFrom(e, h); s != nil && h == e.last { // the frame's MAC address is that of the next hop from there
		w.owners(a.nextHop(e, s))
		if s.DstAddr.IsValid() {
			w.Routes = append(w.Routes, RouteQuery{NetNS: s.NetNS, Dst: s.DstAddr.Addr()})
		}
	}
	w.linkSysctls(a, e)
	w.tunnel(e, h)
}

// linkSysctls asks for the settings that decide whether a source is accepted, whether loopback
// addresses are routed and whether bridged frames pass the firewall.
func (w *want) linkSysctls(a *analysis, e *end) {
	h := e.at()
	ask := func(ns uint32, names ...string) {
		for _, n := range names {
			if !strings.Contains(n, "..") { // the device is not known
				w.Sysctls = append(w.Sysctls, SysctlQuery{NetNS: ns, Name: n})
			}
		}
	}
	if e.drop != nil && isInputRoute(e.drop) {
		dev := e.drop.Device
		ask(h.NetNS, "net.ipv4.conf."+dev+".rp_filter", "net.ipv4.conf.all.rp_filter",
			"net.ipv4.conf."+dev+".route_localnet", "net.ipv4.conf.all.route_localnet")
		if src := e.drop.SrcAddr.Addr(); src.IsValid() {
			w.Routes = append(w.Routes, RouteQuery{NetNS: h.NetNS, Dst: src})
		}
	}
	if r := a.looped(e); r != nil {
		ask(r.NetNS, "net.ipv4.conf."+string(a.routedTo(e, r))+".route_localnet", "net.ipv4.conf.all.route_localnet")
	}
	for _, t := range a.p.NAT {
		if t.Kind == path.ActionDNAT && len(a.packets(path.Reply)) > 0 {
			ask(t.NetNS, bridgeNetfilter(a.p.Target.Addr()))
		}
	}
}

func (w *want) owners(addr netip.Addr) {
	if addr.IsValid() && !addr.IsUnspecified() && !addr.IsLoopback() {
		w.Owners = append(w.Owners, addr.Unmap())
	}
}

// sort brings each list into order, with each item once.
func (w *LinkWant) sort() {
	spaces := func(list []uint32) []uint32 {
		list = slices.DeleteFunc(list, func(ns uint32) bool { return ns == 0 })
		slices.Sort(list)
		return slices.Compact(list)
	}
	w.Way, w.Queues, w.Tables, w.IPsec = spaces(w.Way), spaces(w.Queues), spaces(w.Tables), spaces(w.IPsec)
	slices.SortFunc(w.Owners, netip.Addr.Compare)
	w.Owners = slices.Compact(w.Owners)
	slices.SortFunc(w.Devices, func(x, y DeviceQuery) int {
		return cmp.Or(cmp.Compare(x.NetNS, y.NetNS), cmp.Compare(x.Ifindex, y.Ifindex), cmp.Compare(x.Name, y.Name))
	})
	w.Devices = slices.Compact(w.Devices)
}
