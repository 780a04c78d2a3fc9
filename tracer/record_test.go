package tracer

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

var (
	update = flag.Bool("update", false, "accept what the recordings give now")
	record = flag.Bool("record", false, "record the events of testdata/*.events anew (needs root)")
)

// eventsCase is a trace whose events are kept in testdata, in text form. Names that the kernel gave
// stand before them in lines that begin with "#!".
type eventsCase struct {
	name, from, to string
	do             func(*lab.Demo) error
	probe          diagnose.ProbeKind
	// noRoute answers what is asked about routes; the recording cannot.
	noRoute bool
}

func recordings() []eventsCase {
	rule := func(r lab.Rule) func(*lab.Demo) error {
		return func(d *lab.Demo) error { _, err := d.Router.AddRule(r); return err }
	}
	web := lab.Rule{Hook: lab.Forward, Proto: path.TCP, DstPort: lab.WebPort}
	reject, back := web, lab.Rule{Hook: lab.Forward, In: lab.BridgeDevice, Out: lab.RouterDevice}
	reject.Action = lab.Reject
	const published = "192.0.2.1:8080"
	return []eventsCase{
		{"delivered", "client", published, nil, diagnose.ProbeConnected, false},
		{"delivered6", "client", "[2001:db8:1::1]:8080", nil, diagnose.ProbeConnected, false},
		{"dropped", "client", published, rule(web), diagnose.ProbeSilence, false},
		{"reply_dropped", "client", published, rule(back), diagnose.ProbeSilence, false},
		{"rejected", "client", published, rule(reject), diagnose.ProbeICMPError, false},
		{"refused", "app", "10.77.0.2:81", nil, diagnose.ProbeRefused, false},
		{"no_route_back", "client", published, func(d *lab.Demo) error {
			return d.Web.DeleteRoute(lab.Route{Via: d.GatewayAddr})
		}, diagnose.ProbeSilence, true},
	}
}

func (r eventsCase) file(ext string) string { return filepath.Join("testdata", r.name+ext) }

// TestRecorded replays recorded events through the tracker and the conclusions, without root.
func TestRecorded(t *testing.T) {
	for _, r := range recordings() {
		t.Run(r.name, func(t *testing.T) {
			if *record {
				r.record(t)
			}
			text, err := os.ReadFile(r.file(".events"))
			labtest.Must(t, err)
			got := replayEvents(t, r, text)
			if *update || *record {
				labtest.Must(t, os.WriteFile(r.file(".golden"), []byte(got), 0o644))
			}
			want, err := os.ReadFile(r.file(".golden"))
			labtest.Must(t, err)
			if got != string(want) {
				t.Errorf("run with -update to accept; got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// record runs the trace and writes its events.
func (r eventsCase) record(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	if r.do != nil {
		labtest.Must(t, r.do(d))
	}
	cfg := Config{Source: r.from, Target: r.to, NoDocker: true, Confined: true, Timeout: 300 * time.Millisecond}
	for _, ns := range d.Namespaces() {
		cfg.Namespaces = append(cfg.Namespaces, Namespace{Name: ns.Name, Path: ns.Path})
	}
	tr, err := New(t.Context(), cfg)
	labtest.Must(t, err)
	var head, events bytes.Buffer
	for _, ns := range d.Namespaces() {
		fmt.Fprintf(&head, "#! namespace %d %s\n", ns.Inode, ns.Name)
	}
	fmt.Fprintf(&head, "#! target %s\n", r.to)
	named := map[string]bool{}
	name := func(kind, key, value string) {
		if text := fmt.Sprintf("#! %s %s %s\n", kind, key, value); value != "" && !named[text] {
			named[text] = true
			head.WriteString(text)
		}
	}
	tr.onEvent = func(e *wire.Event) {
		events.Write(append(e.AppendText(nil), '\n'))
		name("symbol", strconv.FormatUint(e.Location, 16), tr.facts.Symbol(e.Location))
		if e.Hook == wire.TCPReset {
			name("reset", strconv.Itoa(int(e.Reason)), tr.facts.ResetReason(e.Reason))
		} else {
			name("reason", strconv.Itoa(int(e.Reason)), tr.facts.DropReason(e.Reason))
		}
	}
	_, err = tr.Run(t.Context())
	labtest.Must(t, err)
	labtest.Must(t, os.MkdirAll("testdata", 0o755))
	labtest.Must(t, os.WriteFile(r.file(".events"), append(head.Bytes(), events.Bytes()...), 0o644))
}

// names are what the lines that begin with "#!" say.
type names struct {
	symbols, reasons, resets, namespaces map[uint64]string
	target                               netip.AddrPort
}

func (n *names) DropReason(r uint32) string  { return n.reasons[uint64(r)] }
func (n *names) ResetReason(r uint32) string { return n.resets[uint64(r)] }
func (n *names) Symbol(addr uint64) string   { return n.symbols[addr] }

func readNames(t *testing.T, text []byte) *names {
	t.Helper()
	n := &names{map[uint64]string{}, map[uint64]string{}, map[uint64]string{}, map[uint64]string{}, netip.AddrPort{}}
	kinds := map[string]map[uint64]string{"reason": n.reasons, "reset": n.resets, "namespace": n.namespaces}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] != "#!":
		case words[1] == "target":
			n.target = netip.MustParseAddrPort(words[2])
		case words[1] == "symbol":
			addr, err := strconv.ParseUint(words[2], 16, 64)
			labtest.Must(t, err)
			n.symbols[addr] = words[3]
		default:
			key, err := strconv.ParseUint(words[2], 10, 64)
			labtest.Must(t, err)
			kinds[words[1]][key] = words[3]
		}
	}
	return n
}

// replayEvents returns what is concluded from events, and every step.
func replayEvents(t *testing.T, r eventsCase, text []byte) string {
	t.Helper()
	n := readNames(t, text)
	var out strings.Builder
	tracker := flow.New(flow.Config{
		Namer:    n,
		IsTarget: func(ap netip.AddrPort, _ uint8) bool { return ap == n.target },
		OnDone: func(p *path.Path) {
			for _, packet := range p.Packets {
				for i := range packet.Hops {
					packet.Hops[i].Namespace = n.namespaces[uint64(packet.Hops[i].NetNS)]
				}
			}
			facts := &diagnose.Facts{
				Probe:    &diagnose.Probe{Kind: r.probe, RoundTrip: time.Millisecond, Timeout: 300 * time.Millisecond},
				Target:   diagnose.Endpoint{Label: n.target.Addr().String(), Port: n.target.Port()},
				Source:   diagnose.Endpoint{Label: r.from},
				Complete: true, Namespaces: map[uint32]*diagnose.Namespace{},
			}
			for _, q := range diagnose.Needs(p).Routes {
				if r.noRoute {
					facts.Namespaces[q.NetNS] = &diagnose.Namespace{Routes: []diagnose.Route{{Dst: q.Dst, Err: "ENETUNREACH"}}}
				}
			}
			write(&out, p, diagnose.Explain(p, facts))
		},
	})
	for e, err := range wire.ReadText(bytes.NewReader(text)) {
		labtest.Must(t, err)
		tracker.Add(&e)
	}
	tracker.Flush()
	return out.String()
}

func write(out *strings.Builder, p *path.Path, v path.Verdict) {
	fmt.Fprintf(out, "%s %s\n%s\n", v.Outcome, v.Cause, v.Summary)
	for _, e := range v.Evidence {
		fmt.Fprintf(out, "  %s\n", e)
	}
	for _, packet := range p.Packets {
		fmt.Fprintf(out, "packet %d %s %s\n", packet.ID, packet.Direction, packet.TCPFlags)
		for i := range packet.Hops {
			h := &packet.Hops[i]
			fmt.Fprintf(out, "  %s %s %s %s %s > %s %s\n", h.Namespace, h.Device, h.Stage, h.Action, h.Src, h.Dst, h.Reason)
		}
	}
}
