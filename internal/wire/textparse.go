package wire

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseText parses one line of the text form. Unknown keys, repeated meaning and values out of
// range are errors that name the pair.
func ParseText(line string) (Event, error) {
	var e Event
	for _, word := range strings.FieldsFunc(line, isBlank) {
		if word[0] == '#' {
			break
		}
		key, val, ok := strings.Cut(word, "=")
		if !ok {
			return Event{}, fmt.Errorf("parse event: %q is not key=value", word)
		}
		if err := e.set(key, val); err != nil {
			return Event{}, fmt.Errorf("parse event: %s: %w", word, err)
		}
	}
	return e, nil
}

func isBlank(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }

// set gives the field behind key its value.
func (e *Event) set(key, val string) error {
	if p := e.number64(key); p != nil {
		return parseUint(p, val, numberBase(key))
	}
	if p := e.number32(key); p != nil {
		return parseUint(p, val, numberBase(key))
	}
	if p := e.number16(key); p != nil {
		return parseUint(p, val, 10)
	}
	if p := e.number8(key); p != nil {
		return parseUint(p, val, 10)
	}
	if proto, ok := parseProto(key); ok {
		return setTuple(&e.Tuple, proto, val)
	}
	return e.setText(key, val)
}

func numberBase(key string) int {
	switch key {
	case "skb", "head", "loc", "sock", "ct", "mark", "ctstatus":
		return 16
	}
	return 10
}

func (e *Event) number64(key string) *uint64 {
	switch key {
	case "t":
		return &e.Time
	case "skb":
		return &e.Skb
	case "head":
		return &e.Head
	case "loc":
		return &e.Location
	case "sock":
		return &e.Sock
	case "ct":
		return &e.CT
	}
	return nil
}

func (e *Event) number32(key string) *uint32 {
	switch key {
	case "ns":
		return &e.NetNS
	case "if":
		return &e.Ifindex
	case "in":
		return &e.InIfindex
	case "out":
		return &e.OutIfindex
	case "vni":
		return &e.VNI
	case "len":
		return &e.Length
	case "seq":
		return &e.Seq
	case "ack":
		return &e.Ack
	case "mtu":
		return &e.MTU
	case "reason":
		return &e.Reason
	case "mark":
		return &e.Mark
	case "table":
		return &e.Table
	case "ctstatus":
		return &e.CTStatus
	}
	return nil
}

func (e *Event) number16(key string) *uint16 {
	switch key {
	case "ipid":
		return &e.IPID
	case "payload":
		return &e.Payload
	case "cpu":
		return &e.CPU
	}
	return nil
}

func (e *Event) number8(key string) *uint8 {
	switch key {
	case "ttl":
		return &e.TTL
	case "type":
		return &e.ICMPType
	case "code":
		return &e.ICMPCode
	case "pkt":
		return &e.PktType
	case "ctinfo":
		return &e.CTInfo
	}
	return nil
}

func (e *Event) setText(key, val string) (err error) {
	switch key {
	case "hook":
		var ok bool
		if e.Hook, ok = parseHook(val); !ok {
			return fmt.Errorf("unknown hook")
		}
	case "dev":
		e.Dev, err = unescape(val)
	case "nf":
		e.NFHook, err = parseNFHook(val)
	case "outer":
		e.OuterSrc, e.OuterDst, err = parseEnds(val)
	case "flags":
		e.TCPFlags, err = parseTCPFlags(val)
	case "state":
		from, to, _ := strings.Cut(val, ">")
		if err = parseUint(&e.OldState, from, 10); err == nil {
			err = parseUint(&e.NewState, to, 10)
		}
	case "bits":
		e.Flags, err = parseFlags(val)
	case "ctorig":
		err = parseProtoTuple(&e.CTOrig, val)
	case "ctreply":
		err = parseProtoTuple(&e.CTReply, val)
	case "gw":
		e.Gateway, err = netip.ParseAddr(val)
	case "cap":
		e.Capture, err = parseCapture(val)
	case "err":
		var n int64
		n, err = strconv.ParseInt(val, 10, 32)
		e.Err = int32(n)
	default:
		err = fmt.Errorf("unknown key")
	}
	return err
}

func parseUint[T uint8 | uint16 | uint32 | uint64](p *T, s string, base int) error {
	n, err := strconv.ParseUint(s, base, 64)
	if err != nil {
		return err
	}
	if uint64(T(n)) != n {
		return fmt.Errorf("%d is out of range", n)
	}
	*p = T(n)
	return nil
}

func parseProto(name string) (uint8, bool) {
	switch name {
	case "tcp":
		return ProtoTCP, true
	case "udp":
		return ProtoUDP, true
	case "icmp":
		return ProtoICMP, true
	case "icmp6":
		return ProtoICMPv6, true
	}
	num, ok := strings.CutPrefix(name, "ip")
	n, err := strconv.ParseUint(num, 10, 8)
	return uint8(n), ok && err == nil
}

func parseProtoTuple(t *Tuple, val string) error {
	name, ends, _ := strings.Cut(val, ":")
	proto, ok := parseProto(name)
	if !ok {
		return fmt.Errorf("unknown protocol %q, expected PROTO:SRC>DST", name)
	}
	return setTuple(t, proto, ends)
}

func setTuple(t *Tuple, proto uint8, val string) (err error) {
	t.Proto = proto
	t.Src, t.Dst, err = parseEnds(val)
	return err
}

func parseEnds(val string) (src, dst netip.AddrPort, err error) {
	s, d, ok := strings.Cut(val, ">")
	if !ok {
		return src, dst, fmt.Errorf("expected SRC>DST")
	}
	if src, err = parseEnd(s); err == nil {
		dst, err = parseEnd(d)
	}
	return src, dst, err
}

// parseEnd parses addr:port, a bare address (port 0), or "-" for no address.
func parseEnd(s string) (netip.AddrPort, error) {
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		var port uint16
		if rest != "" {
			if err := parseUint(&port, strings.TrimPrefix(rest, ":"), 10); err != nil {
				return netip.AddrPort{}, err
			}
		}
		return netip.AddrPortFrom(netip.Addr{}, port), nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), 0), nil
	}
	ap, err := netip.ParseAddrPort(s)
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), err
}

func parseNFHook(val string) (uint8, error) {
	for n := uint8(NFPrerouting); n <= NFPostrouting; n++ {
		if nfHookName(n) == val {
			return n, nil
		}
	}
	var n uint8
	err := parseUint(&n, val, 10)
	return n, err
}

func parseTCPFlags(val string) (uint8, error) {
	var flags uint8
	for i := range len(val) {
		bit := strings.IndexByte(tcpFlagLetters, val[i])
		if bit < 0 {
			return 0, fmt.Errorf("unknown flag %q, expected letters of %s", val[i], tcpFlagLetters)
		}
		flags |= 1 << bit
	}
	return flags, nil
}

func parseFlags(val string) (uint32, error) {
	var flags uint32
next:
	for _, part := range strings.Split(val, ",") {
		for i, name := range eventFlagNames() {
			if part == name {
				flags |= 1 << i
				continue next
			}
		}
		num, ok := strings.CutPrefix(part, "0x")
		n, err := strconv.ParseUint(num, 16, 32)
		if !ok || err != nil {
			return 0, fmt.Errorf("unknown bit %q", part)
		}
		flags |= uint32(n)
	}
	return flags, nil
}

func parseCapture(val string) (*Capture, error) {
	parts := strings.Split(val, "/")
	if len(parts) != 3 {
		return nil, fmt.Errorf("expected LINK/LENGTH/BYTES")
	}
	c := &Capture{}
	err := parseUint(&c.Link, parts[0], 10)
	if err == nil {
		err = parseUint(&c.Length, parts[1], 10)
	}
	if err == nil {
		c.Bytes, err = hex.DecodeString(parts[2])
	}
	if err == nil && (int(c.Link) > len(c.Bytes) || uint64(c.Length) < uint64(len(c.Bytes))) {
		err = fmt.Errorf("%d bytes do not fit a header of %d in a packet of %d", len(c.Bytes), c.Link, c.Length)
	}
	return c, err
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("unfinished %%XX")
		}
		var c uint8
		if err := parseUint(&c, s[i+1:i+3], 16); err != nil {
			return "", err
		}
		b.WriteByte(c)
		i += 2
	}
	return b.String(), nil
}
