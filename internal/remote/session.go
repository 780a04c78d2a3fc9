package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// connectTimeout is how long ssh waits for a connection.
	connectTimeout = "10"
	// alive are how often ssh asks whether the other side is there, and how often in vain.
	aliveInterval, aliveCount = "5", "3"
	// startTimeout bounds everything up to the program's start; copying it takes the most.
	startTimeout = 2 * time.Minute
	// closeTimeout is how long the program may take to end by itself once its input has ended.
	closeTimeout = 5 * time.Second
	// keptText bounds what is kept of standard error, in bytes.
	keptText = 4096
)

// Session is the program running on a host. What it writes comes from Read, what it reads goes to Write.
type Session struct {
	addr   Address
	sudo   bool
	cmd    *exec.Cmd
	in     io.WriteCloser
	outMu  sync.Mutex // held while reading: Close reads the rest
	out    *bufio.Reader
	said   *tail
	closed sync.Once
	ended  chan struct{}
	err    error // of the process, valid once ended
}

// Dial logs in, copies the program and starts it. Errors are one sentence that names the host.
func Dial(ctx context.Context, a Address, p *Program) (*Session, error) {
	go func() { _, _ = p.compressed() }() // takes about as long as a login; install gets what it returns
	s := &Session{addr: a, said: &tail{}, ended: make(chan struct{})}
	args := append([]string{"-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=" + connectTimeout,
		"-o", "ServerAliveInterval=" + aliveInterval, "-o", "ServerAliveCountMax=" + aliveCount}, a.arguments()...)
	s.cmd = exec.Command("ssh", append(args, "--", command())...)
	// A Ctrl-C is for this process, which ends the sessions in good order.
	s.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	s.cmd.Stderr = s.said
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start ssh: %w", err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start ssh: %w", err)
	}
	s.out = bufio.NewReaderSize(out, 64<<10)
	if err := s.cmd.Start(); err != nil {
		return nil, a.explain(err, "")
	}
	if err := s.begin(ctx, p); err != nil {
		return nil, err
	}
	return s, nil
}

// begin talks to the script until the program runs.
func (s *Session) begin(ctx context.Context, p *Program) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var err error
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		err = s.install(p)
	}()
	select {
	case <-begun:
		if err == nil {
			return nil
		}
		s.Close()
		return err
	case <-ctx.Done():
		s.kill()
		<-begun
		s.Close()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return &Error{Host: s.addr, Says: fmt.Sprintf("did not start the program within %v", startTimeout)}
		}
		return ctx.Err()
	}
}

// install gives the script the program.
func (s *Session) install(p *Program) error {
	words, err := s.hear(wordReady)
	if err != nil {
		return err
	}
	if len(words) < 3 {
		return s.addr.refusal(words)
	}
	if words[0] != "Linux" {
		return &Error{Host: s.addr, Says: "runs " + words[0] + ": pathtrace needs Linux"}
	}
	s.sudo = len(words) > 3
	var program packed
	if words[1] == machine() {
		if program, err = p.compressed(); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(s.in, "%d %d\n", len(program.bytes), program.kilobytes()); err != nil {
		return s.failure()
	}
	if _, err := s.in.Write(program.bytes); err != nil {
		// What the script has to say explains it better.
		if _, said := s.hear(wordBegin); said != nil {
			return said
		}
		return s.failure()
	}
	_, err = s.hear(wordBegin)
	return err
}

// hear waits for a word of the script and returns the ones after it. What else a login prints is skipped.
func (s *Session) hear(word string) ([]string, error) {
	const most = 1000 // lines
	for range most {
		s.outMu.Lock()
		line, err := s.out.ReadString('\n')
		s.outMu.Unlock()
		if err != nil {
			return nil, s.failure()
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == word:
			return words[1:], nil
		case words[0] == wordError:
			return nil, s.addr.refusal(words[1:])
		}
	}
	return nil, &Error{Host: s.addr, Says: "prints much text at login and no more"}
}

// failure says why the session ended, after it has.
func (s *Session) failure() error {
	s.Close()
	return s.addr.explain(s.err, s.said.String())
}

// Address returns how the host is reached.
func (s *Session) Address() Address { return s.addr }

// Reach is what runs a command line there, as the user would type it.
func (s *Session) Reach() string {
	if s.sudo {
		return s.addr.Command() + " sudo"
	}
	return s.addr.Command()
}

// Read reads what the program writes. At the end of the session the error says how it ended.
func (s *Session) Read(b []byte) (int, error) {
	s.outMu.Lock()
	n, err := s.out.Read(b)
	s.outMu.Unlock()
	if err == nil || n > 0 {
		return n, nil
	}
	if s.Close(); s.err != nil {
		return 0, s.failure()
	}
	return 0, io.EOF
}

// Write sends to the program.
func (s *Session) Write(b []byte) (int, error) {
	n, err := s.in.Write(b)
	if err != nil {
		return n, fmt.Errorf("send to %s: %w", s.addr.authority(), err)
	}
	return n, nil
}

// Close ends the program's input, which ends the program, and waits for the session's end, not for ever.
// It may be called more than once.
func (s *Session) Close() error {
	s.closed.Do(func() {
		s.in.Close() // fails if ssh has ended: then there is nothing to tell
		timer := time.AfterFunc(closeTimeout, s.kill)
		defer timer.Stop()
		// Wait closes the output, so that it has to be read to its end before.
		s.outMu.Lock()
		_, _ = io.Copy(io.Discard, s.out)
		s.outMu.Unlock()
		s.err = s.cmd.Wait()
		close(s.ended)
	})
	<-s.ended
	return nil
}

// kill ends ssh at once; the program on the host then finds its input at an end.
func (s *Session) kill() { _ = s.cmd.Process.Kill() }

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text = append(t.text, b...); len(t.text) > keptText {
		t.text = t.text[len(t.text)-keptText:]
	}
	return len(b), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
