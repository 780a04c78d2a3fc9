package tracer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// dockerPatience bounds the first reading of the engines: names are wanted, but not at any price.
const dockerPatience = 2 * time.Second

// namesPatience bounds the waiting for an engine where a name may be one that only it knows: one that is
// busy with many containers takes seconds for the list of them.
const namesPatience = 10 * time.Second

// headerRoom holds the headers of nearly all packets, in bytes: 192 are those of TCP with options over
// IPv6 in VXLAN over IPv6.
const headerRoom = 192

// Tracer is an opened trace. It is used once, by one goroutine.
type Tracer struct {
	cfg     Config
	started time.Time

	facts   *kernel.Facts
	read    chan struct{} // closed once facts are read, or could not be
	set     *probe.Set
	topo    *topo.Topology
	engines *docker.Engines
	names   *target.Names
	labels  *labels
	given   []uint32 // inodes of Config.Namespaces

	source target.Source
	limits []kernel.Limit // what this process lacks

	onEvent func(*wire.Event) // for tests, nil otherwise
	rec     *recorder         // nil if the trace is not recorded

	measurement *measurement // MeasureMTU, nil otherwise

	closed bool

	mu      sync.Mutex
	target  target.Target     // changes while traffic is watched
	skipped map[uint32]string // namespaces that could not be attached, with why; "" if limits say it
}

// New opens a trace: it finds the target and the source, loads the programs and attaches them.
// Errors are one sentence that says what to do; ErrUsage and the others beside it tell them apart.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	t := &Tracer{cfg: cfg.withDefaults(), started: time.Now(), skipped: map[uint32]string{}, read: make(chan struct{})}
	if err := t.open(ctx); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Tracer) open(ctx context.Context) error {
	if t.cfg.Target == "" {
		return &target.UsageError{Message: "no target: say what to trace to, as in --to web:80"}
	}
	if err := kernel.CheckPrivilege(); err != nil {
		return err
	}
	// Loading programs and reading names do not depend on each other.
	group, gctx := errgroup.WithContext(ctx)
	ports := make(chan []uint16, 1)
	group.Go(func() error { return t.openKernel(ports) })
	group.Go(func() error { return t.openNames(gctx, ports) })
	if err := group.Wait(); err != nil {
		return err
	}
	return t.attachNamespaces()
}

// openKernel reads the kernel's types while what does not need them is prepared. The UDP ports of
// VXLAN come in by ports.
func (t *Tracer) openKernel(ports <-chan []uint16) error {
	streams, every := t.streams(), t.cfg.AllPackets || t.cfg.Source != ""
	cfg := probe.Config{
		// One probe is a handful of packets: all of them tell more and cost nothing.
		AllPackets: every,
		Exact:      t.cfg.Source != "",
		Streams:    streams,
		OnlyQueued: streams && !every,
		RingSize:   t.cfg.Buffer,
	}
	if t.cfg.Packets {
		cfg.Snaplen, cfg.HeadersOnly = headerRoom, true
	}
	if t.cfg.Packets && t.cfg.Snaplen > 0 {
		cfg.Snaplen, cfg.HeadersOnly = uint32(t.cfg.Snaplen), false
	}
	var group errgroup.Group
	group.Go(func() (err error) {
		t.set, err = probe.Prepare(cfg)
		return err
	})
	var err error
	t.facts, err = kernel.Load()
	close(t.read)
	// Without types nothing else matters: that error comes first.
	if prepared := group.Wait(); err != nil || prepared != nil {
		return cmp.Or(err, prepared)
	}
	cfg.Facts, cfg.VXLANPorts = t.facts, <-ports
	err = t.set.Load(cfg)
	t.facts.Settle()
	if err != nil {
		return err
	}
	t.limits, err = kernel.Lacks()
	return err
}

// streams reports whether all that is traced is TCP.
func (t *Tracer) streams() bool {
	for _, also := range t.cfg.share.Also {
		if also.Proto != path.TCP {
			return false
		}
	}
	return target.Proto(t.cfg.Target, t.cfg.Proto) == path.TCP
}

func (t *Tracer) openNames(ctx context.Context, ports chan<- []uint16) error {
	if err := t.openEngines(ctx, ports); err != nil {
		return err
	}
	err := t.findNames(ctx)
	var unknown *target.UnknownError
	// An engine that was silent when the name was looked for may have answered meanwhile.
	if pending := t.engines.Pending(); errors.As(err, &unknown) && len(pending)+len(unknown.Silent) > 0 {
		if len(pending) > 0 {
			t.cfg.OnNote(fmt.Sprintf("%q may be a name that only Docker knows: waiting for the engine at %s",
				unknown.Name, strings.Join(pending, " and at ")))
		}
		t.awaitEngines(ctx)
		err = t.findNames(ctx)
	}
	return err
}

// awaitEngines waits for the engines that have not answered yet.
func (t *Tracer) awaitEngines(ctx context.Context) {
	await, done := context.WithTimeout(ctx, namesPatience)
	defer done()
	t.engines.Await(await)
}

// openEngines opens what knows names: the namespaces and the engines.
func (t *Tracer) openEngines(ctx context.Context, ports chan<- []uint16) error {
	if err := t.openTopology(ports); err != nil {
		return err
	}
	var err error
	patience, cancel := context.WithTimeout(ctx, dockerPatience)
	defer cancel()
	t.engines, err = docker.Connect(patience, docker.Options{
		Hosts: t.cfg.DockerHosts, None: t.cfg.NoDocker, Log: t.cfg.Log,
	})
	if err != nil {
		return &target.UsageError{Message: err.Error()}
	}
	t.labels = newLabels(t.topo, t.engines, t.given)
	t.names = target.New(target.Options{
		Docker: t.engines, Topology: t.topo, Resolver: askerResolver{t}, PreferIPv6: t.cfg.PreferIPv6,
		Preferred: t.given,
	})
	return nil
}

// findNames finds the source and the target.
func (t *Tracer) findNames(ctx context.Context) (err error) {
	var sourceErr error
	if t.cfg.Source != "" { // first, as it decides what a host name means
		t.source, sourceErr = t.names.Source(ctx, t.cfg.Source)
	}
	if t.target, err = t.findTarget(ctx); err != nil {
		return err
	}
	return sourceErr
}

// findTarget resolves the target as it is now, with the ends that it has on other hosts.
func (t *Tracer) findTarget(ctx context.Context) (target.Target, error) {
	out, err := t.resolveTarget(ctx)
	if err != nil {
		return out, err
	}
	for _, e := range t.cfg.share.Also {
		if ep := (target.Endpoint{AddrPort: e.Addr, Proto: e.Proto, Published: e.Published}); !slices.Contains(out.Endpoints, ep) {
			out.Endpoints = append(out.Endpoints, ep)
		}
	}
	return out, nil
}

// resolveTarget resolves the target here, unless it is known to be elsewhere.
func (t *Tracer) resolveTarget(ctx context.Context) (target.Target, error) {
	ap, err := netip.ParseAddrPort(t.cfg.Target)
	if addr, only := netip.ParseAddr(t.cfg.Target); only == nil {
		ap, err = netip.AddrPortFrom(addr, 0), nil
	}
	if !t.cfg.share.Foreign || err != nil {
		return t.names.Target(ctx, t.cfg.Target, t.cfg.Proto)
	}
	return target.Target{
		Text: t.cfg.Target, Label: ap.Addr().String(), Kind: target.KindAddress, Engine: -1, Proto: t.cfg.Proto, Port: ap.Port(),
		Asked: []netip.Addr{ap.Addr()}, Endpoints: []target.Endpoint{{AddrPort: ap, Proto: t.cfg.Proto}},
	}, nil
}

// openTopology reads the namespaces, and says which UDP ports are VXLAN's.
func (t *Tracer) openTopology(ports chan<- []uint16) error {
	defer close(ports)
	var err error
	if t.topo, err = topo.New(topo.Options{Log: t.cfg.Log, HasSymbol: t.hasSymbol}); err != nil {
		return fmt.Errorf("read network namespaces: %w", err)
	}
	if err := t.addNamespaces(); err != nil {
		return err
	}
	ports <- t.vxlanPorts()
	return nil
}

// hasSymbol reports whether the kernel has a function. It may be asked while the trace is opened.
func (t *Tracer) hasSymbol(name string) bool {
	<-t.read
	return t.facts != nil && t.facts.HasSymbol(name)
}

// addNamespaces makes the configured namespaces known.
func (t *Tracer) addNamespaces() error {
	for _, ns := range t.cfg.Namespaces {
		if err := t.topo.AddPath(ns.Name, ns.Path); err != nil {
			return err
		}
		inode, err := t.topo.InodeOf(ns.Path)
		if err != nil {
			return err
		}
		t.given = append(t.given, inode)
	}
	return nil
}

// pathNamespaces lists the namespaces a packet of the trace can meet, as far as is known beforehand.
// Those of possible clients are left alone until a packet of the trace is seen there: their own
// traffic would pay for hooks that no packet of the trace may ever meet.
func (t *Tracer) pathNamespaces() []uint32 {
	var list []uint32
	seen := map[uint32]bool{0: true}
	add := func(inodes ...uint32) {
		for _, inode := range inodes {
			if !seen[inode] {
				seen[inode] = true
				list = append(list, inode)
			}
		}
	}
	add(t.topo.Self())
	for _, e := range t.engines.List() {
		add(e.NetNS)
	}
	add(t.source.NetNS)
	add(targetNamespaces(&t.target)...)
	for _, ns := range t.topo.Namespaces() {
		if ns.Kept() {
			add(ns.Inode, t.labels.underlay(ns.Inode))
		}
	}
	add(t.given...)
	return list
}

// targetNamespaces lists the namespaces of a target, and of the containers behind a port of a host.
func targetNamespaces(t *target.Target) []uint32 {
	list := slices.Clone(t.NetNS)
	for _, c := range t.Containers {
		if c.NetNS != 0 {
			list = append(list, c.NetNS)
		}
	}
	return list
}

func (t *Tracer) attachNamespaces() error {
	if !t.set.NeedsNetNS() {
		return nil
	}
	for _, inode := range t.pathNamespaces() {
		t.attachNetNS(inode)
	}
	return nil
}

// attachNetNS attaches to the netfilter hooks of a namespace. One that cannot be entered is skipped
// and counted: the rest of the path is still worth seeing.
func (t *Tracer) attachNetNS(inode uint32) {
	err := t.topo.InNamespace(inode, func() error { return t.set.AttachNetNS(inode) })
	if err == nil {
		return
	}
	why := ""
	if len(t.limits) == 0 || !errors.Is(err, unix.EPERM) { // else one line says it for all
		why = fmt.Sprintf("netfilter hooks of namespace %s: %v", t.labels.namespace(inode), err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.skipped[inode] = why
}

// currentTarget is the target as it was resolved last.
func (t *Tracer) currentTarget() target.Target {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.target
}

func (t *Tracer) skippedNamespaces() map[uint32]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.skipped)
}

// Run follows the flow or flows until the probe is answered or given up, or, without Source, until
// the duration or count is reached or ctx ends. It is to be called once; the Tracer is closed after.
func (t *Tracer) Run(ctx context.Context) (Result, error) {
	defer t.Close()
	for _, problem := range t.engines.Problems() {
		t.cfg.OnNote(problem)
	}
	if t.cfg.Source != "" {
		return t.runProbe(ctx)
	}
	return t.runWatch(ctx)
}

// Close releases everything. It may be called more than once.
func (t *Tracer) Close() error {
	t.closed = true
	var errs []error
	t.rec.end(nil) // of a session that did not come to its end
	if t.labels != nil {
		t.labels.close()
	}
	if t.engines != nil {
		errs = append(errs, t.engines.Close())
	}
	if t.topo != nil {
		errs = append(errs, t.topo.Close())
	}
	if t.set != nil {
		errs = append(errs, t.set.Close())
	}
	return errors.Join(errs...)
}

func (t *Tracer) meta() Meta {
	m := Meta{
		Type: "meta", Schema: path.Schema, Version: t.cfg.Version, Kernel: kernel.Release(),
		Target: t.cfg.Target, Source: t.cfg.Source,
		Started: t.started.Format(time.RFC3339Nano), Hooks: []string{},
		Epoch: time.Now().UnixNano() - int64(monotonic()),
	}
	for _, h := range t.set.Hooks() {
		if h.Err == nil {
			m.Hooks = append(m.Hooks, h.Name)
		}
	}
	return m
}
