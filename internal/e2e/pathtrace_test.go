//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Exit statuses of the contract.
const (
	statusDelivered    = 0
	statusCannotTrace  = 1
	statusUsage        = 2
	statusNotDelivered = 3
	statusNoTraffic    = 4
)

// limit is how long a pathtrace that should have ended may take.
const limit = 40 * time.Second

// process is a pathtrace that was started.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	json bool

	mu     sync.Mutex
	out    bytes.Buffer
	err    bytes.Buffer
	lines  chan string // of standard output
	copied chan struct{}
	ended  chan struct{}
}

// launch starts pathtrace in the host's namespace.
func (h *host) launch(t *testing.T, args ...string) *process {
	t.Helper()
	return launchIn(t, h.NetNS, nil, append([]string{"--docker-host", "unix://" + h.Socket}, args...)...)
}

// launchIn starts pathtrace in a named namespace. change, if not nil, adapts the command.
func launchIn(t *testing.T, namespace string, change func(*exec.Cmd), args ...string) *process {
	t.Helper()
	cmd := exec.Command(shared.Binary, args...)
	cmd.Env = cleanEnv()
	if change != nil {
		change(cmd)
	}
	p := &process{t: t, cmd: cmd, lines: make(chan string, 1<<16), copied: make(chan struct{}), ended: make(chan struct{})}
	p.json = strings.Contains(strings.Join(args, " ")+" ", "-o json ")
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	stderr, err := cmd.StderrPipe()
	check(t, err)
	check(t, startIn(namespace, cmd))
	var copying sync.WaitGroup
	copying.Go(func() { p.copy(stdout, &p.out, p.lines) })
	copying.Go(func() { p.copy(stderr, &p.err, nil) })
	go func() {
		copying.Wait()
		close(p.copied)
		_ = cmd.Wait() // the status is looked at by whoever waits
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-p.ended
	})
	return p
}

func (p *process) copy(r io.Reader, to *bytes.Buffer, lines chan<- string) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		p.mu.Lock()
		to.WriteString(line)
		p.mu.Unlock()
		if lines != nil && line != "" {
			lines <- strings.TrimSuffix(line, "\n")
		}
		if err != nil {
			if lines != nil {
				close(lines)
			}
			return
		}
	}
}

// until reads lines of standard output until ok says yes, and returns that line.
func (p *process) until(what string, ok func(string) bool) string {
	p.t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case line, more := <-p.lines:
			if !more {
				p.t.Fatalf("pathtrace ended before %s\n%s", what, p.text())
			}
			if ok(line) {
				return line
			}
		case <-timeout:
			p.t.Fatalf("pathtrace: no %s\n%s", what, p.text())
		}
	}
}

// ready waits until everything is attached.
func (p *process) ready() {
	p.t.Helper()
	p.until("being ready", func(line string) bool {
		return strings.HasPrefix(line, `{"type":"meta"`) || strings.HasPrefix(line, "watching traffic")
	})
}

// said waits until standard error holds text.
func (p *process) said(text string) bool {
	return eventually(limit, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return strings.Contains(flat(p.err.String()), text)
	})
}

func (p *process) interrupt() { _ = p.cmd.Process.Signal(unix.SIGINT) }

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return "standard output ends:\n" + tailOf(p.out.String()) + "standard error:\n" + p.err.String()
}

// wait waits for the end and reads what was written.
func (p *process) wait() *result {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		_ = p.cmd.Process.Signal(unix.SIGQUIT)
		<-p.ended
		p.t.Fatalf("pathtrace %v did not end\n%s", p.cmd.Args[1:], p.text())
	}
	r := &result{
		t: p.t, args: p.cmd.Args[1:], status: p.cmd.ProcessState.ExitCode(),
		stdout: p.out.String(), stderr: p.err.String(),
	}
	switch {
	case p.json:
		r.parse()
	case !slices.Contains(r.args, "--output=json"): // that is for what is no trace
		r.checkText()
	}
	return r
}

// result is what a pathtrace wrote, and its exit status.
type result struct {
	t              *testing.T
	args           []string
	status         int
	stdout, stderr string

	meta     *path.Meta
	hops     []path.Hop
	verdicts []path.Verdict
	stats    *path.Stats
}

// run runs pathtrace to its end.
func (h *host) run(t *testing.T, args ...string) *result {
	t.Helper()
	return h.launch(t, args...).wait()
}

// parse validates every line and takes it apart.
func (r *result) parse() {
	r.t.Helper()
	schema := compileSchema(r.t)
	for line := range bytes.Lines([]byte(r.stdout)) {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			r.t.Fatalf("%v: line %q: %v", r.args, line, err)
		}
		if err := schema.Validate(doc); err != nil {
			r.t.Errorf("%v: line %s: %v", r.args, line, err)
		}
		kind, _ := doc.(map[string]any)["type"].(string)
		if r.stats != nil {
			r.t.Errorf("%v: %s after stats", r.args, kind)
		}
		if (kind == "meta") != (r.meta == nil) {
			r.t.Errorf("%v: meta is not the first line and the only one", r.args)
		}
		r.decode(kind, line)
	}
}

func (r *result) decode(kind string, line []byte) {
	r.t.Helper()
	var err error
	switch kind {
	case "meta":
		err = json.Unmarshal(line, &r.meta)
	case "hop":
		var h path.Hop
		err = json.Unmarshal(line, &h)
		r.hops = append(r.hops, h)
	case "verdict":
		var v path.Verdict
		err = json.Unmarshal(line, &v)
		r.verdicts = append(r.verdicts, v)
	case "stats":
		err = json.Unmarshal(line, &r.stats)
	default:
		r.t.Errorf("%v: unknown type %q", r.args, kind)
	}
	if err != nil {
		r.t.Errorf("%v: %s: %v", r.args, line, err)
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(render.Schema()))
	check(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	check(t, c.AddResource("pathtrace.json", doc))
	s, err := c.Compile("pathtrace.json")
	check(t, err)
	return s
}

// checkText holds text to what a pipe may get: no escape sequences, at most 100 columns.
func (r *result) checkText() {
	r.t.Helper()
	if strings.Contains(r.stdout+r.stderr, "\x1b") {
		r.t.Errorf("%v: escape sequences in a pipe:\n%s", r.args, r.stdout)
	}
	for line := range strings.Lines(r.stdout) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 100 {
			r.t.Errorf("%v: %d columns: %s", r.args, n, line)
		}
	}
}

// flat undoes the wrapping of lines.
func flat(text string) string { return strings.Join(strings.Fields(text), " ") }

// has checks that the text output contains all of parts, however lines were wrapped.
func (r *result) has(parts ...string) {
	r.t.Helper()
	text := flat(r.stdout)
	for _, part := range parts {
		if !strings.Contains(text, part) {
			r.t.Errorf("%v: no %q in:\n%s%s", r.args, part, r.stdout, r.stderr)
		}
	}
}

// fails checks the exit status and that standard error says why, in one sentence with all of parts.
func (r *result) fails(status int, parts ...string) {
	r.t.Helper()
	if r.status != status {
		r.t.Errorf("%v: exit status %d, want %d\n%s%s", r.args, r.status, status, r.stdout, r.stderr)
	}
	text := flat(r.stderr)
	for _, part := range parts {
		if !strings.Contains(text, part) {
			r.t.Errorf("%v: no %q in %q", r.args, part, text)
		}
	}
	if n := strings.Count(text, "pathtrace: "); n != 1 && status != statusUsage {
		r.t.Errorf("%v: %d sentences in %q, want one", r.args, n, text)
	}
	for _, word := range []string{"panic", "goroutine", "failed to"} {
		if strings.Contains(text, word) {
			r.t.Errorf("%v: %q in %q", r.args, word, text)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
