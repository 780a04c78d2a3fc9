package tracer

import (
	"context"
	"net/netip"
	"os"
	"slices"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/resolve"
)

// overlayName looks a name up as the containers here do that are on an overlay network: with an engine's
// own state alone, the containers of a swarm's other hosts have no names. Only addresses of the overlays
// themselves count, since Docker's server asks others for what it does not know.
func (t *Tracer) overlayName(ctx context.Context, host string) []netip.Addr {
	askers := t.overlayAskers()
	answers := make(chan []netip.Addr, len(askers))
	for n, c := range askers {
		go func() { answers <- askOverlay(ctx, n, c, host) }()
	}
	var out []netip.Addr
	for range askers {
		for _, addr := range <-answers {
			if !slices.Contains(out, addr) {
				out = append(out, addr)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// overlayAskers picks a running container of each overlay network.
func (t *Tracer) overlayAskers() map[*docker.Network]*docker.Container {
	out := map[*docker.Network]*docker.Container{}
	containers := t.engines.Containers()
	for _, n := range t.engines.Networks() {
		on := func(e docker.Endpoint) bool { return e.NetworkID == n.ID }
		i := slices.IndexFunc(containers, func(c *docker.Container) bool {
			return c.Engine == n.Engine && c.State == docker.Running && c.PID != 0 && c.NetNSPath != "" && slices.ContainsFunc(c.Endpoints, on)
		})
		if n.Driver == "overlay" && !n.Ingress && i >= 0 {
			out[n] = containers[i]
		}
	}
	return out
}

// askOverlay asks Docker's server in the namespace of a container for addresses on its network.
func askOverlay(ctx context.Context, n *docker.Network, c *docker.Container, host string) []netip.Addr {
	a, err := newAsker(c, c.NetNSPath)
	if err != nil || !a.asksDocker() {
		return nil
	}
	a.cfg.Hosts = nil
	got, err := a.ask(ctx, host, dockerLookupTime)
	if err != nil || got.Status != resolve.Found {
		return nil
	}
	return slices.DeleteFunc(got.Addrs, func(addr netip.Addr) bool {
		return !slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
	})
}

// onOverlay reports whether all of some addresses are of overlay networks.
func (s *session) onOverlay(addrs []netip.Addr) bool {
	networks := s.t.engines.Networks()
	for _, addr := range addrs {
		if !slices.ContainsFunc(networks, func(n *docker.Network) bool {
			return n.Driver == "overlay" && slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
		}) {
			return false
		}
	}
	return len(addrs) > 0
}

// hasIPVS reports whether the kernel has IPVS loaded.
func hasIPVS() bool {
	_, err := os.Stat("/proc/net/ip_vs")
	return err == nil
}
