package diagnose

import "github.com/pathtrace/pathtrace/tracer/path"

// latency measures a delivered flow: from the first observation of the request that was delivered to
// its arrival at the target, the same of its reply, and from the one to the other. It returns nil if
// nothing could be measured.
func (a *analysis) latency() *path.Latency {
	if a.timed == nil {
		req, arrived := a.deliveredRequest()
		rep, back := a.deliveredReply(req)
		a.timed = &path.Latency{Request: between(req, arrived), Reply: between(rep, back), RoundTrip: between(req, back)}
	}
	if *a.timed == (path.Latency{}) {
		return nil
	}
	return a.timed
}

func between(from, to uint64) int64 {
	if from == 0 || to <= from {
		return 0
	}
	return int64(to - from)
}

// deliveredRequest returns when the first request that was not stopped was first and last seen.
func (a *analysis) deliveredRequest() (from, to uint64) {
	for _, p := range a.packets(path.Request) {
		if e := a.endOf(p, phaseRequest); e.passed() {
			return hopTime(firstHop(p)), hopTime(e.arrival())
		}
	}
	return 0, 0
}

// deliveredReply returns when the first reply after the request was first seen and when it
// reached the asker.
func (a *analysis) deliveredReply(after uint64) (from, to uint64) {
	for _, p := range a.packets(path.Reply) {
		e := a.endOf(p, phaseReply)
		if !e.passed() || hopTime(firstHop(p)) < after {
			continue
		}
		if a.arrived(&e) {
			return hopTime(firstHop(p)), hopTime(e.arrival())
		}
	}
	return 0, 0
}

// arrival returns the observation at which a packet that passed had arrived.
func (e *end) arrival() *path.Hop {
	if e.deliver != nil {
		return e.deliver
	}
	return e.last
}
