package nft

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// nest builds an attribute.
func nest(typ uint16, parts ...[]byte) []byte {
	var value []byte
	for _, p := range parts {
		value = append(value, p...)
	}
	b := []byte{byte(len(value) + 4), byte((len(value) + 4) >> 8), byte(typ), byte(typ >> 8)}
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func be32(n byte) []byte { return []byte{0, 0, 0, n} }

// expression builds an element of a rule's list.
func expression(name string, parts ...[]byte) []byte {
	return nest(unix.NFTA_LIST_ELEM, nfnl.Attribute(nil, unix.NFTA_EXPR_NAME, name), nest(unix.NFTA_EXPR_DATA, parts...))
}

// fuzzFamilies are the families whose rules differ.
func fuzzFamilies() []firewall.Family {
	return []firewall.Family{firewall.FamilyIP, firewall.FamilyIP6, firewall.FamilyInet, firewall.FamilyBridge,
		firewall.FamilyARP, firewall.FamilyNetdev}
}

// FuzzRule reads, writes and judges rules of arbitrary bytes: nothing may panic, and doubts have names.
func FuzzRule(f *testing.F) {
	f.Add(byte(0), false, expression("payload", nest(1, be32(1)), nest(2, be32(2)), nest(3, be32(2)), nest(4, be32(2))))
	f.Add(byte(1), true, append(expression("meta", nest(2, be32(16)), nest(1, be32(1))),
		expression("cmp", nest(1, be32(1)), nest(2, be32(0)), nest(3, nest(1, []byte{6})))...))
	f.Add(byte(2), false, append(expression("lookup", nest(1, []byte("s\x00")), nest(2, be32(1)), nest(3, be32(0))),
		expression("bitwise", nest(1, be32(1)), nest(2, be32(9)), nest(3, be32(4)), nest(4, nest(1, be32(255))), nest(5, nest(1, be32(0))))...))
	for _, name := range []string{"range", "byteorder", "ct", "fib", "immediate", "match", "target", "counter", "nat", "masq",
		"redir", "reject", "queue", "synproxy", "tproxy", "fwd", "limit", "quota", "connlimit", "log", "dup", "objref",
		"dynset", "exthdr", "rt", "socket", "hash", "numgen", "unheard"} {
		f.Add(byte(3), false, expression(name, nest(1, be32(1)), nest(2, be32(1)), nest(3, be32(1)), nest(4, be32(1))))
		f.Add(byte(0), true, expression(name, nfnl.Attribute(nil, 1, "name"), nest(2, be32(0)), nest(3, make([]byte, 40))))
	}
	f.Fuzz(func(t *testing.T, family byte, xtables bool, exprs []byte) {
		fam := fuzzFamilies()[int(family)%6]
		s := &set{name: "s", keyLen: 4, dataLen: 4, flags: unix.NFT_SET_ANONYMOUS, elems: []*element{{key: []byte{0, 0, 0, 1}, end: []byte{0, 0, 0, 9}}}}
		s.finish()
		d := decoder{family: fam, sets: map[string]*set{"s": s}, links: &links{names: map[uint32]string{}}}
		b := &body{family: fam, backend: firewall.NFTables, sets: d.sets}
		if xtables {
			b.backend = firewall.IptablesNFT
		}
		if nfnl.List(exprs, func(e nfnl.Attrs) error { b.exprs = append(b.exprs, d.decode(e)); return nil }) != nil {
			return
		}
		_ = b.inWords(&firewall.Chain{Name: "c"}, d.links, "a comment")
		for _, p := range []*firewall.Packet{{}, {Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("fe80::1"), Proto: 6}} {
			j := b.Judge(p)
			if (j.Match == firewall.Maybe) != (len(j.Unjudged) > 0) {
				t.Errorf("match %v with doubts %q", j.Match, j.Unjudged)
			}
			for _, u := range j.Unjudged {
				if u == "" {
					t.Error("a doubt without a name")
				}
			}
		}
		b.Verdicts()
	})
}

// FuzzSet reads sets of arbitrary elements and looks values up in them.
func FuzzSet(f *testing.F) {
	elem := func(parts ...[]byte) []byte { return nest(unix.NFTA_LIST_ELEM, parts...) }
	f.Add(uint32(0), byte(4), elem(nest(1, nest(1, be32(1)))), []byte{0, 0, 0, 1})
	f.Add(uint32(unix.NFT_SET_INTERVAL), byte(4),
		append(elem(nest(1, nest(1, be32(1)))), elem(nest(1, nest(1, be32(9))), nest(3, be32(1)))...), []byte{0, 0, 0, 5})
	f.Add(uint32(unix.NFT_SET_INTERVAL|setFlagConcat|unix.NFT_SET_MAP), byte(8),
		elem(nest(1, nest(1, make([]byte, 8))), nest(10, nest(1, make([]byte, 8))), nest(2, nest(2, nest(1, be32(1))))), make([]byte, 8))
	f.Fuzz(func(t *testing.T, flags uint32, keyLen byte, elems, value []byte) {
		s := &set{flags: flags, keyLen: int(keyLen) % regBytes, fields: []int{int(keyLen) % 7, 4}}
		if nfnl.List(elems, s.add) != nil {
			return
		}
		s.finish()
		known := make([]byte, len(value))
		for _, k := range []byte{0, 0x0f, 0xff} {
			for i := range known {
				known[i] = k
			}
			found, truth := s.find(value, known, nil)
			if truth == firewall.Yes && len(found) != 1 || truth == firewall.No && len(found) != 0 {
				t.Errorf("%v with %d elements", truth, len(found))
			}
			if truth != firewall.No {
				commonVerdict(found)
			}
		}
		w := writer{b: &body{}, links: &links{names: map[uint32]string{}}}
		w.set(&lookupExpr{set: s}, []*operand{{typ: typeIPv4, n: 4}, {typ: typeIfname, n: 16}})
	})
}
