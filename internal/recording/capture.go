package recording

import (
	"encoding/binary"
	"fmt"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// appendCapture appends the first bytes of a packet as the value of a field: the length of the link-layer
// header and that of the whole packet, as uvarints, then the bytes.
func appendCapture(b []byte, c *wire.Capture) []byte {
	head := binary.AppendUvarint(nil, uint64(c.Link))
	head = binary.AppendUvarint(head, uint64(c.Length))
	b = binary.AppendUvarint(b, uint64(len(head)+len(c.Bytes)))
	return append(append(b, head...), c.Bytes...)
}

// capture reads what appendCapture wrote.
func capture(raw []byte) (*wire.Capture, error) {
	c := cursor{b: raw}
	link, length := c.uvarint(), c.uvarint()
	if c.err != nil {
		return nil, c.err
	}
	raw = c.b
	if link > uint64(len(raw)) || length < uint64(len(raw)) || length > 1<<32-1 {
		return nil, fmt.Errorf("an event has %d bytes of a packet of %d with a header of %d", len(raw), length, link)
	}
	return &wire.Capture{Bytes: append([]byte(nil), raw...), Length: uint32(length), Link: uint16(link)}, nil
}
