package tracer

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/merge"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// hostJoin makes one flow of what several hosts report of it. It is safe for concurrent use.
type hostJoin struct {
	onFlow func(Flow)
	now    func() int64 // ns, of the clock that flows wait by
	// asker is the host that sends the probe; -1 if none does. Flows that it did not see are others'.
	asker int

	mu       sync.Mutex
	hosts    []merge.Host
	joiner   *merge.Joiner
	clocks   merge.Clocks
	problems []merge.Problem
	blind    map[int]blindView // of hosts that saw no flow
	flows    map[path.Outcome]int
	seen     int
	common   int // flows that several hosts saw
	// apart is by how much wall clocks were found to differ, ns. It counts where flows wait by them.
	apart  int64
	byWall bool
}

// blindView is what a host concludes that saw nothing.
type blindView struct {
	facts   *diagnose.Facts
	path    *path.Path
	verdict Verdict
}

func newHostJoin(hosts []merge.Host, asker int, onFlow func(Flow)) *hostJoin {
	return &hostJoin{
		onFlow: onFlow, now: func() int64 { return time.Now().UnixNano() }, asker: asker, hosts: hosts, joiner: merge.NewJoiner(hosts), blind: map[int]blindView{},
		flows: map[path.Outcome]int{},
	}
}

// view takes what a host saw of a flow.
func (j *hostJoin) view(host int, p *path.Path, f *diagnose.Facts) {
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if full := j.joiner.Add(merge.View{Host: host, Path: p, Facts: f}, now); full != nil {
		j.decide(full)
	}
}

// nothing takes that a host saw no flow at all, and what it concludes from that.
func (j *hostJoin) nothing(host int, p *path.Path, f *diagnose.Facts, v Verdict) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.blind[host] = blindView{f, p, v}
}

// problem takes why a host could not be watched.
func (j *hostJoin) problem(host, why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.problems = append(j.problems, merge.Problem{Host: host, Why: why})
}

// clock sets a host's boot and clocks, which are known once its recording began.
func (j *hostJoin) clock(host int, bootID string, wall int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hosts[host].BootID, j.hosts[host].Wall = bootID, wall
}

// ready decides the flows that all of so many hosts have reported, and those that waited too long. Where
// flows wait by the hosts' wall clocks, that is only known once a flow has told how far they are apart.
func (j *hostJoin) ready(hosts int, hold time.Duration) {
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	before := now - hold.Nanoseconds() - j.apart
	if j.byWall && j.common == 0 {
		before = math.MinInt64
	}
	for _, views := range j.joiner.Ready(hosts, before) {
		j.decide(views)
	}
}

// finish decides what is left. If there was no flow at all, the verdict is of the host that knows the most
// of the target.
func (j *hostJoin) finish() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, views := range j.joiner.Flush() {
		j.decide(views)
	}
	if j.seen > 0 {
		return
	}
	best := blindView{}
	for host := range j.hosts {
		b, ok := j.blind[host]
		if ok && (best.facts == nil || moreTelling(&b.verdict, &best.verdict)) {
			best = b
		}
	}
	if best.facts == nil {
		return
	}
	for _, p := range j.problems {
		best.verdict.Evidence = append(best.verdict.Evidence, "could not be seen: "+p.Why)
		best.verdict.Complete = false
		best.verdict.Hosts = append(best.verdict.Hosts, path.HostView{Host: p.Host, Problem: p.Why})
	}
	j.flows[best.verdict.Outcome]++
	j.onFlow(Flow{Path: best.path, Verdict: best.verdict, Decided: time.Now()})
}

// moreTelling reports whether a says more of why nothing was seen than b.
func moreTelling(a, b *Verdict) bool { return a.Cause != "" && b.Cause == "" }

// decide concludes on the views of one flow. mu is held.
func (j *hostJoin) decide(views []merge.View) {
	if j.asker >= 0 && !slices.ContainsFunc(views, func(v merge.View) bool { return v.Host == j.asker }) {
		return
	}
	for host := range j.hosts {
		b, ok := j.blind[host]
		if ok && !slices.ContainsFunc(views, func(v merge.View) bool { return v.Host == host }) {
			views = append(views, merge.View{Host: host, Facts: b.facts})
		}
	}
	x := j.clocks.Join(j.hosts, views)
	x.Path.Epoch = j.hosts[x.Reference].Wall
	j.seen++
	if len(x.Offsets) > 1 {
		j.common++
		for host, o := range x.Offsets {
			by := o.Apart(j.hosts[x.Reference], j.hosts[host]).Nanoseconds()
			j.apart = max(j.apart, by, -by)
		}
	}
	x.Path.Flow = j.seen
	v := x.Conclude(j.hosts, j.problems)
	v.Flow = j.seen
	for _, pkt := range x.Path.Packets {
		for i := range pkt.Hops {
			pkt.Hops[i].Flow = j.seen
		}
	}
	j.flows[v.Outcome]++
	j.onFlow(Flow{Path: x.Path, Verdict: v, Decided: time.Now()})
}

// count is how many flows were decided.
func (j *hostJoin) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seen
}

// shared reports whether some flow was seen by several hosts.
func (j *hostJoin) shared() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.common > 0
}
