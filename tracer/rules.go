package tracer

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/legacy"
	"github.com/pathtrace/pathtrace/internal/firewall/nft"
	"github.com/pathtrace/pathtrace/internal/firewall/tape"
	"github.com/pathtrace/pathtrace/tracer/path"
)

const (
	// rulesFirst is how long a probe may wait for the rules before it to be read.
	rulesFirst = 300 * time.Millisecond
	// rulesFresh is for how long a reading serves for what does not ask for counters.
	rulesFresh = 10 * time.Second
	// rulesKept is how many readings of a namespace are kept: the first and the latest.
	rulesKept = 4
)

// ruleReader reads one kind of rules in the namespace of the calling thread. The tape, nil for none, keeps
// what the kernel answered.
type ruleReader func(*tape.Tape) ([]*firewall.Table, []string, error)

// ruleBook reads the firewalls of namespaces and keeps the readings: one reading serves for all flows
// that ended before it. It is safe for concurrent use.
type ruleBook struct {
	enter func(inode uint32, fn func() error) error
	// readers makes those of one namespace, in which inside runs a function.
	readers func(inside func(func() error) error) []ruleReader
	log     *slog.Logger
	now     func() uint64 // CLOCK_MONOTONIC, ns
	// onRead, if set, is given every reading with its tape, and numbers it.
	onRead func(inode uint32, r *ruleReading, t *tape.Tape)

	mu     sync.Mutex // guards pages
	pages  map[uint32]*rulePage
	closed sync.WaitGroup // readings under way
}

// rulePage holds the readings of one namespace, oldest first.
type rulePage struct {
	mu       sync.Mutex // held while reading, so that two do not read the same
	readers  []ruleReader
	readings []ruleReading
}

// ruleReading is one reading; times are CLOCK_MONOTONIC, ns.
type ruleReading struct {
	began, ended uint64
	rules        *firewall.Ruleset
	number       int // in a recording; 0 without
}

func newRuleBook(enter func(uint32, func() error) error, log *slog.Logger) *ruleBook {
	return &ruleBook{
		enter: enter, readers: readersOfOne, log: log, now: monotonic,
		pages: map[uint32]*rulePage{},
	}
}

// readersOfOne are the readers of one namespace; that of nf_tables keeps what has not changed, and may go
// there again when its rules are asked.
func readersOfOne(inside func(func() error) error) []ruleReader {
	tables := nft.Reader{Inside: inside}
	return []ruleReader{func(t *tape.Tape) ([]*firewall.Table, []string, error) {
		tables.Tape = t
		return tables.Read()
	}, legacy.Read}
}

func (b *ruleBook) page(inode uint32) *rulePage {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pages[inode]
	if p == nil {
		p = &rulePage{readers: b.readers(func(fn func() error) error { return b.enter(inode, fn) })}
		b.pages[inode] = p
	}
	return p
}

// prepare reads the rules of several namespaces at once and waits for that, but not longer than limit:
// what is read later is still of use to flows that begin later.
func (b *ruleBook) prepare(inodes []uint32, limit time.Duration) {
	inodes = slices.Clone(inodes)
	slices.Sort(inodes)
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, inode := range slices.Compact(inodes) {
		if inode == 0 {
			continue
		}
		all.Add(1)
		b.closed.Add(1)
		go func() {
			defer b.closed.Done()
			defer all.Done()
			b.after(inode, b.now())
		}()
	}
	go func() {
		all.Wait()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// wait waits for readings under way.
func (b *ruleBook) wait() { b.closed.Wait() }

// after returns rules whose reading began at or after a time, or nil if they cannot be read.
func (b *ruleBook) after(inode uint32, since uint64) *firewall.Ruleset {
	p := b.page(inode)
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.readings); n > 0 && p.readings[n-1].began >= since {
		return p.readings[n-1].rules
	}
	r := ruleReading{began: b.now()}
	var t *tape.Tape
	if b.onRead != nil {
		t = tape.New()
	}
	r.rules = b.read(inode, p.readers, t)
	r.ended = b.now()
	if r.rules == nil {
		return nil
	}
	if b.onRead != nil {
		b.onRead(inode, &r, t)
	}
	p.readings = append(p.readings, r)
	if len(p.readings) > rulesKept {
		p.readings = slices.Delete(p.readings, 1, 2)
	}
	return r.rules
}

// before returns the latest rules whose reading had ended at a time, or nil.
func (b *ruleBook) before(inode uint32, t uint64) *firewall.Ruleset {
	p := b.page(inode)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range slices.Backward(p.readings) {
		if r.ended <= t {
			return r.rules
		}
	}
	return nil
}

// number is the number of a reading that is kept, 0 if it is not.
func (b *ruleBook) number(inode uint32, rules *firewall.Ruleset) int {
	if rules == nil {
		return 0
	}
	p := b.page(inode)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.readings {
		if r.rules == rules {
			return r.number
		}
	}
	return 0
}

// read reads all kinds of rules of a namespace. What one reader cannot read is a problem, not an end.
func (b *ruleBook) read(inode uint32, readers []ruleReader, t *tape.Tape) *firewall.Ruleset {
	set := &firewall.Ruleset{}
	answered := false
	err := b.enter(inode, func() error {
		for _, read := range readers {
			tables, problems, err := read(t)
			if err != nil {
				problems = append(problems, err.Error())
			}
			answered = answered || err == nil
			set.Tables, set.Problems = append(set.Tables, tables...), append(set.Problems, problems...)
		}
		return nil
	})
	if err != nil || !answered {
		b.log.Debug("rules not read", "netns", inode, "error", err, "problems", set.Problems)
		return nil
	}
	set.Read = time.Now()
	return set
}

// firewalled are the namespaces whose rules are read before a flow: those of its ends and of the hosts.
func (s *session) firewalled() []uint32 {
	tgt := s.t.currentTarget()
	return slices.Concat([]uint32{s.t.topo.Self(), s.t.source.NetNS}, targetNamespaces(&tgt), s.hostNetNS(-1))
}

// readRules reads the rules that a verdict on p asks for. Where a packet ended, the counters matter, so
// the reading has to be later than that.
func (s *session) readRules(f *diagnose.Facts, want diagnose.Want, p *path.Path) {
	if want.OwnerRules {
		for _, o := range f.Owners {
			if !slices.Contains(want.Rules, o.NetNS) {
				want.Rules = append(want.Rules, o.NetNS)
			}
		}
	}
	for _, inode := range want.Rules {
		ns := s.fact(f, inode)
		since := p.End
		if !slices.Contains(want.RuleCounters, inode) {
			since = p.Start - min(p.Start, uint64(rulesFresh))
		}
		ns.Rules = s.rules.after(inode, since)
		ns.RulesBefore = s.rules.before(inode, p.Start)
		if addrs, err := s.t.topo.HostAddrs(inode); err == nil {
			ns.Addrs = addrs
		}
	}
}

// nftDropsInPlace reports whether nf_tables of that kernel discards packets in nft_do_chain itself:
// since Linux 6.7 (commit "netfilter: make nftables drops visible in net dropmonitor").
func nftDropsInPlace(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > 6 || major == 6 && minor >= 7
}
