package tracer

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestStreams(t *testing.T) {
	also := func(p path.Proto) share {
		return share{Also: []Endpoint{{Addr: netip.MustParseAddrPort("10.0.0.2:80"), Proto: p}}}
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want bool
	}{
		{"port", Config{Target: "web:80"}, true},
		{"no port: ICMP", Config{Target: "web"}, false},
		{"UDP by flag", Config{Target: "web:80", Proto: path.UDP}, false},
		{"UDP by scheme", Config{Target: "udp://web:80"}, false},
		{"not understood", Config{Target: "web:"}, false},
		{"TCP on another host, too", Config{Target: "web:80", share: also(path.TCP)}, true},
		{"UDP on another host", Config{Target: "web:80", share: also(path.UDP)}, false},
	} {
		if got := (&Tracer{cfg: c.cfg}).streams(); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
}
