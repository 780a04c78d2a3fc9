package latency

import (
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// snapshotOf makes n round trips; grow is added to the bridge of each request.
func snapshotOf(n int, seed uint64, grow float64) *Snapshot {
	m := testMeter(0)
	f := newTraffic(m)
	rng := rand.New(rand.NewPCG(seed, 7))
	for range n {
		way := bridged(client, server, 3, 4)
		for i := 1; i < len(way); i++ {
			way[i].after += uint64(rng.ExpFloat64() * 100)
		}
		way[5].after += uint64(grow)
		f.send(path.Request, f.seq, f.ack, 10, way, nil)
		f.now += 5000
		f.seq += 10
		f.send(path.Reply, f.ack, f.seq, 20, bridged(server, client, 4, 3), nil)
		f.ack += 20
	}
	m.Flush()
	return m.Snapshot(0)
}

func TestCompare(t *testing.T) {
	c := Compare("bridge", "overlay", snapshotOf(1000, 1, 0), snapshotOf(1000, 2, 38_000), 0.5)
	if d := c.Difference; d.Low > 38_000 || d.High < 38_000 || math.Abs(float64(d.Estimate-38_000)) > 100 || d.High-d.Low > 200 {
		t.Errorf("difference %+v, want 38000 within it, and narrow", d)
	}
	for _, k := range c.Kinds {
		want := int64(0)
		if k.Kind == path.SegmentBridge {
			want = 38_000
		}
		if math.Abs(float64(k.Difference.Estimate-want)) > 100 {
			t.Errorf("%s: %+v, want about %d", k.Kind, k.Difference, want)
		}
	}
	want := regexp.MustCompile(`^overlay costs 38 µs more than bridge on the way at p50 \(95 % CI 38 µs to 38 µs\): 38 µs bridge$`)
	if !want.MatchString(c.Summary) {
		t.Errorf("summary %q, want %s", c.Summary, want)
	}
	back := Compare("overlay", "bridge", snapshotOf(1000, 2, 38_000), snapshotOf(1000, 1, 0), 0.5)
	if !strings.HasPrefix(back.Summary, "bridge costs 38 µs less than overlay on the way at p50 (95 % CI ") {
		t.Errorf("the other way round: %q", back.Summary)
	}
}

func TestCompareSame(t *testing.T) {
	c := Compare("a", "b", snapshotOf(500, 1, 0), snapshotOf(500, 2, 0), 0.5)
	if !strings.HasPrefix(c.Summary, "no difference on the way at p50 can be told between a and b") {
		t.Errorf("summary %q of equal paths", c.Summary)
	}
	if empty := testMeter(0).Snapshot(0); Compare("a", "b", snapshotOf(5, 1, 0), empty, 0.5) != nil {
		t.Error("a comparison with nothing")
	}
}

// TestCoverage: the interval holds the true difference about as often as it says.
func TestCoverage(t *testing.T) {
	const runs, n, shift = 200, 150, 1000
	held := 0
	rng := rand.New(rand.NewPCG(3, 4))
	for range runs {
		a, b := newHistogram(fine), newHistogram(fine)
		for range n {
			a.Record(int64(20_000 + 5000*rng.ExpFloat64()))
			b.Record(int64(20_000 + shift + 5000*rng.ExpFloat64()))
		}
		d := difference(a, b, 0.5, rng)
		if d.Low <= shift && shift <= d.High {
			held++
		}
	}
	if held < runs*90/100 || held == runs {
		t.Errorf("%d of %d intervals hold the true difference, want about 95 %%", held, runs)
	}
}

// TestNear: the composition of the round trips around a quantile adds up to the quantile.
func TestNear(t *testing.T) {
	s := snapshotOf(2000, 5, 0)
	var sum int64
	for _, k := range s.Report.Kinds {
		sum += k.Typical
	}
	if p50 := s.RoundTrip.Quantile(0.5); math.Abs(float64(sum-p50)) > float64(p50)*0.01 {
		t.Errorf("the kinds add up to %d ns, the median is %d", sum, p50)
	}
	if got := near(s.rounds, 0.99, (*round).whole); len(got) == 0 || !slices.ContainsFunc(got, func(r round) bool { return r.net >= s.RoundTrip.Quantile(0.99) }) {
		t.Errorf("%d rounds near p99, none at it", len(got))
	}
}

func TestThreshold(t *testing.T) {
	h := newHistogram(fine)
	for i := range 1000 {
		h.Record(int64(i+1) * 1000)
	}
	for _, tt := range []struct {
		text string
		met  bool
	}{
		{"p99=2ms", true}, {"p50=400us", false}, {"p50=501us", true}, {"p99.9=1ms", true}, {"max=1ms", true},
		{"max=999us", false}, {"min=1us", true}, {"min=900ns", false}, {" p90 = 905us", true}, {"p90=890us", false},
	} {
		limit, err := ParseThreshold(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		if got := limit.Check(h); got.Met != tt.met {
			t.Errorf("%q: %+v, want met %v", tt.text, got, tt.met)
		}
		if limit.Check(nil).Met {
			t.Errorf("%q is met by nothing", tt.text)
		}
	}
	for _, text := range []string{"", "2ms", "p99", "p99=", "p99=2", "p0=1ms", "p100=1ms", "p-5=1ms", "pNaN=1ms", "q9=1ms", "p99=-1ms", "p99=0s"} {
		if _, err := ParseThreshold(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func FuzzParseThreshold(f *testing.F) {
	for _, text := range []string{"p99=2ms", "max=1s", "p99.9=", "=", "pInf=1ms"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		limit, err := ParseThreshold(text)
		if err == nil && !(limit.Quantile >= 0 && limit.Quantile <= 1 && limit.Limit > 0) {
			t.Errorf("%q gives %+v", text, limit)
		}
	})
}
