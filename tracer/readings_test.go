package tracer

import (
	"errors"
	"sync"
	"testing"
	"time"
)

func TestCountersBefore(t *testing.T) {
	var r readings
	if got := r.before(1, 100); got != nil {
		t.Errorf("nothing read: got %v", got)
	}
	for at := uint64(10); at <= 300; at += 10 {
		r.add(1, sample{at, map[string]uint64{"n": at}})
	}
	for at, want := range map[uint64]uint64{0: 150, 150: 150, 155: 150, 160: 160, 300: 300, 1000: 300} {
		if got := r.before(1, at)["n"]; got != want {
			t.Errorf("before %d: got the sample of %d, want %d", at, got, want)
		}
	}
	if r.forget(1); r.before(1, 300) != nil {
		t.Error("a sample of a namespace that is gone")
	}
}

func TestRecall(t *testing.T) {
	var mu sync.Mutex
	var m map[uint32]aged[int]
	reads := 0
	read := func() (int, error) { reads++; return reads, nil }
	for range 3 {
		if got, err := recall(&mu, &m, 7, read); got != 1 || err != nil {
			t.Errorf("got %d %v, want the first reading", got, err)
		}
	}
	m[7] = aged[int]{1, time.Now().Add(-2 * readingAge)}
	if got, _ := recall(&mu, &m, 7, read); got != 2 {
		t.Errorf("got %d, want a new reading after %v", got, readingAge)
	}
	failed := errors.New("gone")
	if _, err := recall(&mu, &m, 8, func() (int, error) { return 0, failed }); !errors.Is(err, failed) {
		t.Errorf("got %v, want the error", err)
	}
}
