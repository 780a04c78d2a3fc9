package render

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pathtrace/pathtrace/tracer/path"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var escape = regexp.MustCompile("\x1b\\[[0-9;]*m")

// checkText checks what holds for all text, and compares it to a golden file if name is not empty.
// render must write the same each time it is called.
func checkText(t *testing.T, name string, width int, render func(o Options)) {
	t.Helper()
	var plainBuf, colorBuf bytes.Buffer
	render(Options{Writer: &plainBuf, Width: width})
	render(Options{Writer: &colorBuf, Width: width, Color: true})
	got := plainBuf.String()
	if stripped := escape.ReplaceAllString(colorBuf.String(), ""); stripped != got {
		t.Errorf("coloured text without its codes = %q, want %q", stripped, got)
	}
	limit := Options{Width: width}.width()
	for i, line := range strings.Split(got, "\n") {
		if n := utf8.RuneCountInString(line); n > limit {
			t.Errorf("line %d has %d columns, want at most %d: %q", i+1, n, limit, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("line %d ends in blanks: %q", i+1, line)
		}
		for _, r := range line {
			if unicode.IsControl(r) {
				t.Errorf("line %d holds control character %q: %q", i+1, r, line)
			}
		}
	}
	if name == "" {
		return
	}
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -update to create it)", err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// must fails the test on an error of a renderer.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFlowGolden(t *testing.T) {
	for _, c := range flowCases() {
		t.Run(c.name, func(t *testing.T) {
			p, v := c.make()
			checkText(t, c.name, 0, func(o Options) { must(t, NewText(o).Flow(p, v)) })
			checkText(t, c.name+".verbose", 0, func(o Options) {
				o.Verbose = true
				must(t, NewText(o).Flow(p, v))
			})
			checkText(t, "", 0, func(o Options) {
				o.AllPackets = true
				must(t, NewText(o).Flow(p, v))
			})
		})
	}
}

func TestFlowWidths(t *testing.T) {
	for _, c := range flowCases() {
		for width := minWidth; width <= MaxWidth+5; width += 5 {
			p, v := c.make()
			checkText(t, "", width, func(o Options) { must(t, NewText(o).Flow(p, v)) })
			checkText(t, "", width, func(o Options) {
				o.Verbose = true
				must(t, NewText(o).Flow(p, v))
			})
		}
	}
}

func TestStatsGolden(t *testing.T) {
	s := path.Stats{
		Packets: 5, Events: 1234567, LostEvents: 1300, WallNS: 2_100_000_000, CPUNS: 31_000_000,
		Hooks: map[string]uint64{"net_dev_queue": 1200000, "kfree_skb": 3},
		Lost:  map[string]uint64{"net_dev_queue": 1000, "netif_receive_skb": 300},
		Skipped: []string{
			"namespace 4026532281: its file could not be opened, so netfilter hooks in it are not seen",
		},
		Warnings: []string{"the Docker engine at unix:///var/run/docker.sock does not answer: names come from namespaces"},
	}
	checkText(t, "stats", 0, func(o Options) { must(t, NewText(o).Stats(s)) })
	checkText(t, "stats.verbose", 0, func(o Options) {
		o.Verbose = true
		must(t, NewText(o).Stats(s))
	})
	var buf bytes.Buffer
	must(t, NewText(Options{Writer: &buf}).Stats(path.Stats{Packets: 3}))
	if buf.Len() != 0 {
		t.Errorf("Stats without anything to say wrote %q, want nothing", buf.String())
	}
}

// liveFlow is a flow of client i that was decided after ms.
func liveFlow(client, name string, o path.Outcome, us int64) path.Verdict {
	v := path.Verdict{
		Flow: 1, Outcome: o, Proto: path.TCP, Src: client, SrcName: name,
		Dst: "10.99.0.11:8080", DstName: "web", Complete: true,
	}
	switch o {
	case path.Delivered:
		v.Summary = "web answered."
		v.LatencyNS = &path.Latency{Request: us * 500, Reply: us * 500, RoundTrip: us * 1000}
	case path.Refused:
		v.Cause, v.Summary = path.CauseNotListening, "nothing listens on port 81 in web."
		v.Where = &path.Where{Container: "web", Stage: path.StageTCP}
	case path.Dropped:
		v.Cause, v.Summary = path.CauseFirewallDrop, "a rule in the FORWARD hook dropped the SYN, as the rule counters of DOCKER-USER show."
		v.Where = &path.Where{Namespace: "host", Stage: path.StageForward}
	case path.Lost:
		v.Cause, v.Summary = path.CauseLostInTransit, "the SYN left by eth0 and nothing came back."
		v.Where = &path.Where{Namespace: "host", Stage: path.StageDevice, Device: "eth0"}
		v.Complete = false
	case path.Misdelivered:
		v.Summary = "another socket took it."
	}
	return v
}

func TestLiveGolden(t *testing.T) {
	at := time.Date(2025, 3, 4, 12, 0, 0, 0, time.UTC)
	checkText(t, "live", 0, func(o Options) {
		l := NewLive(o)
		must(t, l.Watching("watching traffic to web:80 (172.18.0.2:80, published at 10.99.0.11:8080); Ctrl-C ends"))
		must(t, l.Hint("no traffic to web:80 so far; to send some: pathtrace --from cli --to web:80"))
		for i := range 4 {
			now := at.Add(time.Duration(i) * 137 * time.Millisecond)
			us := int64(i * 10)
			must(t, l.Flow(now, nil, liveFlow("172.18.0.3:40312", "cli", path.Delivered, 41+us)))
			must(t, l.Flow(now, nil, liveFlow("10.99.0.1:51000", "", path.Delivered, 80+us)))
			must(t, l.Flow(now, nil, liveFlow("172.18.0.4:40313", "shop-frontend-1", path.Refused, 0)))
			must(t, l.Flow(now, nil, liveFlow("[fd00:1234:5678:9abc:def0:1234:5678:9abc]:40312", "", path.Dropped, 0)))
		}
		must(t, l.Flow(at, nil, liveFlow("10.98.0.1:4000", "a-client-with-a-really-very-long-name-1", path.Lost, 0)))
		must(t, l.Flow(at, nil, liveFlow("10.98.0.1:4000", "a-client-with-a-really-very-long-name-1", path.Misdelivered, 0)))
		v := liveFlow("172.18.0.3:40312", "cli", path.Delivered, 1500)
		v.Warnings = []path.Warning{{Cause: "nat-missing", Summary: "the DNAT rule of 10.99.0.11:8080 is gone; the userland proxy hides that"}}
		must(t, l.Flow(at, nil, v))
		must(t, l.Summary(path.Stats{WallNS: 3_210_000_000, LostEvents: 17, Lost: map[string]uint64{"kfree_skb": 17}}))
	})
}

func TestLiveManyClients(t *testing.T) {
	at := time.Date(2025, 3, 4, 12, 0, 0, 0, time.UTC)
	for width := minWidth; width <= MaxWidth; width += 5 {
		var got string
		checkText(t, "", width, func(o Options) {
			var flows, end bytes.Buffer
			lines := o
			lines.Writer = &flows
			l := NewLive(lines)
			for i := range 30 {
				name := "client-" + string(rune('a'+i%26)) + strings.Repeat("x", i)
				outcome := []path.Outcome{path.Delivered, path.Dropped, path.Refused}[i%3]
				must(t, l.Flow(at, nil, liveFlow("10.0.0.1:99", name, outcome, int64(100*i+100))))
			}
			l.o.Writer = &end
			must(t, l.Summary(path.Stats{WallNS: 1e9}))
			got = end.String()
			_, _ = o.Writer.Write(append(flows.Bytes(), end.Bytes()...))
		})
		if want := "… and 10 more clients"; !strings.Contains(got, want) {
			t.Errorf("summary lacks %q:\n%s", want, got)
		}
	}
	checkText(t, "live-empty", 0, func(o Options) { must(t, NewLive(o).Summary(path.Stats{WallNS: 5e9})) })
}

func TestHooksGolden(t *testing.T) {
	rows := []HookRow{
		{Name: "net_dev_queue", Kind: "tp_btf", Attached: true, Status: "attached", Sees: "packets handed to a queueing discipline", Unseen: "where a packet was queued"},
		{Name: "netfilter", Kind: "netfilter link", Attached: true, Status: "attached in 14 namespaces", Sees: "packets before the first and after the last function of every netfilter hook, for IPv4 and IPv6, in every namespace of the path"},
		{Name: "nf_hook_slow", Kind: "", Status: "this kernel allows no fexit programs (operation not permitted) and has no kprobes (CONFIG_KPROBES is off)", Sees: "the verdict of a netfilter hook", Unseen: "nothing: netfilter links see the same"},
		{Name: "a_function_with_a_very_long_name_indeed", Kind: "-", Sees: "nothing"},
	}
	checkText(t, "hooks", 0, func(o Options) { must(t, Hooks(o, rows)) })
	checkText(t, "", minWidth, func(o Options) { o.Verbose = true; must(t, Hooks(o, rows)) })
}
