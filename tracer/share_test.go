package tracer_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestShare watches datagrams of which a rule drops a share at random: every one that is dropped is put
// down to that rule, and the others are delivered.
func TestShare(t *testing.T) {
	const flows = 40
	d := labtest.Demo(t, lab.Options{})
	const text = "-A FORWARD -p udp -m udp --dport 7 -m statistic --mode random --probability 0.50000000000 -j DROP"
	tool(t, d.Router, "iptables "+text)
	to := netip.AddrPortFrom(d.RouterAddr, lab.PublishedEcho)
	w := watch(t, d.Lab, to.String(), func(c *tracer.Config) { c.Count, c.Proto = flows, path.UDP })
	for range flows {
		conn, err := d.Client.Dial(t.Context(), "udp", to.String())
		labtest.Must(t, err)
		_, err = conn.Write([]byte("share"))
		labtest.Must(t, err)
		t.Cleanup(func() { _ = conn.Close() }) // the answer finds it open
		time.Sleep(5 * time.Millisecond)       // one after the other, as clients come
	}
	outcomes := map[path.Outcome]int{}
	for _, f := range w.wait(t).flows {
		v := f.Verdict
		if outcomes[v.Outcome]++; v.Outcome == path.Delivered {
			continue
		}
		if v.Cause != path.CauseFirewallDrop || v.Where == nil || v.Where.Rule == nil || !strings.Contains(v.Where.Rule.Text, "statistic") {
			t.Errorf("%s: %s, rule %+v", v.Summary, v.Cause, v.Where)
		}
	}
	if outcomes[path.Dropped] == 0 || outcomes[path.Delivered] == 0 || outcomes[path.Dropped]+outcomes[path.Delivered] != flows {
		t.Errorf("outcomes %v of %d flows", outcomes, flows)
	}
}
