package tracer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/doctor"
	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// DoctorConfig describes an examination. The zero value examines everything here.
type DoctorConfig struct {
	// Target limits the findings to a container, network or port: NAME[:PORT] as in Config, or the
	// name of a Docker network.
	Target string
	// DockerHosts are engine addresses; empty means DOCKER_HOST, then the usual socket.
	DockerHosts []string
	// NoDocker asks no engine.
	NoDocker bool
	// Root is the directory below which files of the host are read, "" for /.
	Root string
	// Version is what Meta.Version says.
	Version string
	// Log takes what happens in the background; nil discards it.
	Log *slog.Logger
}

// Examination is what Doctor found.
type Examination struct {
	Meta Meta
	// Findings are ordered, worst first.
	Findings []Finding
	// Stats counts the findings; Skipped says what could not be read, and why.
	Stats Stats
	// Containers, Networks and Namespaces count what was looked at.
	Containers, Networks, Namespaces int
}

// Doctor reads the network set-up of this host without sending anything, and reports what of it is
// broken, what will break and what is exposed. It needs no engine, and no privilege but for what it
// reads. The error is one sentence; ErrUsage and the others beside it tell them apart.
func Doctor(ctx context.Context, cfg DoctorConfig) (*Examination, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	started := time.Now()
	d := &examiner{cfg: cfg, read: map[uint32]*doctor.Namespace{}}
	defer d.close()
	if err := d.open(ctx); err != nil {
		return nil, err
	}
	scope, err := d.scope(ctx)
	if err != nil {
		return nil, err
	}
	e, err := d.examine(ctx)
	if err != nil {
		return nil, err
	}
	out := e.result(scope)
	out.Meta = Meta{
		Type: "meta", Schema: path.Schema, Version: cfg.Version, Kernel: kernel.Release(),
		Target: cfg.Target, Started: started.Format(time.RFC3339Nano), Hooks: []string{},
	}
	out.Stats.WallNS, out.Stats.CPUNS = time.Since(started).Nanoseconds(), cpuTime()
	return out, nil
}

// examined is what was read of the hosts.
type examined struct {
	hosts      []*doctor.Host
	namespaces map[uint32]*doctor.Namespace
	skipped    []string
	took       time.Duration
}

// examine reads the hosts.
func (d *examiner) examine(ctx context.Context) (*examined, error) {
	began := time.Now()
	hosts, err := d.hosts(ctx)
	return &examined{hosts, d.read, d.skipped, time.Since(began)}, err
}

// result is what follows from what was read; only what concerns the scope, nil for everything.
func (e *examined) result(scope *doctor.Scope) *Examination {
	out := &Examination{Findings: doctor.Examine(e.hosts, scope), Namespaces: len(e.namespaces)}
	for _, h := range e.hosts {
		out.Containers, out.Networks = out.Containers+len(h.Containers), out.Networks+len(h.Networks)
	}
	out.count(e.skipped, e.took)
	return out
}

// count fills in the numbers.
func (x *Examination) count(skipped []string, took time.Duration) {
	x.Stats = Stats{
		Type: "stats", Hooks: map[string]uint64{}, WallNS: took.Nanoseconds(), Skipped: skipped,
		Findings: map[path.Severity]int{},
	}
	for _, f := range x.Findings {
		x.Stats.Findings[f.Severity]++
	}
}

// examiner reads the facts.
type examiner struct {
	cfg     DoctorConfig
	topo    *topo.Topology
	engines *docker.Engines
	labels  *labels
	rules   *ruleBook
	lacking []string
	skipped []string
	read    map[uint32]*doctor.Namespace
}

func (d *examiner) open(ctx context.Context) error {
	err := d.findLacking()
	if err != nil {
		return err
	}
	if d.topo, err = topo.New(topo.Options{Log: d.cfg.Log}); err != nil {
		return fmt.Errorf("read network namespaces: %w", err)
	}
	d.rules = newRuleBook(d.topo.InNamespace, d.cfg.Log)
	patience, cancel := context.WithTimeout(ctx, dockerPatience)
	defer cancel()
	d.engines, err = docker.Connect(patience, docker.Options{
		Hosts: d.cfg.DockerHosts, None: d.cfg.NoDocker, Log: d.cfg.Log,
	})
	if err != nil {
		return &target.UsageError{Message: err.Error()}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.labels = newLabels(d.topo, d.engines, nil)
	return nil
}

// findLacking finds out which privileges are missing, and what is not read for it.
func (d *examiner) findLacking() (err error) {
	if d.lacking, err = kernel.Lacking("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE"); err != nil {
		return err
	}
	for name, why := range map[string]string{
		"CAP_SYS_ADMIN":  "the inside of network namespaces was not read",
		"CAP_NET_ADMIN":  "firewall rules were not read",
		"CAP_SYS_PTRACE": "namespaces of other users' processes were not read",
	} {
		if slices.Contains(d.lacking, name) {
			d.skipped = append(d.skipped, fmt.Sprintf("%s: %s is missing; run it as root", why, name))
		}
	}
	slices.Sort(d.skipped)
	return nil
}

func (d *examiner) close() {
	if d.labels != nil {
		d.labels.close()
	}
	if d.engines != nil {
		d.engines.Close()
	}
	if d.topo != nil {
		d.topo.Close()
	}
}

// scope resolves the target; nil means everything.
func (d *examiner) scope(ctx context.Context) (*doctor.Scope, error) {
	if d.cfg.Target == "" {
		return nil, nil
	}
	s := &doctor.Scope{Networks: d.networks(d.cfg.Target)}
	for _, c := range d.engines.Containers() {
		if len(s.Networks) > 0 && c.Name == d.cfg.Target {
			return nil, &target.UsageError{Message: fmt.Sprintf(
				"%q is a network and a container: write %s or %s", d.cfg.Target, c.ShortID(), s.Networks[0])}
		}
	}
	if len(s.Networks) > 0 {
		return s, nil
	}
	resolver := target.New(target.Options{Docker: d.engines, Topology: d.topo, Resolver: net.DefaultResolver})
	tgt, err := resolver.Target(ctx, d.cfg.Target, "")
	if err != nil {
		return nil, err
	}
	if (tgt.Host || tgt.Kind == target.KindHost) && tgt.Port == 0 {
		return nil, nil // the host is everything
	}
	s.Port = tgt.Port
	for _, c := range tgt.Containers {
		s.Containers = append(s.Containers, c.ID)
	}
	return s, nil
}

// networks are the IDs of those with a name or an ID; "host" is the host, not the network of that name.
func (d *examiner) networks(name string) []string {
	var out []string
	for _, n := range d.engines.Networks() {
		if n.Driver != "host" && n.Driver != "null" && (n.Name == name || n.ID == name) {
			out = append(out, n.ID)
		}
	}
	return out
}

// hosts reads every host: one for each engine, or this process's own namespace.
func (d *examiner) hosts(ctx context.Context) ([]*doctor.Host, error) {
	engines := d.engines.Described(ctx)
	if len(engines) == 0 {
		engines = []docker.Engine{{Index: -1, NetNS: d.topo.Self()}}
	}
	denied := 0
	var hosts []*doctor.Host
	for _, e := range engines {
		h := d.host(e)
		if h.Engine.State == doctor.EngineDenied {
			denied++
			d.skipped = append(d.skipped, h.Engine.Problem)
		}
		hosts = append(hosts, h)
	}
	if denied == len(engines) && slices.Contains(d.lacking, "CAP_SYS_ADMIN") {
		return nil, kernel.PermissionError("no permission to read anything: neither the Docker engine nor network namespaces; run it as root")
	}
	if err := d.readNamespaces(ctx, hosts); err != nil {
		return nil, err
	}
	for i, h := range hosts {
		if h.Engine.Orphans > 0 {
			h.InferNetworks()
		}
		if e := engines[i]; e.Alive && h.NS.Rules != nil && !e.Rootless && !e.Podman { // Podman's rules are others
			state := expectState(e, d.engines.Containers(), d.engines.Networks())
			h.Missing = expect.Check(&state, h.NS.Rules)
			if len(h.Missing) > 0 {
				h.MissingSince = firewallSince(e)
			}
		}
	}
	return hosts, nil
}

// host is a host with what the engine says; its namespaces are placeholders until they are read.
func (d *examiner) host(e docker.Engine) *doctor.Host {
	if e.NetNS == 0 {
		e.NetNS = d.topo.Self()
	}
	h := &doctor.Host{
		NS: d.namespace(e.NetNS), Namespaces: d.read, Now: time.Now(), Services: readServices(d.cfg.Root),
	}
	h.NS.Host = true
	if len(d.engines.List()) > 1 {
		h.Name = h.NS.Name
	}
	h.Engine = d.engine(e, h)
	for _, c := range d.engines.Containers() {
		if c.Engine == e.Index {
			h.Containers = append(h.Containers, d.container(c))
		}
	}
	for _, n := range d.engines.Networks() {
		if n.Engine == e.Index {
			h.Networks = append(h.Networks, &doctor.Network{
				ID: n.ID, Name: n.Name, Driver: n.Driver, Bridge: n.Bridge, Subnets: n.Subnets, Internal: n.Internal,
				ICC: n.ICC, Encrypted: n.Encrypted, Parent: n.Parent,
			})
		}
	}
	return h
}

// namespace returns the facts of a namespace, to be read later.
func (d *examiner) namespace(inode uint32) *doctor.Namespace {
	if ns := d.read[inode]; ns != nil {
		return ns
	}
	ns := &doctor.Namespace{Inode: inode, Name: d.labels.namespace(inode), Self: inode == d.topo.Self()}
	if known, ok := d.topo.Namespace(inode); ok {
		ns.Path = known.Path
	}
	d.read[inode] = ns
	return ns
}

func (d *examiner) container(c *docker.Container) *doctor.Container {
	out := &doctor.Container{
		ID: c.ID, Name: c.Name, State: string(c.State), Mode: c.NetworkMode, Joined: c.JoinedID != "", Project: c.Project,
		Published: doctorPorts(c.Ports), Configured: doctorPorts(c.Configured), Links: c.Links, Restart: c.RestartPolicy,
		ExitCode: c.ExitCode, OOMKilled: c.OOMKilled, StartError: c.StartError, Started: c.Started, Finished: c.Finished,
	}
	if !c.Runs() {
		out.Published = nil
	}
	if c.Runs() && c.NetNS != 0 {
		out.NS = d.namespace(c.NetNS)
		if !c.HostNetwork() && out.NS.Resolvers == nil {
			out.NS.Resolvers = readResolvers(c.PID)
		}
	}
	for _, e := range c.Endpoints {
		out.Endpoints = append(out.Endpoints, doctor.Endpoint{
			NetworkID: e.NetworkID, Network: e.Network, IPv4: e.IPv4, IPv6: e.IPv6, Gateway: e.GatewayV4, MAC: e.MAC,
		})
	}
	return out
}

func doctorPorts(list []docker.Port) []doctor.Port {
	out := make([]doctor.Port, len(list))
	for i, p := range list {
		out[i] = doctor.Port{HostIP: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Proto: p.Proto}
	}
	return out
}
