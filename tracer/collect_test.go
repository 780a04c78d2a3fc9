package tracer

import (
	"testing"
	"time"
)

func TestNextRest(t *testing.T) {
	const size = 4 << 20
	for _, c := range []struct {
		what    string
		last    time.Duration
		waiting int
		want    time.Duration
	}{
		{"nothing came", longRest, 0, shortRest},
		{"a few came", longRest, steady - 1, shortRest},
		{"many come", shortRest, steady, 2 * shortRest},
		{"they keep coming", longRest, size / 20, longRest},
		{"twice as many would be too many", shortRest, size / 10, shortRest},
		{"too many", longRest, size / 4, shortRest},
	} {
		if got := nextRest(c.last, c.waiting, size); got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, got, c.want)
		}
	}
}
