//go:build e2e && bench

package e2e

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/bpfobj"
	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// hooksMeasured are the hooks with a yardstick, and the events they send.
var hooksMeasured = []struct {
	name  string
	event wire.Hook
}{
	{"net_dev_queue", wire.DevQueue}, {"net_dev_start_xmit", wire.DevXmit}, {"netif_receive_skb", wire.DevReceive},
	{"netfilter_enter", wire.NetfilterEnter}, {"netfilter_leave", wire.NetfilterLeave},
	{"sk_data_ready", wire.SocketDataReady}, {"skb_copy_datagram_iovec", wire.SocketRead},
	{"kfree_skb", wire.Drop}, {"fib_table_lookup", wire.RouteLookup},
}

// yardstick is the programs that do nothing, attached.
type yardstick struct {
	bpfobj.EmptyPrograms
	links []link.Link
}

func (y *yardstick) byHook() map[string]*ebpf.Program {
	return map[string]*ebpf.Program{
		"net_dev_queue": y.EmptyNetDevQueue, "net_dev_start_xmit": y.EmptyNetDevStartXmit,
		"netif_receive_skb": y.EmptyNetifReceiveSkb, "kfree_skb": y.EmptyKfreeSkb,
		"skb_copy_datagram_iovec": y.EmptySkbCopyDatagramIovec, "sk_data_ready": y.EmptySkDataReady,
		"fib_table_lookup": y.EmptyFibTableLookup,
		"netfilter_enter":  y.EmptyNetfilterEnter, "netfilter_leave": y.EmptyNetfilterLeave,
	}
}

// attach attaches to the tracepoints, but to those without names; attachNetfilter does to a namespace.
func (y *yardstick) attach(t *testing.T, without ...string) {
	t.Helper()
	check(t, bpfobj.LoadEmptyObjects(&y.EmptyPrograms, nil))
	for name, p := range y.byHook() {
		if strings.HasPrefix(name, "netfilter") || slices.Contains(without, name) {
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		check(t, err)
		y.links = append(y.links, l)
	}
}

// attachNetfilter attaches to all hooks of the calling thread's namespace at the outermost free priorities, as package probe does.
func (y *yardstick) attachNetfilter() error {
	for _, family := range []link.NetfilterProtocolFamily{link.NetfilterProtoIPv4, link.NetfilterProtoIPv6} {
		for hook := link.NetfilterInetHook(0); hook <= link.NetfilterInetPostRouting; hook++ {
			for _, end := range []struct {
				program     *ebpf.Program
				first, step int32
			}{{y.EmptyNetfilterEnter, math.MinInt32 + 1, 1}, {y.EmptyNetfilterLeave, math.MaxInt32 - 2, -1}} {
				opts := link.NetfilterOptions{
					Program: end.program, ProtocolFamily: family, Hook: hook, Priority: end.first,
				}
				l, err := link.AttachNetfilter(opts)
				for ; errors.Is(err, unix.EBUSY) && opts.Priority != end.first+8*end.step; l, err = link.AttachNetfilter(opts) {
					opts.Priority += end.step
				}
				if err != nil {
					return err
				}
				y.links = append(y.links, l)
			}
		}
	}
	return nil
}

func (y *yardstick) close() {
	for _, l := range y.links {
		_ = l.Close() // it goes with the process anyway
	}
	_ = y.Close()
}

// attachProbe loads and attaches the programs of pathtrace in the namespaces.
func attachProbe(t *testing.T, facts *kernel.Facts, cfg probe.Config, namespaces []*lab.Namespace) *probe.Set {
	t.Helper()
	cfg.Facts = facts
	set, err := probe.Load(cfg)
	check(t, err)
	for _, ns := range namespaces {
		check(t, ns.Do(func() error { return set.AttachNetNS(ns.Inode) }))
	}
	return set
}

// oursByHook finds the program that is attached for each measured hook.
func oursByHook(set *probe.Set) map[string]*ebpf.Program {
	out := map[string]*ebpf.Program{}
	for _, h := range hooksMeasured {
		for name, p := range set.Programs() {
			if strings.HasPrefix(name, h.name) { // kfree_skb has variants
				out[h.name] = p
			}
		}
	}
	return out
}

// window is how long runs are counted for one sample.
const window = 250 * time.Millisecond

// leastRuns is how many runs make a sample.
const leastRuns = 200

// runs is what the kernel counted for one program.
type runs struct {
	count uint64
	time  time.Duration
}

func countRuns(t *testing.T, programs map[string]*ebpf.Program) map[string]runs {
	t.Helper()
	out := map[string]runs{}
	for name, p := range programs {
		s, err := p.Stats()
		check(t, err)
		out[name] = runs{s.RunCount, s.Runtime}
	}
	return out
}

// costs is nanoseconds per run, one value per window, by hook.
type costs map[string][]float64

// add adds what happened between two counts.
func (c costs) add(before, after map[string]runs) {
	for name, b := range before {
		if n := after[name].count - b.count; n >= leastRuns {
			c[name] = append(c[name], float64((after[name].time-b.time).Nanoseconds())/float64(n))
		}
	}
}
