package nft

import (
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// value is the bytes of a NFTA_DATA_VALUE below attribute i.
func value(a *nfnl.Attrs, i int) []byte {
	n := a.Nested(i)
	return n[unix.NFTA_DATA_VALUE]
}

// Kinds of what the tools keep with a rule (libnftnl udata.h, iptables nft.h).
const (
	udataComment        = 0
	udataEbtablesPolicy = 1
)

// udata finds the data of a kind that a tool keeps with a rule: a list of kind, length and bytes.
func udata(b []byte, kind byte) []byte {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		value := b[2 : 2+int(b[1])]
		if b[0] == kind {
			return value
		}
		b = b[2+len(value):]
	}
	return nil
}
