package docker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"golang.org/x/sync/errgroup"
)

// Limits of talking to an engine.
const (
	parallel   = 8
	retryMax   = 5 * time.Second
	dialLimit  = 2 * time.Second
	queryLimit = 30 * time.Second
)

// engine follows one Docker engine. What is guarded by Engines.mu says so.
type engine struct {
	all    *Engines
	index  int
	addr   hostAddress
	log    *slog.Logger
	locate locator
	retry  time.Duration
	tried  chan struct{} // closed once the first attempt ended
	first  sync.Once

	// Guarded by Engines.mu. The values the maps point to are never modified.
	info       Engine
	containers map[string]*Container
	networks   map[string]*Network
	reported   map[string]bool
	about      *description // of the session, nil before there is one
}

// rawContainer is a container before its namespace was looked up.
type rawContainer struct {
	*Container
	sandbox string
}

func newEngine(all *Engines, index int, addr hostAddress, opts Options) *engine {
	return &engine{
		all:        all,
		index:      index,
		addr:       addr,
		log:        opts.Log.With("engine", addr.host),
		locate:     locator{procfs: opts.Procfs},
		retry:      opts.RetryAfter,
		tried:      make(chan struct{}),
		info:       Engine{Index: index, Host: addr.host},
		containers: map[string]*Container{},
		networks:   map[string]*Network{},
		reported:   map[string]bool{},
	}
}

// run keeps a session with the engine until ctx ends.
func (e *engine) run(ctx context.Context) {
	pause := e.retry
	for {
		synced, err := e.session(ctx)
		if ctx.Err() != nil {
			e.first.Do(func() { close(e.tried) })
			return
		}
		e.log.Debug("session ended", "error", err)
		if synced {
			pause = e.retry
			e.report(explainLost(e.addr), err)
		} else {
			e.report(explain(e.addr, err), err)
		}
		e.first.Do(func() { close(e.tried) })
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMax)
	}
}

// report adds a problem, once. An engine that was lost and does not come back is one problem.
func (e *engine) report(sentence string, err error) {
	e.all.mu.Lock()
	e.info.Alive, e.info.Err = false, err
	known := e.reported[sentence] || e.reported[explainLost(e.addr)]
	if !known {
		e.reported[sentence] = true
		e.all.problems = append(e.all.problems, sentence)
	}
	e.all.mu.Unlock()
	if !known {
		e.log.Info(sentence)
	}
	e.all.signal()
}

// session connects, reads everything, and follows the events until the connection ends. synced
// tells whether it got as far as having read everything.
func (e *engine) session(ctx context.Context) (synced bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer func() {
		cancel()
		asking.Wait()
	}()
	pid, err := e.dial(ctx)
	if err != nil {
		return false, err
	}
	cli, err := client.NewClientWithOpts(client.WithTLSClientConfigFromEnv(), client.WithHost(e.addr.host))
	if err != nil {
		return false, fmt.Errorf("connect: %w", err)
	}
	defer cli.Close()
	pingCtx, pingDone := context.WithTimeout(ctx, firstAnswer)
	ping, err := cli.Ping(pingCtx)
	pingDone()
	if err != nil {
		return false, fmt.Errorf("ask the engine: %w", err)
	}
	cli.NegotiateAPIVersionPing(ping)
	about := newAsker(cli)
	defer about.close()
	// Events first: what changes while everything is read is then read again.
	messages, errs := cli.Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", "container"), filters.Arg("type", "network"))})
	if err := e.sync(ctx, cli, about, pid); err != nil {
		return false, err
	}
	e.first.Do(func() { close(e.tried) })
	asking.Go(func() { e.describe(ctx, cli) })
	return true, e.follow(ctx, cli, about, messages, errs)
}

// dial makes a connection of its own, whose errors are clear, and finds the engine's process.
func (e *engine) dial(ctx context.Context) (pid int, err error) {
	d := net.Dialer{Timeout: dialLimit}
	conn, err := d.DialContext(ctx, e.addr.network, e.addr.dial)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if !local(conn) {
		return 0, errElsewhere
	}
	socket := ""
	if e.addr.network == "unix" {
		socket = e.addr.dial
	}
	return e.locate.dockerd(peerPID(conn), socket), nil
}

// sync reads the whole state and makes it ours.
func (e *engine) sync(ctx context.Context, cli *client.Client, about *asker, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	var raw []*rawContainer
	var nets map[string]*Network
	podman := isPodman(ctx, about)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		nets, err = e.networkList(ctx, cli, about, podman)
		return err
	})
	group.Go(func() error {
		ids, err := about.list(ctx)
		if err != nil {
			return err
		}
		raw, err = about.inspect(ctx, e.index, ids)
		raw = slices.DeleteFunc(raw, func(c *rawContainer) bool { return c == nil })
		return err
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("read the engine's state: %w", err)
	}
	e.all.mu.RLock()
	info := e.info // with what it said of itself before it was lost
	e.all.mu.RUnlock()
	info.PID, info.Alive, info.Err, info.APIVersion = pid, true, nil, cli.ClientVersion()
	info.NetNSPath, info.NetNS = e.locate.host(pid, raw)
	info.Podman = podman
	e.replace(info, raw, nets)
	return nil
}

// networkList lists the networks, by their identifier. Only an inspection tells which hosts take part in
// an overlay.
func (e *engine) networkList(ctx context.Context, cli *client.Client, about *asker, podman bool) (map[string]*Network, error) {
	list, err := cli.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil, err
	}
	group, inspecting := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i := range list {
		if list[i].Driver != "overlay" {
			continue
		}
		group.Go(func() error {
			// One that has just gone, or that is not in use here, has no peers.
			if in, err := cli.NetworkInspect(inspecting, list[i].ID, network.InspectOptions{}); err == nil {
				list[i].Peers = in.Peers
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out := make(map[string]*Network, len(list))
	for _, n := range list {
		out[n.ID] = convertNetwork(e.index, n)
	}
	if podman {
		asPodman(out, e.podmanNetworks(ctx, about))
	}
	return out, nil
}

// replace makes a complete reading the state.
func (e *engine) replace(info Engine, raw []*rawContainer, nets map[string]*Network) {
	e.all.mu.Lock()
	defer e.all.mu.Unlock()
	e.info, e.networks, e.about = info, nets, newDescription()
	seen := map[string]bool{}
	for _, c := range raw {
		seen[c.ID] = true
		e.store(c)
	}
	for id := range e.containers {
		if !seen[id] {
			e.remove(id)
		}
	}
	e.all.signal()
}

// store adds or replaces a container; Engines.mu is held.
func (e *engine) store(raw *rawContainer) {
	c := raw.Container
	if e.info.Podman {
		podmanContainer(c, e.networks)
	}
	switch {
	case !c.Runs():
	case c.HostNetwork():
		c.NetNSPath, c.NetNS = e.info.NetNSPath, e.info.NetNS
	default:
		c.NetNSPath, c.NetNS = e.locate.container(raw, e.info.PID)
	}
	old := e.containers[c.ID]
	e.containers[c.ID] = c
	e.all.remember(old, c)
}

// remove forgets a container, except in the history of its namespace; Engines.mu is held.
func (e *engine) remove(id string) {
	old := e.containers[id]
	if old == nil {
		return
	}
	delete(e.containers, id)
	gone := *old
	gone.Removed, gone.NetNS, gone.NetNSPath, gone.PID = true, 0, "", 0
	for inode, c := range e.all.history {
		if c.ID == id {
			e.all.history[inode] = &gone
		}
	}
}
