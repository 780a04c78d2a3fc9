package target

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// reference is a parsed TARGET or SOURCE.
type reference struct {
	text string
	// scheme is the protocol written before "://", empty without.
	scheme path.Proto
	// name is set for names, addr for addresses; portText is empty without a port.
	name     string
	addr     netip.Addr
	portText string
}

// label is what was written, without scheme and port.
func (r reference) label() string {
	if r.addr.IsValid() {
		return r.addr.String()
	}
	return r.name
}

// parse splits [PROTO://]NAME[:PORT].
func parse(text string) (reference, error) {
	r := reference{text: text}
	rest := text
	if scheme, after, ok := strings.Cut(text, "://"); ok {
		proto, err := parseProto(path.Proto(scheme))
		if err != nil || proto == "" {
			return r, usage("%q does not begin with tcp://, udp:// or icmp://: write the port instead, as in %s:80", text, strings.Trim(after, "/"))
		}
		r.scheme, rest = proto, after
	}
	name, port, hasPort, err := split(text, rest)
	if err != nil {
		return r, err
	}
	if hasPort && port == "" {
		return r, usage("%q has a colon and no port after it: write NAME or NAME:PORT", text)
	}
	r.portText = port
	if name == "" {
		return r, usage("%q names nothing: write NAME:PORT, where NAME is a container, a service, a namespace, an address or host", text)
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		r.addr = addr.Unmap()
		return r, checkAddr(text, r.addr)
	}
	if strings.ContainsAny(name, " \t\n@[]%?#") || strings.Count(name, "/") > 1 || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return r, usage("%q is no name: write NAME:PORT, PROJECT/SERVICE:PORT or ADDRESS:PORT", text)
	}
	r.name = name
	return r, nil
}

// split separates the port. An IPv6 address may stand without brackets if it has none.
func split(text, rest string) (name, port string, hasPort bool, err error) {
	if _, err := netip.ParseAddr(rest); err == nil {
		return rest, "", false, nil
	}
	if inner, ok := strings.CutPrefix(rest, "["); ok {
		name, after, ok := strings.Cut(inner, "]")
		addr, addrErr := netip.ParseAddr(name)
		if !ok || addrErr != nil || !addr.Is6() || after != "" && after[0] != ':' {
			return "", "", false, usage("%q is no IPv6 address in brackets: write [ADDRESS]:PORT", text)
		}
		return name, strings.TrimPrefix(after, ":"), after != "", nil
	}
	switch strings.Count(rest, ":") {
	case 0:
		return rest, "", false, nil
	case 1:
		name, port, _ := strings.Cut(rest, ":")
		return name, port, true, nil
	}
	return "", "", false, usage("%q has several colons and is no IPv6 address: write NAME:PORT or [ADDRESS]:PORT", text)
}

func checkAddr(text string, addr netip.Addr) error {
	switch {
	case addr.Zone() != "":
		return usage("%q has a zone: link-local addresses cannot be told apart between namespaces, use another address of it", text)
	case addr.IsUnspecified():
		return usage("%q means every address: write the address that the client uses", text)
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return usage("%q is the broadcast address: only flows between two ends can be followed", text)
	case addr.Is6() && addr.IsLinkLocalUnicast():
		return usage("%q is a link-local address, which means another machine on each link: use another address of it", text)
	case addr.IsMulticast():
		return usage("%q is a multicast address: only flows between two ends can be followed", text)
	}
	return nil
}

// parseProto checks a protocol; empty stays empty.
func parseProto(p path.Proto) (path.Proto, error) {
	switch p := path.Proto(strings.ToLower(string(p))); p {
	case "", path.TCP, path.UDP, path.ICMP:
		return p, nil
	}
	return "", usage("protocol %q is not known: use tcp, udp or icmp", p)
}

// flow decides protocol and port together: tcp with a port, icmp without, unless one was given.
func (r reference) flow(flag path.Proto) (path.Proto, uint16, error) {
	flag, err := parseProto(flag)
	if err != nil {
		return "", 0, err
	}
	if flag != "" && r.scheme != "" && flag != r.scheme {
		return "", 0, usage("%q says %s and --proto says %s: give one of them", r.text, r.scheme, flag)
	}
	proto := flag
	if proto == "" {
		proto = r.scheme
	}
	switch {
	case proto == "" && r.portText == "":
		return path.ICMP, 0, nil
	case proto == "":
		proto = path.TCP
	case proto == path.ICMP && r.portText != "":
		return "", 0, usage("%q has a port, and ICMP has none: leave out :%s or use --proto tcp", r.text, r.portText)
	case proto != path.ICMP && r.portText == "":
		return "", 0, usage("%q has no port, which %s needs: write %s:PORT", r.text, proto, r.label())
	}
	if r.portText == "" {
		return proto, 0, nil
	}
	port, err := parsePort(r.text, r.portText, proto)
	return proto, port, err
}

// parsePort reads a number from 1 to 65535 or the name of a service such as http.
func parsePort(text, port string, proto path.Proto) (uint16, error) {
	if n, err := strconv.ParseUint(port, 10, 64); err == nil && n >= 1 && n <= 65535 {
		return uint16(n), nil
	}
	if strings.Trim(port, "+-0123456789") != "" {
		if n, err := net.LookupPort(string(proto), port); err == nil && n > 0 {
			return uint16(n), nil
		}
	}
	return 0, usage("%q has port %q: a port is a number from 1 to 65535", text, port)
}
