package render

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// outcomeClass is the class of a flow.
func outcomeClass(o path.Outcome) string {
	switch outcomeStyle(o) {
	case green:
		return "good"
	case yellow:
		return "odd"
	}
	return "bad"
}

// htmlVerdict writes what writeVerdict does.
func htmlVerdict(p *page, v path.Verdict) {
	word, text := verdictText(v)
	p.open("p", "verdict")
	p.open("b", "")
	p.text(word)
	p.WriteString("</b>")
	if text != "" {
		p.text(": " + text)
	}
	p.end("p")
	p.open("dl", "")
	p.item("took", "", latencyText(v))
	if w := v.Where; w != nil && w.Rule != nil {
		p.item("rule", "", ruleText(w.Rule))
	}
	for _, e := range v.Evidence {
		p.item("because", "", e)
	}
	if len(v.Remedy) > 0 {
		p.element("dt", "", "do")
		p.open("dd", "")
		p.lines(strings.Join(v.Remedy, "\n"))
		p.end("dd")
	}
	for _, w := range v.Warnings {
		p.item("warning", "yellow", string(w.Cause)+": "+w.Summary)
	}
	if v.Cause != "" {
		p.item("more", "", "docs/causes/"+string(v.Cause)+".md")
	}
	p.end("dl")
}

// htmlLosses writes what writeLosses does.
func htmlLosses(p *page, f *path.Path, v path.Verdict) {
	for _, l := range losses(f, v, "below") {
		p.element("p", "red", "lost: "+l)
	}
}

// htmlPath writes the steps of a flow, the rules that were passed, and every hook.
func htmlPath(p *page, f *path.Path, all bool) {
	if f.Midstream {
		p.element("p", "dim", midstreamText)
	}
	htmlGroups(p, steps(f, all))
	htmlRules(p, f, all)
	packets := shownPackets(f, all)
	n := 0
	for _, pkt := range packets {
		n += len(pkt.Hops)
	}
	p.open("details", "")
	p.element("summary", "dim", "every hook: "+path.FormatCount(n, "observation")+" of "+path.FormatCount(len(packets), "packet"))
	for _, pkt := range packets {
		htmlHops(p, f, pkt)
	}
	if hidden := len(inOrder(f.Packets)) - len(packets); hidden > 0 {
		p.element("p", "dim", path.FormatCount(hidden, "more packet")+" not shown (--all-packets shows all)")
	}
	p.end("details")
}

// htmlGroups writes what writeGroups does.
func htmlGroups(p *page, groups []group) {
	section, where := "", ""
	for i, g := range groups {
		if i == 0 || g.Section != section {
			p.element("h3", "", g.Section)
			where = ""
		}
		section = g.Section
		if g.Where != "" && g.Where != where {
			p.element("h4", "", g.Where)
		}
		where = g.Where
		p.open("table", "")
		for _, s := range g.Steps {
			htmlStep(p, s)
		}
		p.end("table")
	}
}

func htmlStep(p *page, s step) {
	p.open("tr", "")
	p.element("td", "t", offset(s.OffsetNS))
	p.element("td", "d", s.Device)
	p.open("td", styleClass(stepStyle(s.Kind)))
	p.text(s.Text)
	if s.Note != "" {
		p.element("small", "", " ("+s.Note+")")
	}
	p.end("td")
	p.end("tr")
}

// styleClass is the class of a colour.
func styleClass(s style) string {
	switch s {
	case dim:
		return "dim"
	case red:
		return "red"
	case green:
		return "green"
	case yellow:
		return "yellow"
	case cyan:
		return "cyan"
	}
	return ""
}

// htmlRules writes what writeRules does.
func htmlRules(p *page, f *path.Path, all bool) {
	text := &bytes.Buffer{}
	out := newPrinter(Options{Writer: text})
	writeRules(out, f, all)
	if out.flush() == nil && text.Len() > 0 { // a buffer takes everything
		p.lines(text.String())
	}
}

// htmlHops writes every hook of a packet.
func htmlHops(p *page, f *path.Path, pkt *path.Packet) {
	p.element("h4", "", packetTitle(f, pkt)+packetDetail(pkt))
	p.open("table", "hooks")
	var before *path.Hop
	for i := range pkt.Hops {
		h := &pkt.Hops[i]
		p.open("tr", "")
		p.element("td", "t", fineOffset(h.TimeNS))
		p.element("td", "d", namespaceText(h))
		p.element("td", "d", deviceColumn(h))
		p.element("td", styleClass(hopStyle(h)), hookText(h))
		p.element("td", "", hopRest(f, pkt, before, h, true))
		p.end("tr")
		before = h
	}
	p.end("table")
	if pkt.OmittedHops > 0 {
		p.element("p", "red", strconv.Itoa(pkt.OmittedHops)+" more observations not kept")
	}
}
