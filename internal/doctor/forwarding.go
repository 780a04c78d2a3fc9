package doctor

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// forwardingChecks: containers on bridges reach nothing beyond their bridge unless the host forwards.
func forwardingChecks(h *Host) []finding {
	if h.NS == nil {
		return nil
	}
	var affected []*Container
	var devices []string
	for _, n := range h.Networks {
		if n.Bridge == "" || n.Internal {
			continue
		}
		affected = append(affected, h.on(n.ID)...)
		devices = append(devices, n.Bridge)
	}
	// Without an engine that answers, bridges with Docker's names say as much.
	if h.Engine.State != EngineAnswers {
		devices = dockerBridges(h.NS)
	}
	value, ok := h.NS.Sysctl("net/ipv4/ip_forward")
	if !ok || len(devices) == 0 {
		return nil
	}
	if value == "0" {
		return append(forwardingOff6(h, affected), forwardingOff(h, affected))
	}
	return append(forwardingOff6(h, affected), deviceForwarding(h, devices)...)
}

// forwardingOff6: containers with IPv6 addresses need forwarding of its own.
func forwardingOff6(h *Host, affected []*Container) []finding {
	if h.NS.Sysctls["net/ipv6/conf/all/forwarding"] != "0" {
		return nil
	}
	var users []*Container
	for _, c := range affected {
		has := func(e Endpoint) bool { return e.IPv6.IsValid() }
		if slices.ContainsFunc(c.Endpoints, has) && !slices.Contains(users, c) {
			users = append(users, c)
		}
	}
	if len(users) == 0 {
		return nil
	}
	return []finding{{about: about{containers: ids(users)}, Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "forwarding-off-ipv6", Cause: path.CauseForwardingOff,
		Summary:  "the host does not forward IPv6 packets: over IPv6, containers do not get out, and only docker-proxy leads to them",
		Evidence: []string{"net.ipv6.conf.all.forwarding is 0 in " + h.NS.Name, "with IPv6 addresses: " + joinWords(names(users))},
		Remedy: []string{enter(h.NS, "sysctl -w net.ipv6.conf.all.forwarding=1  "+
			"# the host then takes no router advertisements, unless accept_ra is 2")},
		Where: &path.Place{Namespace: h.NS.Name},
	}}}
}

func forwardingOff(h *Host, affected []*Container) finding {
	f := finding{Finding: path.Finding{
		Severity: path.SeverityError, Check: "forwarding-off", Cause: path.CauseForwardingOff,
		Summary:  "the host does not forward IPv4 packets: containers can neither be reached from outside nor get out",
		Evidence: []string{"net.ipv4.ip_forward is 0 in " + h.NS.Name},
		Remedy: []string{
			enter(h.NS, "sysctl -w net.ipv4.ip_forward=1"),
			"grep -rs ip_forward /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d  # what switches it off again",
		},
		Where: &path.Place{Namespace: h.NS.Name},
	}}
	switch {
	case len(affected) > 0:
		f.Evidence = append(f.Evidence, "on bridge networks: "+joinWords(unique(names(affected))))
	case h.Engine.State == EngineAnswers:
		f.Severity = path.SeverityWarning
		f.Summary = "the host does not forward IPv4 packets: containers will neither be reachable from outside nor get out"
	}
	return f
}

// deviceForwarding: the setting of the device that a packet comes in by is the one that counts
// (net/ipv4/route.c, ip_route_input_slow).
func deviceForwarding(h *Host, devices []string) []finding {
	if up := h.uplink(); up != nil {
		devices = append(devices, up.Name)
	}
	var out []finding
	for _, dev := range unique(devices) {
		value, ok := h.NS.Sysctl("net/ipv4/conf/" + dev + "/forwarding")
		if !ok || value != "0" {
			continue
		}
		f := finding{Finding: path.Finding{
			Severity: path.SeverityError, Check: "forwarding-off-on-device", Cause: path.CauseForwardingOff,
			Summary:  fmt.Sprintf("the host does not forward IPv4 packets that come in by %s", dev),
			Evidence: []string{fmt.Sprintf("net.ipv4.conf.%s.forwarding is 0, although net.ipv4.ip_forward is 1", dev)},
			Remedy:   []string{enter(h.NS, "sysctl -w net/ipv4/conf/"+dev+"/forwarding=1")},
			Where:    &path.Place{Namespace: h.NS.Name, Device: dev},
		}}
		for _, n := range h.Networks {
			if n.Bridge == dev {
				f.Where.Network, f.about.networks = n.Name, []string{n.ID}
				if len(h.on(n.ID)) == 0 {
					f.Severity = path.SeverityWarning
				}
			}
		}
		out = append(out, f)
	}
	return out
}
