package nfnl

import (
	"bytes"
	"testing"
)

func TestAttrs(t *testing.T) {
	b := Attribute(nil, 1, "name")
	b = append(b, 8, 0, 2, 0x80, 0, 0, 1, 2) // the upper bits say that it is nested
	b = append(b, 5, 0, 3, 0, 7)             // the last one may lack its padding
	a, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if a.Str(1) != "name" || a.U32(2) != 0x102 || a.U8(3) != 7 {
		t.Errorf("got %q, %#x, %d", a.Str(1), a.U32(2), a.U8(3))
	}
	if a.Has(4) || a.U16(4) != 0 || a.U64(2) != 0 || a.Str(4) != "" {
		t.Error("an attribute that is not there, or too short, has a value")
	}
}

func TestAttrsLie(t *testing.T) {
	for _, b := range [][]byte{{3, 0, 1, 0}, {9, 0, 1, 0, 1}, {0, 0, 0, 0}} {
		if _, err := Parse(b); err == nil {
			t.Errorf("% x: no error", b)
		}
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(Attribute(nil, 1, "name"))
	f.Add([]byte{4, 0, 1, 0, 5, 0, 2, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		err := Walk(b, func(_ uint16, value []byte) { total += len(value) + 4 })
		if total > len(b) {
			t.Errorf("%d bytes of %d", total, len(b))
		}
		a, parseErr := Parse(b)
		if (err == nil) != (parseErr == nil) {
			t.Errorf("walk: %v, parse: %v", err, parseErr)
		}
		for i := range a {
			if a.Has(i) && !bytes.Contains(b, a[i]) {
				t.Errorf("attribute %d is not of the message", i)
			}
			a.U8(i)
			a.U64(i)
			a.Nested(i)
		}
		_ = List(b, func(Attrs) error { return nil })
	})
}
