package merge

import (
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Joiner finds the views of one flow among those that hosts report one by one. It is not safe for
// concurrent use.
type Joiner struct {
	hosts   []Host
	waiting []*viewed // in the order in which they came
	byEnds  map[ends][]*viewed
	byStart map[uint32][]*viewed // by TCP's initial sequence number
}

// viewed collects the views of one flow.
type viewed struct {
	views  []View
	since  int64 // when the first view came, on the caller's clock, ns
	ends   []ends
	starts []uint32
}

// maxWaiting bounds the flows that wait for views of other hosts.
const maxWaiting = 16384

// NewJoiner returns a Joiner for flows of these hosts.
func NewJoiner(hosts []Host) *Joiner {
	return &Joiner{hosts: hosts, byEnds: map[ends][]*viewed{}, byStart: map[uint32][]*viewed{}}
}

// Add takes what a host saw of a flow, at a time of the caller's clock in ns. It returns the views of the
// flow that has waited for longest if too many do.
func (j *Joiner) Add(v View, now int64) []View {
	f := j.find(v)
	if f == nil {
		f = &viewed{since: now}
		j.waiting = append(j.waiting, f)
	}
	f.views = append(f.views, v)
	for _, e := range allEnds(v.Path) {
		if !slices.Contains(f.ends, e) {
			f.ends = append(f.ends, e)
			j.byEnds[e] = append(j.byEnds[e], f)
		}
	}
	for _, n := range starts(v.Path) {
		if !slices.Contains(f.starts, n) {
			f.starts = append(f.starts, n)
			j.byStart[n] = append(j.byStart[n], f)
		}
	}
	if len(j.waiting) <= maxWaiting {
		return nil
	}
	return j.remove(0).views
}

// Ready returns the flows that every one of so many hosts has reported, and those that have waited since
// before a time.
func (j *Joiner) Ready(hosts int, before int64) [][]View {
	var out [][]View
	for i := 0; i < len(j.waiting); {
		f := j.waiting[i]
		if f.since >= before && f.hosts() < hosts {
			i++
			continue
		}
		out = append(out, j.remove(i).views)
	}
	return out
}

// Flush returns all flows.
func (j *Joiner) Flush() [][]View { return j.Ready(0, 0) }

// Waiting counts the flows that wait.
func (j *Joiner) Waiting() int { return len(j.waiting) }

func (f *viewed) hosts() int {
	seen := map[int]bool{}
	for _, v := range f.views {
		seen[v.Host] = true
	}
	return len(seen)
}

func (j *Joiner) remove(i int) *viewed {
	f := j.waiting[i]
	j.waiting = slices.Delete(j.waiting, i, i+1)
	isF := func(o *viewed) bool { return o == f }
	for _, e := range f.ends {
		if j.byEnds[e] = slices.DeleteFunc(j.byEnds[e], isF); len(j.byEnds[e]) == 0 {
			delete(j.byEnds, e)
		}
	}
	for _, n := range f.starts {
		if j.byStart[n] = slices.DeleteFunc(j.byStart[n], isF); len(j.byStart[n]) == 0 {
			delete(j.byStart, n)
		}
	}
	return f
}

// find returns the flow that v is a view of, nil if none is known: the one with the most packets in
// common, of those the nearest in time.
func (j *Joiner) find(v View) *viewed {
	marks := marksOf(v.Path)
	var best *viewed
	var bestCommon int
	var bestGap int64
	consider := func(f *viewed, least int) {
		common := f.common(v, marks)
		if f == best || common < least || common < bestCommon {
			return
		}
		if gap := j.gap(f, v); best == nil || common > bestCommon || gap < bestGap {
			best, bestCommon, bestGap = f, common, gap
		}
	}
	for _, e := range allEnds(v.Path) {
		for _, f := range j.byEnds[e] {
			consider(f, 1)
		}
	}
	if best != nil {
		return best
	}
	// Addresses that were translated where nobody looked: two packets that agree are no chance.
	for _, n := range starts(v.Path) {
		for _, f := range j.byStart[n] {
			if f.views[0].Path.Proto == v.Path.Proto {
				consider(f, 2)
			}
		}
	}
	return best
}

// gap is the time between a flow and a view by the hosts' wall clocks, ns.
func (j *Joiner) gap(f *viewed, v View) int64 {
	first := f.views[0]
	gap := int64(first.Path.Start) + j.hosts[first.Host].Wall - int64(v.Path.Start) - j.hosts[v.Host].Wall
	return max(gap, -gap)
}

// common counts the packets that v has in common with the flow's view that has the most. A second view
// of one host is of another part of the connection: that takes packets that cannot be mistaken.
func (f *viewed) common(v View, marks map[mark]bool) int {
	again := slices.ContainsFunc(f.views, func(o View) bool { return o.Host == v.Host })
	most := 0
	for _, other := range f.views {
		if other.Host == v.Host {
			if overlap(other.Path, v.Path) {
				return 0
			}
			continue
		}
		n := 0
		for m := range marksOf(other.Path) {
			if marks[m] && (m.sure() || !again) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func overlap(a, b *path.Path) bool { return a.Start <= b.End && b.Start <= a.End }

// marksOf returns the marks of a path's packets without their direction, on which hosts may disagree.
func marksOf(p *path.Path) map[mark]bool {
	out := map[mark]bool{}
	for _, pkt := range p.Packets {
		m := markOf(pkt)
		m.dir = ""
		out[m] = true
	}
	return out
}

// starts lists the initial sequence numbers of a TCP connection that were seen.
func starts(p *path.Path) []uint32 {
	var out []uint32
	for _, pkt := range p.Packets {
		if strings.Contains(pkt.TCPFlags, "S") && !slices.Contains(out, pkt.Seq) {
			out = append(out, pkt.Seq)
		}
	}
	return out
}
