package tracer_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestLatencyProtocols: live datagrams, echo requests, and own requests over IPv6.
func TestLatencyProtocols(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	serveKept(t, d.Web)
	t.Run("UDP", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); echoes(ctx, d.App, netip.AddrPortFrom(d.WebAddr, lab.EchoPort)) }()
		defer func() { cancel(); <-done }()
		r, _ := measuring(t, d.Lab, func(cfg *tracer.LatencyConfig) {
			cfg.Target, cfg.Proto, cfg.Count, cfg.Duration = "web:7", path.UDP, 100, labtest.Patience(20*time.Second)
		})
		if report := r.Targets[0].Report; report.RoundTrip.Count < 50 || report.Application.Count < 50 || len(report.Checks) != 0 {
			t.Errorf("%+v", report)
		}
		checkSegments(t, r.Targets[0].Segments, []string{"request veth app eth0", "request receiver-stack web", "application", "reply receiver-stack app"})
	})
	t.Run("ICMP", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); pings(ctx, t, d.App, d.WebAddr) }()
		defer func() { cancel(); <-done }()
		r, _ := measuring(t, d.Lab, func(cfg *tracer.LatencyConfig) {
			cfg.Target, cfg.Proto, cfg.Count, cfg.Duration = "web", path.ICMP, 100, labtest.Patience(20*time.Second)
		})
		if report := r.Targets[0].Report; report.RoundTrip.Count < 50 || len(report.Checks) != 0 {
			t.Errorf("%+v", report)
		}
		checkSegments(t, r.Targets[0].Segments, []string{"request veth app eth0", "reply receiver-stack app"})
	})
	t.Run("IPv6", func(t *testing.T) {
		if !d.IPv6() {
			t.Skip("this kernel has no IPv6")
		}
		r, _ := measuring(t, d.Lab, func(cfg *tracer.LatencyConfig) {
			cfg.Source, cfg.Target, cfg.PreferIPv6, cfg.Count, cfg.Rate = "app", "web:"+keptPort, true, 100, 300
		})
		report := r.Targets[0].Report
		if report.RoundTrip.Count < 80 {
			t.Errorf("%+v", report)
		}
		checkSegments(t, r.Targets[0].Segments, []string{"request netfilter app", "request veth app eth0", "application", "reply receiver-stack app"})
	})
}

// echoes exchanges datagrams until ctx ends.
func echoes(ctx context.Context, from *lab.Namespace, to netip.AddrPort) {
	c, err := from.Dial(ctx, "udp", to.String())
	if err != nil {
		return
	}
	defer c.Close()
	buf := make([]byte, 100)
	for ctx.Err() == nil {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := c.Write(buf); err == nil {
			_, _ = c.Read(buf) // one that is lost is sent again
		}
		time.Sleep(2 * time.Millisecond) // a pace, not a wait
	}
}

// pings exchanges echoes until ctx ends.
func pings(ctx context.Context, t *testing.T, from *lab.Namespace, to netip.Addr) {
	var c *prober.Packets
	src, dst := netip.AddrPortFrom(netip.IPv4Unspecified(), 77), netip.AddrPortFrom(to, 0)
	err := from.Do(func() (err error) {
		c, err = prober.OpenPackets(path.ICMP, src.Addr(), to)
		return err
	})
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	for id := uint16(1); ctx.Err() == nil; id++ {
		_, _ = c.Exchange(ctx, prober.Sized{Proto: path.ICMP, Src: src, Dst: dst, Size: 84, ID: id}, 100*time.Millisecond)
		time.Sleep(2 * time.Millisecond) // a pace, not a wait
	}
}
