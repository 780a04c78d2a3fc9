package tracer_test

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestPackets: what is copied of a packet is that packet, as it was at that hook.
func TestPackets(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	published := d.Published(false).String()
	for _, tt := range []struct {
		name, from, to string
		proto          path.Proto
		snaplen        int
	}{
		{"headers", "client", published, path.TCP, 0},
		{"whole", "client", published, path.TCP, 65535},
		{"one byte", "client", published, path.TCP, 1},
		{"datagram", "client", "192.0.2.1:7070", path.UDP, 0},
		{"echo", "client", "192.0.2.1", path.ICMP, 0},
		{"refused", "app", "10.77.0.2:81", path.UDP, 200}, // an ICMP error comes back
		{"IPv6", "client", "[2001:db8:1::1]:8080", path.TCP, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.HasPrefix(tt.to, "[") && !d.IPv6() {
				t.Skip("this kernel has no IPv6")
			}
			o := probe(t, d.Lab, tt.from, tt.to, func(c *tracer.Config) {
				c.Proto, c.Packets, c.Snaplen, c.AllPackets = tt.proto, true, tt.snaplen, true
			})
			checkTrace(t, d.Lab, o)
			checkCaptures(t, o.flows[0].Path, tt.snaplen)
		})
	}
	t.Run("dropped", func(t *testing.T) {
		_, err := d.DropWeb()
		labtest.Must(t, err)
		o := probe(t, d.Lab, "client", published, func(c *tracer.Config) { c.Packets = true }) // replayed and redacted, too
		checkCaptures(t, o.flows[0].Path, 0)
		drops := 0
		for _, h := range first(o.flows[0].Path, path.Request).Hops {
			if h.Action == path.ActionDrop && h.Capture != nil {
				drops++
			}
		}
		if drops == 0 {
			t.Error("nothing was copied of the dropped packet")
		}
	})
}

// TestPacketsInTunnel: inside a tunnel the bytes begin with the outer headers.
func TestPacketsInTunnel(t *testing.T) {
	o := probe(t, tunnel(t), "a", "10.78.0.2:80", func(c *tracer.Config) { c.Packets = true })
	checkCaptures(t, o.flows[0].Path, 0)
	const outer = 14 + 20 + 8 + 8 // Ethernet, IPv4, UDP, VXLAN
	seen := false
	for _, h := range first(o.flows[0].Path, path.Request).Hops {
		if h.Outer == nil || h.Capture == nil || h.Device != "eth0" || h.Stage != path.StageDevice {
			continue
		}
		seen = true
		c := h.Capture
		if got := len(c.Bytes); got < outer+14+20+20 || got > outer+14+20+60 {
			t.Errorf("%d bytes of a segment in a tunnel", got)
			continue
		}
		if dst := netip.AddrFrom4([4]byte(c.Bytes[14+16:])); dst.String() != "198.51.100.1" && dst.String() != "198.51.100.2" {
			t.Errorf("the outer destination is %v", dst)
		}
		if dst := netip.AddrFrom4([4]byte(c.Bytes[outer+14+16:])); dst != h.DstAddr.Addr() {
			t.Errorf("the inner destination is %v, want %v", dst, h.DstAddr)
		}
	}
	if !seen {
		t.Error("nothing was copied in the tunnel")
	}
}

// checkCaptures compares what was copied with what was decoded.
func checkCaptures(t *testing.T, p *path.Path, snaplen int) {
	t.Helper()
	n := 0
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			given := h.Stage == path.StageDevice || h.Stage == path.StageQdisc || strings.Contains(string(h.Stage), "netfilter/")
			if h.Capture == nil {
				if given && h.Action != path.ActionReject {
					t.Errorf("nothing was copied: %s", line(h))
				}
				continue
			}
			n++
			checkLength(t, pkt, h, snaplen)
			if len(h.Capture.Bytes) >= int(h.Capture.Link)+40 && h.Outer == nil {
				checkBytes(t, pkt, h)
			}
		}
	}
	if n == 0 {
		t.Error("nothing was copied")
	}
}

func checkLength(t *testing.T, pkt *path.Packet, h *path.Hop, snaplen int) {
	t.Helper()
	c := h.Capture
	if h.Outer == nil && !pkt.ICMPError && snaplen != 1 && int(c.Length) != h.Length+int(c.Link) {
		t.Errorf("length %d with a header of %d: %s", c.Length, c.Link, line(h))
	}
	if h.Stage == path.StageDevice && h.Action != path.ActionDrop && c.Link != 14 && snaplen != 1 {
		t.Errorf("an Ethernet header of %d bytes: %s", c.Link, line(h))
	}
	switch {
	case snaplen == 0 && len(c.Bytes) > 14+2*40+60+8+8+14:
		t.Errorf("%d bytes are more than headers: %s", len(c.Bytes), line(h))
	case snaplen > 0 && len(c.Bytes) > snaplen:
		t.Errorf("%d bytes, at most %d were asked for: %s", len(c.Bytes), snaplen, line(h))
	}
}

// checkBytes compares addresses and ports.
func checkBytes(t *testing.T, pkt *path.Packet, h *path.Hop) {
	t.Helper()
	ip := h.Capture.Bytes[h.Capture.Link:]
	var src, dst netip.Addr
	var transport []byte
	switch ip[0] >> 4 {
	case 4:
		src, dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		transport = ip[20:]
	case 6:
		src, dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		transport = ip[40:]
	default:
		t.Errorf("bytes %x are no IP packet: %s", ip, line(h))
		return
	}
	if src != h.SrcAddr.Addr() || dst != h.DstAddr.Addr() {
		t.Errorf("%v → %v: %s", src, dst, line(h))
	}
	if port := h.DstAddr.Port(); port != 0 && !pkt.ICMPError && len(transport) >= 4 && binary.BigEndian.Uint16(transport[2:]) != port {
		t.Errorf("port %d: %s", binary.BigEndian.Uint16(transport[2:]), line(h))
	}
}
