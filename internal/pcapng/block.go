package pcapng

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// Block types (draft-ietf-opsawg-pcapng, 10.1).
const (
	typeSection    = 0x0a0d0d0a
	typeInterface  = 1
	typeNames      = 4
	typeStatistics = 5
	typePacket     = 6
)

// Option codes. Those from 2 on have another meaning in each type of block.
const (
	optEnd         = 0
	optComment     = 1
	optSectionOS   = 3
	optApplication = 4
	optName        = 2
	optDescription = 3
	optResolution  = 9
	optInterfaceOS = 12
	optFlags       = 2
	optHash        = 3
	optPacketID    = 5
	optStatDrop    = 5 // isb_ifdrop
)

// blockHead and blockTail are what every block begins and ends with: type and length, length.
const (
	blockHead = 8
	blockTail = 4
)

// maxOption bounds the text of an option; its length has 16 bits.
const maxOption = 65535

// block collects one block; its length is filled in by bytes.
type block struct{ b []byte }

func newBlock(typ uint32) *block {
	b := &block{b: make([]byte, 0, 256)}
	b.u32(typ)
	b.u32(0)
	return b
}

func (b *block) u16(v uint16) { b.b = binary.LittleEndian.AppendUint16(b.b, v) }
func (b *block) u32(v uint32) { b.b = binary.LittleEndian.AppendUint32(b.b, v) }
func (b *block) u64(v uint64) { b.b = binary.LittleEndian.AppendUint64(b.b, v) }

// time appends the two halves of a timestamp, the upper one first.
func (b *block) time(ns uint64) {
	b.u32(uint32(ns >> 32))
	b.u32(uint32(ns))
}

// padded appends bytes and fills up to 32 bits.
func (b *block) padded(v []byte) {
	b.b = append(b.b, v...)
	for len(b.b)%4 != 0 {
		b.b = append(b.b, 0)
	}
}

func (b *block) option(code uint16, v []byte) {
	b.u16(code)
	b.u16(uint16(len(v)))
	b.padded(v)
}

// text appends an option that is a string; an empty one is left out.
func (b *block) text(code uint16, s string) {
	if s = valid(s); s != "" {
		b.option(code, []byte(s))
	}
}

// bytes ends the options and the block.
func (b *block) bytes() []byte {
	b.u16(optEnd)
	b.u16(0)
	b.u32(uint32(len(b.b) + blockTail))
	binary.LittleEndian.PutUint32(b.b[4:], uint32(len(b.b)))
	return b.b
}

// valid returns s as the format wants text: UTF-8 without a zero byte, no longer than an option.
func valid(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", " ")
	if len(s) <= maxOption {
		return s
	}
	n := maxOption
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
