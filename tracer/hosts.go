package tracer

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/merge"
)

// HostsConfig describes a trace over several hosts.
type HostsConfig struct {
	// Config says what is traced; what concerns one host's own programs is ignored.
	Config
	Hosts []HostSpec
}

// HostSpec is a host that takes part.
type HostSpec struct {
	// Name is what it is called if its own name does not tell it from the others.
	Name string
	// Dial starts pathtrace there, which calls ServeAgent. Its errors name the host.
	Dial func(context.Context) (HostConn, error)
}

// HostConn is the line to pathtrace on a host.
type HostConn interface {
	io.ReadWriteCloser
	// Reach is what runs a command line there, "" if nothing is known that does.
	Reach() string
}

// talkTimeout bounds the wait for an answer of a host: a busy engine takes seconds to list its containers.
const talkTimeout = 30 * time.Second

// remoteHost is the caller's side of an agent.
type remoteHost struct {
	spec  HostSpec
	index int
	name  string
	conn  HostConn
	line  *frames
	hello agentHello
	found survey
	part  *agentConfig // what it traces
	meta  Meta
	said  bool // that it dropped out

	say      chan agentMessage // closed when the line has ended
	recorded *io.PipeWriter    // the other end is replayed
	replay   *io.PipeReader
	onNote   func(string)
	cancel   func()

	mu    sync.Mutex
	lost  error  // why it dropped out, nil while it takes part
	stats *Stats // of its trace, once that has ended
}

// connect starts the agent and hears its name.
func (h *remoteHost) connect(ctx context.Context, version string) error {
	conn, err := h.spec.Dial(ctx)
	if err != nil {
		return err
	}
	h.conn, h.line = conn, &frames{w: conn}
	h.say = make(chan agentMessage, 16)
	h.replay, h.recorded = io.Pipe()
	ctx, h.cancel = context.WithCancel(ctx)
	go h.listen()
	go h.live(ctx)
	m, err := h.answer(ctx)
	switch {
	case err != nil:
		return err
	case m.Hello == nil:
		return fmt.Errorf("%s did not say who it is", h.spec.Name)
	case m.Hello.Version != version || m.Hello.Protocol != agentProtocol:
		return fmt.Errorf("%s has pathtrace %s and here is %s: install the same on both", h.spec.Name, m.Hello.Version, version)
	}
	h.hello = *m.Hello
	return nil
}

// listen takes what the agent says until the line ends.
func (h *remoteHost) listen() {
	in := bufio.NewReaderSize(h.conn, 64<<10)
	var failure error
	for {
		kind, payload, err := readFrame(in)
		if err != nil {
			failure = err
			break
		}
		if kind == frameRecording {
			_, _ = h.recorded.Write(payload) // who replays it may have given up
			continue
		}
		var m agentMessage
		if failure = json.Unmarshal(payload, &m); failure != nil {
			break
		}
		if m.Note != "" {
			h.onNote(h.label() + ": " + m.Note)
			continue
		}
		switch {
		case m.Done != nil:
			h.finished(m.Done)
		case m.Failed != "":
			h.drop(fmt.Errorf("%s: %s", h.label(), m.Failed))
		}
		h.say <- m
	}
	h.recorded.Close()
	if errors.Is(failure, io.EOF) || errors.Is(failure, io.ErrUnexpectedEOF) {
		failure = fmt.Errorf("the connection to %s ended", h.spec.Name)
	}
	h.drop(failure)
	close(h.say)
}

// live tells the agent that somebody is there.
func (h *remoteHost) live(ctx context.Context) {
	ticker := time.NewTicker(signOfLife)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if h.line.say(agentOrder{}) != nil {
				return // listen notices
			}
		}
	}
}

// drop notes why the host takes part no more; the first reason counts.
func (h *remoteHost) drop(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost == nil && h.stats == nil {
		h.lost = why
	}
}

// finished notes that its trace has ended, as traces do.
func (h *remoteHost) finished(st *Stats) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats = st
}

// failure is why the host takes part no more, nil if it does.
func (h *remoteHost) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// answer waits for what the agent says next.
func (h *remoteHost) answer(ctx context.Context) (agentMessage, error) {
	timer := time.NewTimer(talkTimeout)
	defer timer.Stop()
	select {
	case m, ok := <-h.say:
		switch {
		case !ok:
			return m, h.failure()
		case m.Failed != "":
			return m, fmt.Errorf("%s: %s", h.label(), m.Failed)
		}
		return m, nil
	case <-ctx.Done():
		return agentMessage{}, ctx.Err()
	case <-timer.C:
		return agentMessage{}, fmt.Errorf("%s does not answer", h.label())
	}
}

// label is what the host is called so far.
func (h *remoteHost) label() string { return cmp.Or(h.name, h.spec.Name) }

// ask sends an order and waits for the answer.
func (h *remoteHost) ask(ctx context.Context, o agentOrder) (agentMessage, error) {
	if err := h.line.say(o); err != nil {
		return agentMessage{}, fmt.Errorf("the connection to %s ended: %w", h.label(), err)
	}
	return h.answer(ctx)
}

// merged is the host as the merging knows it.
func (h *remoteHost) merged() merge.Host {
	out := merge.Host{Name: h.label(), BootID: h.hello.BootID}
	if h.conn != nil {
		out.Reach = h.conn.Reach()
	}
	return out
}

// close ends the connection.
func (h *remoteHost) close() {
	if h.cancel != nil {
		h.cancel()
	}
	if h.conn != nil {
		_ = h.conn.Close() // what there was to hear was heard
	}
}

// together runs something for several hosts at once. A host whose part fails drops out.
func together(hosts []*remoteHost, part func(*remoteHost) error) {
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := part(h); err != nil {
				h.drop(err)
			}
		}()
	}
	all.Wait()
}

// present lists those of hosts that take part.
func present(hosts []*remoteHost) []*remoteHost {
	var out []*remoteHost
	for _, h := range hosts {
		if h.failure() == nil {
			out = append(out, h)
		}
	}
	return out
}

// nameHosts names the hosts: as they call themselves, if that tells them apart.
func nameHosts(hosts []*remoteHost) {
	times := map[string]int{}
	for _, h := range hosts {
		times[h.hello.Host]++
	}
	for _, h := range hosts {
		h.name = h.spec.Name
		if h.hello.Host != "" && times[h.hello.Host] == 1 {
			h.name = h.hello.Host
		}
	}
}
