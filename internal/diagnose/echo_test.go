package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestEchoIgnored: a namespace that is told to leave pings unanswered.
func TestEchoIgnored(t *testing.T) {
	const setting = "net.ipv4.icmp_echo_ignore_all"
	flow := func() *testFlow {
		f := newFlow(path.ICMP).direct()
		f.add(path.Request, "", f.in()...)
		return f
	}
	set := func(value string) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Namespaces[nsWeb].Sysctls = map[string]string{setting: value}
			return f
		}
	}
	runCases(t, []verdictCase{
		{name: "off", flow: flow, facts: set("1"), outcome: path.Lost, cause: path.CauseNotListening,
			summary: "lost: the request from 10.99.0.1 reached container web, which answers no pings (" + setting + " = 1)",
			remedy:  "nsenter --net=/run/docker/netns/abc sysctl -w " + setting + "=0"},
		{name: "on", flow: flow, facts: set("0"), outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from 10.99.0.1 reached container web, and no answer was seen while it was watched"},
	})
}
