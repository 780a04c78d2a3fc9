package xt

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// Sets is what is known of the ipsets of a network namespace. Rules refer to sets by index.
type Sets interface {
	// Name returns the name of the set, false if it is not known.
	Name(index uint16) (string, bool)
	// Contains says whether the set has what the directions choose of p: for each dimension of the
	// set's type, true takes the source, false the destination.
	Contains(index uint16, source []bool, p *firewall.Packet) firewall.Truth
}

// Bits of struct xt_set_info's flags: bit i is the source in dimension i, counted from 1.
const setInverted = 1 << 0

// setRef is struct xt_set_info.
type setRef struct {
	index  uint16
	source []bool
	flags  uint8
}

// readSetRef reads a struct xt_set_info; none is index 65535.
func readSetRef(d *decoding, off int) setRef {
	r := setRef{index: d.u16(off), flags: d.u8(off + 3)}
	for i := range min(d.u8(off+2), 3) {
		r.source = append(r.source, r.flags&(2<<i) != 0)
	}
	return r
}

func (r setRef) isNone() bool { return r.index == 0xffff }

func (r setRef) name(d *decoding) string {
	if d.sets != nil {
		if name, ok := d.sets.Name(r.index); ok {
			return printable(name)
		}
	}
	return "#" + decimal(r.index)
}

func (r setRef) directions() string {
	var words []string
	for _, source := range r.source {
		if source {
			words = append(words, "src")
		} else {
			words = append(words, "dst")
		}
	}
	return strings.Join(words, ",")
}

// setMatch decodes struct xt_set_info_match_v1 (also revision 2), v3 and v4.
func setMatch(d *decoding) judge {
	if d.rev < 1 || d.rev > 4 {
		return nil
	}
	ref := readSetRef(d, 0)
	d.option(ref.flags&setInverted != 0, "--match-set", ref.name(d), ref.directions())
	if d.rev >= 3 && !setCounters(d) {
		return maybe
	}
	if d.sets == nil {
		return maybe
	}
	sets, inverted := d.sets, ref.flags&setInverted != 0
	return func(p *firewall.Packet) firewall.Truth {
		return xor(sets.Contains(ref.index, ref.source, p), inverted)
	}
}

// Flags of xt_set_info_match_v3 and v4, IPSET_FLAG_*.
const (
	setReturnNomatch        = 1 << 7
	setSkipCounterUpdate    = 1 << 3
	setSkipSubcounterUpdate = 1 << 4
)

// setCounters writes what follows in revision 3 and 4: conditions on the element's counters. It
// returns false if there is one, as it is not judged.
func setCounters(d *decoding) bool {
	packets, bytes, flags := 8, 24, 40 // value, then op; v3 has the op first
	value, op := 0, 8
	if d.rev == 3 {
		value, op = 8, 0
	}
	f := d.u32(flags)
	d.flag(f&setReturnNomatch != 0, "--return-nomatch")
	d.flag(f&setSkipCounterUpdate != 0, "!", "--update-counters")
	d.flag(f&setSkipSubcounterUpdate != 0, "!", "--update-subcounters")
	free := f&setReturnNomatch == 0
	for _, c := range []struct {
		off  int
		name string
	}{{packets, "packets"}, {bytes, "bytes"}} {
		v := decimal(d.u64(c.off + value))
		switch d.u8(c.off + op) {
		case 0:
			continue
		case 1:
			d.arg("--"+c.name+"-eq", v)
		case 2:
			d.arg("!", "--"+c.name+"-eq", v)
		case 3:
			d.arg("--"+c.name+"-lt", v)
		case 4:
			d.arg("--"+c.name+"-gt", v)
		}
		free = false
	}
	return free
}
