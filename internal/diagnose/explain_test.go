package diagnose

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// verdictCase is one flow with its facts and what has to be concluded.
type verdictCase struct {
	name    string
	flow    func() *testFlow
	facts   func() *Facts
	outcome path.Outcome
	cause   path.Cause
	summary string
	// where is "namespace-or-container device stage direction", remedy and evidence are parts of one
	// of the sentences; each is checked iff it is not empty.
	where, remedy, evidence string
}

func runCases(t *testing.T, cases []verdictCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := facts()
			if c.facts != nil {
				f = c.facts()
			}
			v := Explain(&c.flow().p, f)
			if v.Outcome != c.outcome || v.Cause != c.cause {
				t.Errorf("got %s/%s, want %s/%s", v.Outcome, v.Cause, c.outcome, c.cause)
			}
			if v.Summary != c.summary {
				t.Errorf("summary\n got %s\nwant %s", v.Summary, c.summary)
			}
			if got := whereText(v.Where); c.where != "" && got != c.where {
				t.Errorf("where: got %q, want %q", got, c.where)
			}
			if all := strings.Join(v.Remedy, "\n"); !strings.Contains(all, c.remedy) {
				t.Errorf("remedy %q lacks %q", all, c.remedy)
			}
			if all := strings.Join(v.Evidence, "\n"); !strings.Contains(all, c.evidence) {
				t.Errorf("evidence %q lacks %q", all, c.evidence)
			}
			checkVerdict(t, &v)
		})
	}
}

func whereText(w *path.Where) string {
	if w == nil {
		return ""
	}
	return strings.Join(strings.Fields(strings.Join([]string{w.Namespace, w.Container, w.Device,
		string(w.Stage), string(w.Direction)}, " ")), " ")
}

// checkVerdict checks what holds for every verdict.
func checkVerdict(t *testing.T, v *path.Verdict) {
	t.Helper()
	if v.Type != "verdict" || v.Outcome == "" {
		t.Errorf("got type %q, outcome %q", v.Type, v.Outcome)
	}
	sentences := append([]string{v.Summary}, v.Evidence...)
	for _, w := range v.Warnings {
		sentences = append(sentences, w.Summary)
		if w.Cause == "" {
			t.Errorf("warning without a cause: %s", w.Summary)
		}
	}
	for _, s := range sentences {
		if strings.TrimSpace(s) == "" || strings.ContainsAny(s, "\n\r") || strings.Contains(s, ". ") {
			t.Errorf("not one sentence: %q", s)
		}
		if strings.Contains(s, "%!") {
			t.Errorf("broken format: %q", s)
		}
	}
	for _, r := range v.Remedy {
		if strings.TrimSpace(r) == "" || strings.Contains(r, "%!") {
			t.Errorf("broken remedy: %q", r)
		}
	}
	if !strings.HasPrefix(v.Summary, string(v.Outcome)+": ") {
		t.Errorf("summary %q does not begin with the outcome %s", v.Summary, v.Outcome)
	}
	switch v.Outcome {
	case path.Delivered:
		if v.Cause != "" || v.Where != nil {
			t.Errorf("delivered with cause %q, where %v", v.Cause, v.Where)
		}
	case path.NoTraffic:
	default:
		if v.Cause == "" {
			t.Errorf("%s without a cause", v.Outcome)
		}
	}
}

func TestDelivered(t *testing.T) {
	runCases(t, []verdictCase{
		{
			name: "tcp", flow: func() *testFlow { return newFlow(path.TCP).connect() },
			outcome: path.Delivered, summary: "delivered: web answered 10.99.0.1 in 22 µs",
			evidence: "DNAT in host: 10.99.0.11:8080 became 172.18.0.2:80 (request)",
		},
		{
			name: "tcp without socket states, client outside",
			flow: func() *testFlow {
				f := newFlow(path.TCP)
				f.add(path.Request, "S", f.arriving()[3:]...)
				f.add(path.Reply, "SA", append(f.backToHost(),
					f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0"))...)
				f.add(path.Request, "A", f.arriving()[3:]...)
				return f
			},
			outcome: path.Delivered, summary: "delivered: web answered 10.99.0.1 in 17 µs",
		},
		{
			name: "udp without an answer",
			flow: func() *testFlow {
				f := newFlow(path.UDP)
				f.add(path.Request, "", f.arriving()...)
				f.p.DeliverNetNS = nsWeb
				return f
			},
			facts:   func() *Facts { f := facts(); f.Probe = silentProbe(); return f },
			outcome: path.Delivered, summary: "delivered: web took the datagram from 10.99.0.1, and no " +
				"answer came within 2 s",
		},
		{
			name:    "answer that nobody was seen to read, hooks only on what is sent",
			flow:    func() *testFlow { return readUnseen(false, false) },
			outcome: path.Delivered, summary: "delivered: web answered 10.99.0.1 in 23 µs",
		},
		{
			name:    "answer in fragments, freed with the whole",
			flow:    func() *testFlow { return readUnseen(true, true) },
			outcome: path.Delivered, summary: "delivered: web answered 10.99.0.1 in 23 µs",
		},
		{
			name:    "answer in fragments that wait for another one",
			flow:    func() *testFlow { return readUnseen(true, false) },
			outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the reply from web was last seen in container cli on eth0, and was not seen to reach 10.99.0.1",
		},
		{
			name: "icmp",
			flow: func() *testFlow {
				f := newFlow(path.ICMP)
				f.add(path.Request, "", f.in()...)
				f.add(path.Reply, "", f.back()...)
				return f
			},
			outcome: path.Delivered, summary: "delivered: web answered 10.99.0.1 in 21 µs",
		},
		{
			name: "midstream",
			flow: func() *testFlow {
				f := newFlow(path.TCP)
				f.p.Midstream = true
				f.add(path.Reply, "PA", f.back()...)
				f.add(path.Request, "A", f.arriving()...)
				return f
			},
			outcome: path.Delivered, summary: "delivered: web answered 10.99.0.1",
		},
		{
			name: "a redirect is no refusal",
			flow: func() *testFlow {
				f := newFlow(path.TCP)
				f.addError(path.Reply, f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0", icmp(5, 1)))
				return f.connect()
			},
			outcome: path.Delivered, summary: "delivered: web answered 10.99.0.1 in 22 µs",
		},
	})
}

// readUnseen is a datagram with an answer on a kernel that does not tell when a socket takes one. Of the
// hooks in the asker's namespace only POSTROUTING is watched, by AppArmor.
func readUnseen(fragment, freed bool) *testFlow {
	f := newFlow(path.UDP).direct()
	d := ends(sender, inner)
	first := []path.Hop{
		f.hop(nsCli, path.StagePostrouting, path.ActionEnter, "eth0", d),
		f.hop(nsCli, path.StagePostrouting, path.ActionLeave, "eth0", d),
	}
	f.add(path.Request, "", append(first, f.arriving()...)...)
	e := ends(inner, sender)
	back := append(f.backToHost(), f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0", e),
		f.hop(nsCli, path.StageDevice, path.ActionReceive, "eth0", e))
	if freed {
		back = append(back, f.hop(nsCli, path.StageDevice, path.ActionDrop, "", e, asNoise, why("", "skb_release_data")))
	}
	for i := range back {
		back[i].Fragment = fragment
	}
	f.add(path.Reply, "", back...)
	return f
}

func TestWarnings(t *testing.T) {
	f := newFlow(path.TCP)
	f.add(path.Request, "S", append(f.out(),
		f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", through("eth0", "br-app")),
		f.hop(nsHost, path.StageForward, path.ActionDrop, "eth0", why("NETFILTER_DROP", "nft_do_chain")))...)
	v := Explain(&f.connect().p, facts())
	checkVerdict(t, &v)
	if v.Outcome != path.Delivered || len(v.Warnings) != 1 || v.Warnings[0].Cause != path.CauseFirewallDrop {
		t.Fatalf("got %s %v, want delivered with a firewall-drop warning", v.Outcome, v.Warnings)
	}
	want := "the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of host on its way " +
		"eth0 → br-app; a later one got through"
	if v.Warnings[0].Summary != want {
		t.Errorf("got %s\nwant %s", v.Warnings[0].Summary, want)
	}

	paused := facts()
	paused.Target.State = "paused"
	v = Explain(&newFlow(path.TCP).connect().p, paused)
	if len(v.Warnings) != 1 || v.Warnings[0].Cause != path.CauseContainerPaused {
		t.Errorf("paused: got %v", v.Warnings)
	}
}

func TestNoiseAndCopiesDecideNothing(t *testing.T) {
	f := newFlow(path.TCP).connect()
	for _, p := range f.p.Packets {
		p.Hops = append(p.Hops,
			f.hop(nsDup, path.StageTCP, path.ActionDrop, "eth0", why("OTHERHOST", "ip_rcv_core"), asNoise),
			f.hop(nsDup, path.StageTCP, path.ActionDrop, "eth0", why("NO_SOCKET", "tcp_v4_rcv"), asCopy))
	}
	v := Explain(&f.p, facts())
	if v.Outcome != path.Delivered || len(v.Warnings) != 0 {
		t.Errorf("got %s %v, want delivered without warnings", v.Outcome, v.Warnings)
	}
}

func TestDataLoss(t *testing.T) {
	lose := func(recovers bool) *path.Path {
		f := newFlow(path.TCP).connect()
		p := f.add(path.Reply, "PA", append(f.backToHost(), f.hop(nsHost, path.StageForward, path.ActionEnter,
			"br-app", through("br-app", "eth0")), f.hop(nsHost, path.StageForward, path.ActionDrop, "br-app",
			why("NETFILTER_DROP", "nft_do_chain")))...)
		p.Seq, p.Length = 1000, 1400
		if recovers {
			q := f.add(path.Reply, "PA", f.back()...)
			q.Seq, q.Length, q.Retransmission = 1000, 1400, true
		}
		return &f.p
	}
	v := Explain(lose(false), facts())
	want := "dropped: a data packet from web was dropped in the FORWARD hook (netfilter) of host on its " +
		"way br-app → eth0"
	if v.Outcome != path.Dropped || v.Cause != path.CauseFirewallDrop || v.Summary != want {
		t.Errorf("lost: got %s/%s %s\nwant %s", v.Outcome, v.Cause, v.Summary, want)
	}
	if v.Where == nil || v.Where.Direction != path.Reply {
		t.Errorf("lost: got %+v, want direction reply", v.Where)
	}
	v = Explain(lose(true), facts())
	if v.Outcome != path.Delivered || len(v.Warnings) != 1 {
		t.Errorf("recovered: got %s %v, want delivered with one warning", v.Outcome, v.Warnings)
	}
}

func TestLostEventsAreSaid(t *testing.T) {
	f := facts()
	f.LostEvents, f.Complete = 3, true
	fl := newFlow(path.TCP)
	fl.add(path.Request, "S", fl.out()[:3]...)
	v := Explain(&fl.p, f)
	want := "lost: the request from 10.99.0.1 left container cli through eth0, and nothing came back while " +
		"it was watched; 3 observations were lost, so this is not certain"
	if v.Summary != want || v.Complete || v.LostEvents != 3 {
		t.Errorf("got %q complete %t lost %d\nwant %q", v.Summary, v.Complete, v.LostEvents, want)
	}
}
