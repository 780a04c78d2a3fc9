package tracer

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestTranslated: only what a translation produced is taken out of the filter, each tuple once.
func TestTranslated(t *testing.T) {
	client, asked := netip.MustParseAddrPort("192.0.2.1:4000"), netip.MustParseAddrPort("192.0.2.2:8080")
	inner := netip.MustParseAddrPort("172.18.0.2:80")
	request := []path.Hop{
		{Action: path.ActionReceive, SrcAddr: client, DstAddr: asked},
		{Action: path.ActionDNAT, SrcAddr: client, DstAddr: inner, PrevDstAddr: asked},
		{Action: path.ActionTransmit, SrcAddr: client, DstAddr: inner},
	}
	reply := []path.Hop{
		{Action: path.ActionReceive, SrcAddr: inner, DstAddr: client},
		{Action: path.ActionSNAT, SrcAddr: asked, DstAddr: client, PrevSrcAddr: inner},
	}
	got := translated(&path.Path{Proto: path.TCP, Packets: []*path.Packet{
		{Hops: request}, {Hops: reply}, {Hops: request},
	}})
	want := []wire.Tuple{
		{Src: client, Dst: inner, Proto: wire.ProtoTCP}, {Src: asked, Dst: client, Proto: wire.ProtoTCP},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEndpointsFollowTheTarget(t *testing.T) {
	at := func(s string) target.Endpoint {
		return target.Endpoint{AddrPort: netip.MustParseAddrPort(s), Proto: path.TCP}
	}
	s := newEndpointSet()
	s.add([]target.Endpoint{at("172.18.0.2:80"), at("192.0.2.2:8080")})
	gone := s.remove([]target.Endpoint{at("172.18.0.3:80"), at("192.0.2.2:8080")})
	want := []probe.Endpoint{{Addr: netip.MustParseAddrPort("172.18.0.2:80"), Proto: wire.ProtoTCP}}
	if !slices.Equal(gone, want) {
		t.Errorf("got %v, want %v", gone, want)
	}
	if s.has(want[0].Addr, wire.ProtoTCP) || !s.has(netip.MustParseAddrPort("192.0.2.2:8080"), wire.ProtoTCP) {
		t.Error("the set does not follow")
	}
}
