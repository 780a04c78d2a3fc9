package diagnose

import "github.com/pathtrace/pathtrace/tracer/path"

// icmpMessage is the meaning of an ICMP or ICMPv6 message.
type icmpMessage uint8

// The messages that conclusions rest on (RFC 792, RFC 1122, RFC 1812, RFC 4443).
const (
	icmpOther icmpMessage = iota // no error, or one that says nothing about the flow
	icmpUnreachableOther
	icmpNetUnreachable
	icmpHostUnreachable
	icmpPortUnreachable
	icmpProhibited
	icmpTooBig
	icmpTimeExceeded
)

// isError reports whether the message says that a packet was not delivered. A redirect or a source
// quench does not.
func (m icmpMessage) isError() bool { return m != icmpOther }

// icmpMeaning classifies a message by family, type and code.
func icmpMeaning(v6 bool, typ, code uint8) icmpMessage {
	if v6 {
		return icmp6Meaning(typ, code)
	}
	switch {
	case typ == 3 && code == 4:
		return icmpTooBig
	case typ == 3:
		return unreachable(code, map[uint8]icmpMessage{
			0: icmpNetUnreachable, 6: icmpNetUnreachable, 11: icmpNetUnreachable,
			1: icmpHostUnreachable, 7: icmpHostUnreachable, 12: icmpHostUnreachable,
			3: icmpPortUnreachable,
			9: icmpProhibited, 10: icmpProhibited, 13: icmpProhibited,
		})
	case typ == 11 && code == 0:
		return icmpTimeExceeded
	case typ == 11, typ == 12:
		return icmpUnreachableOther
	}
	return icmpOther
}

func icmp6Meaning(typ, code uint8) icmpMessage {
	switch {
	case typ == 1:
		return unreachable(code, map[uint8]icmpMessage{
			0: icmpNetUnreachable, 1: icmpProhibited, 3: icmpHostUnreachable,
			4: icmpPortUnreachable, 5: icmpProhibited, 6: icmpNetUnreachable,
		})
	case typ == 2:
		return icmpTooBig
	case typ == 3 && code == 0:
		return icmpTimeExceeded
	case typ == 3, typ == 4:
		return icmpUnreachableOther
	}
	return icmpOther
}

func unreachable(code uint8, table map[uint8]icmpMessage) icmpMessage {
	if m, ok := table[code]; ok {
		return m
	}
	return icmpUnreachableOther
}

// icmpOf classifies the message that a hop describes.
func (a *analysis) icmpOf(h *path.Hop) icmpMessage {
	if h == nil || h.ICMP == "" {
		return icmpOther
	}
	return icmpMeaning(a.isV6(h), h.ICMPType, h.ICMPCode)
}

// icmpOfProbe classifies the ICMP error that the probe got.
func (a *analysis) icmpOfProbe() icmpMessage {
	pr := a.f.Probe
	if pr == nil || pr.Kind != ProbeICMPError {
		return icmpOther
	}
	v6 := a.p.Server.Addr().Is6()
	if !a.p.Server.IsValid() {
		v6 = pr.From.Is6()
	}
	return icmpMeaning(v6, pr.ICMPType, pr.ICMPCode)
}

// isV6 reports the family of the packet observed at h.
func (a *analysis) isV6(h *path.Hop) bool {
	if h != nil && h.DstAddr.IsValid() {
		return h.DstAddr.Addr().Is6()
	}
	return a.p.Server.Addr().Is6()
}

// meaning says in words what the message means.
func (m icmpMessage) meaning() string {
	switch m {
	case icmpNetUnreachable:
		return "network unreachable"
	case icmpHostUnreachable:
		return "host unreachable"
	case icmpPortUnreachable:
		return "port unreachable"
	case icmpProhibited:
		return "administratively prohibited"
	case icmpTooBig:
		return "packet too big"
	case icmpTimeExceeded:
		return "hop limit exceeded"
	}
	return "unreachable"
}
