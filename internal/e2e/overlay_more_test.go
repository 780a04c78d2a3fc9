//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// encrypted: where the kernel has no ESP, an encrypted overlay carries nothing; where it has, it works.
func (s *swarm) encrypted(t *testing.T) {
	n, _ := s.overlay(t, "--opt", "encrypted")
	first, second := s.pair(t, n)
	s.until(t, "policy", func() bool {
		return strings.Contains(s.one.do(t, "ip", "xfrm", "policy"), "dst "+s.two.Addr.String())
	})
	if strings.Contains(s.one.do(t, "ip", "xfrm", "state"), "proto esp") {
		lacks(t, "this kernel has ESP, so that an encrypted overlay works")
	}
	w := want{Outcome: path.Dropped, Cause: path.CauseEncryptionFailed, Direction: path.Request,
		Says: []string{"has to be encrypted", "no state", "overlay " + n.Name + " is encrypted"}}
	s.one.probe(t, w, first.Name, second.Name+":80", append(s.both(), brief...)...)
	s.one.probe(t, w, first.Name, second.addr(n).String()+":80", brief...)
}

// vanished: the namespaces that the engines keep for an overlay go away while traffic over it is watched.
func (s *swarm) vanished(t *testing.T) {
	n, id := s.overlay(t)
	first, second := s.pair(t, n)
	other := &swarm{t: t, one: s.one, two: s.two, net: n, id: id, o1: first, o2: second}
	s.until(t, "entries for the other host's container", func() bool { return other.told(s.one, second) && other.told(s.two, first) })
	p := s.one.launch(t, s.both("--to", second.Name+":80", "-o", "json")...)
	p.ready()
	getFrom(t, first.inspect("{{.NetworkSettings.SandboxKey}}"), second.addr(n).String()+":80")
	p.until("verdict", func(line string) bool { return strings.HasPrefix(line, `{"type":"verdict"`) })
	s.one.must(t, "rm", "-f", first.Name)
	s.two.must(t, "rm", "-f", second.Name)
	for _, h := range []*host{s.one, s.two} {
		s.until(t, "end of the overlay on "+h.NetNS, func() bool {
			var pin unix.Statfs_t // the file itself the engine removes later
			return unix.Statfs(other.hidden(h), &pin) != nil || pin.Type != unix.NSFS_MAGIC
		})
	}
	p.interrupt()
	r := p.wait()
	r.verdict(want{Outcome: path.Delivered, Hops: []hop{
		{Namespace: "overlay " + n.Name + " on " + s.one.NetNS, Network: n.Name, Device: "vxlan0"},
		{Namespace: "overlay " + n.Name + " on " + s.two.NetNS, Network: n.Name, Device: "vxlan0"},
	}})
	if r.status != statusDelivered || r.stats.LostEvents != 0 {
		t.Errorf("status %d, %d events lost: %s", r.status, r.stats.LostEvents, r.stderr)
	}
}

// service: the names of a service whose tasks are asked directly.
func (s *swarm) service(t *testing.T) {
	name, balanced := unique("svc"), unique("vip")
	port := s.two.freePort(t)
	// The engine first asks a registry for the image, which has to fail at once.
	s.two.do(t, "ip", "route", "del", "default")
	t.Cleanup(func() { s.two.do(t, "ip", "route", "add", "default", "via", shared.OutsideAddr.String()) })
	s.one.must(t, "service", "create", "--detach", "--no-resolve-image", "--endpoint-mode", "dnsrr", "--name", name,
		"--constraint", "node.role==worker", "--network", s.net.Name,
		"-p", fmt.Sprintf("mode=host,target=80,published=%d", port), image, "tcp", ":80")
	t.Cleanup(func() { _ = s.one.docker("service", "rm", name) })
	s.one.must(t, "service", "create", "--detach", "--no-resolve-image", "--name", balanced,
		"--constraint", "node.role==worker", "--network", s.net.Name, image, "tcp", ":80")
	t.Cleanup(func() { _ = s.one.docker("service", "rm", balanced) })
	task := s.task(t, name)
	s.task(t, balanced)
	for _, to := range []string{name, "tasks." + name} {
		s.one.probe(t, want{Outcome: path.Delivered, Says: []string{"VXLAN 4097"}}, s.o1.Name, to+":80", s.both()...)
		s.one.probe(t, want{Outcome: path.Delivered, Says: []string{"VXLAN 4097"}}, s.o1.Name, to+":80")
	}
	t.Run("published on its host", func(t *testing.T) { s.hostMode(t, task, port) })
	t.Run("virtual address", func(t *testing.T) { s.virtual(t, balanced) })
}

// task waits until the second host's task of a service listens, and the first host knows where it is.
func (s *swarm) task(t *testing.T, service string) *container {
	t.Helper()
	task := s.taskOn(t, s.two, service)
	s.until(t, "entry for the task of service "+service, func() bool { return s.told(s.one, task) })
	return task
}

// taskOn waits until a host's task of a service listens.
func (s *swarm) taskOn(t *testing.T, h *host, service string) *container {
	t.Helper()
	filter := []string{"ps", "-q", "--filter", "label=com.docker.swarm.service.name=" + service}
	s.until(t, "task of service "+service, func() bool {
		out, err := h.dockerOutput(filter...)
		return err == nil && out != ""
	})
	id, _, _ := strings.Cut(h.must(t, filter...), "\n")
	task := &container{h: h, t: t, Name: id}
	task.listens("tcp", ":80")
	return task
}

// TestOverlayPort follows an overlay whose swarm uses another UDP port.
func TestOverlayPort(t *testing.T) {
	s := newSwarm(t, "--data-path-port", "7789")
	r := s.one.probe(t, want{Outcome: path.Delivered, Says: s.outer()}, s.o1.Name, s.o2.Name+":80", s.both()...)
	for i := range r.hops {
		if o := r.hops[i].Outer; o != nil && !strings.HasSuffix(o.Dst, ":7789") {
			t.Fatalf("tunnel endpoint %s, want port 7789", o.Dst)
		}
	}
}
