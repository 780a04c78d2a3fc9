//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// lan6Of is a host's IPv6 address on the link of all hosts; the test is skipped without IPv6.
func (h *host) lan6Of(t *testing.T) netip.Addr {
	t.Helper()
	if !shared.OutsideAddr6.IsValid() {
		t.Skip("this kernel has no IPv6")
	}
	a := shared.OutsideAddr6.As16()
	a[15] = h.Addr.As4()[3]
	return netip.AddrFrom16(a)
}

// TestDualStack: an engine that makes no rules for IPv6 serves it by its proxy alone, and what its
// containers send over IPv6 keeps their address.
func TestDualStack(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	addr := h.lan6Of(t)
	n := h.network(t, "--ipv6", "--subnet", "fd00:5e:2::/64")
	web, client := n.server(t, "-p", "80"), n.client(t)
	at := netip.AddrPortFrom(addr, web.published("80/tcp").Port())
	h.ask(t, want{Outcome: path.Delivered, Says: []string{"docker-proxy in host took the request on " + at.String()}}, shared.Outside, at.String())
	h.ask(t, want{Outcome: path.Delivered}, shared.Outside, web.Name+":80")
	h.ask(t, want{Outcome: path.Delivered}, "host", web.Name+":80", "--ipv6")
	for _, to := range []string{fmt.Sprintf("[%s]:9", shared.OutsideAddr6), fmt.Sprintf("[%s]", shared.OutsideAddr6)} {
		h.ask(t, want{Outcome: path.Lost, Cause: path.CauseMasqueradeMissing, Namespace: "host", Says: []string{
			"private address " + web.addr6(n).Next().String(), "makes no rules for IPv6", `"ip6tables": true`,
		}}, client.Name, to, brief...)
	}
}

// TestIPv6Rules: Docker 29 makes rules for IPv6, and networks without IPv4.
func TestIPv6Rules(t *testing.T) {
	h := spare(t, docker29Iptables)
	addr := h.lan6Of(t)
	h.do(t, "ip", "-6", "route", "replace", "default", "via", shared.OutsideAddr6.String())
	six := h.network(t, "--ipv6", "--ipv4=false", "--subnet", "fd00:5e:3::/64")
	web, client := six.server(t, "-p", "80"), six.client(t)
	port := web.published("80/tcp").Port()
	at := netip.AddrPortFrom(addr, port)
	inner := netip.AddrPortFrom(web.addr6(six), 80)
	h.probe(t, want{Outcome: path.Delivered, Says: []string{fmt.Sprintf("DNAT %s → %s", at, inner), "bridge " + six.Name}, Hops: []hop{
		{Namespace: "host", Stage: path.StagePrerouting, Action: path.ActionDNAT, Dst: inner.String(), PrevDst: at.String()},
	}}, shared.Outside, at.String())
	h.ask(t, want{Outcome: path.Delivered}, client.Name, web.Name+":80")
	h.ask(t, want{Outcome: path.Delivered, Says: []string{"masquerade in host"}}, client.Name, fmt.Sprintf("[%s]", shared.OutsideAddr6))
	h.ask(t, want{Outcome: path.NoTraffic, Cause: path.CauseNoRoute, Says: []string{"is on network " + six.Name + " and has no IPv4 address"}},
		client.Name, shared.OutsideAddr.String())
	h.ask(t, want{Outcome: path.Refused, Cause: path.CauseNotPublished, Says: []string{"ask for an IPv6 address of the host"}},
		shared.Outside, fmt.Sprintf("%s:%d", h.Addr, port))
	t.Run("routed", func(t *testing.T) {
		n := h.network(t, "-o", "com.docker.network.bridge.gateway_mode_ipv4=routed", "--subnet", "172.29.0.0/24")
		h.ask(t, want{Outcome: path.Lost, Outcomes: silent, Cause: path.CauseMasqueradeMissing,
			Says: []string{"network " + n.Name + " is routed", "ip route add 172.29.0.0/24 via " + h.Addr.String()},
		}, n.client(t).Name, shared.OutsideAddr.String()+":9", brief...)
	})
}
