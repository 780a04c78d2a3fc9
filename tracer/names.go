package tracer

import (
	"context"
	"errors"
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

func (s *session) resolve(ctx context.Context, src *docker.Container, tgt target.Target) (*diagnose.Lookup, error) {
	cfg, err := resolve.ReadConfig(filepath.Join("/proc", strconv.Itoa(src.PID), "root"))
	if err != nil {
		return nil, err
	}
	isDocker := func(a netip.AddrPort) bool { return a.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 11}) }
	limit := lookupTime
	if slices.ContainsFunc(cfg.Servers, isDocker) {
		limit = dockerLookupTime
	}
	ns, err := netns.Open(s.t.source.NetNSPath)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	dial := func(server netip.AddrPort) (conn net.Conn, err error) {
		err = netns.Do(ns, func() error {
			conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
			return err
		})
		return conn, err
	}
	ask := func(name string, limit time.Duration) resolve.Answer {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return resolve.Lookup(ctx, cfg, name, dial)
	}
	got := ask(tgt.Label, limit)
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, fmt.Errorf("look up %s: %w", tgt.Label, ctx.Err())
	}
	fact := &diagnose.Lookup{
		Status: lookupStatus(got.Status), Name: tgt.Label, Addrs: got.Addrs, FromHosts: got.FromHosts,
		Server: got.Server, Code: got.Code, Waited: limit,
	}
	if isDocker(got.Server) && got.Status != resolve.Found {
		fact.DockerPort = s.dockerDNSPort(s.t.source.NetNS)
		cfg.Hosts = nil // which has the container's own name, too
		fact.DockerAnswers = got.Status == resolve.Silent && ask(src.Name, aliveTime).Status == resolve.Found
	}
	return fact, nil
}

// dockerDNSPort finds the port that the engine opened for its DNS server in a container's namespace.
func (s *session) dockerDNSPort(inode uint32) uint16 {
	list, err := s.t.topo.Listeners(inode, "udp")
	if err != nil {
		return 0
	}
	for _, l := range list {
		if l.Addr.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 11}) {
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
