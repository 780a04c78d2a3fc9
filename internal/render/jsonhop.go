package render

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// hopLines appends hops as lines of JSON, byte for byte as encoding/json has them without the escapes of
// HTML: with reflection, hops took a third of the processor time of a watched connection. Tests hold the two
// together, field by field. The hops of a flow are at few places and have few ends: the fields that tell them
// are copied from the last hops that had the same. The zero value is ready to use; the hops may not change
// meanwhile.
type hopLines struct{ places, ends pieces }

// pieces are where fields of the last hops that had others than those before stand in what was appended.
type pieces struct {
	list [8]piece
	next int // to be replaced
}

// piece is where fields of a hop stand in what was appended.
type piece struct {
	of       *path.Hop // nil: there is none
	from, to int
}

// find returns the piece of a hop with the same fields, nil if there is none.
func (p *pieces) find(h *path.Hop, same func(a, b *path.Hop) bool) *piece {
	for i := range p.list {
		if of := p.list[i].of; of != nil && same(of, h) {
			return &p.list[i]
		}
	}
	return nil
}

func (p *pieces) add(h *path.Hop, from, to int) {
	p.list[p.next] = piece{h, from, to}
	p.next = (p.next + 1) % len(p.list)
}

// append appends a hop to what was appended before.
func (l *hopLines) append(b []byte, h *path.Hop) []byte {
	b = append(b, `{"type":"hop","flow":`...)
	b = strconv.AppendInt(b, int64(h.Flow), 10)
	b = append(b, `,"packet":`...)
	b = strconv.AppendInt(b, int64(h.Packet), 10)
	b = appendText(b, `,"direction":`, string(h.Direction))
	b = append(b, `,"time_ns":`...)
	b = strconv.AppendInt(b, h.TimeNS, 10)
	b = l.appendPlace(b, h)
	b = appendText(b, `,"stage":`, string(h.Stage))
	b = appendText(b, `,"action":`, string(h.Action))
	b = l.appendEnds(b, h)
	b = appendNumber(b, `,"length":`, int64(h.Length))
	b = appendSet(b, `,"tcp_flags":`, h.TCPFlags)
	b = appendOuter(b, h.Outer)
	b = appendSet(b, `,"reason":`, h.Reason)
	b = appendSet(b, `,"function":`, h.Function)
	b = appendAdditions(b, h)
	return append(b, '}', '\n')
}

func (l *hopLines) appendPlace(b []byte, h *path.Hop) []byte {
	if p := l.places.find(h, samePlace); p != nil {
		return append(b, b[p.from:p.to]...)
	}
	from := len(b)
	b = appendSet(b, `,"host":`, h.Host)
	b = appendSet(b, `,"namespace":`, h.Namespace)
	b = appendNumber(b, `,"netns":`, int64(h.NetNS))
	b = appendSet(b, `,"container":`, h.Container)
	b = appendSet(b, `,"network":`, h.Network)
	b = appendSet(b, `,"device":`, h.Device)
	b = appendSet(b, `,"device_kind":`, h.DeviceKind)
	l.places.add(h, from, len(b))
	return b
}

func samePlace(a, b *path.Hop) bool {
	return a.NetNS == b.NetNS && a.Device == b.Device && a.Host == b.Host && a.Namespace == b.Namespace &&
		a.Container == b.Container && a.Network == b.Network && a.DeviceKind == b.DeviceKind
}

func (l *hopLines) appendEnds(b []byte, h *path.Hop) []byte {
	if p := l.ends.find(h, sameEnds); p != nil {
		return append(b, b[p.from:p.to]...)
	}
	from := len(b)
	b = appendSet(b, `,"src":`, h.Src)
	b = appendSet(b, `,"dst":`, h.Dst)
	b = appendSet(b, `,"src_name":`, h.SrcName)
	b = appendSet(b, `,"dst_name":`, h.DstName)
	l.ends.add(h, from, len(b))
	return b
}

func sameEnds(a, b *path.Hop) bool {
	return a.Src == b.Src && a.Dst == b.Dst && a.SrcName == b.SrcName && a.DstName == b.DstName
}

// appendAdditions appends the fields that were added to the first contract.
func appendAdditions(b []byte, h *path.Hop) []byte {
	b = appendSet(b, `,"project":`, h.Project)
	b = appendSet(b, `,"service":`, h.Service)
	b = appendSet(b, `,"hook":`, h.Hook)
	if h.Retransmission {
		b = append(b, `,"retransmission":true`...)
	}
	if h.Copy {
		b = append(b, `,"copy":true`...)
	}
	b = appendSet(b, `,"icmp":`, h.ICMP)
	b = appendSet(b, `,"prev_src":`, h.PrevSrc)
	b = appendSet(b, `,"prev_dst":`, h.PrevDst)
	b = appendSet(b, `,"in_device":`, h.InDevice)
	b = appendSet(b, `,"out_device":`, h.OutDevice)
	b = appendSet(b, `,"gateway":`, h.Gateway)
	b = appendSet(b, `,"error":`, h.Error)
	b = appendNumber(b, `,"spi":`, int64(h.SPI))
	b = appendNumber(b, `,"device_mtu":`, int64(h.DeviceMTU))
	return appendList(b, `,"rules":`, h.Rules, appendRuleStep)
}

func appendOuter(b []byte, o *path.Outer) []byte {
	if o == nil {
		return b
	}
	b = appendText(b, `,"outer":{"src":`, o.Src)
	b = appendText(b, `,"dst":`, o.Dst)
	b = append(b, `,"vni":`...)
	b = strconv.AppendUint(b, uint64(o.VNI), 10)
	return append(b, '}')
}

func appendRuleStep(b []byte, r *path.RuleStep) []byte {
	b = appendText(b, `{"family":`, r.Family)
	b = appendText(b, `,"table":`, r.Table)
	b = appendText(b, `,"chain":`, r.Chain)
	b = appendNumber(b, `,"number":`, int64(r.Number))
	b = appendHandle(b, r.Handle)
	b = appendSet(b, `,"text":`, r.Text)
	b = appendSet(b, `,"owner":`, r.Owner)
	b = appendText(b, `,"verdict":`, r.Verdict)
	return append(b, '}')
}

// appendNumber appends a field unless it is 0.
func appendNumber(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(b, key...), n, 10)
}

// appendSet appends a field unless it is empty.
func appendSet(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(b, key, value)
}

// appendText appends a field.
func appendText(b []byte, key, value string) []byte {
	if !isPlain(value) && !isText(value) {
		return appendAny(b, key, value)
	}
	b = append(b, key...)
	b = append(b, '"')
	b = append(b, value...)
	return append(b, '"')
}

// isPlain reports whether a string is ASCII that stands in JSON as it is. It looks at eight bytes at a time: of
// bytes below 0x80, subtracting borrows from the top bit only where a byte is less than what is subtracted, or
// is behind such a one.
func isPlain(s string) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; len(s) >= 8; s = s[8:] {
		x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		if (x|(x-' '*ones)|((x^'"'*ones)-ones)|((x^'\\'*ones)-ones))&tops != 0 {
			return false
		}
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// isText reports whether a string stands in JSON as it is: encoding/json replaces what is not UTF-8, and
// escapes two ends of lines that JavaScript takes for such.
func isText(s string) bool {
	for i, r := range s {
		if r < ' ' || r == '"' || r == '\\' || r == '\u2028' || r == '\u2029' ||
			r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)) {
			return false
		}
	}
	return true
}

// appendAny appends a field as encoding/json has it.
func appendAny(b []byte, key string, value any) []byte {
	l := lines(append(b, key...))
	if encoder(&l).Encode(value) != nil { // nothing of a hop or a verdict is of a kind that cannot be encoded
		return b
	}
	return l[:len(l)-1] // without the end of the line
}

// lines collects what is written.
type lines []byte

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	*l = append(*l, b...)
	return len(b), nil
}

func encoder(l *lines) *json.Encoder {
	enc := json.NewEncoder(l)
	enc.SetEscapeHTML(false)
	return enc
}
