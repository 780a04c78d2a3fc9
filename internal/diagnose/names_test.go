package diagnose

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestNames(t *testing.T) {
	docker, other := netip.MustParseAddrPort("127.0.0.11:53"), netip.MustParseAddrPort("192.0.2.53:53")
	user := Network{Name: "app", Addrs: []netip.Addr{ip("172.18.0.2")}}
	bridge := Network{Name: "bridge", Addrs: []netip.Addr{ip("172.17.0.2")}}
	tests := []struct {
		name    string
		lookup  Lookup
		network Network
		warns   string // "" for no warning
		remedy  string
	}{
		{"found", Lookup{Status: LookupFound, Addrs: []netip.Addr{ip("172.18.0.2")}, Server: docker}, user, "", ""},
		{"not asked", Lookup{}, user, "", ""},
		{"a service's own address", Lookup{Status: LookupFound, Addrs: []netip.Addr{ip("10.0.0.9")}, AnyAddress: true,
			Server: docker}, user, "", ""},
		{"somebody else's address", Lookup{Status: LookupFound, Addrs: []netip.Addr{ip("10.0.0.7")}, FromHosts: true}, user,
			"the name web leads cli to 10.0.0.7, which is not an address of container web", "docker exec cli getent hosts web"},
		{"rules of the embedded DNS gone", Lookup{Status: LookupRefused, Server: docker, DockerPort: 40123}, user,
			"cli cannot resolve the name web: connection refused by its server 127.0.0.11:53",
			"nsenter --net=/run/netns/cli iptables -t nat -S"},
		{"known to nobody, and the others are silent", Lookup{Status: LookupSilent, Server: docker, DockerPort: 40123,
			DockerAnswers: true, Waited: 700 * time.Millisecond}, user,
			"cli cannot resolve the name web: Docker's DNS server does not know it, and those that it asks did not answer " +
				"within 0.7 s", "docker inspect -f '{{json .NetworkSettings.Networks}}' web"},
		{"dockerd dead", Lookup{Status: LookupRefused, Server: docker}, user,
			"cli cannot resolve the name web: connection refused by its server 127.0.0.11:53", "systemctl status docker"},
		{"unknown to the embedded DNS", Lookup{Status: LookupNotFound, Code: "NXDOMAIN", Server: docker}, user,
			"cli cannot resolve the name web: 127.0.0.11:53 answered NXDOMAIN", "docker exec cli getent hosts web"},
		{"default bridge", Lookup{Status: LookupSilent, Server: other, Waited: 400 * time.Millisecond}, bridge,
			"cli cannot resolve the name web: its server 192.0.2.53:53 did not answer within 0.4 s; on the default bridge " +
				"network containers have no names", "docker network connect shared web"},
		{"a server of its own", Lookup{Status: LookupNotFound, Code: "NOERROR", Server: other}, user,
			"cli cannot resolve the name web: 192.0.2.53:53 has no address for it", "HostConfig.Dns"},
		{"no way to the server", Lookup{Status: LookupUnreachable, Server: other}, user,
			"cli cannot resolve the name web: its server 192.0.2.53:53 cannot be reached", "HostConfig.Dns"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := facts().between(tt.network)
			f.Target.Networks = []Network{tt.network}
			tt.lookup.Name = "web"
			f.Lookup = &tt.lookup
			v := Explain(&newFlow(path.TCP).connect().p, f)
			checkVerdict(t, &v)
			got := ""
			for _, w := range v.Warnings {
				got += string(w.Cause) + ": " + w.Summary
			}
			if tt.warns != "" {
				tt.warns = "name-not-resolved: " + tt.warns
			}
			if v.Outcome != path.Delivered || got != tt.warns {
				t.Errorf("got  %s %q\nwant %q", v.Outcome, got, tt.warns)
			}
			if all := strings.Join(v.Remedy, "\n"); !strings.Contains(all, tt.remedy) {
				t.Errorf("remedy %q lacks %q", all, tt.remedy)
			}
		})
	}
}

// TestNameBesideCause: a flow that failed keeps its cause; the name is a fact beside it.
func TestNameBesideCause(t *testing.T) {
	f := facts().between(Network{Name: "app"})
	f.Lookup = &Lookup{Status: LookupRefused, Name: "web", Server: netip.MustParseAddrPort("127.0.0.11:53")}
	v := Explain(&closed(nsWeb).p, f)
	if v.Cause != path.CauseNotListening || !strings.Contains(strings.Join(v.Evidence, "\n"), "cannot resolve the name web") {
		t.Errorf("got %s %q", v.Cause, v.Evidence)
	}
}
