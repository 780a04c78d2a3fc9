package mtu

import "slices"

// Search finds the largest packet that passes, between one that is known to pass and the largest that
// the sender can send. Sizes are from the IP header on, in bytes. What the links declare and what ICMP
// errors say is tried first; what they leave open is halved.
type Search struct {
	passes, fails int // fails is max+1 until something failed
	max           int
	hints         []int
	tried         int
}

// vlanRoom is what the kernel lets a frame be longer than the MTU of a device that it is forwarded to
// (is_skb_forwardable, include/linux/netdevice.h): room for a VLAN tag, which it does not check for.
const vlanRoom = 4

// Small is a size that every path carries (RFC 791 demands more), and every probe fills, bytes.
const Small = 128

// NewSearch returns the search between passes, which is known to pass, and largest, with the MTUs that
// the links of the path declare.
func NewSearch(passes, largest int, declared []int) *Search {
	s := &Search{passes: passes, fails: largest + 1, max: largest}
	declared = slices.Clone(declared)
	slices.Sort(declared)
	for _, d := range slices.Compact(declared) {
		s.Hint(d)
	}
	return s
}

// Hint adds an MTU that somebody declares: it and what is just above it are tried.
func (s *Search) Hint(mtu int) {
	s.hints = append(s.hints, mtu, mtu+1, mtu+vlanRoom, mtu+vlanRoom+1)
}

// Next returns the size to try next; ok is false once the answer is known.
func (s *Search) Next() (size int, ok bool) {
	if s.passes+1 >= s.fails {
		return 0, false
	}
	if s.tried == 0 {
		return s.max, true
	}
	for _, h := range s.hints {
		if s.passes < h && h < s.fails {
			return h, true
		}
	}
	return s.passes + (s.fails-s.passes)/2, true
}

// Record takes the end of a probe.
func (s *Search) Record(size int, passed bool) {
	s.tried++
	if passed {
		s.passes = max(s.passes, size)
		return
	}
	s.fails = min(s.fails, size)
}

// Passes is the largest size that passed.
func (s *Search) Passes() int { return s.passes }

// Fails is the smallest size that did not pass; 0 if nothing failed that the sender can send.
func (s *Search) Fails() int {
	if s.fails > s.max {
		return 0
	}
	return s.fails
}

// Probes counts the sizes tried.
func (s *Search) Probes() int { return s.tried }
