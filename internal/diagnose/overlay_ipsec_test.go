package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// encrypted is a request whose VXLAN packet was last seen as IPsec took it.
func encrypted() *testFlow {
	f := intoTunnel()
	p := f.p.Packets[0]
	h := f.hop(nsHost, path.StageXfrm, path.ActionEncapsulate, "eth0", ends(o1Addr, o2Addr), outer(vtepTwo+":4789"))
	h.SPI = 0x1000
	p.Hops = append(p.Hops, h)
	return f
}

// TestDecryption: only a counter of the tunnel endpoint makes a lost packet one that was not decrypted.
func TestDecryption(t *testing.T) {
	peer := func(counters map[string]uint64) func() *Facts {
		return overlayFacts(func(f *Facts) {
			f.Owners = []Owner{{Addr: ip(vtepTwo), NetNS: nsPeer}}
			f.Namespaces[nsPeer] = &Namespace{Name: "peer", Counters: counters}
		})
	}
	const lost = "lost: the request from cli was encapsulated in VXLAN 4097 and sent to tunnel endpoint 10.99.0.12, and nothing came back within 1 s"
	const sent = "lost: the request from cli was encrypted for tunnel endpoint 10.99.0.12 (ESP, SPI 0x00001000), and peer could not decrypt it: "
	runCases(t, []verdictCase{
		{name: "no keys", flow: encrypted, facts: peer(map[string]uint64{"XfrmInNoStates": 2}), outcome: path.Lost,
			cause: path.CauseEncryptionFailed, summary: sent + "it has no state (keys) for the SPI", where: "host eth0 xfrm request",
			evidence: "XfrmInNoStates of peer grew by 2 during the flow", remedy: "ip xfrm state list nokeys"},
		{name: "other keys", flow: encrypted, facts: peer(map[string]uint64{"XfrmInStateProtoError": 1}), outcome: path.Lost,
			cause: path.CauseEncryptionFailed, summary: sent + "its keys for the SPI are others"},
		{name: "no counter grew", flow: encrypted, facts: peer(map[string]uint64{"TcpExtListenDrops": 1}), outcome: path.Lost,
			cause: path.CauseOverlayPeerUnreachable, summary: lost, evidence: "whether 10.99.0.12 could decrypt it was not seen", remedy: "is there SPI 0x00001000?"},
		{name: "the peer is not seen", flow: encrypted, facts: overlayFacts(nil), outcome: path.Lost,
			cause: path.CauseOverlayPeerUnreachable, summary: lost, evidence: "whether 10.99.0.12 could decrypt it was not seen", remedy: "tcpdump -ni any esp"},
	})
	if w := Needs(&encrypted().p); !w.OwnerCounters {
		t.Errorf("the counters of the tunnel's other end are not asked for")
	}
	if w := Needs(&tunnelled(vtepTwo, left)().p); w.OwnerCounters {
		t.Errorf("counters are asked for though nothing is encrypted")
	}
}
