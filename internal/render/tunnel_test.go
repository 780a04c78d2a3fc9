package render

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestTunnelMTU: both MTUs are told where a packet enters or leaves a tunnel, and nowhere else.
func TestTunnelMTU(t *testing.T) {
	in, out := &path.Hop{DeviceMTU: 1450}, &path.Hop{DeviceMTU: 1500}
	at := func(mtu uint32, a path.Action) *path.Hop { return &path.Hop{DeviceMTU: mtu, Action: a} }
	const both = "1450 inside, 1500 outside"
	for _, tt := range []struct {
		name      string
		before, h *path.Hop
		want      string
	}{
		{"into it", in, at(1500, path.ActionEncapsulate), both},
		{"out of it", out, at(1450, path.ActionDecapsulate), both},
		{"neither", in, at(1500, path.ActionTransmit), ""},
		{"first hop", nil, at(1500, path.ActionEncapsulate), ""},
		{"unknown device", in, at(0, path.ActionEncapsulate), ""},
	} {
		if got := tunnelMTU(tt.before, tt.h); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
