package flow

import (
	"strconv"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// ICMP types that end an attempt or tell of it (RFC 792, RFC 4443).
const (
	icmpUnreachable    = 3
	icmpTimeExceeded   = 11
	icmpFragNeeded     = 4 // code of icmpUnreachable
	icmpv6Unreachable  = 1
	icmpv6TooBig       = 2
	icmpv6TimeExceeded = 3
	icmpv6ParamProblem = 4
	icmpParamProblem   = 12
)

// icmpSend records that the stack answers the packet with an ICMP error.
func (r *recorder) icmpSend() {
	s := stageICMP
	if r.b.open {
		s = r.b.openStage
		r.inOpenHook()
	}
	r.translate(s)
	r.t.promote(r.p)
	r.add(s, actionReject, rejectOf(r.e))
}

// rejectOf returns what a hop says about the ICMP error of an event.
func rejectOf(e *wire.Event) *extra {
	return &extra{
		icmp: icmpText(e.Tuple.Src.Addr().Is6(), e.ICMPType, e.ICMPCode), icmpType: e.ICMPType, icmpCode: e.ICMPCode, mtu: e.MTU,
	}
}

// icmpEnds reports whether an ICMP error ends an attempt to connect: at once (fatal), or it may
// be tried again (soft), as icmp_err_convert of net/ipv4/icmp.c and icmpv6_err_convert have it.
func icmpEnds(v6 bool, typ, code uint8) (fatal, soft bool) {
	if v6 {
		switch typ {
		case icmpv6Unreachable:
			soft = code == 0 || code == 2 || code == 3
			return !soft, soft
		case icmpv6TimeExceeded:
			return false, true
		}
		return false, false
	}
	switch typ {
	case icmpUnreachable:
		soft = code <= 1 || code == 5 || code == 11 || code == 12
		return !soft && code != icmpFragNeeded, soft
	case icmpTimeExceeded:
		return false, true
	}
	return false, false
}

// icmpText describes an ICMP message: "type 3 code 3 (port unreachable)".
func icmpText(v6 bool, typ, code uint8) string {
	text := "type " + strconv.Itoa(int(typ)) + " code " + strconv.Itoa(int(code))
	name := icmpName(typ, code)
	if v6 {
		name = icmpv6Name(typ, code)
	}
	if name == "" {
		return text
	}
	return text + " (" + name + ")"
}

// icmpName returns the name of an ICMP error (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812).
func icmpName(typ, code uint8) string {
	switch typ {
	case icmpUnreachable:
		return pick(code, "network unreachable", "host unreachable", "protocol unreachable", "port unreachable",
			"fragmentation needed", "source route failed", "network unknown", "host unknown", "source host isolated",
			"network prohibited", "host prohibited", "network unreachable for this service", "host unreachable for this service",
			"administratively prohibited", "host precedence violation", "precedence cutoff")
	case 4:
		return "source quench"
	case 5:
		return "redirect"
	case icmpTimeExceeded:
		return pick(code, "time to live exceeded", "fragment reassembly time exceeded")
	case icmpParamProblem:
		return "parameter problem"
	}
	return ""
}

// icmpv6Name returns the name of an ICMPv6 error (RFC 4443).
func icmpv6Name(typ, code uint8) string {
	switch typ {
	case icmpv6Unreachable:
		return pick(code, "no route to destination", "administratively prohibited", "beyond scope of source address",
			"address unreachable", "port unreachable", "source address failed policy", "reject route to destination")
	case icmpv6TooBig:
		return "packet too big"
	case icmpv6TimeExceeded:
		return pick(code, "hop limit exceeded", "fragment reassembly time exceeded")
	case icmpv6ParamProblem:
		return "parameter problem"
	}
	return ""
}

func pick(i uint8, names ...string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return ""
}
