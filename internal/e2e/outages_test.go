//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// outage is something that is broken, and what pathtrace must say of it. In its texts HOST and PEER
// are the addresses of the two hosts, OUTSIDE the namespace outside, OUTSIDEADDR its address and
// OUTSIDENET the subnet, ELSEWHERE an address that is in use nowhere, WEB the address of the container web, SUBNET that of its network.
type outage struct {
	name, what string

	// do and undo are commands, see scene.command; with does what a command cannot.
	do, undo []string
	with     func(t *testing.T, s *scene)

	from, to string
	proto    string
	// made: do makes an end of the probe, so there is nothing to be delivered before and afterwards.
	made bool

	right answer
	// rule, if set, is the text of the rule that is to be named, owner whose rule it is.
	rule, owner string
	direction   path.Direction
	container   string // in which it ends, "host" for the host
	// only, if set, are the kinds of engines on which there is such an outage; on changes the row for a kind of engine.
	only []string
	on   map[string]func(*outage)
}

// of is the row for a kind of engine.
func (o *outage) of(kind string) *outage {
	changed := *o
	if change := o.on[kind]; change != nil {
		change(&changed)
	}
	return &changed
}

// answer is what may be said: one of the outcomes, with one of the causes or one of the warnings.
type answer struct {
	outcomes []path.Outcome
	causes   []path.Cause
	warnings []path.Cause
}

// as makes an answer of one outcome and a cause.
func as(o path.Outcome, causes ...path.Cause) answer {
	return answer{outcomes: []path.Outcome{o}, causes: causes}
}

// warned makes the answer of a flow that is delivered with a warning.
func warned(causes ...path.Cause) answer {
	return answer{outcomes: []path.Outcome{path.Delivered}, warnings: causes}
}

// scene is what each engine of the table has: a published web server and a client.
type scene struct {
	t        *testing.T
	kind     string
	h, peer  *host
	app      *network
	web, cli *container
	addr     netip.Addr // web's, also while it is stopped
}

// The scene's network has the same addresses on every host, as Docker's own choice would.
var sceneSubnet = netip.MustParsePrefix("172.30.0.0/16")

func newScene(t *testing.T, h, peer *host, kind string) *scene {
	t.Helper()
	s := &scene{t: t, kind: kind, h: h, peer: peer}
	bridge := "com.docker.network.bridge.name=br-app"
	h.must(t, "network", "create", "-o", bridge, "--subnet", sceneSubnet.String(), "app")
	t.Cleanup(func() { _ = h.docker("network", "rm", "app") })
	s.app = &network{h: h, Name: "app", Bridge: "br-app"}
	s.web = s.container(t, "web", "tcp :80", "--network", "app", "-p", "8080:80")
	s.cli = s.container(t, "cli", "idle", "--network", "app")
	s.addr = s.web.addr(s.app)
	return s
}

// container starts a container of that name.
func (s *scene) container(t *testing.T, name, command string, flags ...string) *container {
	t.Helper()
	return s.h.startContainer(t, name, command, flags...)
}

// say puts the scene's values into a text of the table.
func (s *scene) say(text string) string {
	return strings.NewReplacer(
		"HOST", s.h.Addr.String(), "PEER", s.peer.Addr.String(), "OUTSIDEADDR", shared.OutsideAddr.String(),
		"OUTSIDENET", netip.PrefixFrom(shared.OutsideAddr, 24).Masked().String(), "OUTSIDE", shared.Outside,
		"ELSEWHERE", shared.Elsewhere.Addr().String(), "WEB", s.addr.String(),
		"SUBNET", sceneSubnet.String(),
	).Replace(text)
}

// command runs a command of the table: its first word says where, or which program starts.
//
//	host CMD         in the host's namespace, with the machine's tools
//	outside CMD      in the outside
//	in NAME CMD      in a container's namespace, with the machine's tools
//	docker ARGS      the engine's client
//	run NAME FLAGS -- COMMAND  a container of the tests' image
func (s *scene) command(t *testing.T, text string) {
	t.Helper()
	f := strings.Fields(s.say(text))
	switch f[0] {
	case "host":
		s.h.do(t, f[1], f[2:]...)
	case "outside":
		outsideDo(t, f[1], f[2:]...)
	case "in":
		c := &container{h: s.h, t: t, Name: f[1]}
		c.do(f[2], f[3:]...)
	case "docker":
		s.h.must(t, f[1:]...)
	case "run":
		flags, command, _ := strings.Cut(strings.Join(f[2:], " "), "-- ")
		s.container(t, f[1], command, strings.Fields(flags)...)
	default:
		t.Fatalf("unknown command %q", text)
	}
}

// breaks does what the row says; at the end of the test it is undone.
func (s *scene) breaks(t *testing.T, o *outage) {
	t.Helper()
	t.Cleanup(func() {
		for _, c := range o.undo {
			s.command(t, c)
		}
	})
	if o.with != nil {
		o.with(t, s)
	}
	for _, c := range o.do {
		s.command(t, c)
	}
}

// args are pathtrace's.
func (s *scene) args(o *outage) []string {
	args := []string{"--from", s.say(o.from), "--to", s.say(o.to)}
	if o.proto != "" {
		args = append(args, "--proto", o.proto)
	}
	return append(args, brief...)
}

// healthy checks that the row's probe is delivered and nothing is said against it; for a row that
// makes an end of its own probe, that of the published port.
func (s *scene) healthy(t *testing.T, o *outage, when string) {
	t.Helper()
	if o.made {
		o = &outage{from: "OUTSIDE", to: "HOST:8080"}
	}
	r := s.h.run(t, append(s.args(o), "-o", "json")...)
	if len(r.verdicts) != 1 || r.verdicts[0].Outcome != path.Delivered || len(r.verdicts[0].Warnings) > 0 {
		t.Fatalf("%s %v: want delivered without warnings, got\n%s%s", when, r.args, r.stdout, r.stderr)
	}
}

// timing is how long it took from the start of pathtrace to its verdict.
type timing struct {
	name, what string
	took       time.Duration
	verdict    path.Verdict
}

// outage runs a row: healthy, broken, healthy again.
func (s *scene) outage(t *testing.T, o *outage) (took timing) {
	t.Helper()
	s.healthy(t, o, "before")
	t.Run("broken", func(t *testing.T) {
		s.breaks(t, o)
		args := s.args(o)
		start := time.Now()
		p := s.h.launch(t, append(slices.Clone(args), "-o", "json")...)
		p.until("a verdict", func(line string) bool { return strings.HasPrefix(line, `{"type":"verdict"`) })
		took = timing{name: o.name, what: o.what, took: time.Since(start)}
		r := p.wait()
		text := s.h.run(t, args...)
		if len(r.verdicts) != 1 {
			t.Fatalf("%v: %d verdicts\n%s%s", args, len(r.verdicts), r.stdout, r.stderr)
		}
		took.verdict = r.verdicts[0]
		t.Logf("%s: %s\n%s\n%s%s", o.name, o.what, strings.Join(r.args, " "), text.stdout, text.stderr)
		wrong := append(o.wrong(s, r), o.wrongText(r, text)...)
		right(t, wrong, r)
	})
	s.healthy(t, o, "after the undo")
	return took
}

// right fails the test if anything is wrong.
func right(t *testing.T, wrong []string, r *result) {
	t.Helper()
	if len(wrong) > 0 {
		t.Errorf("%s\n%s", strings.Join(wrong, "\n"), lastVerdict(r))
	}
}

// wrong lists what is wrong with a verdict.
func (o *outage) wrong(s *scene, r *result) []string {
	v := r.verdicts[0]
	var list []string
	fail := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if !slices.Contains(o.right.outcomes, v.Outcome) {
		fail("outcome %q, want one of %q", v.Outcome, o.right.outcomes)
	}
	isWarned := slices.ContainsFunc(v.Warnings, func(w path.Warning) bool { return slices.Contains(o.right.warnings, w.Cause) })
	if !slices.Contains(o.right.causes, v.Cause) && !isWarned {
		fail("cause %q, warnings %v, want one of %q or a warning of %q", v.Cause, v.Warnings, o.right.causes, o.right.warnings)
	}
	if v.Outcome == path.Delivered && v.Cause != "" {
		fail("delivered with cause %q", v.Cause)
	}
	if r.status != statusOf(v.Outcome) {
		fail("exit status %d of outcome %q", r.status, v.Outcome)
	}
	if v.LostEvents != 0 || !v.Complete {
		fail("lost %d, complete %v, skipped %q", v.LostEvents, v.Complete, r.stats.Skipped)
	}
	if v.Outcome != path.Delivered && len(v.Remedy) == 0 {
		fail("no remedy")
	}
	return append(list, o.wrongPlace(s, v.Where)...)
}

// wrongPlace compares the place of the end and the rule.
func (o *outage) wrongPlace(s *scene, where *path.Where) []string {
	var list []string
	differ := func(what, want, got string) {
		if want != "" && want != got {
			list = append(list, fmt.Sprintf("%s is %q, want %q", what, got, want))
		}
	}
	if where == nil {
		where = &path.Where{}
	}
	rule := where.Rule
	if rule == nil {
		rule = &path.Rule{}
	}
	differ("the rule", s.say(o.rule), rule.Text)
	differ("the rule's owner", o.owner, rule.Owner)
	differ("the direction", string(o.direction), string(where.Direction))
	if o.container == "host" {
		differ("the namespace", "host", where.Namespace)
	} else {
		differ("the container", o.container, where.Container)
	}
	return list
}

// wrongText lists what is wrong with the text; its columns are checked when it is read.
func (o *outage) wrongText(r, text *result) []string {
	v := r.verdicts[0]
	var list []string
	if text.status != r.status {
		list = append(list, fmt.Sprintf("exit status %d with text, %d with JSON", text.status, r.status))
	}
	page := filepath.Join("docs", "causes", string(v.Cause)+".md")
	if v.Cause != "" && !strings.HasSuffix(strings.TrimSpace(text.stdout), page) {
		list = append(list, "the text does not end with "+page)
	}
	if o.rule != "" && v.Where != nil && v.Where.Rule != nil && !strings.Contains(flat(text.stdout), v.Where.Rule.Text) {
		list = append(list, "the text does not show the rule")
	}
	return list
}

// lastVerdict is the line of the verdict.
func lastVerdict(r *result) string {
	for line := range strings.Lines(r.stdout) {
		if strings.HasPrefix(line, `{"type":"verdict"`) {
			return line
		}
	}
	return ""
}

// logTimes prints the table of times, and their median.
func logTimes(t *testing.T, times []timing) {
	t.Helper()
	if len(times) == 0 {
		return
	}
	var b strings.Builder
	var all []time.Duration
	fmt.Fprintf(&b, "from start to verdict, with --timeout %v\n", briefTimeout)
	for _, x := range times {
		all = append(all, x.took)
		fmt.Fprintf(&b, "%-4s %5d ms  %s: %s %s\n", x.name, x.took.Milliseconds(), x.what, x.verdict.Outcome, x.verdict.Cause)
	}
	slices.Sort(all)
	t.Logf("%smedian of %d: %v", b.String(), len(all), all[len(all)/2].Round(time.Millisecond))
}
