package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// maxRepeats is how many times a packet that is sent again gets a line of its own.
const maxRepeats = 3

// attempt is a packet that was shown and may be sent again.
type attempt struct {
	signature string
	start     int64 // TimeNS of the first attempt
	count     int
	folded    int // notes about it so far
	note      *step
}

// likeness counts packets that ended alike.
type likeness struct {
	count int
	note  *step
}

// item is the way of one packet, or a note.
type item struct {
	groups []group
	note   *step
}

// exchange joins the packets of a flow to what a person wants to see.
type exchange struct {
	p            *path.Path
	roles        roles
	severalHosts bool
	items        []item
	attempts     map[string]*attempt
	// alike counts packets that are not sent again but had the same end as one that was shown.
	alike map[string]*likeness

	established bool
	closing     []string // "FIN from cli"
	closedAt    int64
	hidden      int // packets that were only counted
	resent      int // of these, retransmissions
}

func newExchange(p *path.Path) *exchange {
	return &exchange{
		p: p, roles: roles{proto: p.Proto}, severalHosts: severalHosts(p),
		attempts: map[string]*attempt{}, alike: map[string]*likeness{},
	}
}

// severalHosts reports whether the path crosses more than one host.
func severalHosts(p *path.Path) bool {
	host := ""
	for _, pkt := range p.Packets {
		if pkt == nil {
			continue
		}
		for i := range pkt.Hops {
			switch h := pkt.Hops[i].Host; {
			case h == "" || h == host:
			case host == "":
				host = h
			default:
				return true
			}
		}
	}
	return false
}

// packet takes the next packet: shows its way, folds it, notes it, or counts it.
func (e *exchange) packet(pkt *path.Packet) {
	answered := e.roles.answered
	role := e.roles.of(pkt)
	switch {
	case failed(pkt), role == roleOpen, role == roleAnswer, role == roleError,
		role == roleReset && !answered && !e.p.Midstream:
		e.full(pkt, role)
	case role == roleConfirm:
		e.establish(pkt)
	case role == roleClose, role == roleReset:
		e.close(pkt, role)
	default:
		e.hidden++
		if pkt.Retransmission {
			e.resent++
		}
	}
}

// full shows the way of a packet, or folds it if it is like one that was shown.
func (e *exchange) full(pkt *path.Packet, role role) {
	groups := walk(e.p, pkt, e.severalHosts)
	if len(groups) == 0 {
		return
	}
	sig := signature(groups)
	key := string(pkt.Direction) + " " + noun(e.p, pkt)
	a := e.attempts[key]
	again := a != nil && (pkt.Retransmission || role == roleOpen || role == roleAnswer)
	switch {
	case again && a.signature == sig:
		a.count++
		e.repeat(pkt, a, ending(groups))
		return
	case again:
		a.count++
		a.signature = sig
		e.append(groups, string(pkt.Direction)+", "+ordinal(a.count)+" attempt")
		return
	case a != nil && a.signature == sig:
		e.another(pkt, sig, ending(groups))
		return
	}
	if a == nil {
		e.attempts[key] = &attempt{signature: sig, start: pkt.Hops[0].TimeNS, count: 1}
	}
	section := string(pkt.Direction)
	if role != roleOpen && role != roleAnswer {
		section += ": " + noun(e.p, pkt)
	}
	e.append(groups, section)
}

// show appends the way of a packet under a title.
func (e *exchange) show(pkt *path.Packet, section string) {
	e.append(walk(e.p, pkt, e.severalHosts), section)
}

// append adds groups as a section.
func (e *exchange) append(groups []group, section string) {
	for i := range groups {
		groups[i].Section = section
	}
	e.items = append(e.items, item{groups: groups})
}

// note adds a remark and returns it, so that it can be amended.
func (e *exchange) note(at int64, packet int, text string) *step {
	s := &step{OffsetNS: at, Text: text, Kind: stepNote, Packet: packet}
	e.items = append(e.items, item{note: s})
	return s
}

// groups returns everything in order; notes in a row share a group.
func (e *exchange) groups() []group {
	var out []group
	for i, it := range e.items {
		if it.note == nil {
			out = append(out, it.groups...)
			continue
		}
		if i == 0 || e.items[i-1].note == nil {
			out = append(out, group{Section: "then"})
		}
		g := &out[len(out)-1]
		g.Steps = append(g.Steps, *it.note)
	}
	return out
}

// signature tells ways apart: where a packet was and what happened, without the times.
func signature(groups []group) string {
	var b strings.Builder
	for _, g := range groups {
		b.WriteString(g.Where + "\n")
		for _, s := range g.Steps {
			b.WriteString(s.Device + "\x00" + s.Text + "\n")
		}
	}
	return b.String()
}

// ending says how a packet that went the same way as an earlier one ended.
func ending(groups []group) string {
	last := groups[len(groups)-1].Steps
	if len(last) == 0 {
		return "same way"
	}
	switch last[len(last)-1].Kind {
	case stepDrop:
		return "dropped at the same place"
	case stepRefuse:
		return "refused at the same place"
	}
	return "same way"
}

// repeat notes a packet that was sent again and fared as before.
func (e *exchange) repeat(pkt *path.Packet, a *attempt, end string) {
	at := pkt.Hops[0].TimeNS
	after := path.FormatDuration(at - a.start)
	what := noun(e.p, pkt)
	if a.folded++; a.folded <= maxRepeats {
		a.note = e.note(at, pkt.ID, fmt.Sprintf("%s sent again after %s (%s attempt): %s", what, after, ordinal(a.count), end))
		return
	}
	more := path.FormatCount(a.folded-maxRepeats, "more time")
	text := fmt.Sprintf("%s sent again %s, the last after %s (%s attempt): %s", what, more, after, ordinal(a.count), end)
	if a.folded == maxRepeats+1 {
		a.note = e.note(at, 0, text)
		return
	}
	a.note.Text = text
}

// another notes further packets that ended like one that was shown.
func (e *exchange) another(pkt *path.Packet, sig, end string) {
	l := e.alike[sig]
	if l == nil {
		l = &likeness{note: e.note(pkt.Hops[0].TimeNS, 0, "")}
		e.alike[sig] = l
	}
	l.count++
	l.note.Text = path.FormatCount(l.count, "more "+noun(e.p, pkt)) + ": " + end
}

// establish notes the end of the handshake.
func (e *exchange) establish(pkt *path.Packet) {
	if e.established {
		return
	}
	e.established = true
	at := pkt.Hops[len(pkt.Hops)-1].TimeNS
	if e.p.ServerEstablished == 0 {
		e.note(at, pkt.ID, "ACK sent")
		return
	}
	if e.p.ServerEstablished > e.p.Start {
		at = int64(e.p.ServerEstablished - e.p.Start)
	}
	e.note(at, pkt.ID, "ACK received by "+e.name(path.Request)+": connection established")
}

// close collects what ended the connection: the first FIN or RST of each side.
func (e *exchange) close(pkt *path.Packet, role role) {
	what := "FIN from "
	if role == roleReset {
		what = "RST from "
	}
	what += e.name(pkt.Direction.Opposite())
	if slices.Contains(e.closing, what) {
		return
	}
	if len(e.closing) == 0 {
		e.closedAt = pkt.Hops[0].TimeNS
	}
	e.closing = append(e.closing, what)
}

// name returns the name of the end that packets of a direction go to.
func (e *exchange) name(to path.Direction) string {
	client, server := names(e.p)
	if to == path.Request {
		return shorten(server, maxName)
	}
	return shorten(client, maxName)
}

// finish adds what is said at the end.
func (e *exchange) finish() {
	end := int64(0)
	if e.p.End > e.p.Start {
		end = int64(e.p.End - e.p.Start)
	}
	if at := e.p.ServerEstablished; !e.established && at > e.p.Start {
		e.note(int64(at-e.p.Start), 0, "connection established at "+e.name(path.Request))
	}
	if len(e.closing) > 0 {
		e.note(e.closedAt, 0, "closed: "+strings.Join(e.closing, ", "))
	}
	if e.hidden > 0 {
		text := path.FormatCount(e.hidden, "more packet")
		if e.resent > 0 {
			text += ", " + path.FormatNumber(uint64(e.resent)) + " of them sent again,"
		}
		e.note(end, 0, text+" not shown (--all-packets shows all)")
	}
}
