package netns_test

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/netns"
)

func newNamespace(t *testing.T) *os.File {
	t.Helper()
	labtest.NeedsRoot(t)
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func current(t *testing.T) netns.ID {
	t.Helper()
	id, err := netns.IdentifyPath("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestDo(t *testing.T) {
	ns := newNamespace(t)
	outside := current(t)
	want, err := netns.Identify(ns)
	if err != nil {
		t.Fatal(err)
	}
	sentinel := errors.New("from fn")
	var inside netns.ID
	if err := netns.Do(ns, func() error { inside = current(t); return sentinel }); !errors.Is(err, sentinel) {
		t.Errorf("error: got %v, want %v", err, sentinel)
	}
	if inside != want || inside == outside {
		t.Errorf("inside: got %v, want %v, which is not %v", inside, want, outside)
	}
	if got := current(t); got != outside {
		t.Errorf("afterwards: got %v, want %v", got, outside)
	}
}

func TestTour(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	outside := current(t)
	err := netns.Tour(func(enter func(*os.File) error) error {
		for _, ns := range []*os.File{a, b, a} {
			if err := enter(ns); err != nil {
				return err
			}
			if want, err := netns.Identify(ns); err != nil || current(t) != want {
				t.Errorf("inside: got %v, want %v (%v)", current(t), want, err)
			}
		}
		f, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		defer f.Close()
		return enter(f)
	})
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("error: got %v, want that of a file that is no namespace", err)
	}
	if got := current(t); got != outside {
		t.Errorf("afterwards: got %v, want %v", got, outside)
	}
}

func TestDoGoexit(t *testing.T) {
	ns := newNamespace(t)
	if err := netns.Do(ns, func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("got no error, want one")
	}
}

func TestDoNested(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	var between netns.ID
	err := netns.Do(a, func() error {
		if err := netns.Do(b, func() error { return nil }); err != nil {
			return err
		}
		between = current(t)
		return nil
	})
	want, idErr := netns.Identify(a)
	if err != nil || idErr != nil || between != want {
		t.Errorf("after the inner Do: got %v, %v, %v, want %v", between, err, idErr, want)
	}
}

func TestOpenErrors(t *testing.T) {
	file := t.TempDir() + "/plain"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{file: unix.EINVAL, "/proc/0/ns/net": os.ErrNotExist} {
		f, err := netns.Open(path)
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: got error %v, want %v", path, err, want)
		}
	}
}
