package mtu

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// Limits of what a Watch keeps; what is beyond is counted with the rest, or not told apart.
const (
	maxWatchedFlows  = 16384
	maxWatchedPlaces = 4096
)

// Watch counts, on live traffic, packets that are dropped for their size, fragments, and which segments
// TCP repeats. It is fed every observation; it is for one goroutine.
type Watch struct {
	places map[spot]*Place
	ways   map[wire.Tuple]*way
	sizes  map[int]*Sizes
	told   Told
}

// spot is a device.
type spot struct{ netns, ifindex uint32 }

// Place is what was seen at one device.
type Place struct {
	NetNS, Ifindex uint32
	Device         string
	// Packets were handed to the device, Fragments of them were parts of packets; Largest is in bytes.
	Packets, Fragments uint64
	Largest            uint32
	// First is when the first fragment left, CLOCK_MONOTONIC ns; valid iff Fragments is not 0.
	First uint64
	// TooBig were dropped there for their size, by Function with Reason; Smallest is the least of them, bytes.
	TooBig           uint64
	Smallest         uint32
	Function, Reason string
	// Silent is set if the function tells nobody.
	Silent bool
	// Tuple is of one that was dropped, or cut.
	Tuple wire.Tuple
}

// Sizes counts TCP segments with data of one size, and those of them that carried again what was sent before.
type Sizes struct{ Sent, Repeated uint64 }

// Told counts the ICMP errors that say that a packet is too big.
type Told struct {
	Seen, Dropped uint64
	// NetNS is where one was dropped.
	NetNS uint32
}

// way is one direction of a TCP connection, as its first device sees it.
type way struct {
	at   spot
	next uint32 // the highest sequence number sent
}

// NewWatch returns a Watch that has seen nothing.
func NewWatch() *Watch {
	return &Watch{places: map[spot]*Place{}, ways: map[wire.Tuple]*way{}, sizes: map[int]*Sizes{}}
}

// Drop is what names say of a Drop.
type Drop struct {
	Function, Reason string
	// Limit is the MTU of the device that the packet was too big for, bytes; 0 if it is not known.
	Limit uint32
}

// IsTooBig reports whether a packet of that length was dropped for its size.
func (d Drop) IsTooBig(length uint32) bool {
	switch {
	case d.Reason == "PKT_TOO_BIG":
		return true
	case d.Reason != "" && d.Reason != "NOT_SPECIFIED":
		return false
	case isForwardable(d.Function), d.Function == "br_nf_dev_queue_xmit":
		return d.Limit > 0 && length > d.Limit
	}
	switch d.Function {
	case "ip_fragment", "ip_do_fragment", "ip6_fragment", "br_nf_ip_fragment":
		return true
	}
	return false
}

// ChecksPeer reports whether a function compares with the MTU of the device's peer, not with its own.
func ChecksPeer(function string) bool {
	return isForwardable(function) && !strings.HasPrefix(function, "br_")
}

// isSilent reports whether what drops the packet tells nobody.
func (d Drop) isSilent() bool {
	return isForwardable(d.Function) || strings.HasPrefix(d.Function, "br_")
}

// Add takes an observation; drop is asked about drops. It returns the place if something new is to be
// told of it: the first fragment, or the first packet that was too big.
func (w *Watch) Add(e *wire.Event, drop func(*wire.Event) Drop) *Place {
	if e.Has(wire.FlagICMPError) {
		w.icmp(e)
		return nil
	}
	switch e.Hook {
	case wire.DevXmit:
		return w.transmitted(e)
	case wire.Drop:
		return w.dropped(e, drop(e))
	}
	return nil
}

// transmitted counts a packet at the device it leaves by.
func (w *Watch) transmitted(e *wire.Event) *Place {
	p := w.place(e)
	if p == nil {
		return nil
	}
	p.Packets++
	p.Largest = max(p.Largest, e.Length)
	w.segment(e)
	if !e.Has(wire.FlagFragment) {
		return nil
	}
	if p.Fragments++; p.Fragments > 1 {
		return nil
	}
	p.Tuple, p.First = e.Tuple, e.Time
	return p
}

// dropped counts a packet that was too big.
func (w *Watch) dropped(e *wire.Event, d Drop) *Place {
	if !d.IsTooBig(e.Length) {
		return nil
	}
	p := w.place(e)
	if p == nil {
		return nil
	}
	p.TooBig++
	if p.Smallest == 0 || e.Length < p.Smallest {
		p.Smallest = e.Length
	}
	p.Function, p.Reason, p.Silent, p.Tuple = d.Function, d.Reason, d.isSilent(), e.Tuple
	if p.TooBig > 1 {
		return nil
	}
	return p
}

// icmp counts ICMP errors about size, at the first device they leave by and where they are dropped.
func (w *Watch) icmp(e *wire.Event) {
	v6 := e.Tuple.Dst.Addr().Is6()
	if v6 && e.ICMPType != 2 || !v6 && (e.ICMPType != 3 || e.ICMPCode != 4) {
		return
	}
	switch e.Hook {
	case wire.DevXmit:
		w.told.Seen++
	case wire.Drop:
		w.told.Dropped++
		w.told.NetNS = e.NetNS
	}
}

func (w *Watch) place(e *wire.Event) *Place {
	key := spot{e.NetNS, e.Ifindex}
	p := w.places[key]
	if p == nil && len(w.places) < maxWatchedPlaces {
		p = &Place{NetNS: e.NetNS, Ifindex: e.Ifindex, Device: e.Dev}
		w.places[key] = p
	}
	return p
}

// segment tells TCP segments that carry something again from those that carry something new.
func (w *Watch) segment(e *wire.Event) {
	if e.Tuple.Proto != wire.ProtoTCP || e.Payload == 0 || e.Has(wire.FlagFragment) {
		return
	}
	end := e.Seq + uint32(e.Payload)
	x := w.ways[e.Tuple]
	if x == nil {
		if len(w.ways) < maxWatchedFlows {
			w.ways[e.Tuple] = &way{at: spot{e.NetNS, e.Ifindex}, next: end}
			w.size(e).Sent++
		}
		return
	}
	if x.at != (spot{e.NetNS, e.Ifindex}) {
		return
	}
	s := w.size(e)
	s.Sent++
	if int32(end-x.next) <= 0 {
		s.Repeated++
		return
	}
	x.next = end
}

func (w *Watch) size(e *wire.Event) *Sizes {
	s := w.sizes[int(e.Length)]
	if s == nil {
		s = &Sizes{}
		w.sizes[int(e.Length)] = s
	}
	return s
}

// Places are the devices with something to tell, those that drop most first.
func (w *Watch) Places() []*Place {
	var out []*Place
	for _, p := range w.places {
		if p.TooBig > 0 || p.Fragments > 0 {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *Place) int {
		return cmp.Or(cmp.Compare(b.TooBig, a.TooBig), cmp.Compare(b.Fragments, a.Fragments),
			cmp.Compare(a.First, b.First), cmp.Compare(a.NetNS, b.NetNS), cmp.Compare(a.Ifindex, b.Ifindex))
	})
	return out
}

// Found is how many packets were dropped for their size, and how many fragments left, at all devices.
func (w *Watch) Found() (tooBig, fragments uint64) {
	for _, p := range w.places {
		tooBig, fragments = tooBig+p.TooBig, fragments+p.Fragments
	}
	return tooBig, fragments
}

// Told returns the ICMP errors about size.
func (w *Watch) Told() Told { return w.told }

// Packets is the largest number of packets that one device was handed.
func (w *Watch) Packets() uint64 {
	var most uint64
	for _, p := range w.places {
		most = max(most, p.Packets)
	}
	return most
}

// Repeats is which segments TCP repeated.
type Repeats struct {
	Sent, Repeated uint64
	// Least is the smallest that was repeated, bytes; Larger are those of at least that size, Smaller
	// those below, of which none was repeated.
	Least           int
	Larger, Smaller uint64
}

// Repeats sums up what TCP sent.
func (w *Watch) Repeats() Repeats {
	var r Repeats
	for size, s := range w.sizes {
		r.Sent, r.Repeated = r.Sent+s.Sent, r.Repeated+s.Repeated
		if s.Repeated > 0 && (r.Least == 0 || size < r.Least) {
			r.Least = size
		}
	}
	for size, s := range w.sizes {
		if r.Least > 0 && size < r.Least {
			r.Smaller += s.Sent
		} else {
			r.Larger += s.Sent
		}
	}
	return r
}

// Enough of each for telling size from chance: if one in ten of all segments were lost whatever its
// size, that none of thirty smaller ones is has a chance of 4 %.
const (
	fewRepeats = 3
	fewSmaller = 30
)

// OnlyLarge reports whether the size decides which segments are repeated: known is false if too little was sent.
func (r Repeats) OnlyLarge() (only, known bool) {
	const large = 1000 // a link that carries less is rare, and TCP's last segments are smaller
	switch {
	case r.Repeated < fewRepeats:
		return false, false
	case r.Least < large:
		return false, true
	}
	return true, r.Smaller >= fewSmaller
}
