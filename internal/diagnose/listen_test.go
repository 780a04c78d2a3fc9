package diagnose

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// closed is a SYN that the namespace given answers with a reset for want of a socket.
func closed(ns uint32) *testFlow {
	f := newFlow(path.TCP)
	dst := inner
	if ns == nsHost {
		f.untranslated()
		dst = asked
	}
	d := ends(sender, dst)
	hops := f.in()
	if ns != nsWeb {
		hops = f.out()[:4]
	}
	f.add(path.Request, "S", append(hops,
		f.hop(ns, path.StageTCP, path.ActionReset, "eth0", d),
		f.hop(ns, path.StageTCP, path.ActionDrop, "eth0", d, why("NO_SOCKET", "tcp_v4_rcv")))...)
	f.add(path.Reply, "RA", f.hop(ns, path.StageOutput, path.ActionEnter, "", ends(dst, sender)),
		f.hop(nsCli, path.StageDevice, path.ActionReceive, "eth0", ends(dst, sender)))
	return f
}

// listening are facts with the listeners given in the target.
func listening(list ...Listener) func() *Facts {
	return func() *Facts {
		f := facts()
		f.Namespaces[nsWeb].Listeners = append([]Listener{}, list...)
		return f
	}
}

func TestNotListening(t *testing.T) {
	in := func() *testFlow { return closed(nsWeb) }
	const summary = "refused: nothing listens on port 80 in container web"
	cases := []verdictCase{
		{
			name: "listeners unknown", flow: in, outcome: path.Refused, cause: path.CauseNotListening,
			summary: summary, where: "web eth0 tcp request", remedy: "docker logs --tail 50 web",
			evidence: "container web answered the request with a reset",
		},
		{
			name: "no listener", flow: in, facts: listening(), outcome: path.Refused,
			cause: path.CauseNotListening, summary: summary,
			remedy: "nsenter --net=/run/docker/netns/abc ss -ltnp",
		},
		{
			name: "another port", flow: in, facts: listening(Listener{Proto: path.TCP, Addr: ap("0.0.0.0:8000")}),
			outcome: path.Refused, cause: path.CauseNotListening, summary: summary,
			evidence: "container web does listen on 0.0.0.0:8000",
		},
		{
			name: "loopback only", flow: in,
			facts:   listening(Listener{Proto: path.TCP, Addr: ap("127.0.0.1:80"), Process: "python"}),
			outcome: path.Refused, cause: path.CauseListeningOnLoopback,
			summary: "refused: python listens on 127.0.0.1:80 only in container web, not on 172.18.0.2",
			remedy:  "let the service listen on 0.0.0.0:80 or [::]:80",
		},
		{
			name: "a listener is there", flow: in,
			facts:   listening(Listener{Proto: path.TCP, Addr: ap("[::]:80"), Process: "nginx"}),
			outcome: path.Refused, cause: path.CauseUnexplainedDrop,
			summary:  "refused: container web answered the request from 10.99.0.1 with a reset",
			evidence: "nginx listens on [::]:80 in container web now",
		},
		{
			name: "somebody else answered", flow: func() *testFlow { return closed(nsDup) },
			outcome: path.Refused, cause: path.CauseUnexplainedDrop,
			summary: "refused: container dup answered the request from 10.99.0.1 with a reset, not web",
			where:   "dup eth0 tcp request",
		},
		{
			name: "udp",
			flow: func() *testFlow {
				f := newFlow(path.UDP)
				d := ends(sender, inner)
				f.add(path.Request, "", append(f.in(),
					f.hop(nsWeb, path.StageICMP, path.ActionReject, "eth0", d, icmp(3, 3)),
					f.hop(nsWeb, path.StageUDP, path.ActionDrop, "eth0", d, why("NO_SOCKET", "__udp4_lib_rcv")))...)
				return f
			},
			outcome: path.Refused, cause: path.CauseNotListening, summary: summary,
			evidence: "container web answered the request with an ICMP error (port unreachable)",
		},
		{
			name: "reset in the middle of a connection is no closed port",
			flow: func() *testFlow {
				f := closed(nsWeb)
				f.p.Midstream = true
				f.p.Packets[0].TCPFlags = "A"
				return f
			},
			outcome: path.Refused, cause: path.CauseUnexplainedDrop,
			summary: "refused: container web answered the request from 10.99.0.1 with a reset",
		},
	}
	runCases(t, cases)
}

func TestNotPublished(t *testing.T) {
	host := func() *testFlow { return closed(nsHost) }
	publishes := func(list ...Published) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Target.Published = append([]Published{}, list...)
			return f
		}
	}
	const summary = "refused: port 8080/tcp is not published by container web on 10.99.0.11"
	runCases(t, []verdictCase{
		{
			name: "nothing published", flow: host, facts: publishes(), outcome: path.Refused,
			cause: path.CauseNotPublished, summary: summary, where: "host eth0 tcp request",
			evidence: "container web publishes no port", remedy: "docker port web",
		},
		{
			name: "it listens elsewhere", flow: host, facts: func() *Facts {
				f := publishes()()
				for _, l := range []string{"0.0.0.0:9000", "127.0.0.1:7", "[::]:443", "0.0.0.0:443"} {
					f.Namespaces[nsWeb].Listeners = append(f.Namespaces[nsWeb].Listeners, Listener{Proto: path.TCP, Addr: ap(l)})
				}
				return f
			},
			outcome: path.Refused, cause: path.CauseNotPublished, summary: summary,
			remedy: "-p 8080:443/tcp  # its writable layer is lost; it listens on 9000, too",
		},
		{
			name: "another address", flow: host, facts: publishes(Published{HostIP: ip("127.0.0.1"), HostPort: 8080,
				ContainerPort: 80, Proto: path.TCP}),
			outcome: path.Refused, cause: path.CauseNotPublished, summary: summary,
			evidence: "container web publishes 127.0.0.1:8080 -> 80/tcp",
		},
		{
			name: "another protocol", flow: host, facts: publishes(Published{HostPort: 8080, ContainerPort: 80,
				Proto: path.UDP}),
			outcome: path.Refused, cause: path.CauseNotPublished, summary: summary,
		},
		{
			name: "it is published", flow: host, outcome: path.Refused, cause: path.CauseUnexplainedDrop,
			summary: "refused: host answered the request from 10.99.0.1 with a reset, not web",
		},
		{
			name: "published ports unknown", flow: host,
			facts:   func() *Facts { f := facts(); f.Target.Published = nil; return f },
			outcome: path.Refused, cause: path.CauseUnexplainedDrop,
			summary: "refused: host answered the request from 10.99.0.1 with a reset, not web",
		},
		{
			name: "the host itself is the target", flow: host,
			facts: func() *Facts {
				f := facts()
				f.Target = Endpoint{Label: "host", NetNS: []uint32{nsHost}, HostNetNS: []uint32{nsHost}}
				return f
			},
			outcome: path.Refused, cause: path.CauseNotListening,
			summary: "refused: nothing listens on port 8080 in host",
		},
	})
}

func TestContainerCauses(t *testing.T) {
	app, two := Network{Name: "app", Addrs: []netip.Addr{ip("172.18.0.2")}}, Network{Name: "two"}
	stopped := func(state string) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Target.State, f.Target.NetNS = state, nil
			return f
		}
	}
	unanswered := func() *testFlow {
		f := newFlow(path.TCP).direct()
		f.add(path.Request, "S", f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", ends(sender, inner)))
		return f
	}
	const left = "the request from cli left container cli through eth0, and nothing came back while it was watched"
	runCases(t, []verdictCase{
		{
			name: "stopped", flow: func() *testFlow { return closed(nsHost) }, facts: stopped("exited"),
			outcome: path.Refused, cause: path.CauseContainerNotRunning,
			summary: "refused: container web does not run (exited)", remedy: "docker start web",
		},
		{
			name: "restarting", flow: unanswered, facts: stopped("restarting"),
			outcome: path.Lost, cause: path.CauseContainerNotRunning,
			summary: "lost: container web does not run, it ends and is restarted again and again",
		},
		{
			name: "stopped after it had answered", flow: func() *testFlow { return closed(nsWeb) },
			facts:   func() *Facts { f := facts(); f.Target.State = "exited"; return f },
			outcome: path.Refused, cause: path.CauseNotListening,
			summary: "refused: nothing listens on port 80 in container web",
		},
		{
			name: "no shared network", flow: unanswered, facts: func() *Facts { return facts().between(two) },
			outcome: path.Lost, cause: path.CauseNoSharedNetwork,
			summary: "lost: containers cli and web share no network", remedy: "docker network connect app cli",
			evidence: "container cli is on network two",
		},
		{
			name: "shared network", flow: unanswered, facts: func() *Facts { return facts().between(two, app) },
			outcome: path.Lost, cause: path.CauseLostInTransit, summary: "lost: " + left,
		},
		{
			name: "networks unknown", flow: unanswered, facts: func() *Facts { return facts().between() },
			outcome: path.Lost, cause: path.CauseLostInTransit, summary: "lost: " + left,
		},
		{
			name:  "a firewall is nearer to the packet",
			flow:  func() *testFlow { return forwardDrop("NETFILTER_DROP", "nft_do_chain").direct() },
			facts: func() *Facts { return facts().between(two) }, outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the request from cli was dropped in the FORWARD hook (netfilter) of host on its " +
				"way eth0 → br-app",
			evidence: "also seen: containers cli and web share no network",
		},
	})
}
