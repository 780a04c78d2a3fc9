package xt

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// decoding is one match or target on its way from bytes to text. Reading behind the end gives zeros
// and sets short, so that decoders need not check.
type decoding struct {
	v6   bool
	rev  uint8
	b    []byte
	name string // may be changed where users write another name for it
	sets Sets

	bare    bool // write the options without -m or -j
	short   bool
	out     strings.Builder
	comment string
}

// bytes returns n bytes from off; they must not be changed.
func (d *decoding) bytes(off, n int) []byte {
	if off < 0 || n < 0 || off+n > len(d.b) {
		d.short = true
		return make([]byte, min(max(n, 0), 4096))
	}
	return d.b[off : off+n]
}

func (d *decoding) u8(off int) uint8      { return d.bytes(off, 1)[0] }
func (d *decoding) u16(off int) uint16    { return binary.NativeEndian.Uint16(d.bytes(off, 2)) }
func (d *decoding) u32(off int) uint32    { return binary.NativeEndian.Uint32(d.bytes(off, 4)) }
func (d *decoding) u64(off int) uint64    { return binary.NativeEndian.Uint64(d.bytes(off, 8)) }
func (d *decoding) be16(off int) uint16   { return binary.BigEndian.Uint16(d.bytes(off, 2)) }
func (d *decoding) be32(off int) uint32   { return binary.BigEndian.Uint32(d.bytes(off, 4)) }
func (d *decoding) str(off, n int) string { return cString(d.bytes(off, n)) }

// addr reads a union nf_inet_addr (16 bytes) of the rule's version.
func (d *decoding) addr(off int) netip.Addr {
	b := d.bytes(off, 16)
	if d.v6 {
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.AddrFrom4([4]byte(b))
}

// addr4 reads a struct in_addr.
func (d *decoding) addr4(off int) netip.Addr { return netip.AddrFrom4([4]byte(d.bytes(off, 4))) }

// arg appends words to the text, each after a space.
func (d *decoding) arg(words ...string) {
	for _, w := range words {
		d.out.WriteByte(' ')
		d.out.WriteString(w)
	}
}

// argf appends formatted words after a space.
func (d *decoding) argf(format string, args ...any) {
	d.out.WriteByte(' ')
	fmt.Fprintf(&d.out, format, args...)
}

// option appends an option that inverted has a "!" before it.
func (d *decoding) option(inverted bool, words ...string) {
	if inverted {
		d.arg("!")
	}
	d.arg(words...)
}

// flag appends the option if set.
func (d *decoding) flag(set bool, words ...string) {
	if set {
		d.arg(words...)
	}
}

// text is what was written, after option and name.
func (d *decoding) text(option string) string {
	if d.bare {
		return strings.TrimPrefix(d.out.String(), " ")
	}
	return option + d.name + d.out.String()
}

// cString cuts b at its first zero byte.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// printable replaces what would harm a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}

// quoted writes s as xtables_save_string does: bare if no character needs quoting.
func quoted(s string) string {
	bare := s != ""
	for i := 0; i < len(s) && bare; i++ {
		c := s[i]
		bare = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-'
	}
	if bare {
		return s
	}
	r := strings.NewReplacer(`"`, `\"`, `\`, `\\`, `'`, `\'`)
	return `"` + r.Replace(printable(s)) + `"`
}

func decimal[T ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int](n T) string {
	return strconv.FormatUint(uint64(n), 10)
}

// span writes "lo" or "lo:hi".
func span[T ~uint8 | ~uint16 | ~uint32 | ~uint64](lo, hi T) string {
	if lo == hi {
		return decimal(lo)
	}
	return decimal(lo) + ":" + decimal(hi)
}

// masked writes "0x1" or "0x1/0xff".
func masked(value, mask uint32) string {
	if mask == 0xffffffff {
		return fmt.Sprintf("0x%x", value)
	}
	return fmt.Sprintf("0x%x/0x%x", value, mask)
}

// maskText writes a mask as "" for a single address, "/24", or "/255.0.255.0" if it is no prefix.
func maskText(mask netip.Addr) string {
	bits, ok := PrefixLength(mask)
	switch {
	case !ok:
		return "/" + mask.String()
	case bits == mask.BitLen():
		return ""
	}
	return "/" + strconv.Itoa(bits)
}

// PrefixLength returns the number of ones of a mask, false if they are not all at its beginning.
func PrefixLength(mask netip.Addr) (int, bool) {
	n, ended := 0, false
	for _, b := range mask.AsSlice() {
		for bit := byte(0x80); bit != 0; bit >>= 1 {
			switch {
			case b&bit == 0:
				ended = true
			case ended:
				return 0, false
			default:
				n++
			}
		}
	}
	return n, true
}

// xor inverts t if inverted.
func xor(t firewall.Truth, inverted bool) firewall.Truth {
	if inverted {
		return t.Not()
	}
	return t
}

// within says whether v lies in lo to hi.
func within[T ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int](v, lo, hi T) firewall.Truth {
	return firewall.Of(v >= lo && v <= hi)
}

// AddrIn says whether addr under mask is want, Maybe if addr is not known; an all-zero mask fits every
// address of the version.
func AddrIn(addr, want, mask netip.Addr) firewall.Truth {
	if !addr.IsValid() {
		if bits, ok := PrefixLength(mask); ok && bits == 0 {
			return firewall.Yes
		}
		return firewall.Maybe
	}
	if addr.BitLen() != want.BitLen() || mask.BitLen() != want.BitLen() {
		return firewall.No
	}
	a, w, m := addr.As16(), want.As16(), mask.As16()
	first := 0
	if want.Is4() {
		first = 12
	}
	for i := first; i < 16; i++ {
		if (a[i]^w[i])&m[i] != 0 {
			return firewall.No
		}
	}
	return firewall.Yes
}
