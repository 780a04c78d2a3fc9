package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestUnexplained(t *testing.T) {
	syn := func(hops func(*testFlow) []path.Hop) func() *testFlow {
		return func() *testFlow {
			f := newFlow(path.TCP)
			f.add(path.Request, "S", hops(f)...)
			return f
		}
	}
	runCases(t, []verdictCase{
		{
			name: "tc program",
			flow: syn(func(f *testFlow) []path.Hop {
				return append(f.out()[:3], f.hop(nsHost, path.StageQdisc, path.ActionDrop, "eth0",
					why("TC_INGRESS", "__netif_receive_skb_core")))
			}),
			outcome: path.Dropped, cause: path.CauseTCDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in host on eth0 by " +
				"a tc program or filter (ingress)",
			where: "host eth0 qdisc request",
		},
		{
			name:    "left a hook never",
			flow:    syn(func(f *testFlow) []path.Hop { return f.out()[:5] }),
			outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from 10.99.0.1 entered the PREROUTING hook (netfilter) of host and was " +
				"not seen to leave it, and nothing came back while it was watched",
			where: "host eth0 netfilter/prerouting request",
		},
		{
			name: "wrong MAC address: copies only",
			flow: syn(func(f *testFlow) []path.Hop {
				return append(f.forwarded(), f.hop(nsHost, path.StageDevice, path.ActionTransmit, "br-app"),
					f.hop(nsWeb, path.StageDevice, path.ActionDrop, "eth0", why("OTHERHOST", "ip_rcv_core"), asNoise))
			}),
			outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from 10.99.0.1 left host through br-app, and nothing came back while it " +
				"was watched",
			evidence: "container web discarded a frame of the flow on eth0, since it carries another MAC address",
		},
		{
			name: "reply lost",
			flow: func() *testFlow {
				f := newFlow(path.TCP)
				f.add(path.Request, "S", f.in()...)
				f.add(path.Reply, "SA", f.backToHost()...)
				return f
			},
			outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the reply from web was last seen in host on veth1, and was not seen to reach 10.99.0.1",
			where:   "host veth1 device reply",
		},
		{
			name: "reply in the wrong place",
			flow: func() *testFlow {
				f := newFlow(path.TCP)
				f.add(path.Request, "S", f.in()...)
				f.add(path.Reply, "SA", append(f.backToHost(),
					f.hop(nsDup, path.StageTCP, path.ActionReset, "eth0"),
					f.hop(nsDup, path.StageTCP, path.ActionDrop, "eth0", why("NO_SOCKET", "tcp_v4_rcv")))...)
				return f
			},
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the reply from web was answered with a reset in container dup, which knows no " +
				"such connection",
			where: "dup eth0 tcp reply",
		},
		{
			name: "reset from outside",
			flow: func() *testFlow {
				f := newFlow(path.TCP).direct()
				f.add(path.Request, "S", f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0"))
				f.add(path.Reply, "RA", f.hop(nsHost, path.StageDevice, path.ActionReceive, "eth0"))
				return f
			},
			facts:   func() *Facts { return &Facts{Complete: true, Target: Endpoint{Label: "db.example"}} },
			outcome: path.Refused, cause: path.CauseUnexplainedDrop,
			summary: "refused: a reset came back to 10.99.0.1, first seen in host on eth0",
			where:   "host eth0 device reply",
		},
	})
}

func TestWhereKeepsTheKernelsWords(t *testing.T) {
	v := Explain(&hostDrop("IP_CSUM", "ip_rcv_core").p, nil)
	if v.Where == nil || v.Where.Reason != "IP_CSUM" || v.Where.Function != "ip_rcv_core" {
		t.Errorf("got %+v, want the reason and the function", v.Where)
	}
	v = Explain(&closed(nsWeb).p, facts())
	if v.Where == nil || v.Where.Reason != "NO_SOCKET" || v.Where.Function != "tcp_v4_rcv" {
		t.Errorf("got %+v, want the reason and the function of the drop beside the reset", v.Where)
	}
}
