package netns

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func newNamespace(t *testing.T) *os.File {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("network namespaces need root, and CI must not skip this test")
		}
		t.Skip("network namespaces need root")
	}
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func current(t *testing.T) ID {
	t.Helper()
	f, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, err := Identify(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestDo(t *testing.T) {
	ns := newNamespace(t)
	outside := current(t)
	want, err := Identify(ns)
	if err != nil {
		t.Fatal(err)
	}
	sentinel := errors.New("from fn")
	var inside ID
	if err := Do(ns, func() error { inside = current(t); return sentinel }); !errors.Is(err, sentinel) {
		t.Errorf("error: got %v, want %v", err, sentinel)
	}
	if inside != want || inside == outside {
		t.Errorf("inside: got %v, want %v, which is not %v", inside, want, outside)
	}
	if got := current(t); got != outside {
		t.Errorf("afterwards: got %v, want %v", got, outside)
	}
}

func TestDoGoexit(t *testing.T) {
	ns := newNamespace(t)
	if err := Do(ns, func() error { runtime.Goexit(); return nil }); !errors.Is(err, errGoexit) {
		t.Errorf("got %v, want %v", err, errGoexit)
	}
}

func TestDoNested(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	var between ID
	err := Do(a, func() error {
		if err := Do(b, func() error { return nil }); err != nil {
			return err
		}
		between = current(t)
		return nil
	})
	want, idErr := Identify(a)
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
		f, err := Open(path)
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: got error %v, want %v", path, err, want)
		}
	}
}
