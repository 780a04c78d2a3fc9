package flow

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// state is the list a flow is in; each has a time after which the flow leaves it.
type state uint8

const (
	active    state = iota // TCP, ordered by last event
	datagrams              // UDP and ICMP, ordered by last event
	troubled               // dropped or hit by an ICMP error, ordered by last event
	closing                // closed, reset or refused, ordered by when that was
	lingering              // finished, ordered by when that was
	numStates
)

// direction is an index: 0 request, 1 reply.
type direction uint8

const (
	request direction = iota
	reply
)

func (d direction) opposite() direction { return d ^ 1 }

func (d direction) public() path.Direction {
	if d == request {
		return path.Request
	}
	return path.Reply
}

// flow is the state of one path.Path while its packets are on the way. When it is finished only
// what recognises its stragglers stays.
type flow struct {
	path  path.Path // without Packets
	proto uint8     // IPPROTO_*
	state state
	link  link[flow] // in the list of its state
	since uint64     // time that orders it there

	keys    []wire.Tuple // canonical tuples that lead here
	ends    []ends       // tuples its packets carried
	tracks  []*path.Conntrack
	packets []*packet // kept, in the order of first sight
	light   *packet   // not kept, newest first, linked by older
	ids     int       // packets told apart

	data     [2]int    // kept packets besides those that open or close it
	isn      [2]uint32 // initial sequence numbers, valid iff hasISN
	hasISN   [2]bool
	fin      [2]bool
	repeated [2][]uint32 // sequence numbers that the socket is about to repeat

	sawRequest bool // a packet of the request was seen
	reset      bool // an RST was seen
	refused    bool // an ICMP error that ends the attempt
	dropped    bool // a packet was dropped and nothing came through since

	settleID int    // packet that left INPUT and was not dropped so far; 0 if none
	settleNS uint32 // where
}

// ends is a tuple as packets of a flow carried it, with its text made once.
type ends struct {
	tuple    wire.Tuple
	src, dst string
}

// maxEnds and maxKeys bound what one flow remembers of its addresses; a flow through several
// translations has about six.
const (
	maxEnds = 24
	maxKeys = 24
	noEnds  = 255 // index of ends that were not remembered
	// What a flow has that is translated at both ends.
	usualEnds = 6
	usualKeys = 3
)

// endsIndex returns the index of a tuple, which is added if need be.
func (f *flow) endsIndex(t wire.Tuple) uint8 {
	for i := range f.ends {
		if f.ends[i].tuple == t {
			return uint8(i)
		}
	}
	if len(f.ends) >= maxEnds {
		return noEnds
	}
	f.ends = append(f.ends, ends{tuple: t})
	return uint8(len(f.ends) - 1)
}

// noTrack is the index of an entry that was not seen or not remembered.
const noTrack = 255

// maxTracks bounds what one flow remembers of tracking entries: two of each namespace and their states.
const maxTracks = 32

// trackIndex returns the index of the event's tracking entry, which is added if need be.
func (f *flow) trackIndex(e *wire.Event) uint8 {
	if e.CT == 0 {
		return noTrack
	}
	now := path.Conntrack{
		Info: e.CTInfo, Status: e.CTStatus, OrigSrc: e.CTOrig.Src, OrigDst: e.CTOrig.Dst,
		ReplySrc: e.CTReply.Src, ReplyDst: e.CTReply.Dst,
	}
	for i, known := range f.tracks {
		if *known == now {
			return uint8(i)
		}
	}
	if len(f.tracks) >= maxTracks {
		return noTrack
	}
	kept := now // now itself would be allocated for each event
	f.tracks = append(f.tracks, &kept)
	return uint8(len(f.tracks) - 1)
}

// established reports whether a connection came about.
func (f *flow) established() bool {
	return f.path.ServerEstablished != 0 || f.path.ClientEstablished != 0
}

// isEcho reports whether proto is one whose ports are echo identifiers.
func isEcho(proto uint8) bool { return proto == wire.ProtoICMP || proto == wire.ProtoICMPv6 }

// shown returns an end as a person sees it: ICMP has no port.
func shown(ap netip.AddrPort, proto uint8) netip.AddrPort {
	if isEcho(proto) {
		return netip.AddrPortFrom(ap.Addr(), 0)
	}
	return ap
}

func endText(ap netip.AddrPort) string {
	switch {
	case !ap.Addr().IsValid():
		return ""
	case ap.Port() == 0:
		return ap.Addr().String()
	}
	return ap.String()
}
