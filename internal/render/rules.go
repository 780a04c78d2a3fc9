package render

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// writeRules writes the rules that each packet passed, hook by hook; nothing if they were not traced.
// A packet sent again that passed the same rules is not written again.
func writeRules(out *printer, p *path.Path, all bool) {
	written := map[string]bool{}
	for _, pkt := range shownPackets(p, all) {
		passed := passedRules(pkt)
		key := string(pkt.Direction) + pkt.TCPFlags + passed
		if passed == "" || written[key] {
			continue
		}
		written[key] = true
		out.line()
		out.line(span{"rules passed by the " + string(pkt.Direction) + "  " + noun(p, pkt), bold})
		for i := range pkt.Hops {
			writeHopRules(out, &pkt.Hops[i])
		}
	}
}

// passedRules is the same for packets that passed the same rules; "" without any.
func passedRules(pkt *path.Packet) string {
	var b strings.Builder
	for i := range pkt.Hops {
		for _, s := range pkt.Hops[i].Rules {
			fmt.Fprintln(&b, pkt.Hops[i].NetNS, s)
		}
	}
	return b.String()
}

func writeHopRules(out *printer, h *path.Hop) {
	if len(h.Rules) == 0 {
		return
	}
	out.line(span{"  " + namespaceText(h) + ", " + string(h.Stage), cyan})
	for _, s := range h.Rules {
		writeRuleStep(out, s)
	}
}

// writeRuleStep writes a rule's place, what it did, and the rule itself.
func writeRuleStep(out *printer, s path.RuleStep) {
	at := s.Table + " " + s.Chain
	switch {
	case s.Number > 0:
		at += " " + strconv.Itoa(s.Number)
	case s.Handle != 0:
		at += " handle " + strconv.FormatUint(s.Handle, 10)
	}
	text := s.Verdict
	if s.Text != "" {
		text += ": " + s.Text
	}
	out.paragraph(text, ruleStyle(s.Verdict), span{"    " + at + "  ", plain})
}

func ruleStyle(verdict string) style {
	switch verdict {
	case "drop", "policy drop":
		return red
	case "reject":
		return yellow
	}
	return plain
}
