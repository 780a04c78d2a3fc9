package mtu

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/shell"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// remedy are the commands that mend a direction in which packets vanish, any of which is enough: that
// which lets the sender be told, that which makes it send less, and those that do so for longer or for
// TCP only.
func (c *conclusion) remedy(m *path.MTU) []string {
	out := append([]string{}, c.f.OpenRule[m.Direction]...)
	open := len(out)
	out = append(out, c.lower(m)...)
	out = append(out, c.network(m)...)
	if cmd := c.clamp(m); cmd != "" {
		out = append(out, cmd)
	}
	for i := max(open, 1); i < len(out); i++ {
		out[i] = strings.Replace(out[i], "  # ", "  # or: ", 1)
	}
	return out
}

// lower makes the sender's own device send no more than what passes.
func (c *conclusion) lower(m *path.MTU) []string {
	if len(m.Links) == 0 {
		return nil
	}
	first, n := m.Links[0], Usable(m)
	space, ok := c.f.Spaces[first.NetNS]
	if !ok || first.MTU <= n {
		return nil
	}
	if route := c.f.Routes[m.Direction]; space.Container == "" && route != "" {
		return []string{fmt.Sprintf("%sip route replace %s mtu %d  # for this destination only; not kept over a restart", space.Enter, route, n)}
	}
	if space.Container == "" {
		return nil // everything else would suffer, too
	}
	return []string{fmt.Sprintf("%sip link set %s mtu %d  # until the container is restarted; all of its traffic on that network",
		space.Enter, quote(first.Device), n)}
}

// network gives the sender's Docker network an MTU that passes.
func (c *conclusion) network(m *path.MTU) []string {
	if len(m.Links) == 0 {
		return nil
	}
	name, n := m.Links[0].Network, Usable(m)
	network, ok := c.f.Networks[name]
	if !ok || network.MTU > 0 && network.MTU <= n || fits(m, name, n) {
		return nil // it is right already, and the device was changed by hand
	}
	if network.Default {
		return []string{fmt.Sprintf(`set "mtu": %d in /etc/docker/daemon.json and restart docker  # then recreate the containers`, n)}
	}
	options := ""
	if network.Attachable {
		options = " --attachable"
	}
	return []string{fmt.Sprintf("docker network create --driver %s%s --opt com.docker.network.driver.mtu=%d %s  # a new network: "+
		"connect the containers to it, remove the old one", network.Driver, options, n, quote(name+"-mtu"))}
}

// fits reports whether the devices that Docker made for a network, besides the sender's own, have such an MTU.
func fits(m *path.MTU, network string, mtu int) bool {
	return slices.ContainsFunc(m.Links[1:], func(l path.MTULink) bool {
		return l.Network == network && l.Outer == nil && l.Container == "" && l.MTU > 0 && l.MTU <= mtu
	})
}

// clamp makes TCP agree on segments that fit, where the packets are routed.
func (c *conclusion) clamp(m *path.MTU) string {
	if m.Proto != path.TCP {
		return ""
	}
	v6 := isV6(m.Src)
	mss := Usable(m) - 40
	if v6 {
		mss -= 20
	}
	for i := range m.Links {
		l := &m.Links[i]
		space, ok := c.f.Spaces[l.NetNS]
		if !ok || !space.Forwards || space.Clamp == "" || l.Outer != nil {
			continue
		}
		return space.Enter + clampRule(space.Clamp, v6, mss) + "  # TCP only, connections opened from then on; UDP still vanishes"
	}
	return ""
}

// clampRule sets the MSS in both directions of what is forwarded.
func clampRule(tool string, v6 bool, mss int) string {
	if tool == "nft" {
		return fmt.Sprintf("nft 'add table inet mss; add chain inet mss forward { type filter hook forward priority mangle; }; "+
			"add rule inet mss forward tcp flags syn tcp option maxseg size > %d tcp option maxseg size set %[1]d'", mss)
	}
	if v6 {
		tool = strings.Replace(tool, "iptables", "ip6tables", 1)
	}
	return fmt.Sprintf("%s -t mangle -I FORWARD -p tcp --tcp-flags SYN,RST SYN -m tcpmss --mss %d:65535 -j TCPMSS --set-mss %d",
		tool, mss+1, mss)
}

// raise makes every device that carries less than what is expected carry it, and goes round the route
// that is the limit.
func (c *conclusion) raise() []string {
	var out []string
	for i := range c.f.Directions {
		m := &c.f.Directions[i]
		for j := range m.Links {
			l := &m.Links[j]
			space, ok := c.f.Spaces[l.NetNS]
			if !ok || l.Carries == 0 || l.Carries >= c.f.Expect {
				continue
			}
			out = append(out, fmt.Sprintf("%sip link set %s mtu %d  # only if all that is attached to that link carries it", space.Enter,
				quote(l.Device), c.f.Expect+l.Overhead))
		}
		if detour := c.f.Detours[m.Direction]; detour != "" && m.MTU < c.f.Expect {
			out = append(out, detour)
		}
	}
	return out
}

func isV6(addrPort string) bool {
	a, err := netip.ParseAddrPort(addrPort)
	return err == nil && a.Addr().Is6()
}

// quote is short because remedies are full of it.
func quote(word string) string { return shell.Quote(word) }
