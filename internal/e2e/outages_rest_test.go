//go:build e2e

package e2e

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/pathtrace/pathtrace/internal/netns"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// otherOutages are those that no firewall rule makes.
func otherOutages() []*outage {
	return append(append(socketOutages(), linkOutages()...), nameOutages()...)
}

// socketOutages are about who listens.
func socketOutages() []*outage {
	return []*outage{
		{
			name: "g", what: "listens on 127.0.0.1 only", made: true,
			do:   []string{"run gg --network app -p 8081:80 -- tcp 127.0.0.1:80"},
			from: "OUTSIDE", to: "HOST:8081", right: as(path.Refused, path.CauseListeningOnLoopback),
			direction: path.Request, container: "gg",
		}, {
			name: "h1", what: "nothing listens", made: true,
			do:   []string{"run gg --network app -p 8081:80 -- idle"},
			from: "OUTSIDE", to: "HOST:8081", right: as(path.Refused, path.CauseNotListening),
			direction: path.Request, container: "gg",
		}, {
			name: "h2", what: "port not published", made: true,
			from: "OUTSIDE", to: "HOST:8085", right: as(path.Refused, path.CauseNotPublished, path.CauseNotListening),
			direction: path.Request, container: "host",
		}, {
			name: "h3", what: "wrong container port mapped", made: true,
			do:   []string{"run gg --network app -p 8081:8000 -- tcp :80"},
			from: "OUTSIDE", to: "HOST:8081", right: as(path.Refused, path.CauseNotListening),
			direction: path.Request, container: "gg",
		}, {
			name: "h5", what: "container stopped", do: []string{"docker kill web"}, undo: []string{"docker start web"},
			from: "OUTSIDE", to: "web:8080",
			right: answer{outcomes: append(failed, path.NoTraffic), causes: []path.Cause{path.CauseContainerNotRunning}},
		}, {
			name: "w2", what: "UDP receive buffer full", made: true, proto: "udp", with: fullBuffer,
			from: "OUTSIDE", to: "st:80",
			right: answer{outcomes: append(silent, path.Delivered), causes: []path.Cause{path.CauseReceiveBufferFull}},
		},
	}
}

// fullBuffer starts a server that reads nothing, and fills its receive buffer.
func fullBuffer(t *testing.T, s *scene) {
	t.Helper()
	st := s.container(t, "st", "stall :80", "--network", "app", "-p", "8081:80/udp")
	ns, err := netns.Open(filepath.Join("/run/netns", shared.Outside))
	check(t, err)
	defer ns.Close()
	var conn net.Conn
	check(t, netns.Do(ns, func() (err error) {
		conn, err = net.Dial("udp4", st.published("80/udp").String())
		return err
	}))
	defer conn.Close()
	for range 20 {
		_, err := conn.Write(make([]byte, 900))
		check(t, err)
	}
}

// linkOutages are about devices, addresses, routes and neighbours.
func linkOutages() []*outage {
	return []*outage{
		{
			name: "e", what: "ip_forward=0", with: func(t *testing.T, s *scene) { s.h.sysctl(t, "net.ipv4.ip_forward", "0") },
			from: "OUTSIDE", to: "HOST:8080", right: answer{outcomes: failed, causes: []path.Cause{path.CauseForwardingOff}},
			direction: path.Request, container: "host",
		}, {
			name: "k", what: "duplicate address in a network", with: duplicate,
			from: "cli", to: "web:80", right: answer{
				outcomes: []path.Outcome{path.Refused, path.Misdelivered, path.Delivered},
				causes:   []path.Cause{"duplicate-address"}, warnings: []path.Cause{"duplicate-address"},
			},
		}, {
			name: "l1", what: "host-side veth down", with: func(t *testing.T, s *scene) {
				veth := s.web.veth()
				s.h.do(t, "ip", "link", "set", veth, "down")
				t.Cleanup(func() { s.h.do(t, "ip", "link", "set", veth, "up") })
			},
			from: "OUTSIDE", to: "web:8080", right: answer{outcomes: silent, causes: []path.Cause{path.CauseLinkDown}},
		}, {
			name: "l3", what: "bridge down",
			do: []string{"host ip link set br-app down"}, undo: []string{"host ip link set br-app up"},
			from: "cli", to: "web:80", right: answer{outcomes: silent, causes: []path.Cause{path.CauseLinkDown}},
		}, {
			name: "m1", what: "wrong MAC in the host's neighbour table",
			do:   []string{"host ip neigh replace WEB lladdr 02:42:ac:12:00:99 dev br-app nud permanent"},
			undo: []string{"host ip neigh del WEB dev br-app"},
			from: "OUTSIDE", to: "web:8080",
			right: answer{outcomes: append(silent, path.Misdelivered), causes: []path.Cause{"wrong-neighbour"}},
		}, {
			name: "o", what: "rp_filter strict, asymmetric route", made: true, with: func(t *testing.T, s *scene) {
				s.h.sysctl(t, "net.ipv4.conf.all.rp_filter", "1")
			},
			do: []string{
				"outside ip addr add ELSEWHERE/24 dev br-lan", "host ip route add ELSEWHERE/32 dev br-app",
			},
			undo: []string{
				"outside ip addr del ELSEWHERE/24 dev br-lan", "host ip route del ELSEWHERE/32 dev br-app",
			},
			from: "ELSEWHERE", to: "HOST:8080", right: as(path.Dropped, path.CauseReversePathFilter),
			direction: path.Request, container: "host",
		}, {
			name: "q", what: "no default route in the container",
			do: []string{"in web ip route del default"}, undo: []string{"in web ip route add default via 172.30.0.1"},
			from: "OUTSIDE", to: "web:8080", right: answer{outcomes: silent, causes: []path.Cause{path.CauseNoRoute}},
			direction: path.Reply, container: "web",
		}, {
			name: "y1", what: "a tcx program drops on eth0", with: dropTCX(),
			from: "OUTSIDE", to: "web:8080", right: as(path.Dropped, "tc-drop"), direction: path.Request, container: "host",
		}, {
			name: "y3", what: "an XDP program drops on eth0", with: dropXDP(),
			from: "OUTSIDE", to: "web:8080", right: as(path.Dropped, "tc-drop"), direction: path.Request, container: "host",
		},
	}
}

// duplicate gives a second container the address of web, and cli the second one's MAC address, as the
// race for an ARP request may end.
func duplicate(t *testing.T, s *scene) {
	t.Helper()
	dup := s.container(t, "dup", "idle", "--network", "app")
	web := s.addr.String()
	dup.do("ip", "addr", "add", web+"/16", "dev", "eth0")
	mac := dup.inspect(`{{(index .NetworkSettings.Networks "app").MacAddress}}`)
	t.Cleanup(func() {
		s.cli.do("ip", "neigh", "flush", "dev", "eth0")
		s.h.do(t, "ip", "neigh", "flush", "dev", "br-app")
	})
	s.cli.do("ip", "neigh", "replace", web, "lladdr", mac, "dev", "eth0", "nud", "reachable")
}

// nameOutages are about names and networks.
func nameOutages() []*outage {
	unresolved := answer{
		outcomes: []path.Outcome{path.Delivered, path.Lost},
		causes:   []path.Cause{"name-not-resolved"}, warnings: []path.Cause{"name-not-resolved"},
	}
	return []*outage{
		{
			name: "r1", what: "no names on the default bridge", made: true,
			do:   []string{"run dbw -- tcp :80", "run dbc -- idle"},
			from: "dbc", to: "dbw:80", right: unresolved,
		}, {
			name: "r2", what: "the embedded DNS has lost its rules", with: func(t *testing.T, s *scene) {
				s.cli.saveRules(t)
			},
			do:   []string{"in cli iptables -w -t nat -F"},
			from: "cli", to: "web:80", right: unresolved,
		}, {
			name: "aa8", what: "disconnected from the network",
			do: []string{"docker network disconnect app web"}, undo: []string{"docker network connect app web"},
			from: "cli", to: "web:80",
			right: answer{outcomes: append(failed, path.NoTraffic), causes: []path.Cause{path.CauseNoSharedNetwork}},
		},
	}
}
