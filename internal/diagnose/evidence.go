package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// evidence lists what was observed, in the order of the packet's way: where it started, what it was
// translated to, where it ended, what the explainer saw, what came back.
func (a *analysis) evidence(e *end, f finding) []string {
	var out []string
	add := func(format string, args ...any) {
		s := oneLine(fmt.Sprintf(format, args...))
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if h := a.origin(); h != nil {
		ends := ""
		if h.Src != "" && h.Dst != "" {
			ends = ": " + h.Src + " to " + h.Dst
		}
		add("the request was first seen in %s%s%s", a.place(h), onDevice(h), ends)
	}
	for _, t := range a.p.NAT {
		add("%s in %s%s: %s became %s%s (%s)", translation(t.Kind), a.natPlace(t), by(t), t.From, t.To, a.chosen(t), t.Direction)
	}
	if n := a.sent(); n > 1 {
		add("the request was sent %d times", n)
	}
	a.addEnd(add, e, f.outcome)
	for _, s := range f.evidence {
		add("%s", s)
	}
	if e.rst != nil {
		a.addReturn(add, e.rst, "a reset")
	}
	if e.err != nil {
		a.addReturn(add, e.err, "an ICMP error ("+a.icmpOf(icmpHop(e.err)).meaning()+")")
	}
	if f.outcome != path.Delivered {
		if at := e.at(); at == nil || at.Outer == nil { // else it got through whatever it was flooded on
			a.addNoise(add)
		}
		a.addProbe(add)
	}
	a.addGaps(add, f.outcome)
	return out
}

// addEnd says where the packet ended, or how far it was seen to come.
func (a *analysis) addEnd(add func(string, ...any), e *end, outcome path.Outcome) {
	h := a.reached(e)
	switch {
	case e.drop != nil:
		add("the kernel dropped %s in %s%s%s", a.subject(e), a.place(e.drop), onDevice(e.drop),
			byFunction(e.drop))
	case outcome == path.Delivered || e.last == nil:
	case h != nil:
		add("%s reached %s", a.subject(e), a.place(h))
	default:
		add("%s %s", a.subject(e), a.lastSeen(e))
	}
}

// addReturn says where a refusal on its way back was seen last.
func (a *analysis) addReturn(add func(string, ...any), p *path.Packet, what string) {
	x := a.endOf(p, phaseReply)
	if x.drop != nil {
		add("%s on its way back was dropped in %s%s%s", what, a.place(x.drop), onDevice(x.drop),
			byFunction(x.drop))
		return
	}
	if h := lastHop(p); h != nil {
		add("%s on its way back was last seen in %s%s", what, a.place(h), onDevice(h))
	}
}

// addNoise says which copies were discarded as not meant for the container they were flooded to: on
// their own they mean nothing, beside a lost packet they may.
func (a *analysis) addNoise(add func(string, ...any)) {
	for _, p := range a.p.Packets {
		if p == nil {
			continue
		}
		for i := range p.Hops {
			h := &p.Hops[i]
			if h.Action == path.ActionDrop && h.Noise && isOtherHost(h) {
				add("%s discarded a frame of the flow%s, since it carries another MAC address",
					a.place(h), onDevice(h))
			}
		}
	}
}

// addProbe says what the asker saw.
func (a *analysis) addProbe(add func(string, ...any)) {
	pr := a.f.Probe
	if pr == nil {
		return
	}
	switch pr.Kind {
	case ProbeRefused:
		add("%s got: connection refused", a.asker())
	case ProbeICMPError:
		add("%s got an ICMP error (%s)%s", a.asker(), a.icmpOfProbe().meaning(), fromAddr(pr))
	case ProbeLocalError:
		add("%s got the error %s", a.asker(), pr.Errno)
	case ProbeSilence:
		add("%s got no answer%s", a.asker(), a.within())
	}
}

func fromAddr(pr *Probe) string {
	if !pr.From.IsValid() {
		return ""
	}
	return " from " + pr.From.String()
}

// addGaps says what may be missing from the picture.
func (a *analysis) addGaps(add func(string, ...any), outcome path.Outcome) {
	if n := a.f.LostEvents; n > 0 {
		add("%s %s lost, so the picture may have gaps", path.FormatCount(n, "observation"), were(n))
	}
	for _, s := range a.f.Unseen {
		add("could not be seen: %s", s)
	}
	if n := a.p.OmittedPackets; n > 0 {
		add("%s of the flow %s seen and not kept", path.FormatCount(n, "packet"), were(uint64(n)))
	}
	if len(a.f.MissingHooks) > 0 && outcome != path.Delivered {
		add("not attached, so what they would show is missing: %s", strings.Join(a.f.MissingHooks, ", "))
	}
}

// doubt is added to a sentence that rests on something not having been seen.
func (a *analysis) doubt(outcome path.Outcome) string {
	n := a.f.LostEvents
	switch {
	case outcome != path.Lost && outcome != path.NoTraffic:
		return ""
	case len(a.f.Unseen) > 0:
		return "; not everything could be seen: " + strings.Join(a.f.Unseen, "; ")
	case n == 0:
		return ""
	}
	return fmt.Sprintf("; %s %s lost, so this is not certain", path.FormatCount(n, "observation"), were(n))
}

// sent counts the attempts to open the flow.
func (a *analysis) sent() int {
	n := 0
	for _, p := range a.packets(path.Request) {
		fl := flagsOf(p.TCPFlags)
		if a.p.Proto != path.TCP && p.Retransmission || fl.syn && !fl.ack {
			n++
		}
	}
	return n
}

func translation(k path.Action) string {
	switch k {
	case path.ActionDNAT:
		return "DNAT"
	case path.ActionSNAT:
		return "SNAT"
	}
	return string(k)
}

// by says what translated, where that was not netfilter's NAT.
func by(t path.Translation) string {
	if t.By == path.IPVS {
		return " by IPVS"
	}
	return ""
}

// chosen says which container a load balancer chose, if the packet was seen there.
func (a *analysis) chosen(t path.Translation) string {
	if t.By != path.IPVS {
		return ""
	}
	for _, pkt := range a.packets(t.Direction) {
		for i := range pkt.Hops {
			if h := &pkt.Hops[i]; h.Container != "" && h.Dst == t.To && h.Action == path.ActionReceive {
				return " of " + h.Container
			}
		}
	}
	return ""
}

func (a *analysis) natPlace(t path.Translation) string {
	if t.Namespace != "" {
		return t.Namespace
	}
	return a.spaceName(t.NetNS)
}

// oneLine makes one line of a sentence, whatever names it contains.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
