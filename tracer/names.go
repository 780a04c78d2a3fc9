package tracer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/netns"
	"github.com/pathtrace/pathtrace/internal/resolve"
	"github.com/pathtrace/pathtrace/internal/target"
)

const (
	// lookupTime bounds the look-up of the target's name from the source; it runs beside the probe.
	lookupTime = 400 * time.Millisecond
	// dockerLookupTime is the same for Docker's own server, which answers at once unless it has to ask
	// others, its engine is in trouble or the machine very busy.
	dockerLookupTime = 700 * time.Millisecond
	// aliveTime is for how long a silent server is asked for a name that it surely knows.
	aliveTime = 300 * time.Millisecond
	// hostNameTime bounds the look-up of a target that nothing but a host name can be.
	hostNameTime = 1500 * time.Millisecond
)

// nameLookup is a look-up under way.
type nameLookup struct {
	done chan struct{}
	fact *diagnose.Lookup // valid after done
}

// result waits for the end of the look-up, which is bounded. It returns nil if nothing was asked.
func (l *nameLookup) result() *diagnose.Lookup {
	if l == nil {
		return nil
	}
	<-l.done
	return l.fact
}

// lookUpName begins to resolve the target's name as a program in the source would, if it has one that
// such a program could use.
func (s *session) lookUpName(ctx context.Context) {
	src, tgt := s.t.source.Container, s.t.currentTarget()
	if src == nil || src.PID == 0 || s.dialed.Published || !hasDNSName(tgt, s.dialed) {
		return
	}
	l := &nameLookup{done: make(chan struct{})}
	s.lookup = l
	go func() {
		defer close(l.done)
		fact, err := s.resolve(ctx, src, tgt)
		if err != nil {
			s.t.cfg.Log.Debug("resolve the target's name from the source", "error", err)
			return
		}
		fact.AnyAddress = tgt.Kind == target.KindSwarmService || tgt.Kind == target.KindHostName
		l.fact = fact
	}()
}

// hasDNSName reports whether a container can be expected to know the target by the name that was given:
// not by an ID, a project, or a namespace of this machine.
func hasDNSName(tgt target.Target, dialed target.Dialed) bool {
	switch tgt.Kind {
	case target.KindContainer:
		return dialed.Container != nil && dialed.Container.Name == tgt.Label
	case target.KindService:
		return dialed.Container != nil && dialed.Container.Service == tgt.Label
	case target.KindAlias, target.KindSwarmService, target.KindHostName:
		return true
	}
	return false
}

// asker resolves names as a program in a container does.
type asker struct {
	cfg resolve.Config
	// path opens its network namespace.
	path string
}

func newAsker(src *docker.Container, netnsPath string) (asker, error) {
	cfg, err := resolve.ReadConfig(filepath.Join("/proc", strconv.Itoa(src.PID), "root"))
	return asker{cfg, netnsPath}, err
}

// ask looks a name up, for no longer than limit.
func (a *asker) ask(ctx context.Context, name string, limit time.Duration) (resolve.Answer, error) {
	ns, err := netns.Open(a.path)
	if err != nil {
		return resolve.Answer{}, err
	}
	defer ns.Close()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	got := resolve.Lookup(limited, a.cfg, name, func(server netip.AddrPort) (conn net.Conn, err error) {
		err = netns.Do(ns, func() error {
			conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
			return err
		})
		return conn, err
	})
	return got, ctx.Err()
}

// asksDocker reports whether it asks Docker's own server.
func (a *asker) asksDocker() bool { return slices.ContainsFunc(a.cfg.Servers, isDockerDNS) }

func isDockerDNS(a netip.AddrPort) bool { return a.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

func (s *session) resolve(ctx context.Context, src *docker.Container, tgt target.Target) (*diagnose.Lookup, error) {
	a, err := newAsker(src, s.t.source.NetNSPath)
	if err != nil {
		return nil, err
	}
	limit := lookupTime
	if a.asksDocker() {
		limit = dockerLookupTime
	}
	got, err := a.ask(ctx, tgt.Label, limit)
	if err != nil {
		return nil, err
	}
	fact := &diagnose.Lookup{
		Status: lookupStatus(got.Status), Name: tgt.Label, Addrs: got.Addrs, FromHosts: got.FromHosts,
		Server: got.Server, Code: got.Code, Waited: limit,
	}
	if isDockerDNS(got.Server) && got.Status != resolve.Found {
		fact.DockerPort = s.dockerDNSPort(s.t.source.NetNS)
	}
	if isDockerDNS(got.Server) && got.Status == resolve.Found && s.onOverlay(got.Addrs) {
		if tasks, err := a.ask(ctx, "tasks."+tgt.Label, aliveTime); err == nil && tasks.Status == resolve.Found {
			fact.Tasks = tasks.Addrs
		}
	}
	if isDockerDNS(got.Server) && got.Status == resolve.Silent {
		a.cfg.Hosts = nil // which has the container's own name, too
		own, err := a.ask(ctx, src.Name, aliveTime)
		fact.DockerAnswers = err == nil && own.Status == resolve.Found
	}
	return fact, nil
}

// askerResolver looks up host names as the source would, if that is a container, else as the containers of
// the overlay networks here do, else as this process does.
type askerResolver struct{ t *Tracer }

// LookupNetIP implements target.Resolver.
func (r askerResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	src := r.t.source.Container
	if src == nil || src.PID == 0 {
		if addrs := r.t.overlayName(ctx, host); len(addrs) > 0 {
			return addrs, nil
		}
		return net.DefaultResolver.LookupNetIP(ctx, network, host)
	}
	a, err := newAsker(src, r.t.source.NetNSPath)
	if err != nil {
		return nil, err
	}
	got, err := a.ask(ctx, host, hostNameTime)
	switch {
	case err != nil:
		return nil, err
	case got.Status == resolve.Found:
		return got.Addrs, nil
	}
	if addrs := r.t.overlayName(ctx, host); len(addrs) > 0 {
		return addrs, nil // it is there, and the source does not share its network
	}
	if got.Status == resolve.NotFound {
		return nil, &net.DNSError{Err: "no such host", Name: host, Server: got.Server.String(), IsNotFound: true}
	}
	return nil, fmt.Errorf("server %s of container %s gave no answer", got.Server, src.Name)
}

// dockerDNSPort finds the port that the engine opened for its DNS server in a container's namespace.
func (s *session) dockerDNSPort(inode uint32) uint16 {
	list, err := s.t.topo.Listeners(inode, "udp")
	if err != nil {
		return 0
	}
	for _, l := range list {
		if isDockerDNS(l.Addr) {
			return l.Addr.Port()
		}
	}
	return 0
}

func lookupStatus(s resolve.Status) diagnose.LookupStatus {
	switch s {
	case resolve.Found:
		return diagnose.LookupFound
	case resolve.NotFound:
		return diagnose.LookupNotFound
	case resolve.Refused:
		return diagnose.LookupRefused
	case resolve.Unreachable:
		return diagnose.LookupUnreachable
	case resolve.Silent:
		return diagnose.LookupSilent
	case resolve.Failed:
		return diagnose.LookupFailed
	}
	return diagnose.LookupUnknown
}
