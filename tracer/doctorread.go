package tracer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/doctor"
	"github.com/pathtrace/pathtrace/internal/topo"
)

// readers is how many namespaces are read at the same time.
const readers = 8

// readNamespaces reads the hosts' namespaces, the containers' and those Docker hides.
func (d *examiner) readNamespaces(ctx context.Context, hosts []*doctor.Host) error {
	if slices.Contains(d.lacking, "CAP_SYS_ADMIN") {
		return nil
	}
	for _, ns := range d.topo.Namespaces() {
		if ns.Kept() {
			d.namespace(ns.Inode)
		}
	}
	var mu sync.Mutex
	skip := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		d.skipped = append(d.skipped, err.Error())
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, ns := range d.read {
		group.Go(func() error {
			if err := d.fill(ns); err != nil && (ns.Host || d.exists(ns)) {
				skip(fmt.Errorf("namespace %s: %w", ns.Name, err))
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	slices.Sort(d.skipped)
	for _, h := range hosts {
		d.settle(h)
		if err := d.owners(h); err != nil {
			d.skipped = append(d.skipped, err.Error())
		}
	}
	return nil
}

// settle forgets what was read of containers that started, stopped or changed networks meanwhile: it is
// of two different moments.
func (d *examiner) settle(h *doctor.Host) {
	now := map[string]*docker.Container{}
	for _, c := range d.engines.Containers() {
		now[c.ID] = c
	}
	h.Containers = slices.DeleteFunc(h.Containers, func(c *doctor.Container) bool {
		n := now[c.ID]
		same := n != nil && string(n.State) == c.State && len(n.Endpoints) == len(c.Endpoints) &&
			(c.NS == nil || c.NS.Inode == n.NetNS)
		return h.Engine.State == doctor.EngineAnswers && !same
	})
}

// exists tells a namespace that cannot be read from one whose container ended meanwhile.
func (d *examiner) exists(ns *doctor.Namespace) bool {
	_, err := d.topo.PathOf(ns.Inode)
	return err == nil
}

// fill reads one namespace. What cannot be read stays unknown.
func (d *examiner) fill(ns *doctor.Namespace) error {
	links, err := d.topo.Links(ns.Inode)
	if err != nil {
		return err
	}
	ns.Links = []doctor.Link{}
	for _, l := range links {
		ns.Links = append(ns.Links, doctorLink(l))
	}
	return errors.Join(d.fillRoutes(ns), d.fillSockets(ns), d.fillSettings(ns), d.fillRules(ns))
}

func doctorLink(l topo.Link) doctor.Link {
	return doctor.Link{
		Index: l.Index, Name: l.Name, Kind: l.Kind, Up: l.Up, Carrier: l.Carrier, Master: l.Master,
		PeerNetNS: l.PeerNetNS, PeerIndex: l.PeerIndex, MTU: l.MTU, MAC: l.HardwareAddr, Addrs: l.Addrs,
		PortState: l.BridgePortState, VNI: l.VNI,
	}
}

func (d *examiner) fillRoutes(ns *doctor.Namespace) error {
	routes, err := d.topo.Routes(ns.Inode)
	if err != nil {
		return err
	}
	ns.Routes = []doctor.Route{}
	for _, r := range routes {
		ns.Routes = append(ns.Routes, doctor.Route{
			Dst: r.Dst, Dev: r.Dev, Gateway: r.Gateway, Metric: r.Metric, Table: r.Table, Kernel: r.Kernel,
		})
	}
	neighbours, err := d.topo.Neighbours(ns.Inode, 0)
	if err != nil {
		return err
	}
	ns.Neighbours = []doctor.Neighbour{}
	for _, n := range neighbours {
		if !n.Proxy {
			ns.Neighbours = append(ns.Neighbours, doctor.Neighbour{Ifindex: n.Ifindex, Addr: n.Addr, MAC: n.HardwareAddr, State: n.State})
		}
	}
	return nil
}

func (d *examiner) fillSockets(ns *doctor.Namespace) error {
	tcp, err := d.topo.Listeners(ns.Inode, "tcp")
	if err != nil {
		return err
	}
	udp, err := d.topo.Listeners(ns.Inode, "udp")
	if err != nil {
		return err
	}
	ns.TCP, ns.UDP = doctorListeners(tcp), doctorListeners(udp)
	return nil
}

func doctorListeners(list []topo.Listener) []doctor.Listener {
	out := make([]doctor.Listener, len(list))
	for i, l := range list {
		out[i] = doctor.Listener{Addr: l.Addr, V6Only: l.V6Only, Inode: l.Inode}
	}
	return out
}

// fillSettings reads the settings and counters that matter on a host.
func (d *examiner) fillSettings(ns *doctor.Namespace) error {
	if !ns.Host {
		return nil
	}
	names := []string{
		"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/bridge/bridge-nf-call-iptables",
		"net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max", "net/ipv6/conf/all/forwarding",
	}
	for _, l := range ns.Links {
		if l.Master == 0 && l.Kind != "loopback" {
			names = append(names, "net/ipv4/conf/"+l.Name+"/forwarding", "net/ipv4/conf/"+l.Name+"/rp_filter")
		}
	}
	var err error
	if ns.Sysctls, err = d.topo.Sysctls(ns.Inode, names); err != nil {
		return err
	}
	ns.Counters, err = d.topo.Counters(ns.Inode)
	return err
}

// owners names the processes behind the host's listeners on ports that containers publish or want.
// Looking for them is slow, so only those.
func (d *examiner) owners(h *doctor.Host) error {
	wanted := map[uint16]bool{}
	for _, c := range h.Containers {
		for _, p := range slices.Concat(c.Published, c.Configured) {
			wanted[p.HostPort] = true
		}
	}
	var ask []topo.Listener
	var fill []*doctor.Listener
	for _, list := range [][]doctor.Listener{h.NS.TCP, h.NS.UDP} {
		for i := range list {
			if l := &list[i]; wanted[l.Addr.Port()] {
				ask, fill = append(ask, topo.Listener{Inode: l.Inode}), append(fill, l)
			}
		}
	}
	if len(ask) == 0 {
		return nil
	}
	err := d.topo.ListenerOwners(h.NS.Inode, ask)
	for i, l := range ask {
		fill[i].PID, fill[i].Process = l.PID, l.Process
	}
	return err
}

// readResolvers returns the name servers of a process's resolv.conf; nil if it cannot be read.
func readResolvers(pid int) []netip.Addr {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "root/etc/resolv.conf"))
	if err != nil || pid <= 0 {
		return nil
	}
	return resolvers(string(text))
}

// resolvers reads the name servers of a resolv.conf; never nil.
func resolvers(text string) []netip.Addr {
	out := []netip.Addr{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "nameserver" {
			if addr, err := netip.ParseAddr(f[1]); err == nil {
				out = append(out, addr)
			}
		}
	}
	return out
}
