package tracer_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// encryptedOverlay is a VXLAN between two namespaces whose packets are encrypted as Docker has it done:
// transport mode ESP, for UDP port 4789 only.
type encryptedOverlay struct {
	*lab.Lab
	a, b *lab.Namespace
}

const (
	ipsecKey  = "aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 64"
	ipsecBad  = "aead rfc4106(gcm(aes)) 0x1102030405060708090a0b0c0d0e0f1011121314 64"
	ipsecHook = "iptables-legacy -t mangle -A POSTROUTING -j ACCEPT" // a hook without a function is not entered
)

func newEncryptedOverlay(t *testing.T) *encryptedOverlay {
	t.Helper()
	labtest.NeedsRoot(t)
	if _, err := os.Stat("/proc/net/xfrm_stat"); err != nil {
		t.Skip("this kernel has no IPsec with statistics: scripts/kernels.sh runs this in machines that have it")
	}
	o := &encryptedOverlay{Lab: labtest.New(t, lab.Options{})}
	o.a, o.b = labtest.Namespace(t, o.Lab, "a"), labtest.Namespace(t, o.Lab, "b")
	o.needsCipher(t)
	outer := []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("198.51.100.2/24")}
	labtest.Must(t, lab.Veth(lab.End{NS: o.a, Name: "eth0", Addrs: outer[:1]}, lab.End{NS: o.b, Name: "eth0", Addrs: outer[1:]}))
	for i, ns := range o.Namespaces() {
		local, peer := outer[i].Addr(), outer[1-i].Addr()
		labtest.Must(t, ns.VXLAN(lab.VXLAN{Name: "vxlan0", VNI: 4097, Local: local, Peers: []netip.Addr{peer},
			Addrs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.78.0.%d/24", i+1))}}))
		o.do(t, ns, "ip xfrm policy add src "+local.String()+" dst "+peer.String()+" proto udp dport 4789 dir out tmpl src "+
			local.String()+" dst "+peer.String()+" proto esp spi 0x"+fmt.Sprint(1000+i)+" reqid 1 mode transport", ipsecHook,
			"iptables-legacy -t mangle -A PREROUTING -j ACCEPT")
	}
	o.state(t, o.a, ipsecKey, 0, 1)
	o.state(t, o.b, ipsecKey, 0, 1)
	for _, ns := range o.Namespaces() {
		labtest.Must(t, ns.WaitUp(t.Context()))
	}
	_, err := o.b.TCPServer("10.78.0.2:80", nil)
	labtest.Must(t, err)
	return o
}

// needsCipher skips the test where the kernel has ESP but not the cipher that Docker uses.
func (o *encryptedOverlay) needsCipher(t *testing.T) {
	t.Helper()
	var said strings.Builder
	cmd := exec.Command("ip", strings.Fields("xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1 mode transport "+ipsecKey)...)
	cmd.Stderr = &said
	labtest.Must(t, o.a.Do(cmd.Start))
	if err := cmd.Wait(); err == nil {
		return
	}
	if s := said.String(); strings.Contains(s, "not found") || strings.Contains(s, "not supported") {
		t.Skip("this kernel has no " + "rfc4106(gcm(aes))" + ": scripts/kernels.sh runs this in machines that have it")
	}
	t.Fatal(said.String())
}

func (o *encryptedOverlay) do(t *testing.T, ns *lab.Namespace, commands ...string) {
	t.Helper()
	for _, c := range commands {
		tool(t, ns, c)
	}
}

// state gives a namespace the keys of directions, of which 0 is from a to b.
func (o *encryptedOverlay) state(t *testing.T, ns *lab.Namespace, key string, directions ...int) {
	t.Helper()
	for _, d := range directions {
		tool(t, ns, fmt.Sprintf("ip xfrm state add src 198.51.100.%d dst 198.51.100.%d proto esp spi 0x%d reqid 1 mode transport %s",
			1+d, 2-d, 1000+d, key))
	}
}

func (o *encryptedOverlay) probe(t *testing.T) tracer.Flow {
	t.Helper()
	out := probe(t, o.Lab, "a", "10.78.0.2:80", nil)
	f := out.flows[0]
	t.Logf("%s\n\t%s\n\t%s", f.Verdict.Summary, strings.Join(f.Verdict.Evidence, "\n\t"), strings.Join(f.Verdict.Remedy, "\n\t"))
	return f
}

// TestIPsec: an encrypted overlay shows where it is encrypted and decrypted, and what fails there.
func TestIPsec(t *testing.T) {
	o := newEncryptedOverlay(t)
	f := o.probe(t)
	checkVerdict(t, f.Verdict, path.Delivered, "")
	for _, w := range []struct {
		direction path.Direction
		from, to  string
		spi       uint32
	}{{path.Request, "a", "b", 0x1000}, {path.Reply, "b", "a", 0x1001}} {
		p := first(f.Path, w.direction)
		checkWay(t, string(w.direction), p, []string{w.from + " eth0 xfrm encapsulate", w.to + " eth0 xfrm decapsulate", w.to + " vxlan0 device receive"})
		if i := slices.IndexFunc(p.Hops, func(h path.Hop) bool { return h.SPI != 0 }); i < 0 || p.Hops[i].SPI != w.spi {
			t.Errorf("%s: no hop with SPI %#x", w.direction, w.spi)
		}
		if got, want := mtu.Declared(mtu.Links(p)), 1424; got != want { // of 1500, as Docker's own networks have it
			t.Errorf("%s: %d bytes are declared, want %d", w.direction, got, want)
		}
	}
	for _, row := range []struct {
		name, says string
		spoil      func()
	}{
		{"other key", "XfrmInStateProtoError", func() { o.state(t, o.b, ipsecBad, 0) }},
		{"no state at the peer", "XfrmInNoStates", func() {}},
	} {
		t.Run(row.name, func(t *testing.T) {
			tool(t, o.b, "ip xfrm state delete src 198.51.100.1 dst 198.51.100.2 proto esp spi 0x1000")
			row.spoil()
			f := o.probe(t)
			checkVerdict(t, f.Verdict, path.Lost, path.CauseEncryptionFailed)
			if !strings.Contains(f.Verdict.Summary+strings.Join(f.Verdict.Evidence, " "), row.says) {
				t.Errorf("%s is not said", row.says)
			}
		})
	}
}
