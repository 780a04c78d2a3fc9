//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/netns"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestPublished traces to a published port from outside and from the host.
func TestPublished(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t, "-p", "80")
	at, inner := web.published("80/tcp"), netip.AddrPortFrom(web.addr(n), 80)
	dnat := fmt.Sprintf("DNAT %s → %s", at, inner)
	for _, to := range []string{at.String(), web.Name + ":80", fmt.Sprintf("%s:%d", web.Name, at.Port())} {
		t.Run(to, func(t *testing.T) {
			r := h.probe(t, want{
				Outcome: path.Delivered, Says: []string{dnat, "undo DNAT", "container " + web.Name, "bridge " + n.Name},
				Hops: []hop{
					{Namespace: shared.Outside, Direction: path.Request, Action: path.ActionTransmit},
					{Namespace: "host", Device: "eth0", Direction: path.Request, Action: path.ActionReceive, Dst: at.String()},
					{Namespace: "host", Stage: path.StagePrerouting, Action: path.ActionDNAT, Dst: inner.String(), PrevDst: at.String()},
					{Namespace: "host", Stage: path.StageForward, Direction: path.Request},
					{Container: web.Name, Device: "eth0", Action: path.ActionReceive, Dst: inner.String()},
					{Namespace: "host", Device: "eth0", Direction: path.Reply, Action: path.ActionTransmit, Src: at.String()},
				},
			}, shared.Outside, to)
			if got := r.verdicts[0].Dst; got != at.String() {
				t.Errorf("asked %s, want %s", got, at)
			}
			if len(r.verdicts[0].NAT) == 0 || r.verdicts[0].NAT[0].Kind != path.ActionDNAT {
				t.Errorf("translations: got %+v", r.verdicts[0].NAT)
			}
		})
	}
	t.Run("from the host", func(t *testing.T) {
		h.probe(t, want{Outcome: path.Delivered, Says: []string{dnat}, Hops: []hop{
			{Namespace: "host", Stage: path.StageOutput, Action: path.ActionDNAT, Dst: inner.String()},
		}}, "host", at.String())
		h.probe(t, want{Outcome: path.Delivered, Says: []string{"container " + web.Name}}, "host", web.Name+":80")
	})
}

// TestPublishedIPv6: this engine has no IPv6 rules, so the userland proxy takes it.
func TestPublishedIPv6(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t, "-p", "80")
	var addr netip.Addr
	for _, field := range strings.Fields(h.do(t, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global")) {
		if p, err := netip.ParsePrefix(field); err == nil {
			addr = p.Addr()
		}
	}
	if !addr.IsValid() {
		t.Skip("this kernel has no IPv6")
	}
	to := netip.AddrPortFrom(addr, web.published("80/tcp").Port())
	r := h.probe(t, want{Outcome: path.Delivered, Says: []string{"docker-proxy", to.String()}}, shared.Outside, to.String())
	if r.verdicts[0].Dst != to.String() {
		t.Errorf("asked %s, want %s", r.verdicts[0].Dst, to)
	}
}

// TestMasquerade traces from a container to a server outside.
func TestMasquerade(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	client := n.client(t)
	port := serveOutside(t)
	for _, to := range []string{netip.AddrPortFrom(shared.OutsideAddr, port).String(), fmt.Sprintf("%s:%d", shared.Outside, port)} {
		h.probe(t, want{
			Outcome: path.Delivered,
			Says:    []string{"masquerade " + client.addr(n).String(), "undo masquerade"},
			Hops: []hop{
				{Namespace: "host", Stage: path.StagePostrouting, Action: path.ActionMasquerade, Direction: path.Request},
				{Namespace: "host", Device: "eth0", Action: path.ActionTransmit, Direction: path.Request},
				{Namespace: shared.Outside, Direction: path.Request, Action: path.ActionDeliver},
				{Container: client.Name, Device: "eth0", Direction: path.Reply, Action: path.ActionReceive},
			},
		}, client.Name, to)
	}
}

// serveOutside answers connections in the outside and returns the port.
func serveOutside(t *testing.T) uint16 {
	t.Helper()
	ns, err := netns.Open(filepath.Join("/run/netns", shared.Outside))
	check(t, err)
	defer ns.Close()
	var ln net.Listener
	check(t, netns.Do(ns, func() (err error) {
		ln, err = net.Listen("tcp4", ":0")
		return err
	}))
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			c.Close()
		}
	}()
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

// TestHairpin traces from a container to its own host's published port: Docker's DNAT rules pass over
// what comes from a bridge of its own, so the userland proxy carries it.
func TestHairpin(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n, other := h.network(t), h.network(t)
	web, neighbour, stranger := n.server(t, "-p", "80"), n.client(t), other.client(t)
	at := web.published("80/tcp").String()
	for _, c := range []*container{neighbour, web, stranger} {
		h.probe(t, want{Outcome: path.Delivered, Says: []string{"docker-proxy"}, Hops: []hop{
			{Namespace: "host", Stage: path.StageInput, Direction: path.Request},
		}}, c.Name, at)
	}
}

// TestNotPublished traces to a port of the host that nothing is published on.
func TestNotPublished(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t)
	w := want{Outcome: path.Refused, Namespace: "host", Causes: []path.Cause{path.CauseNotPublished, path.CauseNotListening}}
	h.probe(t, w, shared.Outside, netip.AddrPortFrom(h.Addr, 9).String())
	// The outside has no route to what is behind the host.
	h.probe(t, want{Outcome: path.NoTraffic, Causes: []path.Cause{path.CauseNotPublished, path.CauseNoRoute}},
		shared.Outside, web.Name+":80")
}
