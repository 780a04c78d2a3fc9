//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestEmulatedSwarm follows connections through what a swarm has only where the kernel has IPVS and ESP: its
// load balancers, its routing mesh and its encrypted overlays. scripts/kernels.sh runs it in a machine.
func TestEmulatedSwarm(t *testing.T) {
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		t.Skip("this kernel has no IPVS: scripts/kernels.sh runs this in a machine that has it")
	}
	s := newSwarm(t)
	service, port := unique("vip"), s.one.freePort(t)
	for _, h := range []*host{s.one, s.two} { // the engine first asks a registry for the image, which has to fail at once
		h.do(t, "ip", "route", "del", "default")
	}
	s.one.must(t, "service", "create", "--detach", "--no-resolve-image", "--name", service, "--replicas", "2",
		"--network", s.net.Name, "-p", fmt.Sprintf("%d:80", port), image, "tcp", ":80")
	t.Cleanup(func() { _ = s.one.docker("service", "rm", service) })
	tasks := []*container{s.taskOn(t, s.one, service), s.taskOn(t, s.two, service)}
	t.Run("virtual address", func(t *testing.T) { s.balanced(t, service, tasks) })
	t.Run("routing mesh", func(t *testing.T) { s.mesh(t, port, tasks) })
	t.Run("encrypted", s.decrypted)
}

// nameOf is the name of a container, without the slash that the engine puts before it.
func nameOf(c *container) string { return strings.TrimPrefix(c.inspect("{{.Name}}"), "/") }

// chosen returns the name of the task that a verdict says the load balancer chose.
func (s *swarm) chosen(t *testing.T, r *result, tasks []*container) string {
	t.Helper()
	evidence := strings.Join(r.verdicts[0].Evidence, "\n")
	for _, c := range tasks {
		if name := nameOf(c); strings.Contains(evidence, " by IPVS: ") && strings.Contains(evidence, " of "+name+" (request)") {
			return name
		}
	}
	t.Fatalf("no task is named as chosen by IPVS:\n%s", evidence)
	return ""
}

// balanced: the service by its name and by its virtual address, each of which the load balancer of the
// asker's host leads to a task; it takes them in turn.
func (s *swarm) balanced(t *testing.T, service string, tasks []*container) {
	balancer := "load balancer of " + s.net.Name + " on " + s.one.NetNS
	inspected := strings.Fields(s.one.must(t, "service", "inspect", "-f", "{{range .Endpoint.VirtualIPs}}{{.NetworkID}} {{.Addr}} {{end}}", service))
	vip := ""
	for i := 0; i+1 < len(inspected); i += 2 {
		if inspected[i] == s.id {
			vip, _, _ = strings.Cut(inspected[i+1], "/")
		}
	}
	chosen := map[string]bool{}
	for _, to := range []string{service, vip} {
		r := s.one.run(t, append(s.both("--from", s.o1.Name, "--to", to+":80", "-o", "json"), brief...)...)
		if len(r.verdicts) != 1 {
			t.Fatalf("%s: %s%s", to, r.stdout, r.stderr)
		}
		task := s.chosen(t, r, tasks)
		r.verdict(want{Outcome: path.Delivered, Says: []string{vip + ":80 became "}, Hops: []hop{
			{Container: s.o1.Name, Direction: path.Request, Device: "eth0", Network: s.net.Name, Action: path.ActionTransmit},
			{Namespace: balancer, Direction: path.Request, Network: s.net.Name, Device: "eth0", Action: path.ActionReceive},
			{Namespace: balancer, Direction: path.Request, Action: path.ActionDNAT},
			{Container: task, Direction: path.Request, Network: s.net.Name, Action: path.ActionReceive},
			{Namespace: balancer, Direction: path.Reply, Action: path.ActionSNAT},
			{Container: s.o1.Name, Direction: path.Reply, Device: "eth0", Action: path.ActionReceive},
		}})
		chosen[task] = true
	}
	if len(chosen) != len(tasks) {
		t.Errorf("chosen were %v, want both in turn", chosen)
	}
	text := s.one.run(t, s.both("--from", s.o1.Name, "--to", service+":80")...)
	text.has(balancer, "IPVS "+vip+":80 →", "delivered: ")
	t.Logf("%s%s", text.stdout, text.stderr)
}

// mesh: the port that every host of the swarm publishes, from outside.
func (s *swarm) mesh(t *testing.T, port int, tasks []*container) {
	mesh := "routing mesh on " + s.one.NetNS
	r := s.one.run(t, s.both("--from", shared.Outside, "--to", s.one.Addr.String()+":"+strconv.Itoa(port), "-o", "json")...)
	if len(r.verdicts) != 1 {
		t.Fatalf("%s%s", r.stdout, r.stderr)
	}
	task := s.chosen(t, r, tasks)
	r.verdict(want{Outcome: path.Delivered, Hops: []hop{
		{Namespace: s.one.NetNS, Direction: path.Request, Action: path.ActionDNAT},
		{Namespace: mesh, Direction: path.Request, Device: "eth1", Action: path.ActionReceive},
		{Namespace: mesh, Direction: path.Request, Action: path.ActionDNAT},
		{Container: task, Direction: path.Request, Network: "ingress", Action: path.ActionReceive},
		{Container: task, Direction: path.Request, Action: path.ActionDNAT},
		{Namespace: mesh, Direction: path.Reply, Device: "eth0", Action: path.ActionReceive},
		{Namespace: s.one.NetNS, Direction: path.Reply, Action: path.ActionSNAT},
	}})
	text := s.one.run(t, s.both("--from", shared.Outside, "--to", s.one.Addr.String()+":"+strconv.Itoa(port))...)
	t.Logf("%s%s", text.stdout, text.stderr)
}

// decrypted: an encrypted overlay, with its keys and without.
func (s *swarm) decrypted(t *testing.T) {
	n, _ := s.overlay(t, "--opt", "encrypted")
	first, second := s.pair(t, n)
	s.until(t, "keys on both hosts", func() bool {
		return strings.Contains(s.one.do(t, "ip", "xfrm", "state"), "proto esp") && strings.Contains(s.two.do(t, "ip", "xfrm", "state"), "proto esp")
	})
	args := append(s.both("--from", first.Name, "--to", second.Name+":80", "-o", "json"), brief...)
	ok := eventually(30*time.Second, func() bool { // keys are on both hosts, but not at the same moment
		r := s.one.run(t, args...)
		return len(r.verdicts) == 1 && r.verdicts[0].Outcome == path.Delivered
	})
	if !ok {
		t.Error("nothing gets through")
	}
	r := s.one.run(t, args...)
	r.verdict(want{Outcome: path.Delivered, Hops: []hop{
		{Namespace: s.one.NetNS, Direction: path.Request, Stage: path.StageXfrm, Action: path.ActionEncapsulate},
		{Namespace: s.two.NetNS, Direction: path.Request, Stage: path.StageXfrm, Action: path.ActionDecapsulate},
		{Container: second.Name, Direction: path.Request, Network: n.Name, Action: path.ActionReceive},
		{Namespace: s.two.NetNS, Direction: path.Reply, Stage: path.StageXfrm, Action: path.ActionEncapsulate},
		{Namespace: s.one.NetNS, Direction: path.Reply, Stage: path.StageXfrm, Action: path.ActionDecapsulate},
	}})
	for _, outage := range []struct {
		name, says string
		spoil      func()
		outcome    path.Outcome
	}{
		{"other key at the peer", "its keys for the SPI are others", func() { s.otherKeys(t) }, path.Lost},
		{"no state at the peer", "it has no state (keys) for the SPI", func() { s.two.do(t, "ip", "xfrm", "state", "flush") }, path.Lost},
		{"no state here", "no state", func() { s.one.do(t, "ip", "xfrm", "state", "flush") }, path.Dropped},
	} {
		t.Run(outage.name, func(t *testing.T) {
			outage.spoil()
			r := s.one.ask(t, want{Outcome: outage.outcome, Cause: path.CauseEncryptionFailed, Direction: path.Request, Says: []string{outage.says}},
				first.Name, second.Name+":80", append(s.both(), brief...)...)
			t.Log(lastVerdict(r))
		})
	}
}

// otherKeys gives the second host another key for what the first one sends it, in each of the engine's states.
func (s *swarm) otherKeys(t *testing.T) {
	t.Helper()
	ends := []string{"src", s.one.Addr.String(), "dst", s.two.Addr.String()}
	states := s.two.do(t, "ip", append([]string{"xfrm", "state", "list"}, ends...)...)
	found := regexp.MustCompile(`proto esp spi (0x[0-9a-f]+) reqid (\d+) mode transport[^x]*aead (\S+) 0x([0-9a-f])([0-9a-f]+) (\d+)`)
	list := found.FindAllStringSubmatch(states, -1)
	if len(list) == 0 {
		t.Fatalf("no state of ESP in\n%s", states)
	}
	for _, state := range list {
		digit := "0"
		if state[4] == digit {
			digit = "1"
		}
		name := append(slices.Clone(ends), "proto", "esp", "spi", state[1])
		s.two.do(t, "ip", append([]string{"xfrm", "state", "delete"}, name...)...)
		s.two.do(t, "ip", append(append([]string{"xfrm", "state", "add"}, name...), "reqid", state[2], "mode", "transport",
			"aead", state[3], "0x"+digit+state[5], state[6])...)
	}
}
