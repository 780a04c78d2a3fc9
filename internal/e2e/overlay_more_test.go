//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

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
	filter := []string{"ps", "-q", "--filter", "label=com.docker.swarm.service.name=" + service}
	s.until(t, "task of service "+service, func() bool {
		out, err := s.two.dockerOutput(filter...)
		return err == nil && out != ""
	})
	id, _, _ := strings.Cut(s.two.must(t, filter...), "\n")
	task := &container{h: s.two, t: t, Name: id}
	task.listens("tcp", ":80")
	s.until(t, "entry for the task of service "+service, func() bool { return s.told(s.one, task) })
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
