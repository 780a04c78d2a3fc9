package diagnose

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainOverlayPeer: the packet left for the tunnel's other end, and nothing is known of it since.
func explainOverlayPeer(a *analysis, e *end) *finding {
	h := e.last
	vtep, ok := vtepOf(h)
	if !ok || e.held != "" || e.reset != nil || e.rst != nil || a.icmpOf(e.icmp) == icmpTooBig {
		return nil
	}
	to := vtep.Addr()
	if slices.ContainsFunc(a.f.Owners, func(o Owner) bool { return o.Addr == to && o.NetNS == h.NetNS }) {
		return nil // it got there
	}
	f := &finding{cause: path.CauseOverlayPeerUnreachable, where: whereOf(h, e.direction())}
	switch {
	case e.drop != nil && !isNeighbourDrop(e.drop):
		return nil
	case e.drop != nil || a.waitsForMAC(e):
		if a.nextHop(e, h) != to {
			return nil // the way to the peer fails, not the peer
		}
		f.where.Stage = path.StageNeighbour
		f.says = fmt.Sprintf("%s was encapsulated in VXLAN %d for %s, and nobody answers %s for that address%s",
			a.subject(e), h.Outer.VNI, to, question(to), a.outDevice(e, h).on())
		if n := a.neighbour(h.NetNS, to); n != nil {
			f.evidence = append(f.evidence, fmt.Sprintf("the neighbour entry of %s in %s is %s", to, a.place(h), n.State))
		}
	default:
		f.outcome = path.Lost
		through := ""
		if h.Action == path.ActionTransmit {
			through = " through " + h.Device + " of " + a.place(h)
		}
		f.says = fmt.Sprintf("%s was encapsulated in VXLAN %d and sent to tunnel endpoint %s%s, and nothing came back%s",
			a.subject(e), h.Outer.VNI, to, through, a.within())
	}
	if isEncrypted(h) {
		f.evidence = append(f.evidence, fmt.Sprintf("it was encrypted (ESP, SPI 0x%08x): whether %s could decrypt it was not seen", h.SPI, to))
	}
	if e.icmp != nil {
		f.evidence = append(f.evidence, fmt.Sprintf("%s answered the VXLAN packet with an ICMP error (%s)", a.place(e.icmp),
			a.icmpOf(e.icmp).meaning()))
	}
	f.evidence = append(f.evidence, a.peerFacts(h, to)...)
	f.remedy = a.askPeer(e, h, vtep)
	return f
}

// askPeer are the commands that settle what became of the packet; most have to be given on the other host.
func (a *analysis) askPeer(e *end, h *path.Hop, vtep netip.AddrPort) []string {
	to := vtep.Addr()
	if isEncrypted(e.last) {
		return []string{
			a.inUnderlay(e, h, "ping -c 3 "+to.String()),
			fmt.Sprintf("tcpdump -ni any esp and host %s  # on %s: do the packets arrive?", hostOf(h.Outer.Src), to),
			fmt.Sprintf("cat /proc/net/xfrm_stat; ip xfrm state list nokeys  # on %s: does a counter grow? is there SPI 0x%08x?", to, e.last.SPI),
			"permit IP protocol 50 (ESP) between the hosts",
		}
	}
	return []string{
		a.inUnderlay(e, h, "ping -c 3 "+to.String()),
		fmt.Sprintf("tcpdump -ni any udp port %d and host %s  # on %s: do the packets arrive?", vtep.Port(), hostOf(h.Outer.Src), to),
		fmt.Sprintf("pathtrace --to %s  # on %s, while it is asked again: where does it end there?", cmp.Or(address(h.DstAddr), "TARGET"), to),
		fmt.Sprintf("permit UDP port %d between the hosts", vtep.Port()),
	}
}

// peerFacts says what is known of the tunnel endpoint.
func (a *analysis) peerFacts(h *path.Hop, to netip.Addr) []string {
	if n := a.overlay(h.DstAddr.Addr()); n != nil && slices.Contains(n.Peers, to) {
		return []string{fmt.Sprintf("%s takes part in overlay %s, as this host was told", to, n.Network)}
	}
	return nil
}

func joinAddrs(list []netip.Addr) string {
	words := make([]string, len(list))
	for i, addr := range list {
		words[i] = addr.String()
	}
	return strings.Join(words, ", ")
}
