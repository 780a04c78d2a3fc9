package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// databases names services that are not to be reached from everywhere, by their usual port.
func databases() map[uint16]string {
	return map[uint16]string{
		1433: "Microsoft SQL Server", 1521: "Oracle", 2375: "the Docker API without TLS", 2379: "etcd", 3306: "MySQL",
		5432: "PostgreSQL", 5984: "CouchDB", 6379: "Redis", 7687: "Neo4j", 8086: "InfluxDB", 9042: "Cassandra",
		9200: "Elasticsearch", 11211: "memcached", 26257: "CockroachDB", 27017: "MongoDB", 28015: "RethinkDB",
	}
}

// databaseChecks finds databases that are published on every address of the host.
func databaseChecks(h *Host) []finding {
	var out []finding
	for _, c := range h.Containers {
		if !c.Runs() {
			continue
		}
		for _, ports := range byContainerPort(exposed(c)) {
			p := ports[0]
			name := databases()[p.ContainerPort]
			if p.Proto != "tcp" && p.ContainerPort != 11211 || name == "" || h.guarded(c, p) {
				continue
			}
			out = append(out, databaseExposed(h, c, p, ports, name))
		}
	}
	return out
}

// exposed lists the ports that are published on all addresses, or on a public one.
func exposed(c *Container) []Port {
	var out []Port
	for _, p := range c.Published {
		if p.HostIP.IsUnspecified() || p.HostIP.IsGlobalUnicast() && !p.HostIP.IsPrivate() {
			out = append(out, p)
		}
	}
	return out
}

func databaseExposed(h *Host, c *Container, p Port, ports []Port, name string) finding {
	var hosts []string
	for _, p := range ports {
		hosts = append(hosts, netip.AddrPortFrom(p.HostIP, p.HostPort).String())
	}
	local := p
	local.HostIP = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	evidence := []string{"published on " + joinWords(hosts)}
	if h.NS != nil && h.NS.Rules != nil {
		evidence = append(evidence, "no rule in FORWARD (DOCKER-USER) refuses it")
	}
	return finding{about: aboutPorts(c, ports), Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "database-exposed",
		Summary: fmt.Sprintf("%s publishes port %d, by its number %s, to everybody who reaches this host",
			c.Name, p.ContainerPort, name),
		Evidence: evidence,
		Remedy: []string{
			fmt.Sprintf("recreate %s with -p %s  # for programs on this host; containers need no published port",
				c.Name, publishFlag(local, p.ContainerPort)),
			h.closing(p),
		},
		Where: &path.Place{Container: c.Name},
	}}
}

// closing is the rule that closes a published port to the outside.
func (h *Host) closing(p Port) string {
	dev := "eth0"
	if up := h.uplink(); up != nil {
		dev = up.Name
	}
	if h.Engine.Backend == "nftables" {
		return enter(h.NS, fmt.Sprintf("nft 'add table inet closed; add chain inet closed forward { type filter hook forward priority -10; }; "+
			"add rule inet closed forward iifname \"%s\" meta l4proto %s ct original proto-dst %d ct direction original drop'", dev, p.Proto, p.HostPort))
	}
	return enter(h.NS, fmt.Sprintf("iptables -I DOCKER-USER -i %s -p %s -m conntrack --ctorigdstport %d --ctdir ORIGINAL -j DROP",
		dev, p.Proto, p.HostPort))
}

// guarded reports whether a rule that is not Docker's may refuse what comes from outside to a published
// port. One that cannot be judged counts: whoever wrote it thought of the port.
func (h *Host) guarded(c *Container, p Port) bool {
	if h.NS == nil || h.NS.Rules == nil {
		return false
	}
	w := h.NS.Rules.Walk(h.fromOutside(c, p))
	if w.Passed == firewall.No {
		return true
	}
	return slices.ContainsFunc(firewall.Discarding(w.Candidates), func(c firewall.Candidate) bool {
		return c.Rule != nil && h.NS.Rules.OwnerOf(&c) != "docker"
	})
}

// fromOutside is the first packet of a connection to a published port, as FORWARD sees it: from an
// address that is nobody's in particular.
func (h *Host) fromOutside(c *Container, p Port) *firewall.Packet {
	// Not of a range that lists of special addresses hold, as those for documentation are.
	stranger := netip.AddrFrom4([4]byte{100, 200, 100, 200})
	own := netip.AddrFrom4([4]byte{203, 0, 113, 2}) // of a host whose uplink is not known (RFC 5737)
	protos := map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132}
	packet := &firewall.Packet{
		Hook: firewall.Forward, Src: stranger, SrcPort: 40000, DstPort: p.ContainerPort, Proto: protos[p.Proto], TTL: 60, Length: 60,
		CT: &firewall.Conntrack{State: firewall.CTNew, HasStatus: true, Status: firewall.StatusDNAT},
	}
	if p.Proto == "tcp" {
		packet.TCPFlags, packet.HasTCPFlags = 0x02, true // SYN
	}
	if up := h.uplink(); up != nil {
		packet.In, packet.InIndex = up.Name, up.Index
		for _, a := range up.Addrs {
			if a.Addr().Is4() {
				own = a.Addr()
			}
		}
	}
	if p.HostIP.IsValid() && p.HostIP.Is4() && !p.HostIP.IsUnspecified() {
		own = p.HostIP
	}
	for _, e := range c.Endpoints {
		if n := h.network(e.NetworkID); n != nil && n.Bridge != "" && e.IPv4.IsValid() {
			packet.Dst, packet.Out = e.IPv4, n.Bridge
			break
		}
	}
	packet.CT.Orig = firewall.Tuple{Src: stranger, Dst: own, SrcPort: 40000, DstPort: p.HostPort, Proto: packet.Proto}
	packet.CT.Return = firewall.Tuple{Src: packet.Dst, Dst: stranger, SrcPort: p.ContainerPort, DstPort: 40000, Proto: packet.Proto}
	return packet
}
