package expect

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// match is what an expected rule matches on; the zero value matches everything.
type match struct {
	in, notIn, out, notOut   string
	src, dst, notSrc, notDst netip.Prefix
	srcLocal, dstLocal       bool // an address of the host
	established              bool
	proto                    string
	dport                    uint16
}

// outside is the name of a device that is none of Docker's.
const outside = "outside0"

// addresses that are in none of Docker's subnets: some reserved for documentation (RFC 5737, 3849).
type addresses struct{ client, host netip.Addr }

// addressesFor picks addresses that none of the networks contains.
func addressesFor(nets []Network, v6 bool) addresses {
	pool := []string{"198.51.100.1", "203.0.113.1", "192.0.2.1", "233.252.0.1", "198.18.0.1", "198.19.0.1"}
	if v6 {
		pool = []string{"2001:db8:1::1", "2001:db8:2::1", "2001:db8:3::1", "2001:2::1", "3fff::1"}
	}
	var free []netip.Addr
next:
	for _, text := range pool {
		addr := netip.MustParseAddr(text)
		for _, n := range nets {
			for _, p := range n.Subnets {
				if p.Contains(addr) {
					continue next
				}
			}
		}
		free = append(free, addr)
	}
	if len(free) < 2 {
		return addresses{}
	}
	return addresses{client: free[0], host: free[1]}
}

// packet makes a packet that the match is made for.
func (m *match) packet(hook firewall.Hook, a addresses) *firewall.Packet {
	p := &firewall.Packet{
		Hook: hook, Src: a.client, Dst: a.host, Proto: 6, SrcPort: 50000, DstPort: 9,
		Length: 60, TTL: 63,
	}
	if hook != firewall.Output && hook != firewall.Postrouting {
		p.In = cmp.Or(m.in, outside)
	}
	if hook == firewall.Forward || hook == firewall.Output || hook == firewall.Postrouting {
		p.Out = cmp.Or(m.out, outside)
	}
	if hook == firewall.Postrouting {
		p.In = m.in // the kernel knows it, nft may match on it
	}
	if m.src.IsValid() {
		p.Src = inside(m.src)
	}
	if m.dst.IsValid() {
		p.Dst = inside(m.dst)
	}
	if m.dport != 0 {
		p.DstPort = m.dport
	}
	if n := protoNumber(m.proto); n != 0 {
		p.Proto = n
	}
	if p.Proto == 6 {
		p.TCPFlags, p.HasTCPFlags = 0x02, true // SYN
	}
	p.CT = &firewall.Conntrack{State: firewall.CTNew}
	if m.established {
		p.CT.State, p.CT.Reply, p.TCPFlags = firewall.CTEstablished, true, 0x10 // ACK
	}
	p.CT.Orig = firewall.Tuple{Src: p.Src, Dst: p.Dst, SrcPort: p.SrcPort, DstPort: p.DstPort, Proto: p.Proto}
	p.AddrType = m.addrType(p)
	return p
}

// addrType makes those addresses the host's that the match wants to be.
func (m *match) addrType(p *firewall.Packet) func(netip.Addr, string, string) firewall.Truth {
	src, dst := p.Src, p.Dst
	return func(addr netip.Addr, typ, _ string) firewall.Truth {
		local := m.dstLocal && addr == dst || m.srcLocal && addr == src || addr.IsLoopback()
		switch typ {
		case "LOCAL":
			return firewall.Of(local)
		case "UNICAST":
			return firewall.Of(!local)
		}
		return firewall.No
	}
}

// inside returns an address of a prefix that a container could have.
func inside(p netip.Prefix) netip.Addr {
	addr := p.Addr()
	for range 2 {
		if next := addr.Next(); next.IsValid() && p.Contains(next) {
			addr = next
		}
	}
	return addr
}

// covers says whether a real packet is one that the rule is for.
func (m *match) covers(p *firewall.Packet) firewall.Truth {
	t := firewall.Yes
	device := func(name, want, not string) {
		switch {
		case want == "" && not == "":
		case name == "":
			t = t.And(firewall.Maybe)
		default:
			t = t.And(firewall.Of((want == "" || name == want) && (not == "" || name != not)))
		}
	}
	device(p.In, m.in, m.notIn)
	device(p.Out, m.out, m.notOut)
	address := func(addr netip.Addr, want, not netip.Prefix) {
		t = t.And(firewall.Of((!want.IsValid() || want.Contains(addr)) && (!not.IsValid() || !not.Contains(addr))))
	}
	address(p.Src, m.src, m.notSrc)
	address(p.Dst, m.dst, m.notDst)
	if n := protoNumber(m.proto); n != 0 {
		t = t.And(firewall.Of(p.Proto == n))
	}
	if m.dport != 0 {
		t = t.And(firewall.Of(p.DstPort == m.dport))
	}
	if m.dstLocal && p.AddrType != nil {
		t = t.And(p.AddrType(p.Dst, "LOCAL", ""))
	}
	if m.established && p.CT != nil {
		t = t.And(firewall.Of(p.CT.State == firewall.CTEstablished || p.CT.State == firewall.CTRelated))
	}
	return t
}

// iptables writes the match as `iptables -S` shows it, with a space in front.
func (m *match) iptables() string {
	var b strings.Builder
	pair := func(option, want, not string) {
		if not != "" {
			fmt.Fprintf(&b, " ! %s %s", option, not)
		}
		if want != "" {
			fmt.Fprintf(&b, " %s %s", option, want)
		}
	}
	pair("-s", prefix(m.src), prefix(m.notSrc))
	pair("-d", prefix(m.dst), prefix(m.notDst))
	pair("-i", m.in, m.notIn)
	pair("-o", m.out, m.notOut)
	if m.proto != "" {
		fmt.Fprintf(&b, " -p %s -m %s --dport %d", m.proto, m.proto, m.dport)
	}
	if m.dstLocal {
		b.WriteString(" -m addrtype --dst-type LOCAL")
	}
	if m.srcLocal {
		b.WriteString(" -m addrtype --src-type LOCAL")
	}
	if m.established {
		b.WriteString(" -m conntrack --ctstate RELATED,ESTABLISHED")
	}
	return b.String()
}

// nft writes the match in nft's syntax, with a space behind.
func (m *match) nft(v6 bool) string {
	ip := "ip"
	if v6 {
		ip = "ip6"
	}
	var b strings.Builder
	pair := func(key, want, not string) {
		if not != "" {
			fmt.Fprintf(&b, "%s != %s ", key, not)
		}
		if want != "" {
			fmt.Fprintf(&b, "%s %s ", key, want)
		}
	}
	name := func(device string) string {
		if device == "" {
			return ""
		}
		return `"` + device + `"`
	}
	pair("iifname", name(m.in), name(m.notIn))
	pair("oifname", name(m.out), name(m.notOut))
	pair(ip+" saddr", bare(m.src), bare(m.notSrc))
	pair(ip+" daddr", bare(m.dst), bare(m.notDst))
	if m.proto != "" {
		fmt.Fprintf(&b, "%s dport %d ", m.proto, m.dport)
	}
	if m.dstLocal {
		b.WriteString("fib daddr type local ")
	}
	if m.srcLocal {
		b.WriteString("fib saddr type local ")
	}
	if m.established {
		b.WriteString("ct state established,related ")
	}
	return b.String()
}

func prefix(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// bare writes a prefix without the length if it is one address.
func bare(p netip.Prefix) string {
	if p.IsValid() && p.IsSingleIP() {
		return p.Addr().String()
	}
	return prefix(p)
}

func single(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

func protoNumber(name string) uint8 {
	switch name {
	case "tcp":
		return 6
	case "udp":
		return 17
	case "sctp":
		return 132
	}
	return 0
}
