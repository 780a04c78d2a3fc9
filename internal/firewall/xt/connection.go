package xt

import (
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

func connectionMatch(name string) matchFunc {
	switch name {
	case "conntrack":
		return conntrackMatch
	case "state":
		return stateMatch
	case "connmark":
		return connmarkMatch
	case "helper":
		return helperMatch
	case "connlabel":
		return connlabelMatch
	case "connbytes":
		return connbytesMatch
	}
	return nil
}

// Bits of xt_conntrack_mtinfo's match_flags and invert_flags, XT_CONNTRACK_*.
const (
	ctState = 1 << iota
	ctProto
	ctOrigSrc
	ctOrigDst
	ctReplSrc
	ctReplDst
	ctStatus
	ctExpires
	ctOrigSrcPort
	ctOrigDstPort
	ctReplSrcPort
	ctReplDstPort
	ctDirection
	ctStateAlias
)

// ctInfo is struct xt_conntrack_mtinfo3, to which the older ones are brought.
type ctInfo struct {
	addrs          [4]ctAddr // origsrc, origdst, replsrc, repldst
	ports          [4][2]uint16
	expires        [2]uint32
	proto          uint16
	match, invert  uint16
	states, status uint16
}

// ctAddr is an address of a tuple with its mask.
type ctAddr struct{ addr, mask netip.Addr }

func readCTInfo(d *decoding) ctInfo {
	c := ctInfo{
		expires: [2]uint32{d.u32(128), d.u32(132)},
		proto:   d.u16(136), match: d.u16(146), invert: d.u16(148),
		states: d.u16(150), status: d.u16(152),
	}
	if d.rev == 1 {
		c.states, c.status = uint16(d.u8(150)), uint16(d.u8(151))
	}
	for i := range c.addrs {
		c.addrs[i] = ctAddr{d.addr(32 * i), d.addr(32*i + 16)}
		if d.rev == 3 {
			c.ports[i] = [2]uint16{d.u16(138 + 2*i), d.u16(154 + 2*i)}
		} else {
			c.ports[i] = [2]uint16{d.be16(138 + 2*i), d.be16(138 + 2*i)}
		}
	}
	return c
}

// conntrackMatch decodes struct xt_conntrack_mtinfo1, 2 and 3.
func conntrackMatch(d *decoding) judge {
	if d.rev < 1 || d.rev > 3 {
		return nil
	}
	c := readCTInfo(d)
	c.write(d)
	return c.judge
}

// write appends the options in the order of libxt_conntrack's conntrack_dump.
func (c ctInfo) write(d *decoding) {
	not := func(bit uint16) bool { return c.invert&bit != 0 }
	if c.match&ctState != 0 {
		option := "--ctstate"
		if c.match&ctStateAlias != 0 {
			d.name, option = "state", "--state"
		}
		d.option(not(ctState), option, ctStates(c.states))
	}
	if c.match&ctProto != 0 {
		d.option(not(ctProto), "--ctproto", decimal(c.proto))
	}
	for i, name := range [...]string{"--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst"} {
		if bit := uint16(ctOrigSrc << i); c.match&bit != 0 {
			d.option(not(bit), name, ctAddrText(c.addrs[i]))
		}
	}
	for i, name := range [...]string{"--ctorigsrcport", "--ctorigdstport", "--ctreplsrcport", "--ctrepldstport"} {
		if bit := uint16(ctOrigSrcPort << i); c.match&bit != 0 {
			d.option(not(bit), name, span(c.ports[i][0], c.ports[i][1]))
		}
	}
	if c.match&ctStatus != 0 {
		d.option(not(ctStatus), "--ctstatus", ctStatuses(c.status))
	}
	if c.match&ctExpires != 0 {
		d.option(not(ctExpires), "--ctexpire", span(c.expires[0], c.expires[1]))
	}
	if c.match&ctDirection != 0 {
		if not(ctDirection) {
			d.arg("--ctdir", "REPLY")
		} else {
			d.arg("--ctdir", "ORIGINAL")
		}
	}
}

func ctAddrText(a ctAddr) string {
	if a.addr.IsUnspecified() {
		return a.addr.String() + "/0"
	}
	return a.addr.String() + maskText(a.mask)
}

// Bits of the state mask, XT_CONNTRACK_STATE_*.
const (
	stateInvalid     = 1 << 0
	stateEstablished = 1 << 1
	stateRelated     = 1 << 2
	stateNew         = 1 << 3
	stateSNAT        = 1 << 6
	stateDNAT        = 1 << 7
	stateUntracked   = 1 << 8
)

func ctStates(mask uint16) string {
	return bitNames(uint32(mask), []bitName{
		{stateInvalid, "INVALID"}, {stateNew, "NEW"}, {stateRelated, "RELATED"},
		{stateEstablished, "ESTABLISHED"}, {stateUntracked, "UNTRACKED"}, {stateSNAT, "SNAT"},
		{stateDNAT, "DNAT"},
	})
}

func ctStatuses(mask uint16) string {
	if mask == 0 {
		return "NONE"
	}
	return bitNames(uint32(mask), []bitName{
		{firewall.StatusExpected, "EXPECTED"}, {firewall.StatusSeenReply, "SEEN_REPLY"},
		{firewall.StatusAssured, "ASSURED"}, {firewall.StatusConfirmed, "CONFIRMED"},
	})
}

// bitName is the name of a bit.
type bitName struct {
	bit  uint32
	name string
}

// bitNames joins the names of the bits of mask with commas.
func bitNames(mask uint32, names []bitName) string {
	var list []string
	for _, n := range names {
		if mask&n.bit != 0 {
			list = append(list, n.name)
		}
	}
	return strings.Join(list, ",")
}

// judge follows conntrack_mt of net/netfilter/xt_conntrack.c.
func (c ctInfo) judge(p *firewall.Packet) firewall.Truth {
	ct := p.CT
	if ct == nil || ct.State == "" {
		return firewall.Maybe
	}
	state := firewall.Yes
	if c.match&ctState != 0 {
		state = xor(stateIn(ct, c.states), c.invert&ctState != 0)
	}
	if ct.State == firewall.CTInvalid || ct.State == firewall.CTUntracked {
		// There is no entry: only the state is asked, and a rule without it does not match.
		return state.And(firewall.Of(c.match&ctState != 0))
	}
	return state.And(c.judgeEntry(ct))
}

// judgeEntry judges all but the state, of a packet that has an entry.
func (c ctInfo) judgeEntry(ct *firewall.Conntrack) firewall.Truth {
	t := firewall.Yes
	add := func(bit uint16, answer func() firewall.Truth) {
		if c.match&bit != 0 {
			t = t.And(xor(answer(), c.invert&bit != 0))
		}
	}
	add(ctDirection, func() firewall.Truth { return firewall.Of(!ct.Reply) })
	sides := [...]struct {
		addr netip.Addr
		port uint16
	}{
		{ct.Orig.Src, ct.Orig.SrcPort}, {ct.Orig.Dst, ct.Orig.DstPort},
		{ct.Return.Src, ct.Return.SrcPort}, {ct.Return.Dst, ct.Return.DstPort},
	}
	for i, s := range sides {
		add(ctOrigSrc<<i, func() firewall.Truth { return AddrIn(s.addr, c.addrs[i].addr, c.addrs[i].mask) })
		add(ctOrigSrcPort<<i, func() firewall.Truth {
			if !s.addr.IsValid() {
				return firewall.Maybe
			}
			return within(s.port, c.ports[i][0], c.ports[i][1])
		})
	}
	add(ctProto, func() firewall.Truth {
		if ct.Orig.Proto == 0 {
			return firewall.Maybe
		}
		return firewall.Of(uint16(ct.Orig.Proto) == c.proto)
	})
	add(ctStatus, func() firewall.Truth {
		if !ct.HasStatus {
			return firewall.Maybe
		}
		return firewall.Of(uint32(c.status)&ct.Status != 0)
	})
	add(ctExpires, func() firewall.Truth { return firewall.Maybe })
	return t
}

// stateIn says whether one of the states of ct is in mask.
func stateIn(ct *firewall.Conntrack, mask uint16) firewall.Truth {
	if mask&stateBit(ct.State) != 0 {
		return firewall.Yes
	}
	nat := mask & (stateSNAT | stateDNAT)
	switch {
	case nat == 0, ct.State == firewall.CTInvalid, ct.State == firewall.CTUntracked:
		return firewall.No
	case !ct.HasStatus:
		return firewall.Maybe
	}
	return firewall.Of(nat&stateSNAT != 0 && ct.Status&firewall.StatusSNAT != 0 ||
		nat&stateDNAT != 0 && ct.Status&firewall.StatusDNAT != 0)
}

func stateBit(s firewall.CTState) uint16 {
	switch s {
	case firewall.CTNew:
		return stateNew
	case firewall.CTEstablished:
		return stateEstablished
	case firewall.CTRelated:
		return stateRelated
	case firewall.CTUntracked:
		return stateUntracked
	}
	return stateInvalid
}

// stateMatch decodes struct xt_state_info, whose bit for UNTRACKED differs from conntrack's.
func stateMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	mask := uint16(d.u32(0) & (stateInvalid | stateEstablished | stateRelated | stateNew))
	if d.u32(0)&(1<<6) != 0 {
		mask |= stateUntracked
	}
	d.arg("--state", ctStates(mask))
	return func(p *firewall.Packet) firewall.Truth {
		if p.CT == nil || p.CT.State == "" {
			return firewall.Maybe
		}
		return stateIn(p.CT, mask)
	}
}

// connmarkMatch decodes struct xt_connmark_mtinfo1.
func connmarkMatch(d *decoding) judge {
	if d.rev != 1 {
		return nil
	}
	mark, mask, inverted := d.u32(0), d.u32(4), d.u8(8) != 0
	d.option(inverted, "--mark", masked(mark, mask))
	return func(p *firewall.Packet) firewall.Truth {
		switch {
		case p.CT == nil || p.CT.State == "":
			return firewall.Maybe
		case p.CT.State == firewall.CTInvalid || p.CT.State == firewall.CTUntracked:
			return firewall.No // no entry, no mark: not even the inverse matches
		case !p.CT.HasMark:
			return firewall.Maybe
		}
		return xor(firewall.Of(p.CT.Mark&mask == mark), inverted)
	}
}

// helperMatch decodes struct xt_helper_info.
func helperMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	d.option(d.u32(0) != 0, "--helper", quoted(d.str(4, 30)))
	return maybe
}

// connlabelMatch decodes struct xt_connlabel_mtinfo. iptables shows a name of its own file for the
// bit, which is not read here.
func connlabelMatch(d *decoding) judge {
	if d.rev != 0 && d.rev != 1 {
		return nil
	}
	d.option(d.u16(2)&1 != 0, "--label", `"`+decimal(d.u16(0))+`"`)
	d.flag(d.u16(2)&2 != 0, "--set")
	return maybe
}

// connbytesMatch decodes struct xt_connbytes_info; from above to means the inverse.
func connbytesMatch(d *decoding) judge {
	from, to, what, dir := d.u64(0), d.u64(8), d.u8(16), d.u8(17)
	if d.rev != 0 || what > 2 || dir > 2 {
		return nil
	}
	inverted := from > to
	if inverted {
		from, to = to, from
	}
	words := decimal(from)
	if to != ^uint64(0) {
		words += ":" + decimal(to)
	}
	d.option(inverted, "--connbytes", words)
	d.arg("--connbytes-mode", [...]string{"packets", "bytes", "avgpkt"}[what])
	d.arg("--connbytes-dir", [...]string{"original", "reply", "both"}[dir])
	return maybe
}
