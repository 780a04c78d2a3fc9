package mtu

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Notes says what the repeated segments tell: whether TCP is slow for packets that are too big, or for
// loss that has nothing to do with size.
func (r Repeats) Notes() []string {
	if r.Sent == 0 {
		return nil
	}
	of := fmt.Sprintf("TCP repeated %d of %d segments with data", r.Repeated, r.Sent)
	switch only, known := r.OnlyLarge(); {
	case r.Repeated == 0:
		return []string{fmt.Sprintf("TCP repeated none of %d segments with data", r.Sent)}
	case !known:
		return []string{of + ": too few to tell whether their size matters"}
	case only:
		return []string{fmt.Sprintf("%s: %d of the %d with at least %d bytes, none of the %d smaller ones: the size decides, which points "+
			"to the MTU", of, r.Repeated, r.Larger, r.Least, r.Smaller)}
	}
	return []string{fmt.Sprintf("%s, also small ones (%d bytes): that is loss, or a slow receiver, whatever the size", of, r.Least)}
}

// ConcludeWatch makes the verdict about live traffic.
func ConcludeWatch(w *path.MTUWatch, silent bool, complete bool, lost uint64) path.Verdict {
	v := path.Verdict{Type: "verdict", Flow: 1, Outcome: path.Delivered, Complete: complete, LostEvents: lost}
	switch {
	case w.Packets == 0:
		v.Outcome, v.Summary = path.NoTraffic, "no traffic: no packet to or from the target was seen"
		return v
	case w.TooBig > 0 && (silent || w.LostErrors > 0 || w.Errors == 0):
		p := w.Places[0]
		v.Outcome, v.Cause = path.Dropped, path.CauseMTUBlackhole
		v.Where = &path.Where{Namespace: p.Namespace, Container: p.Container, Device: p.Device, Stage: path.StageDevice,
			Function: p.Function, Reason: p.Reason}
		v.Summary = fmt.Sprintf("dropped: %s vanished at %s, from %d bytes on, and %s", share(&p),
			deviceIn(p.Device, p.Container, p.Namespace), p.Smallest, untoldLive(w, silent))
		v.Remedy = []string{fmt.Sprintf("pathtrace mtu --from %s --to %s  # measures what passes, and says what to set",
			quote(cmp.Or(p.SrcName, p.Src)), quote(cmp.Or(p.Dst, p.DstName)))}
	case w.TooBig > 0:
		v.Summary = fmt.Sprintf("delivered: %s were too big, and ICMP errors said so", path.FormatCount(w.TooBig, "packet"))
		v.Warnings = []path.Warning{{Cause: path.CausePacketTooBig, Summary: fmt.Sprintf("%s dropped for their size: their senders were "+
			"told, and send less from then on", path.FormatCount(w.TooBig, "packet"))}}
	default:
		v.Summary = "delivered: no packet was dropped for its size"
	}
	v.Warnings = append(v.Warnings, fragmented(w)...)
	v.Evidence = w.Notes
	return v
}

// fragmented says which share of the packets left as fragments: at the first device of those that saw most
// of them, as all further ones on the way see them again.
func fragmented(w *path.MTUWatch) []path.Warning {
	var most *path.MTUWatchPlace
	places := 0
	for i := range w.Places {
		p := &w.Places[i]
		if p.Fragments == 0 {
			continue
		}
		if places++; most == nil || p.Fragments > most.Fragments {
			most = p
		}
	}
	if most == nil {
		return nil
	}
	text := fmt.Sprintf("%.1f %% of what leaves by %s are fragments (%d of %d)", 100*float64(most.Fragments)/float64(max(most.Packets, 1)),
		deviceIn(most.Device, most.Container, most.Namespace), most.Fragments, most.Packets)
	if places > 1 {
		text += fmt.Sprintf(", seen at %s", path.FormatCount(places, "device"))
	}
	return []path.Warning{{Cause: path.CausePacketTooBig, Summary: text}}
}

// AddLive adds to the verdict of a measurement what live traffic showed, of which watched is the verdict.
func AddLive(v *path.Verdict, w *path.MTUWatch, watched path.Verdict) {
	if watched.Cause != "" {
		v.Warnings = append(v.Warnings, path.Warning{Cause: watched.Cause, Summary: "live traffic: " +
			strings.TrimPrefix(watched.Summary, string(watched.Outcome)+": ")})
	}
	for _, warning := range watched.Warnings {
		warning.Summary = "live traffic: " + warning.Summary
		v.Warnings = append(v.Warnings, warning)
	}
	if w.Repeated > 0 {
		v.Evidence = append(v.Evidence, w.Notes...)
	}
}

// share is "3 of 40 packets (7.5 %)", without the whole where that is not known.
func share(p *path.MTUWatchPlace) string {
	if p.Packets < p.TooBig || p.Packets == 0 {
		return path.FormatCount(p.TooBig, "packet")
	}
	return fmt.Sprintf("%d of %s (%.1f %%)", p.TooBig, path.FormatCount(p.Packets, "packet"), 100*float64(p.TooBig)/float64(p.Packets))
}

func untoldLive(w *path.MTUWatch, silent bool) string {
	switch {
	case silent:
		return "nobody tells the sender: between the devices of one link nobody sends an ICMP error"
	case w.LostErrors > 0:
		return fmt.Sprintf("%s that say so were dropped on their way", path.FormatCount(w.LostErrors, "ICMP error"))
	}
	return "no ICMP error that says so was seen"
}
