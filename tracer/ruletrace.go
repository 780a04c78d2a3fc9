package tracer

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nftrace"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// ruleTrace is --trace-rules: the kernel's own trace of the flow's packets through the rules, in each
// namespace of the path. Its methods are safe for concurrent use; a nil *ruleTrace does nothing.
type ruleTrace struct {
	topo  *topo.Topology
	table string // this process's own: several traces may have one in a namespace
	ends  []nftrace.End

	mu      sync.Mutex
	traces  map[uint32]*nftrace.Trace // nil while it is opened, or if it could not be
	runs    map[uint32]*runs
	said    map[uint32]bool // namespaces with rules that are not traced
	lost    int
	closed  bool
	readers sync.WaitGroup
	errs    []error
}

// newRuleTrace prepares tracing between the target's ends and a port at the other end, 0 for any.
func newRuleTrace(t *topo.Topology, ends []netip.AddrPort, proto func(netip.Addr) uint8, peer uint16) *ruleTrace {
	r := &ruleTrace{
		topo: t, table: fmt.Sprintf("pathtrace-%d", os.Getpid()),
		traces: map[uint32]*nftrace.Trace{}, runs: map[uint32]*runs{}, said: map[uint32]bool{},
	}
	for _, ap := range ends {
		r.ends = append(r.ends, nftrace.End{Addr: ap, Proto: proto(ap.Addr()), Peer: peer})
	}
	return r
}

// open adds the trace table to a namespace, once.
func (r *ruleTrace) open(inode uint32) error {
	if r == nil || !r.claim(inode) {
		return nil
	}
	var tr *nftrace.Trace
	err := r.topo.InNamespace(inode, func() (err error) {
		tr, err = nftrace.Open(r.table, r.ends)
		return err
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return tr.Close()
	}
	r.traces[inode] = tr
	r.runs[inode] = newRuns()
	r.readers.Go(func() { r.read(inode, tr) })
	return nil
}

// claim reports whether the namespace is still to be opened.
func (r *ruleTrace) claim(inode uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.traces[inode]
	if known || r.closed {
		return false
	}
	r.traces[inode] = nil
	return true
}

func (r *ruleTrace) read(inode uint32, tr *nftrace.Trace) {
	err := tr.Read(func(s nftrace.Step) {
		if s.Table == r.table {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.runs[inode].add(s) {
			r.lost++
		}
	}, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lost++
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// join puts the steps of a namespace on the hops of a flow's packets; rules names them.
func (r *ruleTrace) join(p *path.Path, inode uint32, rules func() *firewall.Ruleset) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if list := r.runs[inode]; list != nil && len(list.list) > 0 {
		list.join(p, inode, rules())
	}
}

// sayOnce reports whether something is to be said of a namespace for the first time.
func (r *ruleTrace) sayOnce(inode uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !r.said[inode]
	r.said[inode] = true
	return first
}

// missed counts the times steps were not kept.
func (r *ruleTrace) missed() int {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// close removes the tables. It may be called more than once.
func (r *ruleTrace) close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	r.closed = true
	var errs []error
	for _, tr := range r.traces {
		if tr != nil {
			errs = append(errs, tr.Close())
		}
	}
	r.mu.Unlock()
	r.readers.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(append(errs, r.errs...)...)
}

// traceRules adds the trace tables, if they are asked for: to the namespaces that are known.
func (s *session) traceRules() {
	if !s.t.cfg.TraceRules {
		return
	}
	var ends []netip.AddrPort
	for _, ep := range s.endpoints.all() {
		ends = append(ends, ep.Addr)
	}
	for _, e := range s.t.currentTarget().Behind {
		ends = append(ends, e.AddrPort)
	}
	proto := func(a netip.Addr) uint8 { return protoNumber(s.t.currentTarget().Proto, a) }
	s.ruleTrace = newRuleTrace(s.t.topo, ends, proto, s.local.Port())
	for _, inode := range s.t.pathNamespaces() {
		s.openRules(inode)
	}
}

// openRules adds the trace table to one namespace; that it cannot be had there is said.
func (s *session) openRules(inode uint32) {
	if err := s.ruleTrace.open(inode); err != nil {
		s.t.cfg.OnNote(fmt.Sprintf("--trace-rules in %s: %v", s.t.labels.namespace(inode), err))
	}
}

// annotateRules puts the rules that packets passed on their hops.
func (s *session) annotateRules(p *path.Path) {
	if s.ruleTrace == nil {
		return
	}
	for inode := range namespacesOf(p) {
		if inode == 0 {
			continue
		}
		rules := sync.OnceValue(func() *firewall.Ruleset { return s.rules.after(inode, 0) })
		s.ruleTrace.join(p, inode, rules)
		if hasLegacy(rules()) && s.ruleTrace.sayOnce(inode) {
			s.t.cfg.OnNote(fmt.Sprintf("--trace-rules: the kernel does not trace rules of iptables-legacy, which"+
				" %s has: those are judged by their matches and counters", s.t.labels.namespace(inode)))
		}
	}
}

// hasLegacy reports whether there are rules of iptables-legacy.
func hasLegacy(rules *firewall.Ruleset) bool {
	return rules != nil && slices.ContainsFunc(rules.Tables, func(t *firewall.Table) bool {
		return t.Backend == firewall.IptablesLegacy && slices.ContainsFunc(t.Chains, func(c *firewall.Chain) bool {
			return len(c.Rules) > 0 || c.Policy == firewall.Drop
		})
	})
}

// namespacesOf lists the namespaces that packets of a flow were seen in.
func namespacesOf(p *path.Path) map[uint32]bool {
	list := map[uint32]bool{}
	for _, packet := range p.Packets {
		for i := range packet.Hops {
			list[packet.Hops[i].NetNS] = true
		}
	}
	return list
}
