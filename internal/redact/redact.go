// Package redact replaces what identifies somebody's network: addresses, and the names of hosts,
// containers, networks, namespaces and devices. The same is replaced by the same everywhere, with the
// same key also in other recordings, and not in a way that could be undone without the key.
//
// Addresses keep what their meaning depends on: two that share a network of n bits share one of n bits
// afterwards, and a private, link-local or public address stays one. What is the same for everybody
// (loopback, unspecified, multicast and broadcast addresses, devices such as eth0 and docker0) is kept.
// The package does no I/O.
package redact

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
)

// Map replaces addresses and names. It is not safe for concurrent use.
type Map struct {
	key   []byte
	addrs map[netip.Addr]netip.Addr
	names map[string]string // what was replaced so far, also in texts
	patterns
}

// maxKnown bounds what is remembered of each; what is forgotten is computed again.
const maxKnown = 1 << 16

// New returns a Map whose replacements depend on key alone.
func New(key []byte) *Map {
	return &Map{key: key, addrs: map[netip.Addr]netip.Addr{}, names: map[string]string{}, patterns: newPatterns()}
}

// sum is a keyed hash.
func (m *Map) sum(kind string, b []byte) []byte {
	h := hmac.New(sha256.New, m.key)
	h.Write([]byte(kind))
	h.Write(b)
	return h.Sum(nil)
}

// Addr replaces an address.
func (m *Map) Addr(a netip.Addr) netip.Addr {
	if out, ok := m.addrs[a]; ok {
		return out
	}
	keep := keptBits(a)
	if keep >= a.BitLen() {
		return a
	}
	in := a.AsSlice()
	out := append([]byte(nil), in...)
	prefix := make([]byte, len(in)+1)
	for bit := keep; bit < a.BitLen(); bit++ {
		// Whether a bit is changed depends on those before it alone: that keeps networks together.
		copy(prefix, in)
		for i := bit; i < a.BitLen(); i++ {
			prefix[i/8] &^= 0x80 >> (i % 8)
		}
		prefix[len(in)] = byte(bit)
		if m.sum("address", prefix)[0]&1 != 0 {
			out[bit/8] ^= 0x80 >> (bit % 8)
		}
	}
	replaced, _ := netip.AddrFromSlice(out)
	if len(m.addrs) < maxKnown {
		m.addrs[a] = replaced
	}
	return replaced
}

// keptBits is how many leading bits of an address are kept: those that say what kind of address it is.
func keptBits(a netip.Addr) int {
	all := a.BitLen()
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return all
	}
	for _, r := range []struct {
		prefix string
		keep   int
	}{{"172.16.0.0/12", 12}, {"192.168.0.0/16", 16}, {"169.254.0.0/16", 16}, {"100.64.0.0/10", 10}, {"fe80::/10", 64}} {
		if netip.MustParsePrefix(r.prefix).Contains(a) {
			return r.keep
		}
	}
	if !a.Is4() {
		return 16
	}
	switch a.As4()[0] {
	case 172, 192, 169, 100: // no public address becomes one of those above
		return 16
	}
	return 8
}

// AddrPort replaces the address.
func (m *Map) AddrPort(ap netip.AddrPort) netip.AddrPort {
	if !ap.Addr().IsValid() {
		return ap
	}
	return netip.AddrPortFrom(m.Addr(ap.Addr()), ap.Port())
}

// Prefix replaces the network, or the address if it has bits behind the network.
func (m *Map) Prefix(p netip.Prefix) netip.Prefix {
	if !p.IsValid() || p.Bits() == 0 {
		return p
	}
	out := netip.PrefixFrom(m.Addr(p.Addr()), p.Bits())
	if p == p.Masked() {
		return out.Masked()
	}
	return out
}

// MAC replaces a hardware address in colon form, but for the broadcast and all-zero ones. Locally given
// addresses stay ones.
func (m *Map) MAC(text string) string {
	mac, ok := parseMAC(text)
	if !ok || mac[0]&1 != 0 || mac == [6]byte{} {
		return text
	}
	out := append([]byte{mac[0] & 3}, m.sum("mac", mac[:])[:5]...)
	parts := make([]string, len(out))
	for i := range out {
		parts[i] = hex.EncodeToString(out[i : i+1])
	}
	return strings.Join(parts, ":")
}

// parseMAC reads an Ethernet address in colon form.
func parseMAC(text string) (mac [6]byte, ok bool) {
	if len(text) != 17 || strings.Count(text, ":") != 5 {
		return mac, false
	}
	n, err := hex.Decode(mac[:], []byte(strings.ReplaceAll(text, ":", "")))
	return mac, err == nil && n == len(mac)
}

// Name replaces a name; class, such as "container", is what the replacement begins with. Names that say
// nothing are kept.
func (m *Map) Name(class, name string) string {
	if out, ok := m.names[name]; ok {
		return out
	}
	if isOrdinary(name) {
		return name
	}
	return m.learn(name, class+"-"+hex.EncodeToString(m.sum("name", []byte(name))[:3]))
}

func (m *Map) learn(name, out string) string {
	if len(m.names) < maxKnown {
		m.names[name] = out
	}
	return out
}

// isOrdinary reports whether a name is the same on many hosts.
func isOrdinary(name string) bool {
	switch name {
	case "", "host", "localhost", "bridge", "none", "ingress", "docker_gwbridge", "default", "unknown":
		return true
	}
	return len(name) < 2 || strings.HasPrefix(name, "netns:")
}

// Chain replaces the name of a firewall's chain or table, unless the kernel or a known program gives it.
func (m *Map) Chain(name string) string {
	for _, known := range []string{
		"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING", "INGRESS", "EGRESS", "FILTER", "NAT", "MANGLE", "RAW",
		"SECURITY", "BROUTE",
	} {
		if strings.EqualFold(name, known) {
			return name
		}
	}
	for _, program := range []string{"DOCKER", "docker-", "ufw", "KUBE-", "kube-proxy", "LIBVIRT_", "libvirt_", "firewalld",
		"INPUT_", "OUTPUT_", "FORWARD_", "PREROUTING_", "POSTROUTING_", "IN_", "OUT_", "FWD", "PRE_", "POST_", "f2b-",
		"filter-", "nat-", "raw-", "filter_", "nat_", "mangle_", "raw_"} {
		if strings.HasPrefix(name, program) {
			return name
		}
	}
	return m.Name("chain", name)
}

// Device replaces the name of a device: of one that was given by somebody, or made by Docker from an
// identifier. What it begins with, which tells its kind, is kept.
func (m *Map) Device(name string) string {
	if out, ok := m.names[name]; ok {
		return out
	}
	stem := strings.TrimRight(name, "0123456789")
	switch stem {
	case "", "lo", "eth", "ens", "enp", "eno", "docker", "docker_gwbridge", "vxlan", "ov-", "wlan", "tun", "tap", "dummy", "bond":
		return name
	}
	kind := "dev"
	for _, k := range []string{"veth", "br-", "virbr", "vx-", "ov-", "macvlan", "ipvlan", "en", "wl", "wg", "tun", "tap"} {
		if strings.HasPrefix(name, k) {
			kind = strings.TrimSuffix(k, "-")
			break
		}
	}
	return m.learn(name, kind+"-"+hex.EncodeToString(m.sum("device", []byte(name))[:3]))
}
