package tracer_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// passed lists the rules of the first packet in a direction: "router netfilter/forward lab drop".
func passed(p *path.Path, dir path.Direction) (list []string) {
	for _, packet := range p.Packets {
		if packet.Direction != dir {
			continue
		}
		for _, h := range packet.Hops {
			for _, r := range h.Rules {
				list = append(list, strings.Join([]string{h.Namespace, string(h.Stage), r.Table, r.Chain, r.Verdict, r.Text}, " "))
			}
		}
		return list
	}
	return nil
}

// TestTraceRules lists the rules that a delivered and a dropped request pass, and leaves no table.
func TestTraceRules(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	rules := func(cfg *tracer.Config) { cfg.TraceRules = true }
	to := d.Published(false).String()
	o := probe(t, d.Lab, "client", to, rules)
	got := passed(o.flows[0].Path, path.Request)
	for _, want := range []string{"router netfilter/prerouting lab", "router netfilter/postrouting lab"} {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("delivered: %q lacks %q", got, want)
		}
	}
	if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "dnat") }) {
		t.Errorf("delivered: %q lacks the translation", got)
	}
	drop, err := d.DropWeb()
	labtest.Must(t, err)
	o = probe(t, d.Lab, "client", to, rules)
	got = passed(o.flows[0].Path, path.Request)
	if n := len(got); n == 0 || !strings.Contains(got[n-1], "router netfilter/forward lab forward drop") ||
		!strings.Contains(got[n-1], "dport") {
		t.Errorf("dropped: last of %q, want the rule that dropped", got)
	}
	v := o.flows[0].Verdict
	if v.Where == nil || v.Where.Rule == nil || v.Where.Rule.Chain != "forward" ||
		!slices.ContainsFunc(v.Evidence, func(s string) bool { return strings.Contains(s, "the kernel's own trace") }) {
		t.Errorf("dropped: rule %+v, evidence %q, want what the kernel's trace says", v.Where, v.Evidence)
	}
	labtest.Must(t, drop.Remove())
	for _, ns := range d.Namespaces() {
		for _, name := range labtest.Tables(t, ns) {
			if strings.HasPrefix(name, "pathtrace") {
				t.Errorf("table %s is left in %s", name, ns.Name)
			}
		}
	}
	if len(o.notes) > 0 {
		t.Errorf("notes %q", o.notes)
	}
}
