package render

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// writeTitle names the ends: "cli (172.18.0.3) → web:80  tcp  172.18.0.3:40312 → 10.99.0.11:8080".
func writeTitle(out *printer, p *path.Path, v path.Verdict) {
	e := endsOf(p, v)
	src := e.client()
	title := src + " → " + e.target()
	if src == "" {
		title = e.target()
	}
	addrs := strings.TrimSpace(string(e.proto) + "  " + e.addrs())
	if columns(title)+2+columns(addrs) <= out.width {
		out.line(span{title, bold}, span{"  " + addrs, plain})
		return
	}
	out.paragraph(title, bold)
	out.paragraph(addrs, plain, span{"  ", plain})
}

// ends are the two ends of a flow as strings.
type ends struct {
	proto            path.Proto
	src, dst         string // addr:port as the client used them
	srcName, dstName string
	port             uint16 // the target's own port, 0 if none
}

// endsOf takes the ends from the verdict, and what it lacks from the path.
func endsOf(p *path.Path, v path.Verdict) ends {
	e := ends{proto: v.Proto, src: v.Src, dst: v.Dst, srcName: v.SrcName, dstName: v.DstName}
	if a, err := netip.ParseAddrPort(v.Dst); err == nil {
		e.port = a.Port()
	}
	if p == nil {
		return e
	}
	e.proto = path.Proto(cmp.Or(string(e.proto), string(p.Proto)))
	e.src, e.dst = cmp.Or(e.src, endpoint(p.Client)), cmp.Or(e.dst, endpoint(p.Server))
	client, server := names(p)
	if client != endpoint(p.Client) {
		e.srcName = cmp.Or(e.srcName, client)
	}
	if server != endpoint(p.Server) {
		e.dstName = cmp.Or(e.dstName, server)
	}
	e.port = p.Server.Port()
	// A name that appears only after DNAT goes with the port behind it.
	if server == e.dstName && p.Target.Port() != 0 {
		e.port = p.Target.Port()
	}
	return e
}

// client names the asker with its address: "cli (172.18.0.3)".
func (e ends) client() string {
	addr := hostOf(e.src)
	if e.srcName == "" || addr == "" || e.srcName == addr {
		return cmp.Or(e.srcName, addr)
	}
	return e.srcName + " (" + addr + ")"
}

// target names what was asked for, with the target's own port: "web:80".
func (e ends) target() string {
	if e.dstName == "" || e.dst != "" && isAddr(e.dstName) {
		return e.dst
	}
	port := ":" + strconv.Itoa(int(e.port))
	if e.port == 0 || strings.HasSuffix(e.dstName, port) {
		return e.dstName
	}
	return e.dstName + port
}

// source names the asker with its port: "cli:40312".
func (e ends) source() string {
	if e.srcName == "" || e.src != "" && isAddr(e.srcName) {
		return e.src
	}
	if a, err := netip.ParseAddrPort(e.src); err == nil && a.Port() != 0 {
		return e.srcName + ":" + strconv.Itoa(int(a.Port()))
	}
	return e.srcName
}

// isAddr reports whether a name is an IP address.
func isAddr(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// addrs returns both addresses.
func (e ends) addrs() string {
	if e.src == "" || e.dst == "" {
		return e.src + e.dst
	}
	return e.src + " → " + e.dst
}

// names returns what to call the two ends of a path: their names, else their addresses.
func names(p *path.Path) (client, server string) {
	for _, pkt := range p.Packets {
		if pkt == nil || pkt.Direction != path.Request || pkt.ICMPError {
			continue
		}
		for i := range pkt.Hops {
			client = cmp.Or(client, pkt.Hops[i].SrcName)
			// After DNAT the destination is the container, which is what people call it.
			server = cmp.Or(pkt.Hops[i].DstName, server)
		}
		break
	}
	return cmp.Or(client, endpoint(p.Client)), cmp.Or(server, endpoint(p.Server))
}
