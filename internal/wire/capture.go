package wire

import (
	"encoding/binary"
	"fmt"
)

// Capture is what was copied of a packet's bytes. Nobody changes it once the event is on its way.
type Capture struct {
	// Bytes are the packet's first bytes as they were in the kernel's buffer, from the link-layer header
	// on if Link is not 0, else from the network header on. Checksums that the device was to fill in
	// are not filled in.
	Bytes []byte
	// Length is that of the whole packet in bytes, counted like Bytes; more than 65,535 before
	// segmentation.
	Length uint32
	// Link is the length of the Ethernet header that Bytes begin with, with its tags; 0 for none.
	Link uint16
}

// hookCaptured is HOOK_CAPTURED of bpf/include/event.h: a struct capture follows the event.
const hookCaptured = 0x80

// Offsets of struct capture's fields.
const (
	capLength    = 0
	capCaptured  = 4
	capLink      = 6
	capVLAN      = 8
	capVLANProto = 10
	// SizeCapture is what precedes the bytes of a packet in a record, after the event.
	SizeCapture = 16
)

const (
	macAddresses = 12 // bytes of an Ethernet header before its type
	vlanTag      = 4  // bytes of an 802.1Q tag
	ethernet     = 14
)

// decodeCapture reads what follows a whole event.
func decodeCapture(b []byte, e *Event) error {
	if len(b) < SizeCapture {
		return fmt.Errorf("decode event: %d bytes of a captured packet, want %d at least", len(b), SizeCapture)
	}
	c := &Capture{Length: u32(b[capLength:]), Link: u16(b[capLink:])}
	n, tci, proto := int(u16(b[capCaptured:])), u16(b[capVLAN:]), u16(b[capVLANProto:])
	if b = b[SizeCapture:]; n > len(b) {
		return fmt.Errorf("decode event: %d captured bytes in a record for %d", n, len(b))
	}
	b = b[:n]
	c.Link = min(c.Link, uint16(n))
	if tci == 0 || c.Link < ethernet {
		c.Bytes = append([]byte(nil), b...)
	} else {
		c.Bytes = insertTag(b, tci, proto)
		c.Link, c.Length = c.Link+vlanTag, c.Length+vlanTag
	}
	c.Length = max(c.Length, uint32(len(c.Bytes)))
	e.Capture = c
	return nil
}

// insertTag puts the tag that the kernel keeps beside the packet where it is on the wire.
func insertTag(b []byte, tci, proto uint16) []byte {
	out := make([]byte, 0, len(b)+vlanTag)
	out = append(out, b[:macAddresses]...)
	out = binary.BigEndian.AppendUint16(out, proto)
	out = binary.BigEndian.AppendUint16(out, tci)
	return append(out, b[macAddresses:]...)
}
