package tracer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/latency"
	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// clientSet tells by the client's end which target a connection of ours is to.
type clientSet struct {
	mu sync.RWMutex
	by map[netip.AddrPort]int
}

func (c *clientSet) add(local netip.AddrPort, target int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[netip.AddrPort]int{}
	}
	c.by[local] = target
}

func (c *clientSet) target(local netip.AddrPort) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if i, ok := c.by[local]; ok {
		return i
	}
	return -1
}

// probeCounts counts what was sent to one target.
type probeCounts struct {
	sent, unanswered, reconnects atomic.Uint64
	good                         int // answered
}

func (c *probeCounts) reset() {
	c.sent.Store(0)
	c.unanswered.Store(0)
	c.reconnects.Store(0)
	c.good = 0
}

// kept is the connection to one target.
type kept struct {
	l      *LatencyTracer
	s      *session
	index  int
	dialed target.Dialed
	conn   *prober.Kept
	tuple  wire.Tuple
	served int  // requests answered on this connection
	ever   bool // one was answered
	failed error
}

// probeTargets sends requests to the targets in turns, so that what changes on the machine meanwhile
// meets all of them.
func (l *LatencyTracer) probeTargets(ctx context.Context, s *session) error {
	conns, err := l.dialTargets(s)
	if err != nil {
		return err
	}
	l.start(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		l.warmUp(ctx, s, conns)
		l.pace(ctx, conns)
		for _, k := range conns {
			k.close()
		}
	}()
	<-done
	time.Sleep(settle) // the last packets of the connections
	for _, k := range conns {
		if k.failed != nil {
			l.t.cfg.OnNote(fmt.Sprintf("%s: %v", l.targets[k.index].name, k.failed))
		}
	}
	return nil
}

func (l *LatencyTracer) dialTargets(s *session) ([]*kept, error) {
	var conns []*kept
	for i := range l.targets {
		dialed, err := l.t.names.Dial(l.t.source, l.targets[i].target)
		if err != nil {
			return nil, err
		}
		if dialed.Note != "" {
			l.t.cfg.OnNote(dialed.Note)
		}
		conns = append(conns, &kept{l: l, s: s, index: i, dialed: dialed})
	}
	return conns, nil
}

// warmUps is how many requests to each target are not counted: the first ones find cold caches and
// namespaces of which the netfilter hooks are not watched yet.
const warmUps = 5

// warmUp sends the first requests and waits until every namespace that they passed is attached to.
func (l *LatencyTracer) warmUp(ctx context.Context, s *session, conns []*kept) {
	for range warmUps {
		for _, k := range conns {
			k.probe(ctx)
		}
	}
	// The collector looks every few milliseconds; it is asked after it has taken the events of them all.
	limit := time.NewTimer(slow)
	defer limit.Stop()
	for range 2 {
		asked := make(chan struct{})
		select {
		case s.collector.asked <- func(*flow.Tracker) { close(asked) }:
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		}
		select {
		case <-asked:
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		}
	}
	l.reading.Wait()
	l.meter.Reset()
	for i := range l.counts {
		l.counts[i].reset()
	}
}

// newNamespace attaches to a namespace that packets went through.
func (l *LatencyTracer) newNamespace(inode uint32) {
	if !l.t.set.NeedsNetNS() || l.t.set.Attached(inode) {
		return
	}
	l.reading.Go(func() { l.t.attachNetNS(inode) })
}

// pace sends requests at the rate until the count is reached or ctx ends.
func (l *LatencyTracer) pace(ctx context.Context, conns []*kept) {
	gap := time.Second / time.Duration(l.cfg.Rate*len(conns))
	next := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		k := conns[n%len(conns)]
		if n%len(conns) == 0 && l.enough(conns) {
			return
		}
		if wait := time.Until(next); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		k.probe(ctx)
		// A slow answer delays what follows; it is not made up for by a burst.
		if next = next.Add(gap); time.Since(next) > gap {
			next = time.Now()
		}
	}
}

// enough reports whether every target that answers has its count.
func (l *LatencyTracer) enough(conns []*kept) bool {
	alive := false
	for _, k := range conns {
		if k.failed != nil {
			continue
		}
		alive = true
		if l.cfg.Count <= 0 || l.counts[k.index].good < l.cfg.Count {
			return false
		}
	}
	return l.cfg.Count > 0 || !alive
}

// probe sends one request. A connection that the server closed is opened anew; a target that does not
// answer at all is given up.
func (k *kept) probe(ctx context.Context) {
	if k.failed != nil {
		return
	}
	if k.conn == nil {
		if k.failed = k.open(ctx); k.failed != nil {
			return
		}
	}
	counts := &k.l.counts[k.index]
	counts.sent.Add(1)
	x, err := k.conn.Exchange()
	switch {
	case err == nil:
		k.served, k.ever = k.served+1, true
		k.l.meter.Probed(k.index, latency.Probed{Sent: x.Sent, Received: x.Received, Arrived: x.Arrived})
		counts.good++
		return
	case errors.Is(err, os.ErrDeadlineExceeded):
		counts.unanswered.Add(1)
		k.failed = k.silent(counts)
	case errors.Is(err, prober.ErrHungUp) && k.ever:
		counts.reconnects.Add(1)
	case errors.Is(err, prober.ErrHungUp):
		k.failed = errors.New("the server closes the connection without an answer: give a request that it answers with --send")
	default:
		k.failed = err
	}
	k.close()
}

// maxSilent is after how many requests in a row without an answer a target is given up.
const maxSilent = 3

// silent says that the target does not answer, if it never did or does not any more.
func (k *kept) silent(counts *probeCounts) error {
	if !k.ever {
		return fmt.Errorf("no answer to the request within %v: give a request that it answers with --send", k.l.t.cfg.Timeout)
	}
	if counts.unanswered.Load() >= maxSilent && k.served == 0 {
		return fmt.Errorf("no answer any more within %v", k.l.t.cfg.Timeout)
	}
	return nil
}

// open connects, and follows the connection from its first packet.
func (k *kept) open(ctx context.Context) error {
	t := k.l.t
	conn, err := prober.OpenKept(prober.Config{
		NetNSPath: t.source.NetNSPath, Proto: "tcp", Bind: t.source.Bind, Dst: k.dialed.AddrPort,
		Timeout: t.cfg.Timeout, Payload: k.payload(),
	})
	if err != nil {
		return err
	}
	dst := netip.AddrPortFrom(k.dialed.AddrPort.Addr().WithZone(""), k.dialed.AddrPort.Port())
	k.tuple = wire.Tuple{Src: conn.Local(), Dst: dst, Proto: wire.ProtoTCP}
	k.l.clients.add(conn.Local(), k.index)
	k.s.endpoints.add([]target.Endpoint{{AddrPort: dst, Proto: "tcp"}})
	if err := t.set.Follow(k.tuple); err != nil {
		conn.Close()
		return err
	}
	if err := conn.Connect(ctx); err != nil {
		conn.Close()
		name := k.l.targets[k.index].name
		return fmt.Errorf("%w; to see why, run: pathtrace --from %s --to %s", err, k.l.cfg.Source, name)
	}
	k.conn, k.served = conn, 0
	return nil
}

// payload is the request: what was given, or one that web servers answer without a body.
func (k *kept) payload() []byte {
	if k.l.cfg.Payload != nil {
		return k.l.cfg.Payload
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HEAD / HTTP/1.1\r\nHost: %s\r\nUser-Agent: pathtrace\r\n\r\n", k.dialed.AddrPort)
	return b.Bytes()
}

func (k *kept) close() {
	if k.conn == nil {
		return
	}
	if err := k.conn.Close(); err != nil {
		k.l.t.cfg.Log.Debug("close connection", "error", err)
	}
	k.conn = nil
}
