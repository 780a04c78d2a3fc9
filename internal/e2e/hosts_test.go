//go:build e2e

package e2e

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestHosts follows connections from a container of one host to a published port of another, through ssh.
func TestHosts(t *testing.T) {
	need(t)
	one, two := shared.Hosts[0], shared.Hosts[1]
	s := newSSH(t, one, two)
	n1, n2 := one.network(t), two.network(t)
	cli := n1.client(t)
	web := n2.server(t, "-p", "18080:80")
	args := append(at(one, two), "--from", cli.Name, "--to", web.Name+":80")
	t.Run("delivered", func(t *testing.T) {
		r := s.run(t, append(args, "-o", "json")...)
		t.Log(r.stdout, r.stderr)
		r.verdict(want{Outcome: path.Delivered})
		text := s.run(t, args...)
		t.Log(text.stdout, text.stderr)
		s.clean(t, one)
		s.clean(t, two)
	})
}
