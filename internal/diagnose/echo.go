package diagnose

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// echoIgnored is the setting by which a namespace leaves the echo requests of a family unanswered.
func echoIgnored(v6 bool) string {
	if v6 {
		return "net.ipv6.icmp.echo_ignore_all"
	}
	return "net.ipv4.icmp_echo_ignore_all"
}

// explainEchoIgnored: the target was told not to answer pings.
func explainEchoIgnored(a *analysis, e *end) *finding {
	h := a.reached(e)
	if a.p.Proto != path.ICMP || h == nil {
		return nil
	}
	name := echoIgnored(a.isV6(h))
	if n, ok := a.sysctl(h.NetNS, name); !ok || n == 0 {
		return nil
	}
	return &finding{
		cause: path.CauseNotListening, where: whereOf(h, path.Request),
		says:   fmt.Sprintf("%s reached %s, which answers no pings (%s = 1)", a.subject(e), a.place(h), name),
		remedy: []string{a.command(h, "sysctl -w "+name+"=0")},
	}
}
