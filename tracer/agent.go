package tracer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/pathtrace/pathtrace/internal/recording"
)

const (
	// signOfLife is how often an agent is told something, silence after what time it takes its caller
	// for dead: a connection can die without the end of it being seen.
	signOfLife = 2 * time.Second
	silence    = 15 * time.Second
)

// agent traces for a caller on another host.
type agent struct {
	line    *frames
	version string

	orders chan agentOrder // closed at the end of the line
	cancel context.CancelFunc
	dead   chan struct{} // closed when the line is silent and what waits for it would wait for ever
}

// ServeAgent traces on behalf of a caller on the other end of in and out, which tells what to trace and
// gets the recording of it. It returns when the trace has ended, and when the line ends or falls silent.
func ServeAgent(ctx context.Context, in io.Reader, out io.Writer, version string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &agent{
		line: &frames{w: out}, version: version, orders: make(chan agentOrder, 4), cancel: cancel, dead: make(chan struct{}),
	}
	h := recording.NewHeader(version)
	hello := agentHello{Protocol: agentProtocol, Version: version, Host: h.Host, BootID: h.BootID, Kernel: h.Kernel}
	if err := a.line.say(agentMessage{Hello: &hello}); err != nil {
		return err
	}
	go a.listen(in)
	ended := make(chan error, 1)
	go func() { ended <- a.serve(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-a.dead:
		return fmt.Errorf("nothing was heard from the caller for %v", silence)
	}
}

// serve follows the orders.
func (a *agent) serve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case o, ok := <-a.orders:
			switch {
			case !ok:
				return nil
			case o.Survey != nil:
				a.survey(ctx, o.Survey)
			case o.Start != nil:
				return a.trace(ctx, o.Start)
			}
		}
	}
}

// listen takes orders until the line ends or is silent for too long, either of which ends the agent.
func (a *agent) listen(in io.Reader) {
	defer close(a.orders)
	defer a.cancel()
	watchdog := time.AfterFunc(silence, func() {
		a.cancel()
		time.AfterFunc(silence, func() { close(a.dead) })
	})
	defer watchdog.Stop()
	buffered := bufio.NewReader(in)
	for {
		_, payload, err := readFrame(buffered)
		if err != nil {
			return
		}
		watchdog.Reset(silence)
		var o agentOrder
		if json.Unmarshal(payload, &o) != nil {
			return
		}
		if o == (agentOrder{}) {
			continue
		}
		if o.Stop {
			a.cancel()
			continue
		}
		a.orders <- o
	}
}

func (c *agentConfig) config(version string) Config {
	return Config{
		Target: c.Target, Source: c.Source, Proto: c.Proto, DockerHosts: c.DockerHosts,
		PreferIPv6: c.PreferIPv6, Timeout: c.Timeout, Count: c.Count, AllPackets: c.AllPackets, TraceRules: c.TraceRules,
		Packets: c.Packets, Snaplen: c.Snaplen,
		Buffer: c.Buffer, Version: version, share: c.share,
	}
}

func (a *agent) survey(ctx context.Context, c *agentConfig) {
	found, err := surveyHost(ctx, c.config(a.version))
	if err != nil {
		a.fail(err)
		return
	}
	_ = a.line.say(agentMessage{Survey: &found}) // a line that ended is noticed by listen
}

func (a *agent) fail(err error) { _ = a.line.say(agentMessage{Failed: err.Error()}) }

// trace runs the trace; it begins to send a probe when it is told to go.
func (a *agent) trace(ctx context.Context, c *agentConfig) error {
	cfg := c.config(a.version)
	cfg.Record = &RecordConfig{Open: func(int) (io.WriteCloser, error) { return recordingFrames{a.line}, nil }}
	cfg.OnNote = func(text string) { _ = a.line.say(agentMessage{Note: text}) }
	cfg.OnStart = func(m Meta) {
		_ = a.line.say(agentMessage{Started: &m})
		if cfg.Source != "" {
			a.await(ctx)
		}
	}
	t, err := New(ctx, cfg)
	if err != nil {
		a.fail(err)
		return nil
	}
	result, err := t.Run(ctx)
	if err != nil {
		a.fail(err)
		return nil
	}
	if err := a.line.say(agentMessage{Done: &result.Stats}); err != nil {
		return fmt.Errorf("report the end: %w", err)
	}
	return nil
}

// await waits for the order to go.
func (a *agent) await(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case o, ok := <-a.orders:
			if !ok || o.Go {
				return
			}
		}
	}
}
