package pcapng

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
)

// LinkType says what the bytes of an interface's packets begin with (the tcpdump group's list).
type LinkType uint16

// The link types that are used.
const (
	LinkEthernet LinkType = 1   // LINKTYPE_ETHERNET
	LinkRaw      LinkType = 101 // LINKTYPE_RAW: an IPv4 or IPv6 header
)

// Direction is that of a packet at its interface (the two lowest bits of epb_flags).
type Direction uint8

// The directions; the zero value says nothing.
const (
	Inbound  Direction = 1
	Outbound Direction = 2
)

// Section describes a section: what comes from one capture.
type Section struct {
	OS, Application, Comment string
}

// Interface describes where packets were seen.
type Interface struct {
	Name, Description, OS string
	Link                  LinkType
	Snaplen               uint32 // the most bytes of a packet that are kept; 0 for no limit
}

// Packet is one observation of a packet.
type Packet struct {
	Interface uint32 // as AddInterface numbered it
	Time      uint64 // ns since 1970-01-01 UTC
	Bytes     []byte
	// Length is that of the whole packet; less than Bytes means theirs.
	Length    uint32
	Direction Direction
	// ID, if not 0, is the same for every observation of a packet (epb_packetid).
	ID       uint64
	Comments []string
}

// Name is what an address is called.
type Name struct {
	Addr netip.Addr
	Name string
}

// Statistics closes an interface.
type Statistics struct {
	Interface uint32
	Time      uint64 // ns since 1970-01-01 UTC
	Dropped   uint64 // packets that were lost for want of room; written if not 0
	Comment   string
}

// Writer writes blocks. After an error every further call returns that error and writes nothing. It is
// not safe for concurrent use.
type Writer struct {
	w          io.Writer
	err        error
	section    bool
	interfaces uint32 // of the section
}

// NewWriter returns a Writer that writes to w. A section comes first.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// byteOrder tells a reader how to read the integers (draft-ietf-opsawg-pcapng, 4.1).
const byteOrder = 0x1a2b3c4d

// Section begins a section; interfaces are numbered from 0 again.
func (w *Writer) Section(s Section) error {
	b := newBlock(typeSection)
	b.u32(byteOrder)
	b.u16(1) // version 1.0
	b.u16(0)
	b.u64(^uint64(0)) // the length of the section is not known
	b.text(optComment, s.Comment)
	b.text(optSectionOS, s.OS)
	b.text(optApplication, s.Application)
	w.section, w.interfaces = true, 0
	return w.write("section", b)
}

// nanoseconds is the value of if_tsresol: 10 to the power of minus nine seconds.
const nanoseconds = 9

// AddInterface adds an interface to the section and returns its number.
func (w *Writer) AddInterface(i Interface) (uint32, error) {
	if !w.section {
		return 0, errors.New("write interface: no section was begun")
	}
	b := newBlock(typeInterface)
	b.u16(uint16(i.Link))
	b.u16(0)
	b.u32(i.Snaplen)
	b.text(optName, i.Name)
	b.text(optDescription, i.Description)
	b.option(optResolution, []byte{nanoseconds})
	b.text(optInterfaceOS, i.OS)
	w.interfaces++
	return w.interfaces - 1, w.write("interface", b)
}

// hashCRC32 is the algorithm of epb_hash: CRC-32 of the bytes that are kept.
const hashCRC32 = 2

// WritePacket adds a packet of an interface of the section.
func (w *Writer) WritePacket(p Packet) error {
	if p.Interface >= w.interfaces {
		return fmt.Errorf("write packet: the section has no interface %d", p.Interface)
	}
	b := newBlock(typePacket)
	b.u32(p.Interface)
	b.time(p.Time)
	b.u32(uint32(len(p.Bytes)))
	b.u32(max(p.Length, uint32(len(p.Bytes))))
	b.padded(p.Bytes)
	for _, c := range p.Comments {
		b.text(optComment, c)
	}
	if p.Direction != 0 {
		b.option(optFlags, binary.LittleEndian.AppendUint32(nil, uint32(p.Direction)))
	}
	if len(p.Bytes) > 0 {
		b.option(optHash, binary.BigEndian.AppendUint32([]byte{hashCRC32}, crc32.ChecksumIEEE(p.Bytes)))
	}
	if p.ID != 0 {
		b.option(optPacketID, binary.LittleEndian.AppendUint64(nil, p.ID))
	}
	return w.write("packet", b)
}

// Record types of a name resolution block.
const (
	nameEnd  = 0
	nameIPv4 = 1
	nameIPv6 = 2
)

// WriteNames adds what addresses are called, for the whole section. Entries without a name are left out.
func (w *Writer) WriteNames(names []Name) error {
	b := newBlock(typeNames)
	for _, n := range names {
		text := valid(n.Name)
		if text == "" || !n.Addr.IsValid() {
			continue
		}
		typ := uint16(nameIPv4)
		if n.Addr.Unmap().Is6() {
			typ = nameIPv6
		}
		record := append(n.Addr.Unmap().WithZone("").AsSlice(), text...)
		if len(record) >= maxOption {
			continue
		}
		b.option(typ, append(record, 0))
	}
	b.u16(nameEnd)
	b.u16(0)
	return w.write("names", b)
}

// WriteStatistics closes an interface of the section.
func (w *Writer) WriteStatistics(s Statistics) error {
	if s.Interface >= w.interfaces {
		return fmt.Errorf("write statistics: the section has no interface %d", s.Interface)
	}
	b := newBlock(typeStatistics)
	b.u32(s.Interface)
	b.time(s.Time)
	b.text(optComment, s.Comment)
	if s.Dropped > 0 {
		b.option(optStatDrop, binary.LittleEndian.AppendUint64(nil, s.Dropped))
	}
	return w.write("statistics", b)
}

func (w *Writer) write(what string, b *block) error {
	if w.err != nil {
		return w.err
	}
	if _, err := w.w.Write(b.bytes()); err != nil {
		w.err = fmt.Errorf("write %s: %w", what, err)
	}
	return w.err
}
