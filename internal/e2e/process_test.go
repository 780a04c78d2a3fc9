//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
