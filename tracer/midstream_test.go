package tracer_test

import (
	"io"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestDroppedMidstream: segments between the handshake and the end are not reported on their way, so a
// drop of one tells its hook, and the rule is found as for the first packet.
func TestDroppedMidstream(t *testing.T) {
	for _, o := range []struct {
		place, where, rule string
		ipv6               bool
	}{
		{"ip filter FORWARD 1", "router", "iptables -A FORWARD -p tcp -m tcp --dport 80 -j DROP", false},
		{"ip filter INPUT 1", "web", "iptables -A INPUT -p tcp -m tcp --dport 80 -j DROP", false},
		{"ip mangle POSTROUTING 1", "router", "iptables -t mangle -A POSTROUTING -o br-demo -p tcp -j DROP", false},
		{"ip6 filter FORWARD 1", "router", "ip6tables -A FORWARD -p tcp -m tcp --dport 80 -j DROP", true},
	} {
		t.Run(o.place, func(t *testing.T) {
			d := labtest.Demo(t, lab.Options{})
			if o.ipv6 && !d.IPv6() {
				t.Skip("no IPv6 here")
			}
			to := d.Published(o.ipv6)
			conn, err := d.Client.Dial(t.Context(), "tcp", to.String())
			labtest.Must(t, err)
			defer conn.Close()
			space := map[string]*lab.Namespace{"router": d.Router, "web": d.Web, "client": d.Client}[o.where]
			w := watch(t, d.Lab, to.String(), func(c *tracer.Config) { c.Count = 1 })
			tool(t, space, o.rule)
			_, err = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
			labtest.Must(t, err)
			v := w.wait(t).flows[0].Verdict
			checkVerdict(t, v, path.Dropped, path.CauseFirewallDrop)
			if got, _ := ruleOf(v); got != o.place {
				t.Errorf("rule: got %q, want %q: %s", got, o.place, v.Summary)
			}
		})
	}
}
