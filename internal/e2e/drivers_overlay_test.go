//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// oneView: what is said where one engine alone is known, of containers that only the other one has.
func (s *swarm) oneView(t *testing.T) {
	to := s.o2.Name + ":80"
	t.Run("watched by name", func(t *testing.T) {
		p := s.one.launch(t, "--to", to, "--count", "1", "--duration", "30s", "-o", "json")
		p.ready()
		getFrom(t, s.o1.inspect("{{.NetworkSettings.SandboxKey}}"), s.o2.addr(s.net).String()+":80")
		r := p.wait()
		if len(r.verdicts) != 1 || r.verdicts[0].Outcome != path.Delivered || r.verdicts[0].SrcName != s.o1.Name {
			t.Errorf("watching %s: %s%s", to, lastVerdict(r), r.stderr)
		}
	})
	other := s.one.network(t)
	stranger := other.client(t)
	on := fmt.Sprintf("%s (%s) is on overlay %s, and ", s.o2.Name, s.o2.addr(s.net), s.net.Name)
	for from, remedy := range map[string]string{
		"host":        "pathtrace --from CONTAINER --to " + s.o2.Name,
		stranger.Name: fmt.Sprintf("docker network connect %s %s", s.net.Name, stranger.Name),
	} {
		r := s.one.run(t, append([]string{"--from", from, "--to", to, "-o", "json"}, brief...)...)
		if len(r.verdicts) != 1 || r.verdicts[0].Cause != path.CauseNoSharedNetwork ||
			!strings.Contains(r.verdicts[0].Summary, on+from+" is not") || !strings.Contains(strings.Join(r.verdicts[0].Remedy, "\n"), remedy) {
			t.Errorf("from %s: %s%s", from, lastVerdict(r), r.stderr)
		}
	}
	s.one.run(t, "--from", s.o1.Name, "--to", s.gateway(t)+":80").fails(statusCannotTrace, "on host", "on "+s.two.NetNS)
}

// gateway is the address that the bridge of the overlay has on each host.
func (s *swarm) gateway(t *testing.T) string {
	t.Helper()
	return s.one.must(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", s.net.Name)
}

// generation: an engine of another generation takes part in the swarm.
func (s *swarm) generation(t *testing.T, kind string) {
	three := spare(t, kind)
	token := s.one.must(t, "swarm", "join-token", "-q", "worker")
	three.must(t, "swarm", "join", "--token", token, "--advertise-addr", three.Addr.String(), s.one.Addr.String()+":2377")
	t.Cleanup(func() { three.leave(t) })
	o3 := three.runs(t, "o", "tcp :80", "--network", s.net.Name)
	s.until(t, "entries for the third host", func() bool { return s.told(s.one, o3) && s.told(three, s.o1) })
	both := []string{"--docker-host", "unix://" + three.Socket}
	w := want{Outcome: path.Delivered, Says: []string{
		"container " + s.o1.Name, "overlay " + s.net.Name + " on " + s.one.NetNS, "container " + o3.Name,
		"VXLAN 4097: " + s.one.Addr.String() + " → " + three.Addr.String(),
		"VXLAN 4097 decapsulated, came from " + three.Addr.String(),
	}}
	s.one.probe(t, w, s.o1.Name, o3.Name+":80", both...)
	three.ask(t, want{Outcome: path.Delivered}, o3.Name, s.o1.Name+":80")
	three.ask(t, want{Outcome: path.Refused, Cause: path.CauseNotListening}, o3.Name, s.o1.Name+":81")
}

// virtual: the name of a service leads to its virtual address, for which there has to be IPVS.
func (s *swarm) virtual(t *testing.T, name string) {
	if _, err := os.Stat("/proc/net/ip_vs"); err == nil {
		lacks(t, "this kernel has IPVS, so that a service's virtual address works")
	}
	s.one.ask(t, want{Outcome: path.Lost, Outcomes: silent, Cause: path.CauseNeighbourUnresolved, Container: s.o1.Name,
		Says: []string{"the virtual address of service " + name, "no IPVS", "tasks." + name + " leads to the containers themselves"},
	}, s.o1.Name, name+":80", brief...)
	s.one.ask(t, want{Outcome: path.Delivered}, s.o1.Name, "tasks."+name+":80")
}

// hostMode: a service's port that is published on the hosts of its tasks.
func (s *swarm) hostMode(t *testing.T, task *container, port int) {
	at := fmt.Sprintf("%s:%d", s.two.Addr, port)
	s.two.probe(t, want{Outcome: path.Delivered, Says: []string{"DNAT " + at, "container " + task.inspect("{{.Name}}")[1:], "docker_gwbridge"}},
		shared.Outside, at)
}
