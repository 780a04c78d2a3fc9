package latency

import (
	"hash/maphash"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// kindIndex is a path.SegmentKind as a small number.
type kindIndex int8

const noKind kindIndex = -1

// numKinds is the number of kinds.
const numKinds = 16

// sums are the times of one packet or one round trip, by kind.
type sums [numKinds]int64

func (s *sums) add(o *sums) {
	for i := range s {
		s[i] += o[i]
	}
}

func (s *sums) total() (ns int64) {
	for _, v := range s {
		ns += v
	}
	return ns
}

// path is what the way took: all but the application, the waking of the asker, and the own cost, which
// depend on the processors more than on the way.
func (s *sums) path() int64 { return s.total() - s[kindApplication] - s[kindWakeUp] - s[kindOwn] }

func indexOf(k path.SegmentKind) kindIndex {
	return kindIndex(slices.Index(path.SegmentKinds(), k))
}

// The indexes, in path.SegmentKinds, of the kinds that are not found by looking at places.
const (
	kindSender      kindIndex = 0
	kindVeth        kindIndex = 4
	kindBacklog     kindIndex = 5
	kindWakeUp      kindIndex = 11
	kindApplication kindIndex = 12
	kindOwn         kindIndex = 15
)

// way is a sequence of places that packets of one direction passed, with what they took between them.
type way struct {
	id        int
	places    []int32 // indexes of Meter.places
	intervals []interval
	total     *Histogram // first to last observation, as measured
	kinds     kindSet
}

// interval is the segment between two neighbouring places.
type interval struct {
	kind  kindIndex
	times *Histogram
	least int64 // of a crossing; valid iff seen
	seen  bool
}

// kindSet is a histogram for each kind that occurs.
type kindSet [numKinds]*Histogram

// record takes the sums of one packet or round trip. Kinds that do not occur have no histogram.
func (k *kindSet) record(s *sums, occurs *[numKinds]int, digits int) {
	for i, n := range occurs {
		if n == 0 {
			continue
		}
		if k[i] == nil {
			k[i] = newHistogram(digits)
		}
		k[i].Record(s[i])
	}
}

// Limits of what is kept.
const (
	maxWays   = 8  // of a target and direction; packets of others are counted
	maxTrips  = 8  // combinations of a way there and one back
	maxPlaces = 96 // of a way
)

// waySet is the ways of one direction of a target.
type waySet struct {
	seed maphash.Seed
	ways []*way
	by   map[uint64]*way
}

func newWaySet() *waySet {
	return &waySet{seed: maphash.MakeSeed(), by: map[uint64]*way{}}
}

// find returns the way through the places, or nil and why the packet is left out.
func (s *waySet) find(places []int32, build func([]int32) *way) (*way, string) {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, p := range places {
		maphash.WriteComparable(&h, p)
	}
	key := h.Sum64()
	for w, ok := s.by[key]; ok; w, ok = s.by[key] {
		if slices.Equal(w.places, places) {
			return w, ""
		}
		key++ // two ways with one hash
	}
	if len(s.ways) >= maxWays {
		return nil, DiscardManyWays
	}
	w := build(places)
	if w == nil {
		return nil, DiscardUnknown
	}
	w.id = len(s.ways)
	s.ways = append(s.ways, w)
	s.by[key] = w
	return w, ""
}

// take records the times between a packet's places and returns their sums by kind. own is the cost of
// one observation, which is taken out of each interval.
func (w *way) take(times []uint64, own int64) (s sums) {
	for i := range w.intervals {
		in := &w.intervals[i]
		if in.kind == noKind {
			continue
		}
		// The clocks of two processors may differ by a few ns.
		took := max(int64(times[i+1]-times[i]), 0)
		cost := min(took, own)
		took -= cost
		in.times.Record(took)
		s[kindOwn] += cost
		if in.kind == kindVeth {
			if !in.seen || took < in.least {
				in.least, in.seen = took, true
			}
			s[kindBacklog] += took - in.least
			took = in.least
		}
		s[in.kind] += took
	}
	return s
}

// occurs counts the places of each kind.
func (w *way) occurs() (n [numKinds]int) {
	for i := range w.intervals {
		if k := w.intervals[i].kind; k != noKind {
			n[k]++
			if k == kindVeth {
				n[kindBacklog]++
			}
			n[kindOwn]++
		}
	}
	return n
}
