package diagnose

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestCollides(t *testing.T) {
	tests := []struct {
		published, listens string
		want               bool
	}{
		{"", "0.0.0.0:8080", true},
		{"0.0.0.0", "127.0.0.1:8080", true},
		{"10.0.0.1", "0.0.0.0:8080", true},
		{"10.0.0.1", "[::]:8080", true},
		{"10.0.0.1", "10.0.0.2:8080", false},
		{"10.0.0.1", "10.0.0.1:8080", true},
		{"0.0.0.0", "[::1]:8080", false},
		{"::", "0.0.0.0:8080", false},
		{"0.0.0.0", "0.0.0.0:8081", false},
	}
	for _, tt := range tests {
		p := Published{HostPort: 8080, Proto: path.TCP}
		if tt.published != "" {
			p.HostIP = netip.MustParseAddr(tt.published)
		}
		if got := p.collides(Listener{Proto: path.TCP, Addr: ap(tt.listens)}); got != tt.want {
			t.Errorf("published on %q, %s listens: got %v, want %v", tt.published, tt.listens, got, tt.want)
		}
	}
	if (Published{HostPort: 8080, Proto: path.UDP}).collides(Listener{Proto: path.TCP, Addr: ap("0.0.0.0:8080")}) {
		t.Error("another protocol collides")
	}
}

// unstarted are facts of a container that the engine could not start.
func unstarted(startError string, l ...Listener) *Facts {
	f := facts()
	f.Target.State, f.Target.StartError, f.Target.NetNS = "created", startError, nil
	f.Namespaces[nsHost].Listeners = append([]Listener{}, l...)
	return f
}

func TestCannotStart(t *testing.T) {
	const taken = "driver failed: Bind for 0.0.0.0:8080 failed: port is already allocated"
	nginx := Listener{Proto: path.TCP, Addr: ap("0.0.0.0:8080"), Process: "nginx", PID: 12, Container: "edge"}
	rival := unstarted(taken, Listener{Proto: path.TCP, Addr: ap("0.0.0.0:8080"), Process: "docker-proxy"})
	rival.Target.Rivals = []string{"old"}
	tests := []struct {
		name  string
		facts *Facts
		cause path.Cause
		says  string
	}{
		{"a process", unstarted(taken, nginx), path.CausePortConflict,
			"container web does not run (created), since nginx of container edge in host has port 8080/tcp, which it is to publish"},
		{"another container", rival, path.CausePortConflict,
			"container web does not run (created), since container old has port 8080/tcp, which it is to publish"},
		{"nobody now", unstarted(taken), path.CausePortConflict,
			"container web does not run (created), since a port that it is to publish is taken"},
		{"another error", unstarted("exec: \"x\": not found", nginx), path.CauseContainerNotRunning,
			"container web does not run (created)"},
		{"no error", unstarted("", nginx), path.CauseContainerNotRunning, "container web does not run (created)"},
	}
	for _, tt := range tests {
		v := ExplainNoTraffic(tt.facts)
		if v.Cause != tt.cause || v.Summary != "no-traffic: "+tt.says {
			t.Errorf("%s: got %s: %s", tt.name, v.Cause, v.Summary)
		}
		checkVerdict(t, &v)
	}
	v := ExplainNoTraffic(unstarted("", nginx))
	if !slices.Contains(v.Evidence, "nginx of container edge (process 12) listens on 0.0.0.0:8080 in host, a port that "+
		"container web is to publish") {
		t.Errorf("no fact about the port: %q", v.Evidence)
	}
}

// TestProxyOfAnother: docker-proxy took the request and carries it to somebody else.
func TestProxyOfAnother(t *testing.T) {
	f := facts()
	f.Namespaces[nsHost].Listeners = []Listener{{Proto: path.TCP, Addr: ap("0.0.0.0:8080"), Process: "docker-proxy",
		Forward: ap("172.18.0.9:80")}}
	p := newFlow(path.TCP).untranslated().connect()
	p.p.ServerNetNS, p.p.DeliverNetNS = nsHost, nsHost
	v := Explain(&p.p, f)
	if v.Outcome != path.Misdelivered || v.Cause != path.CausePortConflict ||
		!strings.Contains(strings.Join(v.Evidence, "\n"), "172.18.0.9:80, which is not an address of container web") {
		t.Errorf("got %s %s %q", v.Outcome, v.Cause, v.Evidence)
	}
}

// TestPublishedElsewhere: the host's address has not the port that another address of it has.
func TestPublishedElsewhere(t *testing.T) {
	flow := func() *testFlow { return closed(nsHost) }
	address := func(list ...Publication) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Target = Endpoint{Label: "10.99.0.11", NetNS: []uint32{nsHost}, HostNetNS: []uint32{nsHost}}
			f.Publications = append([]Publication{}, list...)
			return f
		}
	}
	local := Publication{"web", Published{HostIP: ip("127.0.0.1"), HostPort: 8080, ContainerPort: 80, Proto: path.TCP}}
	other := Publication{"shop", Published{HostPort: 8081, ContainerPort: 80, Proto: path.TCP}}
	runCases(t, []verdictCase{
		{
			name: "another address", flow: flow, facts: address(other, local), outcome: path.Refused,
			cause:    path.CauseNotPublished,
			summary:  "refused: container web publishes port 8080/tcp, but not on 10.99.0.11",
			evidence: "container web publishes 127.0.0.1:8080 -> 80/tcp", remedy: "-p 10.99.0.11:8080:80/tcp",
		}, {
			name: "another port", flow: flow, facts: address(other), outcome: path.Refused, cause: path.CauseNotListening,
			summary: "refused: nothing listens on port 8080 in host", evidence: "published there: 0.0.0.0:8081 -> 80/tcp by shop",
		}, {
			name: "nothing", flow: flow, facts: address(), outcome: path.Refused, cause: path.CauseNotListening,
			summary: "refused: nothing listens on port 8080 in host", evidence: "no container publishes a port",
		},
	})
}

// TestStranger: a container in the host's network, and a process of somebody else has its port.
func TestStranger(t *testing.T) {
	for _, stranger := range []bool{true, false} {
		f := facts()
		f.Target.NetNS, f.Target.Published = []uint32{nsHost}, []Published{}
		f.Namespaces[nsHost].Listeners = []Listener{{Proto: path.TCP, Addr: ap("0.0.0.0:8080"), Process: "nginx", PID: 12,
			Stranger: stranger}}
		p := newFlow(path.TCP).untranslated().connect()
		p.p.ServerNetNS, p.p.DeliverNetNS = nsHost, nsHost
		v := Explain(&p.p, f)
		if got := v.Outcome == path.Misdelivered && v.Cause == path.CausePortConflict; got != stranger {
			t.Errorf("stranger %v: got %s %s", stranger, v.Outcome, v.Cause)
		}
		checkVerdict(t, &v)
	}
}
