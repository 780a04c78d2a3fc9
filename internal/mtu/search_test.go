package mtu

import "testing"

// TestSearch finds every limit, whatever the links declare and the ICMP errors say, and needs few probes
// where they tell the truth.
func TestSearch(t *testing.T) {
	for _, c := range []struct {
		name     string
		declared []int
		largest  int
		told     int // what an ICMP error says of what is too big, 0 for silence
		most     int // probes
	}{
		{"nothing declared", nil, 1500, 0, 12},
		{"declared", []int{1500, 1400}, 1500, 0, 16},
		{"told", nil, 1500, -1, 4},
		{"jumbo, nothing declared", nil, 9000, 0, 15},
		{"wrong hints", []int{0, 70000, 1300, 1301}, 1500, 1299, 24},
	} {
		for limit := Small; limit <= c.largest; limit += 7 {
			s := NewSearch(Small, c.largest, c.declared)
			n := 0
			for size, ok := s.Next(); ok; size, ok = s.Next() {
				if size <= s.Passes() || size > c.largest || s.Fails() != 0 && size >= s.Fails() {
					t.Fatalf("%s, limit %d: tries %d between %d and %d", c.name, limit, size, s.Passes(), s.Fails())
				}
				s.Record(size, size <= limit)
				if size > limit && c.told != 0 {
					told := c.told
					if told < 0 {
						told = limit
					}
					s.Hint(told)
				}
				n++
			}
			fails := limit + 1
			if limit == c.largest {
				fails = 0
			}
			if s.Passes() != limit || s.Fails() != fails {
				t.Fatalf("%s: got %d and %d, want %d and %d", c.name, s.Passes(), s.Fails(), limit, fails)
			}
			if n > c.most || n != s.Probes() {
				t.Errorf("%s, limit %d: %d probes (%d counted), want at most %d", c.name, limit, n, s.Probes(), c.most)
			}
		}
	}
}

// FuzzSearch: answers that contradict each other end the search, too.
func FuzzSearch(f *testing.F) {
	f.Add([]byte{1, 0, 1}, uint16(1500), uint16(1400))
	f.Fuzz(func(t *testing.T, answers []byte, largest, hint uint16) {
		s := NewSearch(Small, int(largest), []int{int(hint)})
		n := 0
		for size, ok := s.Next(); ok; size, ok = s.Next() {
			if n > 64 {
				t.Fatalf("no end after %d probes", n)
			}
			s.Record(size, n < len(answers) && answers[n]%2 == 0)
			n++
		}
	})
}
