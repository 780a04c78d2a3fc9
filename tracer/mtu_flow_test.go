package tracer

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestFlowFrom: somebody else pings between the same two ends.
func TestFlowFrom(t *testing.T) {
	client := netip.MustParseAddrPort("172.18.0.3:7")
	of := func(proto path.Proto, from string) *path.Path {
		return &path.Path{Proto: proto, Client: netip.MustParseAddrPort(from)}
	}
	own, other := of(path.ICMP, "172.18.0.3:7"), of(path.ICMP, "172.18.0.3:8")
	nameless, tcp := of(path.ICMP, "172.18.0.3:0"), of(path.TCP, "172.18.0.3:8")
	for name, c := range map[string]struct {
		list []*path.Path
		want *path.Path
	}{
		"alone":            {[]*path.Path{own}, own},
		"after another":    {[]*path.Path{other, own}, own},
		"before another":   {[]*path.Path{own, other}, own},
		"no identifier":    {[]*path.Path{tcp, nameless}, nameless},
		"another protocol": {[]*path.Path{tcp}, nil},
		"nothing":          {nil, nil},
	} {
		if got := flowFrom(c.list, client); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}
