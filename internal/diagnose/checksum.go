package diagnose

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainChecksum: a checksum of the packet is wrong.
func explainChecksum(a *analysis, e *end) *finding {
	h := e.drop
	if h == nil {
		return nil
	}
	which := ""
	switch h.Reason {
	case "IP_CSUM":
		which = "IP header checksum"
	case "TCP_CSUM":
		which = "TCP checksum"
	case "UDP_CSUM":
		which = "UDP checksum"
	case "ICMP_CSUM":
		which = "ICMP checksum"
	case "SKB_CSUM":
		which = "checksum"
	case "", "NOT_SPECIFIED":
		if which = a.countedChecksum(h); which == "" {
			return nil
		}
	default:
		return nil
	}
	f := &finding{cause: path.CauseChecksumInvalid, where: whereOf(h, e.direction()),
		says: fmt.Sprintf("%s was dropped in %s%s: its %s is wrong", a.subject(e), a.place(h), onDevice(h), which)}
	if s := firstHop(e.pkt); s != nil && s.Device != "" {
		f.remedy = []string{a.command(s, "ethtool -K "+quote(s.Device)+" tx off") +
			"  # then the kernel makes the checksums, not the device; costs processor time"}
	}
	f.remedy = append(f.remedy, a.command(h, "nstat -az IpInHdrErrors TcpInCsumErrors UdpInCsumErrors"))
	return f
}

// countedChecksum tells for kernels without drop reasons (before 5.17) that the counter of the
// protocol that dropped the packet grew.
func (a *analysis) countedChecksum(h *path.Hop) string {
	counter, which := "", ""
	switch {
	case h.Stage == path.StageTCP && a.p.Proto == path.TCP:
		counter, which = "TcpInCsumErrors", "TCP checksum"
	case h.Stage == path.StageUDP && a.p.Proto == path.UDP:
		counter, which = "UdpInCsumErrors", "UDP checksum"
	}
	if a.grew(h.NetNS, counter) == 0 {
		return ""
	}
	return which
}
