package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// InferNetworks makes networks out of the endpoints of the containers that run, for an engine that
// cannot be asked: their bridges and subnets are those that the containers' devices have. A network
// counts as internal unless a container on it publishes a port or has a default route.
func (h *Host) InferNetworks() {
	byID := map[string]*Network{}
	for _, c := range h.Containers {
		for _, e := range c.Endpoints {
			n := byID[e.NetworkID]
			if n == nil {
				n = &Network{ID: e.NetworkID, Name: e.Network, ICC: true, Internal: true}
				byID[e.NetworkID] = n
				h.Networks = append(h.Networks, n)
			}
			if len(c.Published) > 0 || c.NS != nil && hasDefault(c.NS.Routes) {
				n.Internal = false
			}
		}
	}
	for _, a := range h.attachments() {
		n := byID[a.endpoint.NetworkID]
		if n == nil || a.bridge == nil || a.peerNS != h.NS || n.Bridge != "" {
			continue
		}
		n.Driver, n.Bridge = "bridge", a.bridge.Name
		for _, p := range a.bridge.Addrs {
			if !p.Addr().IsLinkLocalUnicast() {
				n.Subnets = append(n.Subnets, p.Masked())
			}
		}
	}
}

// orphanChecks: without the engine there is no docker-proxy either, so a published port is answered
// only if a rule translates it.
func orphanChecks(h *Host) []finding {
	if h.Engine.State == EngineAnswers || h.NS == nil || h.NS.Rules == nil || len(h.NS.Rules.Problems) > 0 {
		return nil
	}
	var out []finding
	for _, c := range h.Containers {
		for _, ports := range byContainerPort(exposed4(c)) {
			p := ports[0]
			to, ok := translatedTo(c, p)
			if !ok || hasDNAT(h.NS.Rules, to) || byProxy(h, p.Proto, p.HostPort) {
				continue
			}
			out = append(out, finding{about: aboutPorts(c, ports), Finding: path.Finding{
				Severity: path.SeverityError, Check: "nat-missing", Cause: path.CauseNATMissing,
				Summary:  fmt.Sprintf("published %s of %s is answered by nobody: no DNAT rule leads to %s", portWord(hostPorts(ports)), c.Name, to[0]),
				Evidence: []string{"docker-proxy, which could stand in for the rule, ended with the engine"},
				Remedy:   []string{"systemctl start docker  # puts all of Docker's rules back"},
				Where:    &path.Place{Container: c.Name},
			}})
		}
	}
	return out
}

// translatedTo lists what a DNAT rule for a port may lead to.
func translatedTo(c *Container, p Port) ([]string, bool) {
	var out []string
	for _, e := range c.Endpoints {
		if e.IPv4.IsValid() {
			out = append(out, netip.AddrPortFrom(e.IPv4, p.ContainerPort).String())
		}
	}
	return out, len(out) > 0
}

func hasDNAT(rules *firewall.Ruleset, to []string) bool {
	for _, t := range rules.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if slices.ContainsFunc(r.Body.Verdicts(), func(v firewall.Verdict) bool {
					return v.Kind == firewall.DNAT && slices.Contains(to, v.Detail)
				}) {
					return true
				}
			}
		}
	}
	return false
}
