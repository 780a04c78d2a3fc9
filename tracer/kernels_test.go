package tracer_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// scenario is a connection of which every kernel has to say the same.
type scenario struct {
	name  string
	do    func(*testing.T, *lab.Demo)
	from  string // client if empty
	to    string // the published port if empty
	proto path.Proto
}

func scenarios() []scenario {
	const published6 = "[2001:db8:1::1]:8080"
	rule := func(r lab.Rule) func(*testing.T, *lab.Demo) {
		return func(t *testing.T, d *lab.Demo) {
			_, err := d.Router.AddRule(r)
			labtest.Must(t, err)
		}
	}
	web := lab.Rule{Hook: lab.Forward, Proto: path.TCP, DstPort: lab.WebPort}
	reject, back := web, lab.Rule{Hook: lab.Forward, In: lab.BridgeDevice, Out: lab.RouterDevice}
	reject.Action = lab.Reject
	reverse := func(t *testing.T, d *lab.Demo) {
		labtest.Must(t, connect(d.Client, d.Published(false))) // the neighbours know each other then
		labtest.Must(t, d.Router.AddRoute(lab.Route{Dst: netip.PrefixFrom(d.ClientAddr, 32), Device: lab.BridgeDevice}))
		labtest.Must(t, d.Router.Sysctl("net/ipv4/conf/"+lab.RouterDevice+"/rp_filter", "1"))
	}
	return []scenario{
		{name: "dnat"},
		{name: "dnat_udp", to: "192.0.2.1:7070", proto: path.UDP},
		{name: "dnat_ipv6", to: published6},
		{name: "bridged", from: "app", to: "10.77.0.2:80"},
		{name: "masqueraded", from: "web", to: "192.0.2.2:80", do: serveOutside},
		{name: "ping", to: "192.0.2.1", proto: path.ICMP},
		{name: "nft_drop", do: rule(web)},
		{name: "nft_drop_of_reply", do: rule(back)},
		{name: "nft_drop_ipv6", do: rule(web), to: published6},
		{name: "nft_reject", do: rule(reject)},
		{name: "nft_policy", do: func(t *testing.T, d *lab.Demo) { labtest.Must(t, d.Router.SetPolicy(lab.Forward, true)) }},
		{name: "legacy_drop", do: func(t *testing.T, d *lab.Demo) {
			tool(t, d.Router, "iptables-legacy -A FORWARD -p tcp --dport 80 -m comment --comment no-web -j DROP")
		}},
		{name: "no_dnat", to: "192.0.2.1:8081"},
		{name: "nothing_listens", from: "app", to: "10.77.0.2:81"},
		{name: "nothing_listens_udp", from: "app", to: "10.77.0.2:81", proto: path.UDP},
		{name: "forwarding_off", do: func(t *testing.T, d *lab.Demo) {
			labtest.Must(t, d.Router.Sysctl("net/ipv4/ip_forward", "0"))
		}},
		{name: "reverse_path", do: reverse},
		{name: "no_route_back", do: func(t *testing.T, d *lab.Demo) {
			labtest.Must(t, d.Web.DeleteRoute(lab.Route{Via: d.GatewayAddr}))
		}},
	}
}

// TestKernels holds verdict, cause, place, rule, translations and way of each scenario against files
// that are the same for all kernels. scripts/kernels.sh runs it on others than the machine's own.
func TestKernels(t *testing.T) {
	labtest.NeedsRoot(t)
	if testing.Short() {
		t.Skip("a trace takes half a second, and these are many")
	}
	list, err := tracer.Hooks()
	labtest.Must(t, err)
	for _, h := range list {
		if h.Err != nil {
			t.Logf("%s: no hook %s: %v", kernel.Release(), h.Name, h.Err)
		}
	}
	for _, s := range scenarios() {
		t.Run(s.name, s.check)
	}
}

func (s scenario) check(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	from, to := s.from, s.to
	if from == "" {
		from = "client"
	}
	if to == "" {
		to = d.Published(false).String()
	}
	if strings.HasPrefix(to, "[") && !d.IPv6() {
		t.Skip("this kernel has no IPv6")
	}
	if s.do != nil {
		s.do(t, d)
	}
	start := time.Now()
	o := probe(t, d.Lab, from, to, func(c *tracer.Config) { c.Proto = s.proto })
	t.Logf("%v, %s", time.Since(start).Round(time.Millisecond), o.flows[0].Verdict.Summary)
	checkTrace(t, d.Lab, o)
	got := account(&o.flows[0])
	file := filepath.Join("testdata", "kernels", s.name+".golden")
	if u := flag.Lookup("update"); u != nil && u.Value.String() == "true" {
		labtest.Must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		labtest.Must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	labtest.Must(t, err)
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s\nbecause %s", got, want, strings.Join(o.flows[0].Verdict.Evidence, "\n\t"))
		logPackets(t, o.flows[0].Path)
	}
}

// account is what must not depend on the kernel: no times, no chosen ports, no hooks without functions.
func account(f *tracer.Flow) string {
	var b strings.Builder
	v := f.Verdict
	fmt.Fprintln(&b, strings.TrimSpace(string(v.Outcome)+" "+string(v.Cause)))
	if w := v.Where; w != nil {
		stage := w.Stage
		if stage == path.StageUDP && v.Outcome == path.Refused {
			stage = path.StageICMP // where icmp_send is not seen, the place is the packet's, not the answer's
		}
		fmt.Fprintf(&b, "where: %s of the %s\n", strings.TrimSpace(w.Namespace+" "+w.Device+" "+string(stage)), w.Direction)
		writeRule(&b, w.Rule)
	}
	for _, n := range f.Path.NAT {
		fmt.Fprintf(&b, "%s in %s, %s of the %s\n", n.Kind, n.Namespace, n.Stage, n.Direction)
		writeRule(&b, n.Rule)
	}
	for _, dir := range []path.Direction{path.Request, path.Reply} {
		fmt.Fprintf(&b, "%s:%s\n", dir, devices(first(f.Path, dir)))
	}
	return b.String()
}

func writeRule(b *strings.Builder, r *path.Rule) {
	if r != nil {
		fmt.Fprintf(b, "  rule: %s %s %s %d: %s (%s)\n", r.Family, r.Table, r.Chain, r.Number, r.Text, r.Owner)
	}
}

// devices are those that a packet was given to, in order.
func devices(p *path.Packet) string {
	var b strings.Builder
	for i := range p.Hops {
		if h := &p.Hops[i]; h.Stage == path.StageDevice && !h.Copy {
			fmt.Fprintf(&b, " %s/%s", h.Namespace, h.Device)
		}
	}
	return b.String()
}
