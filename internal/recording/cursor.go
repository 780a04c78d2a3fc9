package recording

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// errShort is an event that ends before its last field.
var errShort = errors.New("an event is cut off")

// cursor takes values from the front of bytes. After the first error it returns zeros, so that err need
// not be looked at before an event is whole.
type cursor struct {
	b   []byte
	err error
}

// fail notes an error; nil is none.
func (c *cursor) fail(err error) {
	if err != nil && c.err == nil {
		c.b, c.err = nil, err
	}
}

// uvarint takes a number as encoding/binary writes it. Most are of one byte.
func (c *cursor) uvarint() (n uint64) {
	b := c.b
	if len(b) > 0 && b[0] < 0x80 {
		c.b = b[1:]
		return uint64(b[0])
	}
	for i, v := range b {
		if i == binary.MaxVarintLen64-1 && v > 1 {
			break // more than 64 bits
		}
		if v < 0x80 {
			c.b = b[i+1:]
			return n | uint64(v)<<(7*i)
		}
		n |= uint64(v&0x7f) << (7 * i)
	}
	c.fail(errShort)
	return 0
}

// varint undoes the zigzag of encoding/binary.
func (c *cursor) varint() int64 {
	n := c.uvarint()
	return int64(n>>1) ^ -int64(n&1)
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail(errShort)
		return 0
	}
	n := c.b[0]
	c.b = c.b[1:]
	return n
}

// bytes takes n bytes; they are those of the cursor.
func (c *cursor) bytes(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail(errShort)
		return nil
	}
	raw := c.b[:n]
	c.b = c.b[n:]
	return raw
}

func (c *cursor) lengthAndBytes() []byte { return c.bytes(c.uvarint()) }

func (c *cursor) addr() netip.Addr {
	raw := c.bytes(uint64(c.byte()))
	switch len(raw) {
	case 0:
	case 4:
		return netip.AddrFrom4([4]byte(raw))
	case 16:
		return netip.AddrFrom16([16]byte(raw))
	default:
		c.fail(fmt.Errorf("an event has an address of %d bytes", len(raw)))
	}
	return netip.Addr{}
}
