package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainVirtualIP: the name of a Swarm service leads to its virtual address, which no container has: the
// load balancer that the engine keeps in the overlay takes what is for it, by IPVS. Nobody answered for it.
func explainVirtualIP(a *analysis, e *end) *finding {
	h := a.waitsAt(e)
	if h == nil || h.Outer != nil {
		return nil
	}
	addr := a.nextHop(e, h)
	name, tasks := a.virtual(addr)
	if name == "" {
		return nil
	}
	f := &finding{cause: path.CauseNeighbourUnresolved, where: whereOf(h, e.direction())}
	f.where.Stage = path.StageNeighbour
	f.says = fmt.Sprintf("%s got no further than %s: nobody answers %s for %s, the virtual address of service %s",
		a.subject(e), a.place(h), question(addr), text(addr), name)
	f.evidence = []string{fmt.Sprintf("tasks.%s leads to the containers themselves: %s", name, joinAddrs(tasks))}
	if a.f.NoIPVS {
		f.says += ": this kernel has no IPVS, by which the load balancer works"
		f.remedy = []string{"modprobe ip_vs && systemctl restart docker  # if the kernel has the module; restarts the containers" +
			" unless live-restore is on"}
	} else {
		f.remedy = []string{a.commandIn(h.NetNS, h.Container, "ip neigh show "+text(addr))}
	}
	f.remedy = append(f.remedy, "docker service update --endpoint-mode dnsrr "+quote(name)+
		"  # without a load balancer: the name leads to the containers; not with ports published by the mesh")
	return f
}

// virtual returns the service that an address is the virtual one of, and the addresses of its tasks; "" if
// the address is none.
func (a *analysis) virtual(addr netip.Addr) (service string, tasks []netip.Addr) {
	l := a.f.Lookup
	if l == nil || l.Status != LookupFound || len(l.Tasks) == 0 || !slices.Contains(l.Addrs, addr) || slices.Contains(l.Tasks, addr) {
		return "", nil
	}
	return l.Name, l.Tasks
}
