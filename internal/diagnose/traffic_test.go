package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestNoTraffic(t *testing.T) {
	with := func(change func(*Facts)) *Facts {
		f := facts()
		f.Source.Label = "cli"
		change(f)
		return f
	}
	probe := func(p Probe) *Facts { return with(func(f *Facts) { f.Probe = &p }) }
	cases := []struct {
		name    string
		facts   *Facts
		outcome path.Outcome
		cause   path.Cause
		summary string
	}{
		{"nothing known", nil, path.NoTraffic, "", "no-traffic: no packet to the target was seen"},
		{"watched", with(func(f *Facts) { f.Waited = 10e9 }), path.NoTraffic, "",
			"no-traffic: no packet to web was seen in 10 s"},
		{"lost observations", with(func(f *Facts) { f.LostEvents = 1 }), path.NoTraffic, "",
			"no-traffic: no packet to web was seen; 1 observation was lost, so this is not certain"},
		{"stopped", with(func(f *Facts) { f.Target.State, f.Target.NetNS = "exited", nil }), path.NoTraffic,
			path.CauseContainerNotRunning, "no-traffic: container web does not run (exited)"},
		{"no route", probe(Probe{Kind: ProbeLocalError, Errno: "ENETUNREACH"}), path.NoTraffic,
			path.CauseNoRoute, "no-traffic: nothing could be sent, since cli has no route to web"},
		{"internal network", with(func(f *Facts) {
			f.Probe = &Probe{Kind: ProbeLocalError, Errno: "ENETUNREACH"}
			f.Source.Networks = []Network{{Name: "back", Internal: true}}
		}), path.NoTraffic, path.CauseNetworkIsolation, "no-traffic: nothing could be sent, since cli is on no " +
			"other network than back, which is internal"},
		{"no neighbour", probe(Probe{Kind: ProbeLocalError, Errno: "EHOSTUNREACH", RoundTrip: 3e9}),
			path.NoTraffic, path.CauseNeighbourUnresolved, "no-traffic: nothing could be sent from cli: nobody " +
				"answered ARP or neighbour discovery for the next hop to web"},
		{"host unreachable at once", probe(Probe{Kind: ProbeLocalError, Errno: "EHOSTUNREACH", RoundTrip: 1e3}),
			path.NoTraffic, path.CauseUnexplainedDrop, "no-traffic: nothing could be sent from cli to web: the " +
				"kernel answered EHOSTUNREACH"},
		{"refused unseen", probe(Probe{Kind: ProbeRefused}), path.Refused, path.CauseUnexplainedDrop,
			"refused: cli got a reset, and no packet of the flow was seen on its way"},
		{"connected unseen", probe(Probe{Kind: ProbeConnected}), path.NoTraffic, "",
			"no-traffic: web answered cli, but no packet of the flow was seen by the hooks"},
		{"silence", probe(*silentProbe()), path.NoTraffic, "",
			"no-traffic: the probe from cli to web was not seen anywhere"},
		{"no shared network", facts().between(Network{Name: "two"}), path.NoTraffic,
			path.CauseNoSharedNetwork, "no-traffic: containers cli and web share no network"},
		{"port not published", with(func(f *Facts) { f.Target.Port, f.Target.PortKind = 9999, PortHost }),
			path.NoTraffic, path.CauseNotPublished, "no-traffic: port 9999/tcp is not published by container web"},
		{"port published", with(func(f *Facts) { f.Target.Port, f.Target.PortKind = 8080, PortHost }),
			path.NoTraffic, "", "no-traffic: no packet to web was seen"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := ExplainNoTraffic(c.facts)
			if v.Outcome != c.outcome || v.Cause != c.cause || v.Summary != c.summary {
				t.Errorf("got %s/%s %s\nwant %s/%s %s", v.Outcome, v.Cause, v.Summary, c.outcome, c.cause, c.summary)
			}
			checkVerdict(t, &v)
		})
	}
}

func TestNoPacketsMeansNoTraffic(t *testing.T) {
	f := facts()
	f.Waited = 3e9
	v := Explain(&path.Path{Flow: 7, Proto: path.TCP}, f)
	if v.Outcome != path.NoTraffic || v.Flow != 7 {
		t.Errorf("got %s of flow %d, want no-traffic of flow 7", v.Outcome, v.Flow)
	}
	if v = Explain(nil, nil); v.Outcome != path.NoTraffic {
		t.Errorf("nil: got %s, want no-traffic", v.Outcome)
	}
}
