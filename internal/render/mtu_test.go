package render

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// overlayMTU is a path through an overlay whose hosts filter an ICMP error, with everything that a
// direction can say.
func overlayMTU() ([]path.MTU, path.Verdict) {
	outer := &path.Outer{Src: "192.0.2.11:4789", Dst: "192.0.2.12:4789", VNI: 4097}
	links := []path.MTULink{
		{Container: "client", NetNS: 1, Network: "ov", Device: "eth0", MTU: 1450, Carries: 1450, GSOMaxSegments: 1},
		{Namespace: "overlay ov on host1", NetNS: 2, Network: "ov", Device: "vxlan0", MTU: 1450, Carries: 1450},
		{Namespace: "host1", NetNS: 3, Network: "ov", Device: "eth0", MTU: 1400, Carries: 1350, Overhead: 50, Outer: outer, Limit: true},
		{Namespace: "host2", NetNS: 4, Device: "eth0", MTU: 1400, Carries: 1350, Overhead: 50, Outer: outer},
		{Container: "web", NetNS: 5, Network: "ov", Device: "eth0", MTU: 1450, Carries: 1450},
	}
	request := path.MTU{
		Direction: path.Request, Proto: path.TCP, Src: "10.0.1.2:40000", Dst: "10.0.1.4:80", SrcName: "client", DstName: "web",
		MTU: 1350, TooBig: 1351, SenderMTU: 1450, Declared: 1350, TCPPacket: 1450, CachedMTU: 1300, CachedSeconds: 540,
		Discovery: path.DiscoveryFails, Links: links, Probes: 5,
		End: &path.MTUEnd{Kind: path.TooBigUnanswered, NextHopMTU: 1350,
			Where:      &path.Where{Namespace: "overlay ov on host1", Device: "vxlan0", Function: "vxlan_xmit", Reason: "NOT_SPECIFIED"},
			Lost:       &path.Where{Container: "client", Device: "eth0", Function: "nft_do_chain", Reason: "NETFILTER_DROP"},
			Fragmented: &path.Where{Namespace: "host1", Device: "eth0"}, FragmentsPass: true},
		Bridges:  []path.MTUBridge{{Namespace: "overlay ov on host1", Device: "br0", MTU: 1450}, {Namespace: "overlay ov on host2", Device: "br0", MTU: 1450}},
		Networks: []path.MTUNetwork{{Network: "ov", Driver: "overlay", MTU: 1450}, {Network: "app", Driver: "bridge"}},
		Notes:    []string{"something else that was seen"},
	}
	reply := path.MTU{
		Direction: path.Reply, Proto: path.TCP, Src: "10.0.1.4:80", Dst: "10.0.1.2:40000", SrcName: "web", DstName: "client",
		MTU: 1450, SenderMTU: 1450, Discovery: path.DiscoveryUnneeded, Links: reversed(links), Probes: 1,
		FragmentsAbove: 1350, Fragmented: &path.Where{Namespace: "host2", Device: "eth0"},
	}
	v := path.Verdict{
		Outcome: path.Dropped, Cause: path.CauseMTUBlackhole,
		Summary: "dropped: packets of more than 1350 bytes from client vanish before eth0 in host1 (MTU 1400), and the ICMP error that " +
			"says so was dropped by rule 1 of chain INPUT in container client",
		Where: &path.Where{Container: "client", Rule: &path.Rule{Family: "ip", Table: "filter", Chain: "INPUT", Number: 1,
			Text: "-A INPUT -p icmp -j DROP", Owner: "user"}},
		Evidence: []string{"the rule's counter went from 0 to 2 packets"},
		Remedy:   []string{"iptables -I INPUT -p icmp --icmp-type fragmentation-needed -j ACCEPT"},
		Warnings: []path.Warning{{Cause: path.CausePacketTooBig, Summary: "packets of more than 1350 bytes from web are cut into fragments"}},
	}
	return []path.MTU{request, reply}, v
}

func TestMTU(t *testing.T) {
	list, v := overlayMTU()
	checkText(t, "mtu", 0, func(o Options) { must(t, MTU(o, list, &path.MTUWatch{Seconds: 1, Packets: 120, Fragments: 7}, v)) })
	checkText(t, "", 0, func(o Options) { must(t, MTU(o, list, &path.MTUWatch{Seconds: 1}, v)) })
	checkText(t, "", minWidth, func(o Options) { must(t, MTU(o, list, nil, v)) })
	checkText(t, "mtu.verbose", 0, func(o Options) {
		o.Verbose = true
		must(t, MTU(o, list, nil, v))
	})
}

func TestMTUWatchText(t *testing.T) {
	w := path.MTUWatch{Seconds: 10, Packets: 1200, TooBig: 3, Fragments: 24, Places: []path.MTUWatchPlace{
		{Container: "web", Device: "eth0", MTU: 1500, Packets: 400, TooBig: 3, Smallest: 1478, Function: "__dev_forward_skb2"},
		{Namespace: "host", Device: "eth0", MTU: 1400, Packets: 1200, Fragments: 24},
	}}
	v := path.Verdict{Outcome: path.Dropped, Cause: path.CauseMTUBlackhole, Summary: "dropped: 3 of 400 packets (0.8 %) vanished at eth0 in container web"}
	checkText(t, "mtu-watch", 0, func(o Options) { must(t, MTUWatch(o, w, v)) })
}

// TestMTUSchema: what is written fits the schema.
func TestMTUSchema(t *testing.T) {
	list, v := overlayMTU()
	var out bytes.Buffer
	j := NewJSON(&out)
	for _, m := range append(list, path.MTU{Direction: path.Reply, Proto: path.ICMP, Discovery: path.DiscoveryUnknown}) {
		if err := j.MTU(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.MTUWatch(path.MTUWatch{Seconds: 1.5}); err != nil {
		t.Fatal(err)
	}
	if err := j.Verdict(v); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(validateLines(t, compileSchema(t), out.Bytes()), " "); got != "mtu mtu mtu mtu_watch verdict" {
		t.Errorf("types: %s", got)
	}
}
