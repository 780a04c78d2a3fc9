package doctor

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// bridgeFilterChecks: with br_netfilter off or absent, rules do not see what stays within a bridge. Most
// hosts need nothing of that; what does is listed.
func bridgeFilterChecks(h *Host) []finding {
	if h.NS == nil {
		return nil
	}
	const setting = "net/bridge/bridge-nf-call-iptables"
	value, ok := h.NS.Sysctl(setting)
	if !ok || value == "1" {
		return nil
	}
	dependent, networks := dependsOnBridgeFilter(h)
	f := finding{about: about{networks: networks}, Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "bridge-netfilter-off", Cause: path.CauseBridgeNetfilterOff,
		Summary:  "firewall rules do not see traffic within a bridge, and something here relies on it",
		Evidence: append([]string{"net.bridge.bridge-nf-call-iptables is 0 in " + h.NS.Name}, dependent...),
		Remedy:   []string{enter(h.NS, "sysctl -w net.bridge.bridge-nf-call-iptables=1")},
		Where:    &path.Place{Namespace: h.NS.Name},
	}}
	if value == "" {
		f.Check = "bridge-netfilter-absent"
		f.Evidence[0] = "the kernel module br_netfilter is not loaded"
		f.Remedy = []string{"modprobe br_netfilter  # for this boot; add it to /etc/modules-load.d to keep it"}
	}
	return only(len(dependent) > 0, f)
}

func only(ok bool, f finding) []finding {
	if !ok {
		return nil
	}
	return []finding{f}
}

// dependsOnBridgeFilter lists what works only if bridged packets pass the IP rules.
func dependsOnBridgeFilter(h *Host) (why, networks []string) {
	within := regexp.MustCompile(`-i (\S+) .*-o (\S+)|iifname "?([^" ]+)"? .*oifname "?([^" ]+)"?`)
	for _, n := range h.Networks {
		if n.Bridge == "" {
			continue
		}
		before := len(why)
		users := h.on(n.ID)
		if !n.ICC && len(users) > 1 {
			why = append(why, fmt.Sprintf("network %s is to keep its containers apart (enable_icc=false), and does not", n.Name))
		}
		if h.Engine.SettingsKnown && !h.Engine.UserlandProxy && publishesOn(users) && len(users) > 1 {
			why = append(why, fmt.Sprintf("without docker-proxy, containers on %s do not reach ports that their neighbours publish on the host", n.Name))
		}
		if h.NS.Rules != nil {
			why = append(why, rulesWithin(h.NS.Rules, n.Bridge, within)...)
		}
		if len(why) > before {
			networks = append(networks, n.ID)
		}
	}
	return why, networks
}

func publishesOn(list []*Container) bool {
	return slices.ContainsFunc(list, func(c *Container) bool { return len(c.Published) > 0 })
}

// rulesWithin lists rules that are to refuse what stays within a bridge.
func rulesWithin(rules *firewall.Ruleset, bridge string, within *regexp.Regexp) []string {
	var out []string
	for _, t := range rules.Tables {
		if t.Family == firewall.FamilyBridge {
			continue
		}
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				m := within.FindStringSubmatch(r.Text())
				if m == nil || m[1]+m[3] != bridge || m[2]+m[4] != bridge || !refuses(r) {
					continue
				}
				out = append(out, fmt.Sprintf("rule %d of %s is not applied: %s", r.Number, c.Name, r.Text()))
			}
		}
	}
	return out
}

func refuses(r *firewall.Rule) bool {
	return slices.ContainsFunc(r.Body.Verdicts(), func(v firewall.Verdict) bool {
		return v.Kind == firewall.Drop || v.Kind == firewall.Reject
	})
}
