package diagnose

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestNeeds(t *testing.T) {
	cases := []struct {
		name string
		path *path.Path
		want Want
	}{
		{"nothing", nil, Want{}},
		{"delivered", &newFlow(path.TCP).connect().p, Want{Listeners: []uint32{nsWeb}, Rules: []uint32{nsHost}}},
		{
			"reset", &closed(nsWeb).p,
			Want{Links: []uint32{nsWeb}, Neighbours: []uint32{nsWeb}, Listeners: []uint32{nsWeb},
				Counters: []uint32{nsWeb}, Routes: []RouteQuery{{NetNS: nsWeb, Dst: ip("172.18.0.2")}},
				Rules: []uint32{nsHost}},
		},
		{
			"forwarding off", &hostDrop("IP_INADDRERRORS", "ip_error").p,
			Want{Links: []uint32{nsHost}, Neighbours: []uint32{nsHost},
				Routes:  []RouteQuery{{NetNS: nsHost, Dst: ip("172.18.0.2")}},
				Sysctls: []SysctlQuery{{nsHost, "net.ipv4.conf.eth0.forwarding"}, {nsHost, "net.ipv4.ip_forward"}},
				Rules:   []uint32{nsHost}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Needs(c.path)
			if got.Tracked = nil; !sameWant(got, c.want) { // TestNeedsTracking
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// TestNeedsOfSilence: a request that arrived and got no answer asks for what may explain it.
func TestNeedsOfSilence(t *testing.T) {
	f := newFlow(path.TCP)
	f.add(path.Request, "S", f.in()...)
	w := Needs(&f.p)
	if !slices.Contains(w.Counters, nsWeb) || !slices.Contains(w.Listeners, nsWeb) {
		t.Errorf("got %+v, want the target's counters and listeners", w)
	}
	back := RouteQuery{NetNS: nsWeb, Dst: ip("10.99.0.1")}
	def := RouteQuery{NetNS: nsWeb, Dst: ip("0.0.0.0")}
	var found int
	for _, q := range w.Routes {
		if q == back || q == def {
			found++
		}
	}
	if found != 2 {
		t.Errorf("got %+v, want %+v and %+v", w.Routes, back, def)
	}
}

// TestNeedsTracking: the entries of a flow that failed are asked for by the addresses that the request
// had where it came into each namespace.
func TestNeedsTracking(t *testing.T) {
	f := newFlow(path.UDP)
	f.add(path.Request, "", f.in()...)
	want := []TrackedQuery{
		{nsCli, path.UDP, ap(sender), ap(asked)}, {nsHost, path.UDP, ap(sender), ap(asked)},
		{nsWeb, path.UDP, ap(sender), ap(inner)},
	}
	if got := Needs(&f.p).Tracked; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := Needs(&newFlow(path.TCP).connect().p).Tracked; got != nil {
		t.Errorf("delivered: got %+v, want nothing", got)
	}
}

// sameWant compares without telling nil from empty.
func sameWant(a, b Want) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		x, y := va.Field(i), vb.Field(i)
		if x.Kind() == reflect.Struct || va.Type().Field(i).Name == "Expected" {
			continue // these have tests of their own
		}
		if x.Len() != y.Len() || x.Len() > 0 && !reflect.DeepEqual(x.Interface(), y.Interface()) {
			return false
		}
	}
	return true
}

// TestNeedsOfLinks: a failure asks for the devices of the whole way, and for who has the addresses; a
// flow that was delivered asks for the latter only.
func TestNeedsOfLinks(t *testing.T) {
	delivered := Needs(&newFlow(path.TCP).connect().p).LinkWant
	if want := (LinkWant{Owners: []netip.Addr{ip("172.18.0.2")}}); !reflect.DeepEqual(delivered, want) {
		t.Errorf("delivered: got %+v, want %+v", delivered, want)
	}
	got := Needs(&bridged("NO_TX_TARGET", "br_handle_frame_finish")().p).LinkWant
	want := LinkWant{
		Way:     []uint32{nsCli, nsHost},
		Devices: []DeviceQuery{{NetNS: nsHost, Ifindex: 4, Name: "vethC"}},
		Queues:  []uint32{nsHost}, Tables: []uint32{nsCli, nsHost},
		Owners: []netip.Addr{ip("172.18.0.2")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("dropped on a bridge:\n got %+v\nwant %+v", got, want)
	}
	martian := Needs(&onEth0(path.StageRoute, "IP_LOCALNET", "ip_rcv_finish_core")().p)
	for _, name := range []string{"net.ipv4.conf.eth0.route_localnet", "net.ipv4.conf.all.rp_filter"} {
		if !slices.Contains(martian.Sysctls, SysctlQuery{nsHost, name}) {
			t.Errorf("martian: %s is not in %+v", name, martian.Sysctls)
		}
	}
}
