package tracer

import (
	"context"
	"fmt"
	"time"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// MTUWatchResult is what WatchMTU saw.
type MTUWatchResult struct {
	Watch   path.MTUWatch
	Verdict Verdict
	Stats   Stats
}

// AddLive adds what WatchMTU saw of live traffic to a measurement: it warns of fragments and of packets that
// were too big.
func (r *MTUResult) AddLive(w MTUWatchResult) {
	r.Live = &w.Watch
	if w.Watch.Packets > 0 {
		mtu.AddLive(&r.Verdict, &w.Watch, w.Verdict)
	}
}

// mtuWatch counts what live traffic shows of sizes. Its methods run on the collector's goroutine.
type mtuWatch struct {
	names    naming
	namer    flow.Namer
	count    *mtu.Watch
	note     func(string)
	progress func(string)
	said     uint64 // when the progress was told, ns
}

// watchProgress is how often the progress of a watch is told, ns.
const watchProgress = uint64(500 * time.Millisecond)

// WatchMTU sends nothing and counts, on live traffic to the target, packets that are dropped for their
// size and fragments, until Config.Duration is over or ctx ends. It is for a Config without Source and
// with AllPackets. It is to be called once, in place of Run; the Tracer is closed after.
func (t *Tracer) WatchMTU(ctx context.Context) (MTUWatchResult, error) {
	w := &mtuWatch{
		names: t.labels, namer: t.facts, count: mtu.NewWatch(),
		note:     func(text string) { go t.cfg.OnNote(text) },
		progress: func(text string) { go t.cfg.OnProgress(text) },
	}
	t.onEvent = w.event
	t.cfg.OnFlow = func(Flow) {}
	began := time.Now()
	r, err := t.Run(ctx)
	if err != nil {
		return MTUWatchResult{}, err
	}
	return w.result(r.Stats, time.Since(began)), nil
}

// result is what is concluded from what was counted.
func (w *mtuWatch) result(stats Stats, took time.Duration) MTUWatchResult {
	out := MTUWatchResult{Stats: stats, Watch: w.sum(took)}
	silent := false
	for _, p := range w.count.Places() {
		silent = silent || p.Silent
	}
	out.Verdict = mtu.ConcludeWatch(&out.Watch, silent, stats.LostEvents == 0, stats.LostEvents)
	return out
}

// event takes an observation, and tells at once what is new.
func (w *mtuWatch) event(e *wire.Event) {
	p := w.count.Add(e, w.drop)
	if e.Time > w.said+watchProgress {
		w.said = e.Time
		tooBig, fragments := w.count.Found()
		w.progress(fmt.Sprintf("%d packets so far, %d too big, %d fragments", w.count.Packets(), tooBig, fragments))
	}
	if p == nil {
		return
	}
	place := w.place(p)
	where := place.Device + " in " + place.Namespace
	ends := fmt.Sprintf("%s to %s", p.Tuple.Src, p.Tuple.Dst)
	if p.TooBig > 0 {
		w.note(fmt.Sprintf("%d bytes from %s were too big at %s (%s)", p.Smallest, ends, where, p.Function))
		return
	}
	w.note(fmt.Sprintf("fragments of packets from %s leave by %s", ends, where))
}

// drop puts names on a drop.
func (w *mtuWatch) drop(e *wire.Event) mtu.Drop {
	d := mtu.Drop{Function: w.namer.Symbol(e.Location), Reason: w.namer.DropReason(e.Reason)}
	if mtu.ChecksPeer(d.Function) {
		d.Limit = w.names.peerMTU(e.NetNS, e.Ifindex)
	} else {
		d.Limit = w.names.device(e.NetNS, e.Ifindex, e.Dev).mtu
	}
	return d
}

// place names a place.
func (w *mtuWatch) place(p *mtu.Place) path.MTUWatchPlace {
	l := w.names
	d, space := l.device(p.NetNS, p.Ifindex, p.Device), l.space(p.NetNS)
	return path.MTUWatchPlace{
		Namespace: space.Name, Container: space.Container, NetNS: p.NetNS, Device: d.name, MTU: int(d.mtu),
		Packets: p.Packets, Fragments: p.Fragments, TooBig: p.TooBig, Smallest: int(p.Smallest),
		Function: p.Function, Reason: p.Reason,
		Src: p.Tuple.Src.String(), Dst: p.Tuple.Dst.String(),
		SrcName: l.addrIn(p.NetNS, p.Tuple.Src.Addr()), DstName: l.addrIn(p.NetNS, p.Tuple.Dst.Addr()),
	}
}

// sum is what was counted.
func (w *mtuWatch) sum(took time.Duration) path.MTUWatch {
	told, r := w.count.Told(), w.count.Repeats()
	out := path.MTUWatch{
		Type: "mtu_watch", Seconds: took.Round(time.Millisecond).Seconds(), Packets: w.count.Packets(),
		Errors: told.Seen, LostErrors: told.Dropped, Segments: r.Sent, Repeated: r.Repeated,
		Places: []path.MTUWatchPlace{}, Notes: r.Notes(),
	}
	out.TooBig, out.Fragments = w.count.Found()
	for _, p := range w.count.Places() {
		out.Places = append(out.Places, w.place(p))
	}
	return out
}
