package nft

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// TestSetAskedInTurns checks that a set which keeps its latest search does not answer another one with it.
func TestSetAskedInTurns(t *testing.T) {
	s := &set{keyLen: 8, flags: unix.NFT_SET_INTERVAL | setFlagConcat, fields: []int{4, 2}}
	key := func(net, port int) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(net)), byte(port>>8), byte(port), 0, 0)
	}
	for i := range 100 {
		s.elems = append(s.elems, &element{key: key(i*10, i), end: key(i*10+4, i)})
	}
	s.finish()
	all, noPort := make([]byte, 8), make([]byte, 8)
	for i := range all {
		all[i] = 0xff
	}
	copy(noPort, all[:4])
	for range 3 {
		for i := range 100 {
			for _, c := range []struct {
				val, known []byte
				want       firewall.Truth
			}{
				{key(i*10+4, i), all, firewall.Yes},
				{key(i*10+5, i), all, firewall.No},
				{key(i*10+4, 7777), noPort, firewall.Maybe},
				{key(i*10+4, 7777), all, firewall.No},
			} {
				found, truth := s.find(c.val, c.known, nil)
				if truth != c.want || (truth != firewall.No) != (len(found) == 1 && found[0] == s.elems[i]) {
					t.Fatalf("element %d, %x known %x: %v with %d elements, want %v", i, c.val, c.known, truth, len(found), c.want)
				}
			}
		}
	}
}

// TestVerdictsOfLargeMap checks that a map of many verdicts lists each once.
func TestVerdictsOfLargeMap(t *testing.T) {
	m := &set{keyLen: 4, flags: unix.NFT_SET_MAP}
	for i := range 3000 {
		m.elems = append(m.elems, &element{
			key:     binary.BigEndian.AppendUint32(nil, uint32(i)),
			verdict: firewall.Verdict{Kind: firewall.Jump, Chain: fmt.Sprintf("c%d", i/3)},
		})
	}
	m.finish()
	b := &body{exprs: []expr{&lookupExpr{set: m, verdicts: true}, &lookupExpr{set: m, verdicts: true}}}
	if got := b.Verdicts(); len(got) != 1000 || got[999].Chain != "c999" {
		t.Errorf("%d verdicts", len(got))
	}
}
