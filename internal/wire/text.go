package wire

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strconv"
	"strings"
)

// The text form of an Event is one line of key=value pairs separated by blanks, in the order in
// which AppendText writes them; ParseText takes them in any order. Absent keys are zero values, a
// word that begins with # starts a comment.
//
//	t       time, ns                   hook    Hook.String()
//	skb head loc sock ct  addresses, hexadecimal
//	ns if in out          namespace and interface numbers      dev   name of if
//	nf      netfilter hook by name or number
//	tcp udp icmp icmp6 ipN   tuple SRC>DST, each addr:port; "-" is no address
//	outer   SRC>DST of the tunnel or ICMP error                vni
//	flags   TCP flags as letters FSRPAUEC (order of the header's bits)
//	seq ack len payload ipid ttl type code mtu cpu reason mark err pkt table   numbers
//	state   OLD>NEW, TCP states as numbers
//	bits    names of the Flag bits, separated by commas
//	ctorig ctreply   PROTO:SRC>DST     ctstatus (hexadecimal) ctinfo     gw   gateway address
//	cap     LINK/LENGTH/BYTES of Event.Capture, the bytes hexadecimal

// AppendText appends the text form of e to b, without a line end, and returns the result.
func (e *Event) AppendText(b []byte) []byte {
	w := textWriter{b: b}
	w.num("t", e.Time)
	w.text("hook", e.Hook.String())
	w.hex("skb", e.Skb)
	w.hex("head", e.Head)
	w.num("ns", uint64(e.NetNS))
	w.num("if", uint64(e.Ifindex))
	w.num("in", uint64(e.InIfindex))
	w.num("out", uint64(e.OutIfindex))
	w.text("dev", escape(e.Dev))
	if e.Hook == NetfilterEnter || e.Hook == NetfilterLeave || e.NFHook != 0 {
		w.text("nf", nfHookName(e.NFHook))
	}
	w.tuple(e.Tuple)
	w.ends("outer", e.OuterSrc, e.OuterDst)
	w.num("vni", uint64(e.VNI))
	w.text("flags", TCPFlagString(e.TCPFlags))
	e.appendNumbers(&w)
	if e.OldState != 0 || e.NewState != 0 {
		w.text("state", strconv.Itoa(int(e.OldState))+">"+strconv.Itoa(int(e.NewState)))
	}
	w.text("bits", flagText(e.Flags))
	e.appendConntrack(&w)
	if e.Gateway.IsValid() {
		w.text("gw", e.Gateway.String())
	}
	w.num("table", uint64(e.Table))
	if c := e.Capture; c != nil {
		w.text("cap", fmt.Sprintf("%d/%d/%x", c.Link, c.Length, c.Bytes))
	}
	return w.b
}

func (e *Event) appendNumbers(w *textWriter) {
	w.num("seq", uint64(e.Seq))
	w.num("ack", uint64(e.Ack))
	w.num("len", uint64(e.Length))
	w.num("payload", uint64(e.Payload))
	w.num("ipid", uint64(e.IPID))
	w.num("ttl", uint64(e.TTL))
	w.num("type", uint64(e.ICMPType))
	w.num("code", uint64(e.ICMPCode))
	w.num("mtu", uint64(e.MTU))
	w.num("cpu", uint64(e.CPU))
	w.num("reason", uint64(e.Reason))
	w.hex("loc", e.Location)
	w.hex("sock", e.Sock)
	w.hex("mark", uint64(e.Mark))
	if e.Err != 0 {
		w.text("err", strconv.FormatInt(int64(e.Err), 10))
	}
	w.num("pkt", uint64(e.PktType))
}

func (e *Event) appendConntrack(w *textWriter) {
	w.hex("ct", e.CT)
	w.protoTuple("ctorig", e.CTOrig)
	w.protoTuple("ctreply", e.CTReply)
	w.hex("ctstatus", uint64(e.CTStatus))
	w.num("ctinfo", uint64(e.CTInfo))
}

// textWriter appends pairs and leaves out zero values.
type textWriter struct{ b []byte }

func (w *textWriter) key(k string) {
	if n := len(w.b); n > 0 && w.b[n-1] != '\n' {
		w.b = append(w.b, ' ')
	}
	w.b = append(append(w.b, k...), '=')
}

func (w *textWriter) text(k, v string) {
	if v != "" {
		w.key(k)
		w.b = append(w.b, v...)
	}
}

func (w *textWriter) num(k string, v uint64) {
	if v != 0 {
		w.key(k)
		w.b = strconv.AppendUint(w.b, v, 10)
	}
}

func (w *textWriter) hex(k string, v uint64) {
	if v != 0 {
		w.key(k)
		w.b = strconv.AppendUint(w.b, v, 16)
	}
}

func (w *textWriter) ends(k string, src, dst netip.AddrPort) {
	if src == (netip.AddrPort{}) && dst == (netip.AddrPort{}) {
		return
	}
	w.key(k)
	w.b = appendEnd(w.b, src)
	w.b = append(w.b, '>')
	w.b = appendEnd(w.b, dst)
}

func (w *textWriter) tuple(t Tuple) {
	if t != (Tuple{}) {
		w.key(protoName(t.Proto))
		w.b = appendTuple(w.b, t)
	}
}

func (w *textWriter) protoTuple(k string, t Tuple) {
	if t != (Tuple{}) {
		w.key(k)
		w.b = append(append(w.b, protoName(t.Proto)...), ':')
		w.b = appendTuple(w.b, t)
	}
}

func appendTuple(b []byte, t Tuple) []byte {
	b = append(appendEnd(b, t.Src), '>')
	return appendEnd(b, t.Dst)
}

func appendEnd(b []byte, ap netip.AddrPort) []byte {
	if ap.IsValid() {
		return ap.AppendTo(b)
	}
	b = append(b, '-')
	if ap.Port() != 0 {
		b = strconv.AppendUint(append(b, ':'), uint64(ap.Port()), 10)
	}
	return b
}

func protoName(p uint8) string {
	switch p {
	case ProtoTCP:
		return "tcp"
	case ProtoUDP:
		return "udp"
	case ProtoICMP:
		return "icmp"
	case ProtoICMPv6:
		return "icmp6"
	}
	return "ip" + strconv.Itoa(int(p))
}

// flagText names the set bits; bits without a name are written as one hexadecimal number.
func flagText(flags uint32) string {
	var parts []string
	for i, name := range eventFlagNames() {
		if flags&(1<<i) != 0 {
			parts = append(parts, name)
			flags &^= 1 << i
		}
	}
	if flags != 0 {
		parts = append(parts, "0x"+strconv.FormatUint(uint64(flags), 16))
	}
	return strings.Join(parts, ",")
}

// escape writes bytes that would end a word, and the percent sign, as %XX.
func escape(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '%' }) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '%' {
			fmt.Fprintf(&b, "%%%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// ReadText reads events in text form, one per line, until r ends. Empty lines and comments are
// skipped. An error, which names its line, ends the sequence.
func ReadText(r io.Reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		sc := bufio.NewScanner(r)
		for n := 1; sc.Scan(); n++ {
			line := strings.TrimSpace(sc.Text())
			if line == "" || line[0] == '#' {
				continue
			}
			e, err := ParseText(line)
			if err != nil {
				yield(Event{}, fmt.Errorf("read events: line %d: %w", n, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if err := sc.Err(); err != nil {
			yield(Event{}, fmt.Errorf("read events: %w", err))
		}
	}
}
