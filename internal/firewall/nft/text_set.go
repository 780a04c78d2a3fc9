package nft

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// set writes a set as a rule refers to it: by its name, or what is in it if it has none.
func (w *writer) set(e *lookupExpr, parts []*operand) string {
	if e.set.why() != "" || !e.set.anonymous() {
		return "@" + e.name
	}
	elems := slices.Clone(e.set.elems)
	slices.SortStableFunc(elems, func(a, b *element) int { return e.set.order(parts, a, b) })
	texts := make([]string, len(elems))
	for i, el := range elems {
		texts[i] = w.element(e.set, el, parts)
	}
	return "{ " + strings.Join(texts, ", ") + " }"
}

// order sorts elements as nft lists them: by value, the one for all keys last.
func (s *set) order(parts []*operand, a, b *element) int {
	switch {
	case a == s.all:
		return 1
	case b == s.all:
		return -1
	case len(parts) > 1:
		// nft sorts concatenations as numbers of the host.
		return bytes.Compare(swapped(a.key, len(a.key)), swapped(b.key, len(b.key)))
	case (parts[0].typ.host() || parts[0].typ == typeIfname) && !s.has(unix.NFT_SET_INTERVAL):
		return bytes.Compare(swapped(a.key, len(a.key)), swapped(b.key, len(b.key)))
	}
	return bytes.Compare(a.key, b.key)
}

func (w *writer) element(s *set, el *element, parts []*operand) string {
	key := "*"
	if el != s.all {
		var keys []string
		at := 0
		for _, o := range parts {
			n := min(o.n, len(el.key)-at, len(el.end)-at)
			if n <= 0 {
				break
			}
			keys = append(keys, w.span(s, o, el.key[at:at+n], el.end[at:at+n]))
			at += (n + 3) &^ 3
		}
		key = strings.Join(keys, " . ")
	}
	switch {
	case el.verdict != (firewall.Verdict{}) || s.dataType == dataTypeVerdict:
		text := verdictText(el.verdict)
		if text == "" {
			text = "continue"
		}
		return key + " : " + text
	case el.object != "":
		return key + " : " + quoted(el.object)
	case el.data != nil:
		return key + " : " + w.mapped(s, el)
	}
	return key
}

// mapped writes what a map has for a key; the type has 6 bits for each part of a concatenation.
func (w *writer) mapped(s *set, el *element) string {
	var texts []string
	at := 0
	for _, typ := range typesByNumber(s.dataType) {
		o := &operand{typ: typ}
		n := typ.size()
		if n == 0 || at+n > len(el.data) {
			n = len(el.data) - at
		}
		if n <= 0 {
			break
		}
		texts = append(texts, w.value(o, el.data[at:at+n]))
		at += (n + 3) &^ 3
	}
	return strings.Join(texts, " . ")
}

// span writes a key, a prefix or a range.
func (w *writer) span(s *set, o *operand, from, to []byte) string {
	if bytes.Equal(from, to) {
		if s.has(unix.NFT_SET_INTERVAL) && o.typ.host() {
			from = swapped(from, len(from))
		}
		return w.value(o, from)
	}
	if o.typ.prefixes() {
		mask := make([]byte, len(from))
		whole := true
		for i := range from {
			mask[i] = ^(from[i] ^ to[i])
			whole = whole && from[i]&^mask[i] == 0
		}
		if n, ok := prefixLen(mask); ok && whole {
			return w.value(o, from) + "/" + decimal(uint64(n))
		}
	}
	if o.typ == typeIfname {
		return quoted(strings.TrimRight(string(from), "\x00") + "*")
	}
	if o.typ.host() {
		from, to = swapped(from, len(from)), swapped(to, len(to))
	}
	return w.value(o, from) + "-" + w.value(o, to)
}

// verdictText is a verdict in nft's words; "" for continue.
func verdictText(v firewall.Verdict) string {
	switch v.Kind {
	case firewall.Accept:
		return "accept"
	case firewall.Drop:
		return "drop"
	case firewall.Return:
		return "return"
	case firewall.Jump:
		return "jump " + v.Chain
	case firewall.Goto:
		return "goto " + v.Chain
	case firewall.Queue:
		return "queue"
	case firewall.Stolen:
		return "stolen"
	}
	return ""
}
