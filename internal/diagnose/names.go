package diagnose

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// LookupStatus is what came of resolving a name.
type LookupStatus uint8

// The ends of a look-up. The zero value says nothing.
const (
	LookupUnknown     LookupStatus = iota
	LookupFound                    // the name has addresses
	LookupNotFound                 // there is no such name
	LookupRefused                  // nobody listens at the server's address
	LookupUnreachable              // there is no way to the server
	LookupSilent                   // the server did not answer in time
	LookupFailed                   // the server could not tell
)

// Lookup is how the asker itself resolves the target's name.
type Lookup struct {
	Status LookupStatus
	// Name is what was looked up.
	Name string
	// Addrs are its addresses; AnyAddress is set if they need not be the target's own, as those of a
	// service with a virtual address.
	Addrs      []netip.Addr
	AnyAddress bool
	// Tasks are the addresses of tasks.NAME, which a Swarm service has: of its containers, whatever the
	// name itself leads to. Nil if there is no such name, or it was not asked for.
	Tasks []netip.Addr
	// FromHosts is set if the asker's hosts file had the name; else Server gave the answer Code, or was
	// the last one asked.
	FromHosts bool
	Server    netip.AddrPort
	Code      string
	// Waited is how long an answer was waited for.
	Waited time.Duration
	// DockerPort is where Docker's own DNS server listens in the asker's namespace, behind the address
	// 127.0.0.11; 0 if it was not found there.
	DockerPort uint16
	// DockerAnswers is set if that server was silent about the name and answered for another.
	DockerAnswers bool
}

// dockerDNS is the address of Docker's own DNS server in containers of user-defined networks.
func dockerDNS() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// addName tells, beside what else is found, that the name does not lead the asker to the target.
func (a *analysis) addName(f *finding) {
	n := a.nameProblem()
	if n == nil {
		return
	}
	f.evidence = append(f.evidence, n.evidence...)
	if f.outcome == path.Delivered {
		f.remedy = append(f.remedy, n.remedy...)
		return
	}
	f.evidence = append(f.evidence, "also seen: "+n.says)
}

// nameProblem says why a program in the source that uses the target's name would not reach it, or nil.
func (a *analysis) nameProblem() *finding {
	l := a.f.Lookup
	if l == nil || l.Status == LookupUnknown {
		return nil
	}
	f := &finding{cause: path.CauseNameNotResolved}
	if l.Status == LookupFound {
		return a.otherAddress(f)
	}
	f.says = fmt.Sprintf("%s cannot resolve the name %s: %s", a.asker(), l.Name, l.answer())
	f.evidence = []string{fmt.Sprintf("%s does not have %s in its hosts file and asks %s", a.asker(), l.Name, l.Server)}
	asker, target := quote(a.f.Source.Container), quote(a.f.Target.Container)
	switch {
	case a.nameless(f):
	case l.DockerAnswers:
		f.says = fmt.Sprintf("%s cannot resolve the name %s: Docker's DNS server does not know it, and those that it asks "+
			"did not answer within %s", a.asker(), l.Name, span(l.Waited))
		f.evidence = append(f.evidence, "Docker's DNS server answers for other names")
		f.remedy = []string{fmt.Sprintf("docker inspect -f '{{json .NetworkSettings.Networks}}' %s  # Aliases, DNSNames", target)}
	case l.Server.Addr() == dockerDNS() && l.Status != LookupNotFound && l.Status != LookupFailed:
		a.embeddedDown(f)
	case l.Server.Addr() == dockerDNS() || a.f.Target.Container == "" || a.f.Source.Container == "":
		f.remedy = []string{fmt.Sprintf("docker exec %s getent hosts %s", asker, quote(l.Name))}
	case a.onDefaultBridge():
		f.says += "; on the default bridge network containers have no names"
		f.remedy = []string{fmt.Sprintf("docker network create shared && docker network connect shared %s && "+
			"docker network connect shared %s", target, asker)}
	default:
		f.evidence = append(f.evidence, "Docker's own DNS server, "+dockerDNS().String()+", is not among the servers it asks")
		f.remedy = []string{fmt.Sprintf("docker inspect -f '{{json .HostConfig.Dns}} {{.HostConfig.NetworkMode}}' %s", asker)}
	}
	return f
}

// nameless words that an end has no name, or knows none, for the kind of network it is in; it returns
// false if it is none of these.
func (a *analysis) nameless(f *finding) bool {
	l, s, t := a.f.Lookup, &a.f.Source, &a.f.Target
	cannot := fmt.Sprintf("%s cannot resolve the name %s: ", a.asker(), l.Name)
	switch {
	case t.Joined != "":
		f.says = fmt.Sprintf("%s%s is in the network of container %s and has no name of its own", cannot, t.Container, t.Joined)
		f.remedy = []string{"ask for the name of container " + t.Joined + " instead"}
	case t.HostNetwork:
		f.says = fmt.Sprintf("%s%s is in the host's network, where containers have no names", cannot, t.Container)
		f.remedy = []string{"ask for an address of the host, or start " + quote(s.Container) + " with --add-host " +
			quote(l.Name) + ":host-gateway"}
	case s.HostNetwork && t.Container != "":
		f.says = fmt.Sprintf("%s%s is in the host's network, where names of containers are not known", cannot, s.Container)
		f.remedy = []string{"ask for the address of " + t.Container + ", or for a port that it publishes on the host"}
	case s.Podman && t.Container != "" && l.Server.Addr() != dockerDNS():
		f.evidence = append(f.evidence, "Podman's own name server is not among those it asks: a network has one only with"+
			" dns_enabled, for which CNI needs the plugin dnsname, netavark aardvark-dns")
		f.remedy = []string{"podman network inspect " + quote(firstNetwork(s)) + "  # is dns_enabled true?"}
	default:
		return false
	}
	return true
}

// firstNetwork names a network of an end.
func firstNetwork(e *Endpoint) string {
	if len(e.Networks) == 0 {
		return "podman" // the one that Podman always has
	}
	return e.Networks[0].Name
}

// otherAddress tells that the name has another address for the asker, or nil if it has the target's.
func (a *analysis) otherAddress(f *finding) *finding {
	l := a.f.Lookup
	if l.AnyAddress || len(l.Addrs) == 0 || a.f.Target.Networks == nil {
		return nil
	}
	list := make([]string, 0, len(l.Addrs))
	for _, addr := range l.Addrs {
		if a.isTargetAddr(addr) || addr == a.p.Server.Addr().Unmap() {
			return nil
		}
		list = append(list, addr.String())
	}
	from := "the server " + l.Server.String() + " says so"
	if l.FromHosts {
		from = "its hosts file says so"
	}
	f.says = fmt.Sprintf("the name %s leads %s to %s, which is not an address of container %s", l.Name, a.asker(),
		strings.Join(list, ", "), a.f.Target.Container)
	f.evidence = []string{from}
	f.remedy = []string{fmt.Sprintf("docker exec %s getent hosts %s", quote(a.f.Source.Container), quote(l.Name))}
	return f
}

// embeddedDown adds why Docker's DNS server cannot be reached from the asker's namespace.
func (a *analysis) embeddedDown(f *finding) {
	if len(a.f.Source.NetNS) == 0 {
		return
	}
	ns := a.f.Source.NetNS[0]
	asker := quote(a.f.Source.Container)
	if port := a.f.Lookup.DockerPort; port != 0 {
		f.evidence = append(f.evidence, fmt.Sprintf("Docker's DNS server listens on port %d there, to which NAT rules in "+
			"the namespace of %s have to lead port 53", port, a.asker()))
		f.remedy = []string{
			a.commandIn(ns, a.f.Source.Container, "iptables -t nat -S"),
			"docker restart " + asker + "  # the engine then writes the rules again; restarts the program",
		}
		return
	}
	f.evidence = append(f.evidence, "Docker's DNS server does not listen in the namespace of "+a.asker()+": it is part of dockerd")
	f.remedy = []string{"systemctl status docker", "docker restart " + asker + "  # restarts the program"}
}

// onDefaultBridge reports whether both ends meet on the default bridge network only.
func (a *analysis) onDefaultBridge() bool {
	shared := false
	for _, x := range a.f.Source.Networks {
		for _, y := range a.f.Target.Networks {
			if x.Name == y.Name && x.Name != "bridge" {
				return false
			}
			shared = shared || x.Name == y.Name
		}
	}
	return shared
}

// answer says what came of the look-up.
func (l *Lookup) answer() string {
	switch l.Status {
	case LookupNotFound:
		if l.Code == "NOERROR" {
			return fmt.Sprintf("%s has no address for it", l.Server)
		}
		return strings.TrimSpace(fmt.Sprintf("%s answered %s", l.Server, l.Code))
	case LookupRefused:
		return fmt.Sprintf("connection refused by its server %s", l.Server)
	case LookupUnreachable:
		return fmt.Sprintf("its server %s cannot be reached", l.Server)
	case LookupSilent:
		return fmt.Sprintf("its server %s did not answer within %s", l.Server, span(l.Waited))
	}
	return strings.TrimSpace(fmt.Sprintf("%s could not tell %s", l.Server, l.Code))
}
