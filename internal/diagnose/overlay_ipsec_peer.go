package diagnose

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// isEncrypted reports whether a packet was last seen on its way into IPsec: what comes out of it has
// neither its ports nor its inner headers, until it is decrypted.
func isEncrypted(h *path.Hop) bool {
	return h != nil && h.Stage == path.StageXfrm && h.Action == path.ActionEncapsulate && h.SPI != 0
}

// refusals are the counters of /proc/net/xfrm_stat that grow where a packet cannot be decrypted
// (Documentation/networking/xfrm_proc.rst), and what each means.
func refusals() []struct{ counter, meaning string } {
	return []struct{ counter, meaning string }{
		{"XfrmInNoStates", "it has no state (keys) for the SPI"},
		{"XfrmInStateProtoError", "its keys for the SPI are others"},
		{"XfrmInStateModeError", "its state for the SPI is for another mode"},
		{"XfrmInStateSeqError", "the sequence number was used before, or is too old"},
		{"XfrmInStateExpired", "its state for the SPI has expired"},
		{"XfrmInStateMismatch", "its state for the SPI is for other packets"},
		{"XfrmInStateInvalid", "its state for the SPI is not valid"},
		{"XfrmInTmplMismatch", "no policy there fits how the packet was encrypted"},
		{"XfrmInNoPols", "no policy there allows the packet"},
		{"XfrmInPolBlock", "a policy there blocks the packet"},
	}
}

// explainDecryption: the packet of an encrypted overlay was encrypted and sent, and the tunnel endpoint
// could not decrypt it. Without a view of that host its counters are not known, and loss is as likely.
func explainDecryption(a *analysis, e *end) *finding {
	h := e.last
	vtep, ok := vtepOf(h)
	if !ok || !isEncrypted(h) || e.drop != nil {
		return nil
	}
	for i := range a.f.Owners {
		o := &a.f.Owners[i]
		if o.Addr != vtep.Addr() || o.NetNS == h.NetNS {
			continue
		}
		counters := a.space(o.NetNS).Counters
		for _, r := range refusals() {
			if n := counters[r.counter]; n > 0 {
				return a.refused(e, o, r.meaning, fmt.Sprintf("%s of %s grew by %d during the flow", r.counter, a.spaceName(o.NetNS), n))
			}
		}
	}
	return nil
}

func (a *analysis) refused(e *end, o *Owner, why, fact string) *finding {
	h, there := e.last, a.spaceName(o.NetNS)
	f := &finding{cause: path.CauseEncryptionFailed, outcome: path.Lost, where: whereOf(h, e.direction())}
	f.says = fmt.Sprintf("%s was encrypted for tunnel endpoint %s (ESP, SPI 0x%08x), and %s could not decrypt it: %s",
		a.subject(e), o.Addr, h.SPI, there, why)
	f.evidence = []string{fact}
	f.remedy = []string{
		a.command(h, "ip xfrm state list nokeys"), a.commandIn(o.NetNS, "", "ip xfrm state list nokeys"),
	}
	if s, c := a.overlay(h.DstAddr.Addr()), a.far(e).Container; s != nil && c != "" {
		f.remedy = append(f.remedy, fmt.Sprintf("docker network disconnect %s %s; docker network connect %[1]s %[2]s  # has the "+
			"engine agree on keys anew; cuts the container's connections", quote(s.Network), quote(c)))
	}
	return f
}
