package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestAcceptQueue(t *testing.T) {
	unanswered := func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", f.in()...)
		f.add(path.Request, "S", f.in()...).Retransmission = true
		return f
	}
	half := func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", f.in()...)
		f.add(path.Reply, "SA", f.back()...)
		f.p.ClientEstablished, f.p.ClientNetNS = 1e9+f.now, nsCli
		f.add(path.Request, "A", f.in()...)
		return f
	}
	queue := func(n uint32) Listener {
		return Listener{Proto: path.TCP, Addr: ap("0.0.0.0:80"), Queue: n, QueueMax: 1, Process: "lt"}
	}
	overflows := func(n uint64, l ...Listener) func() *Facts {
		return func() *Facts {
			f := listening(l...)()
			f.Namespaces[nsWeb].Counters = map[string]uint64{"TcpExtListenOverflows": n}
			return f
		}
	}
	const full = "dropped: the kernel dropped the connection from 10.99.0.1 in container web: the accept queue " +
		"of port 80 is full"
	const lost = "lost: the request from 10.99.0.1 reached container web, and no answer was seen while it was " +
		"watched"
	runCases(t, []verdictCase{
		{
			name: "queue", flow: unanswered, facts: listening(queue(2)), outcome: path.Dropped,
			cause: path.CauseAcceptQueueFull, summary: full, where: "web tcp request",
			evidence: "2 connections wait for lt to accept them, its backlog is 1",
		},
		{
			name: "counter", flow: unanswered, facts: overflows(3, queue(1)), outcome: path.Dropped,
			cause: path.CauseAcceptQueueFull, summary: full,
			evidence: "TcpExtListenOverflows grew by 3 in container web",
		},
		{
			name: "the asker believes to be connected", flow: half, facts: overflows(1, queue(2)),
			outcome: path.Dropped, cause: path.CauseAcceptQueueFull, summary: full,
		},
		{name: "room in the queue", flow: unanswered, facts: overflows(0, queue(1)), outcome: path.Lost,
			cause: path.CauseLostInTransit, summary: lost},
		{name: "overflow of another listener", flow: unanswered, facts: overflows(5), outcome: path.Lost,
			cause: path.CauseLostInTransit, summary: lost},
		{name: "nothing known", flow: unanswered, outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: lost},
	})
}

func TestReceiveBuffer(t *testing.T) {
	full := func(reason, function string) func() *testFlow {
		return func() *testFlow {
			f := newFlow(path.UDP)
			f.add(path.Request, "", append(f.in(), f.hop(nsWeb, path.StageUDP, path.ActionDrop, "eth0",
				ends(sender, inner), why(reason, function)))...)
			return f
		}
	}
	grew := func() *Facts {
		f := facts()
		f.Namespaces[nsWeb].Counters = map[string]uint64{"UdpRcvbufErrors": 4}
		return f
	}
	const summary = "dropped: the request from 10.99.0.1 was dropped in container web: the receive buffer of the " +
		"socket is full"
	runCases(t, []verdictCase{
		{
			name: "reason", flow: full("SOCKET_RCVBUFF", "udp_queue_rcv_one_skb"), outcome: path.Dropped,
			cause: path.CauseReceiveBufferFull, summary: summary, where: "web eth0 udp request",
			remedy: "ss -m -u sport = :80",
		},
		{name: "older kernel and counter", flow: full("", "udp_queue_rcv_one_skb"), facts: grew,
			outcome: path.Dropped, cause: path.CauseReceiveBufferFull, summary: summary},
		{
			name: "older kernel, counter unknown", flow: full("", "udp_queue_rcv_one_skb"), outcome: path.Dropped,
			cause:   path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in container web on eth0 by udp_queue_rcv_one_skb",
		},
		{
			name: "checksum", flow: full("UDP_CSUM", "udp_queue_rcv_one_skb"), facts: grew, outcome: path.Dropped,
			cause:   path.CauseChecksumInvalid,
			summary: "dropped: the request from 10.99.0.1 was dropped in container web on eth0: its UDP checksum is wrong",
		},
		{
			name: "a later datagram got through",
			flow: func() *testFlow {
				f := full("SOCKET_RCVBUFF", "udp_queue_rcv_one_skb")()
				f.add(path.Request, "", f.arriving()...)
				f.p.DeliverNetNS = nsWeb
				return f
			},
			outcome: path.Delivered,
			summary: "delivered: web took the datagram from 10.99.0.1, and no answer came while it was watched",
		},
	})
}

func TestProxyAndMisdelivery(t *testing.T) {
	onHost := func() *testFlow {
		f := newFlow(path.TCP).untranslated().connect()
		for _, p := range f.p.Packets {
			for i := range p.Hops {
				if h := &p.Hops[i]; h.NetNS == nsWeb {
					h.NetNS, h.Container, h.Namespace = nsHost, "", "host"
				}
				p.Hops[i].Bridge = ""
			}
		}
		f.p.ServerNetNS, f.p.DeliverNetNS = nsHost, nsHost
		return f
	}
	owner := func(process string) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Namespaces[nsHost].Listeners = []Listener{{Proto: path.TCP, Addr: ap("0.0.0.0:8080"), Process: process}}
			return f
		}
	}
	runCases(t, []verdictCase{
		{
			name: "docker-proxy", flow: onHost, facts: owner("docker-proxy"), outcome: path.Delivered,
			summary:  "delivered: web answered 10.99.0.1 in 22 µs, through docker-proxy",
			evidence: "docker-proxy in host took the request on 10.99.0.11:8080 and carries it to web",
		},
		{
			name: "docker-proxy without anybody behind it",
			flow: func() *testFlow {
				f := onHost()
				f.add(path.Reply, "RA", f.hop(nsHost, path.StageOutput, path.ActionEnter, ""))
				return f
			},
			facts: func() *Facts {
				f := owner("docker-proxy")()
				f.Namespaces[nsWeb].Listeners = []Listener{}
				return f
			},
			outcome: path.Refused, cause: path.CauseNotListening,
			summary: "refused: docker-proxy took the connection for web and then reset it, since nothing listens " +
				"on port 80 in container web",
		},
		{
			name: "dockerd", flow: onHost, facts: owner("dockerd"), outcome: path.Misdelivered, cause: path.CauseNATMissing,
			summary: "misdelivered: dockerd in host only holds the published port 8080 and never answers on it, " +
				"and no DNAT rule took the request to web",
			where: "host socket request",
		},
		{
			name: "another container, behind DNAT", flow: func() *testFlow { return newFlow(path.TCP).connect() },
			facts: func() *Facts {
				f := facts()
				f.Target = Endpoint{Label: "dup", Container: "dup", NetNS: []uint32{nsDup}}
				return f
			},
			outcome: path.Misdelivered, cause: path.CauseUnexplainedDrop, where: "web socket request",
			summary: "misdelivered: a socket in container web took the request from 10.99.0.1, not dup",
			remedy:  "ss -lnp -t sport = :80",
		},
		{
			name: "another process", flow: onHost, facts: owner("nginx"), outcome: path.Misdelivered,
			cause: path.CausePortConflict,
			summary: "misdelivered: nginx in host has port 8080/tcp and took the request from 10.99.0.1; " +
				"container web publishes it, too",
			where: "host socket request", remedy: "ss -lnp -t sport = :8080",
		},
		{
			name: "an address as target is what it is translated to",
			flow: func() *testFlow { return newFlow(path.TCP).connect() },
			facts: func() *Facts {
				f := facts()
				f.Target = Endpoint{Label: "10.99.0.11", NetNS: []uint32{nsHost}}
				return f
			},
			outcome: path.Delivered, summary: "delivered: 10.99.0.11 answered 10.99.0.1 in 22 µs",
		},
	})
	v := Explain(&onHost().p, owner("docker-proxy")())
	if len(v.Warnings) != 1 || v.Warnings[0].Cause != path.CauseNATMissing {
		t.Errorf("from outside: got %v, want a nat-missing warning", v.Warnings)
	}
	f := onHost()
	f.p.Server, f.p.Target = ap("127.0.0.1:8080"), ap("127.0.0.1:8080")
	if v = Explain(&f.p, owner("docker-proxy")()); len(v.Warnings) != 0 || v.Outcome != path.Delivered {
		t.Errorf("over loopback: got %s %v, want no warning: it is the proxy's job", v.Outcome, v.Warnings)
	}
}
