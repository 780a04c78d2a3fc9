package legacy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/xt"
)

// errTable is wrapped by all errors about the form of a table.
var errTable = errors.New("unexpected form")

// Layout of struct ipt_entry and struct ip6t_entry after the header of the packet's addresses: both
// have the same fields, at offsets that depend on the header's size.
type layout struct {
	header   int // size of struct ipt_ip or struct ip6t_ip6
	counters int // offset of the two counters, aligned to 8
	matches  int // offset of the first match, sizeof(struct ipt_entry)
}

func layoutOf(v6 bool) layout {
	if v6 {
		return layout{header6Size, 152, 168}
	}
	return layout{header4Size, 96, 112}
}

// extension is struct xt_entry_match or xt_entry_target: both begin alike.
type extension struct {
	name string
	rev  uint8
	data []byte
}

const extensionHeader = 32 // size, name and revision

func readExtension(b []byte) (extension, int, error) {
	if len(b) < extensionHeader {
		return extension{}, 0, fmt.Errorf("%w: extension of %d bytes", errTable, len(b))
	}
	size := int(native16(b))
	if size < extensionHeader || size > len(b) {
		return extension{}, 0, fmt.Errorf("%w: extension of size %d in %d bytes", errTable, size, len(b))
	}
	return extension{cString(b[2:31]), b[31], b[extensionHeader:size]}, size, nil
}

// entry is one entry of a table: a rule, the head of a chain, or its end.
type entry struct {
	offset, next   int
	header         header
	matches        []extension
	target         extension
	packets, bytes uint64
}

// readEntry reads the entry at offset off.
func readEntry(v6 bool, blob []byte, off int) (entry, error) {
	l, b := layoutOf(v6), blob[off:]
	if len(b) < l.matches {
		return entry{}, fmt.Errorf("%w: entry of %d bytes at %d", errTable, len(b), off)
	}
	target, next := int(native16(b[l.header+4:])), int(native16(b[l.header+6:]))
	if target < l.matches || next < target || next > len(b) {
		return entry{}, fmt.Errorf("%w: entry at %d: target at %d, next at %d", errTable, off, target, next)
	}
	e := entry{
		offset: off, next: off + next, header: readHeader(v6, b),
		packets: binary.NativeEndian.Uint64(b[l.counters:]),
		bytes:   binary.NativeEndian.Uint64(b[l.counters+8:]),
	}
	for at := l.matches; at < target; {
		m, size, err := readExtension(b[at:target])
		if err != nil {
			return entry{}, err
		}
		e.matches = append(e.matches, m)
		at += size
	}
	var err error
	e.target, _, err = readExtension(b[target:next])
	return e, err
}

// standard returns the number of a standard target, false for another one.
func (e *entry) standard() (int32, bool) {
	if e.target.name != "" || len(e.target.data) < 4 {
		return 0, false
	}
	return int32(binary.NativeEndian.Uint32(e.target.data)), true
}

// parser builds a table of entries.
type parser struct {
	v6      bool
	info    tableInfo
	decoder xt.Decoder
	table   *firewall.Table
	chains  []*chain
	starts  map[int]string // user chains by the offset of their first entry
}

// chain is a chain with its entries; the last of them is its end.
type chain struct {
	*firewall.Chain
	entries []*entry
}

// parse makes a table of the kernel's entries.
func parse(v6 bool, info tableInfo, blob []byte, decoder xt.Decoder) (*firewall.Table, error) {
	p := parser{v6: v6, info: info, decoder: decoder, starts: map[int]string{}}
	p.table = &firewall.Table{Backend: firewall.IptablesLegacy, Family: firewall.FamilyIP, Name: info.name}
	if v6 {
		p.table.Family = firewall.FamilyIP6
	}
	if err := p.split(blob); err != nil {
		return nil, err
	}
	for _, c := range p.chains {
		if err := p.finish(c); err != nil {
			return nil, err
		}
		p.table.Chains = append(p.table.Chains, c.Chain)
	}
	return p.table, nil
}

// split puts the entries into chains. A built-in chain begins where its hook's entry is, another one
// after an ERROR entry with its name; a last ERROR entry ends the table.
func (p *parser) split(blob []byte) error {
	var current *chain
	for off := 0; off < len(blob); {
		e, err := readEntry(p.v6, blob, off)
		if err != nil {
			return err
		}
		off = e.next
		if e.target.name == "ERROR" {
			if off >= len(blob) {
				return nil
			}
			name := cString(e.target.data)
			current = p.add(&firewall.Chain{Name: name})
			p.starts[off] = name
			continue
		}
		if c := p.builtin(e.offset); c != nil {
			current = p.add(c)
		}
		if current == nil {
			return fmt.Errorf("%w: entry at %d is in no chain", errTable, e.offset)
		}
		current.entries = append(current.entries, &e)
	}
	return nil
}

func (p *parser) add(c *firewall.Chain) *chain {
	c.Table = p.table
	p.chains = append(p.chains, &chain{Chain: c})
	return p.chains[len(p.chains)-1]
}

// builtin returns the chain whose hook begins at that offset, nil if there is none.
func (p *parser) builtin(offset int) *firewall.Chain {
	hooks := [...]firewall.Hook{
		firewall.Prerouting, firewall.Input, firewall.Forward, firewall.Output, firewall.Postrouting,
	}
	for i, hook := range hooks {
		if p.info.validHooks&(1<<i) == 0 || int(p.info.hookEntry[i]) != offset {
			continue
		}
		c := &firewall.Chain{
			Name: strings.ToUpper(string(hook)), Hook: hook, Type: "filter",
			Priority: priority(p.info.name, hook),
		}
		switch {
		case p.info.name == "nat":
			c.Type = "nat"
		case p.info.name == "mangle" && hook == firewall.Output:
			c.Type = "route"
		}
		return c
	}
	return nil
}

// priority is that of the table's hook, enum nf_ip_hook_priorities.
func priority(table string, hook firewall.Hook) int32 {
	switch table {
	case "raw":
		return -300
	case "mangle":
		return -150
	case "nat":
		if hook == firewall.Prerouting || hook == firewall.Output {
			return -100
		}
		return 100
	case "security":
		return 50
	}
	return 0
}

// finish makes rules of a chain's entries. The last one is the policy of a built-in chain, or the
// return from another.
func (p *parser) finish(c *chain) error {
	if len(c.entries) == 0 {
		return fmt.Errorf("%w: chain %s has no end", errTable, c.Name)
	}
	last := c.entries[len(c.entries)-1]
	if c.IsBase() {
		number, _ := last.standard()
		t, ok := xt.Standard(number)
		if !ok || t.Verdict.Kind != firewall.Accept && t.Verdict.Kind != firewall.Drop {
			return fmt.Errorf("%w: policy %d of chain %s", errTable, number, c.Name)
		}
		c.Policy, c.PolicyCounted, c.PolicyPackets = t.Verdict.Kind, true, last.packets
	}
	for i, e := range c.entries[:len(c.entries)-1] {
		c.Rules = append(c.Rules, p.rule(c.Chain, i+1, e))
	}
	c.entries = nil
	return nil
}

// rule makes a rule of an entry.
func (p *parser) rule(c *firewall.Chain, number int, e *entry) *firewall.Rule {
	r := &firewall.Rule{Chain: c, Number: number, Packets: e.packets, Bytes: e.bytes, Counted: true}
	b := &body{v6: p.v6, matches: e.header.matches(), target: p.target(e)}
	var comments []string
	for _, m := range e.matches {
		match := p.decoder.Match(p.v6, m.name, m.rev, m.data)
		b.matches = append(b.matches, match)
		if match.Comment != "" {
			comments = append(comments, match.Comment)
		}
	}
	var text strings.Builder
	text.WriteString("-A " + c.Name)
	for _, m := range b.matches {
		text.WriteString(" " + m.Text)
	}
	if b.target.Text != "" {
		text.WriteString(" " + b.target.Text)
	}
	r.Body, r.Comment, r.Written = b, strings.Join(comments, " "), text.String()
	return r
}

// target decodes an entry's target. A standard target's number is a verdict or, if not negative, the
// offset of the entry that comes next: a chain's first, or that of the rule's own successor.
func (p *parser) target(e *entry) xt.Target {
	number, ok := e.standard()
	if !ok {
		return p.decoder.Target(p.v6, e.target.name, e.target.rev, e.target.data)
	}
	if number < 0 {
		if t, ok := xt.Standard(number); ok {
			return t
		}
	} else if int(number) == e.next {
		return xt.Target{}
	} else if name, ok := p.starts[int(number)]; ok {
		if e.header.jumpsByGoto() {
			return xt.Target{Text: "-g " + name, Verdict: firewall.Verdict{Kind: firewall.Goto, Chain: name}}
		}
		return xt.Target{Text: "-j " + name, Verdict: firewall.Verdict{Kind: firewall.Jump, Chain: name}}
	}
	return xt.Target{
		Text:    fmt.Sprintf("-j %d [not decoded]", number),
		Verdict: firewall.Verdict{Kind: firewall.Unknown, Detail: fmt.Sprint(number)},
	}
}

func native16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }

// cString cuts b at its first zero byte.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
