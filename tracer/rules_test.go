package tracer

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/tape"
)

// fakeRules is a rule book over readers that need no namespace; its clock counts calls.
func fakeRules(readers ...ruleReader) *ruleBook {
	var clock atomic.Uint64
	b := newRuleBook(func(_ uint32, fn func() error) error { return fn() }, slog.New(slog.DiscardHandler))
	b.readers = func(func(func() error) error) []ruleReader { return readers }
	b.now = func() uint64 { return clock.Add(10) }
	return b
}

func counting(n *atomic.Int32) ruleReader {
	return func(*tape.Tape) ([]*firewall.Table, []string, error) {
		n.Add(1)
		return []*firewall.Table{{Name: "filter"}}, nil, nil
	}
}

func TestRuleBookReadsOnceForMany(t *testing.T) {
	var reads atomic.Int32
	b := fakeRules(counting(&reads))
	if b.before(1, 1000) != nil {
		t.Error("rules before anything was read")
	}
	for range 200 {
		if b.after(1, 5) == nil { // flows that ended at 5
			t.Fatal("no rules")
		}
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("%d readings for flows that ended before the first, want 1", n)
	}
	first := b.after(1, 5)
	later := b.after(1, 1_000_000-10)
	if n := reads.Load(); n != 2 || first == later {
		t.Errorf("%d readings, want a second one for a later flow", n)
	}
}

func TestRuleBookBefore(t *testing.T) {
	var reads atomic.Int32
	b := fakeRules(counting(&reads))
	first := b.after(1, 0)      // ended at 20
	second := b.after(1, 1_000) // 30 to 40
	for at, want := range map[uint64]*firewall.Ruleset{19: nil, 20: first, 39: first, 40: second, 1 << 40: second} {
		if b.before(1, at) != want {
			t.Errorf("at %d: not the latest reading that had ended", at)
		}
	}
	for range 3 * rulesKept {
		b.after(1, 1<<40)
	}
	if n := len(b.page(1).readings); n != rulesKept {
		t.Errorf("%d readings kept, want %d", n, rulesKept)
	}
	if b.before(1, 20) != first {
		t.Error("the first reading is gone")
	}
}

func TestRuleBookProblems(t *testing.T) {
	var reads atomic.Int32
	fails := func(*tape.Tape) ([]*firewall.Table, []string, error) { return nil, nil, errors.New("refused") }
	set := fakeRules(fails, counting(&reads)).after(1, 0)
	if set == nil || len(set.Tables) != 1 || len(set.Problems) != 1 {
		t.Errorf("got %+v, want one table and one problem", set)
	}
	if set := fakeRules(fails).after(1, 0); set != nil {
		t.Errorf("got %+v from readers that all failed", set)
	}
}

// A namespace whose rules take long to read does not hold the probe back.
func TestRuleBookPrepareIsBounded(t *testing.T) {
	release := make(chan struct{})
	b := fakeRules(func(*tape.Tape) ([]*firewall.Table, []string, error) {
		<-release
		return nil, nil, nil
	})
	start := time.Now()
	b.prepare([]uint32{0, 1, 2, 1}, time.Millisecond)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("waited %v", d)
	}
	close(release)
	b.wait()
	if b.before(1, 1<<40) == nil || b.before(2, 1<<40) == nil || len(b.pages) != 2 {
		t.Error("what was read late is not kept")
	}
}
