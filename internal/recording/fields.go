package recording

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// field is one field of an event. Its bit in the mask of an event is its place in Header.Fields.
type field uint8

// The fields, those that change most often first: that keeps masks short. New ones go to the end.
const (
	fieldTime field = iota
	fieldHook
	fieldIfindex
	fieldDev
	fieldIn
	fieldOut
	fieldNFHook
	fieldNetNS
	fieldLocation
	fieldSkb
	fieldHead
	fieldTuple
	fieldFlags
	fieldPktType
	fieldCT
	fieldCTOrig
	fieldCTReply
	fieldCTStatus
	fieldCTInfo
	fieldCPU
	fieldSock
	fieldSeq
	fieldAck
	fieldIPID
	fieldLength
	fieldPayload
	fieldTCPFlags
	fieldTTL
	fieldReason
	fieldMark
	fieldErr
	fieldOldState
	fieldNewState
	fieldICMPType
	fieldICMPCode
	fieldMTU
	fieldOuter
	fieldVNI
	fieldGateway
	fieldRouteTable
	fieldCapture
	fieldEnd
)

// kind is the encoding of a field: how many bytes it has is known from that alone, so that a reader can
// pass over fields it does not know.
type kind uint8

// The encodings.
const (
	kindUint   kind = iota // uvarint
	kindDelta              // zigzag varint: difference to the last event's, modulo 2^64
	kindTuple              // see dictionary
	kindString             // see dictionary
	kindAddr               // length in a byte, then the address: 0, 4 or 16 bytes
	kindBytes              // uvarint length, then the bytes
	kindEnd
)

// String returns the name of the encoding in a header.
func (k kind) String() string {
	return [kindEnd]string{
		kindUint: "uint", kindDelta: "delta", kindTuple: "tuple", kindString: "string", kindAddr: "addr", kindBytes: "bytes",
	}[k]
}

// maskTick in place of a mask is a moment at which time passed for the tracker; a delta follows.
const maskTick = 1

// maskShift is the place of the first field's bit.
const maskShift = 1

// fieldFormat is a field's name and encoding.
type fieldFormat struct {
	name string
	kind kind
}

// String is the field in Header.Fields.
func (f fieldFormat) String() string { return f.name + ":" + f.kind.String() }

// fieldTable names the fields and their encodings.
func fieldTable() [fieldEnd]fieldFormat {
	return [fieldEnd]fieldFormat{
		fieldTime: {"time", kindDelta}, fieldHook: {"hook", kindUint}, fieldIfindex: {"ifindex", kindUint},
		fieldDev: {"dev", kindString}, fieldIn: {"in", kindUint}, fieldOut: {"out", kindUint},
		fieldNFHook: {"nfhook", kindUint}, fieldNetNS: {"netns", kindUint}, fieldLocation: {"location", kindDelta},
		fieldSkb: {"skb", kindDelta}, fieldHead: {"head", kindDelta}, fieldTuple: {"tuple", kindTuple},
		fieldFlags: {"flags", kindUint}, fieldPktType: {"pkttype", kindUint}, fieldCT: {"ct", kindDelta},
		fieldCTOrig: {"ctorig", kindTuple}, fieldCTReply: {"ctreply", kindTuple},
		fieldCTStatus: {"ctstatus", kindUint}, fieldCTInfo: {"ctinfo", kindUint}, fieldCPU: {"cpu", kindUint},
		fieldSock: {"sock", kindDelta}, fieldSeq: {"seq", kindUint}, fieldAck: {"ack", kindUint},
		fieldIPID: {"ipid", kindUint}, fieldLength: {"length", kindUint}, fieldPayload: {"payload", kindUint},
		fieldTCPFlags: {"tcpflags", kindUint}, fieldTTL: {"ttl", kindUint}, fieldReason: {"reason", kindUint},
		fieldMark: {"mark", kindUint}, fieldErr: {"err", kindUint}, fieldOldState: {"oldstate", kindUint},
		fieldNewState: {"newstate", kindUint}, fieldICMPType: {"icmptype", kindUint},
		fieldICMPCode: {"icmpcode", kindUint}, fieldMTU: {"mtu", kindUint}, fieldOuter: {"outer", kindTuple},
		fieldVNI: {"vni", kindUint}, fieldGateway: {"gateway", kindAddr}, fieldRouteTable: {"table", kindUint},
		fieldCapture: {"capture", kindBytes},
	}
}

// fieldNames is Header.Fields of what is written here.
func fieldNames() []string {
	var out []string
	for _, f := range fieldTable() {
		out = append(out, f.String())
	}
	return out
}

// Sizes of the dictionaries, in which the writer and the reader keep the last values: a new one takes
// the place of the oldest.
const (
	tupleSlots  = 4096
	stringSlots = 1024
)

// outer is the tunnel's or ICMP error's ends as a tuple.
func outer(e *wire.Event) wire.Tuple { return wire.Tuple{Src: e.OuterSrc, Dst: e.OuterDst} }

// cleanAddr is an address as it is kept: without zone.
func cleanAddr(a netip.Addr) netip.Addr { return a.WithZone("") }
